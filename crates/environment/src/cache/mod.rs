//! The images that a node has at hand. Owns fetching (each once, all or nothing, none held up by another), the size limit
//! (the one used longest ago goes, never one in use), and the check that what lies on disk is what its name says.

mod disk;
mod inner;
mod room;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandrun_content::{ContentError, ContentId, ContentStore};
use thiserror::Error;

use disk::Disk;
use inner::Inner;

/// Why an image cannot be had.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It is not here, and there is nowhere to fetch it from.
    #[error("the environment {0} is not here, and there is no content store to fetch it from")]
    NoStore(ContentId),
    /// The content store does not have it, or has something else by that name.
    #[error("the environment {id} can't be fetched")]
    Fetch {
        /// Which.
        id: ContentId,
        /// Why.
        source: Box<ContentError>,
    },
    /// It did not come in time.
    #[error("the environment {id} did not arrive within {seconds} s")]
    Late {
        /// Which.
        id: ContentId,
        /// The patience that ran out.
        seconds: u64,
    },
    /// It is larger than all that environments may take here.
    #[error("the environment {id} takes more than the {cap} bytes that environments may take on this node")]
    TooLarge {
        /// Which.
        id: ContentId,
        /// What all may take.
        cap: u64,
    },
    /// It does not fit, and what is there is in use.
    #[error(
        "there is no room for the environment {id}: it takes {needed} bytes of the {cap} that environments may take, and \
         others are in use"
    )]
    Full {
        /// Which.
        id: ContentId,
        /// What it takes.
        needed: u64,
        /// What all may take.
        cap: u64,
    },
    /// Our own disk.
    #[error("could not {action} {}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The process ends.
    #[error("the service is shutting down")]
    ShuttingDown,
}

/// The cache. Clones are the same one; a folder is used by one process at a time, which its caller sees to.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    inner: Arc<Inner>,
}

/// Keeps an image where it is until it is dropped.
#[derive(Debug)]
pub struct Lease {
    inner: Arc<Inner>,
    id: ContentId,
}

impl Cache {
    /// Opens the cache in `dir`, with at most `cap` bytes of images. Blocking.
    pub(crate) fn open(dir: &Path, cap: u64) -> Result<Self, CacheError> {
        let inner = Inner::open(Disk::open(dir)?, cap)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Where the images lie.
    pub(crate) fn images_dir(&self) -> PathBuf {
        self.inner.disk.images()
    }

    /// An image's size on disk, if it is here.
    pub(crate) fn size(&self, id: ContentId) -> Option<u64> {
        self.inner.lock().get(&id).map(|image| image.bytes)
    }

    /// The images that are here.
    pub(crate) fn held(&self) -> Vec<(ContentId, u64)> {
        let images = self.inner.lock();
        let mut held: Vec<_> = images.iter().map(|(id, image)| (*id, image.bytes)).collect();
        held.sort();
        held
    }

    /// Leases that were given out since the start.
    pub(crate) fn uses(&self) -> u64 {
        self.inner.uses()
    }

    /// An image, fetched where it is not here. Whoever asks may stop waiting at any moment: what was begun comes to its
    /// end by itself.
    pub(crate) async fn obtain(
        &self,
        store: Option<&Arc<dyn ContentStore>>,
        id: ContentId,
        patience: Duration,
    ) -> Result<Lease, CacheError> {
        if let Some(lease) = self.inner.lease(id) {
            return Ok(lease);
        }
        let turn = self.inner.turn(id).lock_owned().await;
        // somebody else may have brought it meanwhile
        if let Some(lease) = self.inner.lease(id) {
            return Ok(lease);
        }
        let (inner, store) = (Arc::clone(&self.inner), store.cloned());
        let brought = tokio::spawn(async move {
            let _turn = turn;
            inner.bring(store.as_deref(), id, patience).await
        });
        brought.await.map_err(|_| CacheError::ShuttingDown)?
    }
}

impl Lease {
    /// The image.
    #[must_use]
    pub const fn id(&self) -> ContentId {
        self.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // while nobody can take the image away yet: what is noted of one that is gone would stay for ever
        if let Err(error) = self.inner.disk.touch(self.id) {
            tracing::warn!(%error, "the use of an environment is not noted");
        }
        self.inner.release(self.id);
    }
}

#[cfg(test)]
mod tests;
