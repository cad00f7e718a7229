//! Who follows a job: a counter for each followed job that moves whenever something of it was written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sandrun_core::pool::JobNumber;
use tokio::sync::watch;

/// The followed jobs. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(Arc<Mutex<HashMap<JobNumber, watch::Sender<u64>>>>);

impl Followers {
    /// Follows a job.
    pub(super) fn follow(&self, job: JobNumber) -> watch::Receiver<u64> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, sender| sender.receiver_count() > 0);
        jobs.entry(job)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Something of these jobs was written.
    pub(super) fn tell(&self, written: impl IntoIterator<Item = JobNumber>) {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() {
            return;
        }
        for job in written {
            if let Some(sender) = jobs.get(&job) {
                sender.send_modify(|count| *count += 1);
            }
        }
    }

    /// Something was written elsewhere.
    pub(super) fn tell_all(&self) {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in jobs.values() {
            sender.send_modify(|count| *count += 1);
        }
    }
}
