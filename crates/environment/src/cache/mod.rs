//! The images that a node has at hand. Owns fetching (one at a time, all or nothing), the size limit (the one used
//! longest ago goes, never one in use), and the check that what lies on disk is what its name says.

mod disk;
mod room;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sandrun_content::{ContentError, ContentId, ContentStore, root_of};
use thiserror::Error;

use crate::image::IMAGE_LIMITS;
use disk::Disk;
use room::{Candidate, make_room};

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

/// An image that is here.
#[derive(Debug, Clone, Copy)]
struct Image {
    bytes: u64,
    last_used: SystemTime,
    /// Leases that are out.
    users: u32,
    /// Whether its content was checked since the start; what is fetched is checked as it comes.
    is_checked: bool,
}

#[derive(Debug)]
struct Inner {
    disk: Disk,
    cap: u64,
    images: Mutex<HashMap<ContentId, Image>>,
    /// Leases that were given out since the start.
    uses: std::sync::atomic::AtomicU64,
    /// Whoever brings an image in, or checks one, does so alone.
    bringing: tokio::sync::Mutex<()>,
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
        let disk = Disk::open(dir)?;
        let found = disk.found()?.into_iter().map(|it| {
            let image = Image {
                bytes: it.bytes,
                last_used: it.last_used,
                users: 0,
                is_checked: false,
            };
            (it.id, image)
        });
        let inner = Inner {
            images: Mutex::new(found.collect()),
            disk,
            cap,
            uses: std::sync::atomic::AtomicU64::new(0),
            bringing: tokio::sync::Mutex::new(()),
        };
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
        let mut held: Vec<_> = self
            .inner
            .lock()
            .iter()
            .map(|(id, image)| (*id, image.bytes))
            .collect();
        held.sort();
        held
    }

    /// Leases that were given out since the start.
    pub(crate) fn uses(&self) -> u64 {
        self.inner.uses.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// An image, fetched where it is not here.
    pub(crate) async fn obtain(
        &self,
        store: Option<&dyn ContentStore>,
        id: ContentId,
        patience: Duration,
    ) -> Result<Lease, CacheError> {
        if let Some(lease) = self.inner.lease(id) {
            return Ok(lease);
        }
        let _alone = self.inner.bringing.lock().await;
        // somebody else may have brought it meanwhile
        if let Some(lease) = self.inner.lease(id) {
            return Ok(lease);
        }
        if self.blocking(move |inner| inner.recheck(id)).await?
            && let Some(lease) = self.inner.lease(id)
        {
            return Ok(lease);
        }
        let store = store.ok_or(CacheError::NoStore(id))?;
        let into = self.inner.disk.coming(id);
        let fetched = tokio::time::timeout(patience, store.fetch(id, &into, &IMAGE_LIMITS)).await;
        match fetched {
            Ok(Ok(_)) => self.blocking(move |inner| inner.arrived(id)).await,
            Ok(Err(source)) => Err(CacheError::Fetch {
                id,
                source: Box::new(source),
            }),
            Err(_) => Err(CacheError::Late {
                id,
                seconds: patience.as_secs(),
            }),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|_| CacheError::ShuttingDown)?
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<ContentId, Image>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease of an image that is here and checked.
    fn lease(self: &Arc<Self>, id: ContentId) -> Option<Lease> {
        let mut images = self.lock();
        let image = images.get_mut(&id).filter(|image| image.is_checked)?;
        image.users += 1;
        image.last_used = SystemTime::now();
        self.uses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Lease {
            inner: Arc::clone(self),
            id,
        })
    }

    /// Checks an image that lay here at the start: nobody knows what happened to it since. `false` if there is none, or
    /// it is not what it was; then it is gone.
    fn recheck(&self, id: ContentId) -> Result<bool, CacheError> {
        if !self.lock().contains_key(&id) {
            return Ok(false);
        }
        let is_whole = root_of(&self.disk.image(id), &IMAGE_LIMITS).is_ok_and(|root| root == id);
        if is_whole {
            if let Some(image) = self.lock().get_mut(&id) {
                image.is_checked = true;
            }
        } else {
            tracing::warn!(environment = %id, "an image on disk is not what it was; it is fetched anew");
            self.lock().remove(&id);
            self.disk.leave(id)?;
            self.disk.discard(id);
        }
        Ok(is_whole)
    }

    /// Takes in an image that was fetched whole.
    fn arrived(self: &Arc<Self>, id: ContentId) -> Result<Lease, CacheError> {
        let bytes = self.disk.coming_size(id)?;
        if let Err(error) = self.make_room(id, bytes) {
            self.disk.discard(id);
            return Err(error);
        }
        self.disk.arrive(id)?;
        let image = Image {
            bytes,
            last_used: SystemTime::now(),
            users: 0,
            is_checked: true,
        };
        self.lock().insert(id, image);
        tracing::info!(environment = %id, bytes, "fetched");
        self.lease(id).ok_or(CacheError::ShuttingDown)
    }

    fn make_room(&self, id: ContentId, needed: u64) -> Result<(), CacheError> {
        let gone = {
            let mut images = self.lock();
            let candidates = images.iter().map(|(id, image)| Candidate {
                id: *id,
                bytes: image.bytes,
                last_used: image.last_used,
                is_used: image.users > 0,
            });
            let gone = make_room(candidates.collect(), needed, self.cap).ok_or(CacheError::Full {
                id,
                needed,
                cap: self.cap,
            })?;
            for old in &gone {
                images.remove(old);
            }
            gone
        };
        for old in gone {
            tracing::info!(environment = %old, "makes room");
            self.disk.leave(old)?;
            self.disk.discard(old);
        }
        Ok(())
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
        if let Some(image) = self.inner.lock().get_mut(&self.id) {
            image.users = image.users.saturating_sub(1);
            image.last_used = SystemTime::now();
        }
        if let Err(error) = self.inner.disk.touch(self.id) {
            tracing::warn!(%error, "the use of an environment is not noted");
        }
    }
}

#[cfg(test)]
mod tests;
