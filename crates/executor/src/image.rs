//! The image of packages that a job runs with. Owns for how long it is kept at hand: until the run is over.

use std::sync::{Mutex, PoisonError};

use sandrun_content::ContentId;
use sandrun_environment::Lease;

/// A job's image, or none.
#[derive(Debug, Default)]
pub(crate) struct Image {
    id: Option<ContentId>,
    lease: Mutex<Option<Lease>>,
}

impl Image {
    /// The image of a lease.
    pub(crate) fn new(lease: Lease) -> Self {
        Self {
            id: Some(lease.id()),
            lease: Mutex::new(Some(lease)),
        }
    }

    /// Which it is, also when the run is over.
    pub(crate) const fn id(&self) -> Option<ContentId> {
        self.id
    }

    /// The run is over: others may take its place.
    pub(crate) fn release(&self) {
        drop(self.lease.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
