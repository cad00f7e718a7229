//! What is behind a cache and its leases: which images there are, and how one comes and goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use sandrun_content::{ContentError, ContentId, ContentStore, Limits, root_of};
use tokio::sync::Semaphore;

use super::disk::{Disk, Scratch};
use super::room::{Candidate, make_room};
use super::{CacheError, Lease};
use crate::image::IMAGE_LIMITS;

/// Images that are fetched at once: what comes is not counted before it is here.
const FETCHES: usize = 4;

/// Orders who brings one image in, or checks it.
type Turn = tokio::sync::Mutex<()>;

/// An image that is here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    pub(super) bytes: u64,
    last_used: SystemTime,
    /// Leases that are out, and the check while it lasts.
    users: u32,
    /// Whether its content was checked since the start; what is fetched is checked as it comes.
    is_checked: bool,
}

#[cfg(test)]
impl Image {
    pub(super) const fn users(&self) -> u32 {
        self.users
    }
}

/// See the module. The images' directories are renamed under the lock of `images` alone, so that it says what lies
/// there.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) disk: Disk,
    cap: u64,
    images: Mutex<HashMap<ContentId, Image>>,
    turns: Mutex<HashMap<ContentId, Weak<Turn>>>,
    fetches: Semaphore,
    uses: AtomicU64,
}

impl Inner {
    pub(super) fn open(disk: Disk, cap: u64) -> Result<Self, CacheError> {
        let found = disk.found()?.into_iter().map(|it| {
            let image = Image {
                bytes: it.bytes,
                last_used: it.last_used,
                users: 0,
                is_checked: false,
            };
            (it.id, image)
        });
        Ok(Self {
            images: Mutex::new(found.collect()),
            disk,
            cap,
            turns: Mutex::default(),
            fetches: Semaphore::new(FETCHES),
            uses: AtomicU64::new(0),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<ContentId, Image>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// The turn of an image, the same for all who want it at once.
    pub(super) fn turn(&self, id: ContentId) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(id, Arc::downgrade(&turn));
        turn
    }

    /// A lease of an image that is here and checked.
    pub(super) fn lease(self: &Arc<Self>, id: ContentId) -> Option<Lease> {
        let mut images = self.lock();
        let image = images.get_mut(&id).filter(|image| image.is_checked)?;
        image.users += 1;
        image.last_used = SystemTime::now();
        self.uses.fetch_add(1, Ordering::Relaxed);
        Some(Lease {
            inner: Arc::clone(self),
            id,
        })
    }

    /// A lease is over.
    pub(super) fn release(&self, id: ContentId) {
        if let Some(image) = self.lock().get_mut(&id) {
            image.users = image.users.saturating_sub(1);
            image.last_used = SystemTime::now();
        }
    }

    /// Checks an image that nobody has looked at yet, or fetches one that is not here. Its caller has the turn.
    pub(super) async fn bring(
        self: Arc<Self>,
        store: Option<&dyn ContentStore>,
        id: ContentId,
        patience: Duration,
    ) -> Result<Lease, CacheError> {
        if self.blocking(move |inner| inner.recheck(id)).await?
            && let Some(lease) = self.lease(id)
        {
            return Ok(lease);
        }
        let store = store.ok_or(CacheError::NoStore(id))?;
        let scratch = self.disk.scratch();
        let limits = Limits {
            max_bytes: IMAGE_LIMITS.max_bytes.min(self.cap),
            max_file_bytes: IMAGE_LIMITS.max_file_bytes.min(self.cap),
            ..IMAGE_LIMITS
        };
        let fetch = async {
            let _slot = self.fetches.acquire().await;
            store.fetch(id, scratch.path(), &limits).await
        };
        match tokio::time::timeout(patience, fetch).await {
            Ok(Ok(_)) => self.blocking(move |inner| inner.arrived(id, scratch)).await,
            Ok(Err(source)) => Err(self.refusal(id, source)),
            Err(_) => Err(CacheError::Late {
                id,
                seconds: patience.as_secs(),
            }),
        }
    }

    fn refusal(&self, id: ContentId, source: ContentError) -> CacheError {
        if matches!(source, ContentError::Limit { limit, .. } if limit == self.cap) {
            return CacheError::TooLarge { id, cap: self.cap };
        }
        CacheError::Fetch {
            id,
            source: Box::new(source),
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let inner = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|_| CacheError::ShuttingDown)?
    }

    /// Checks an image that lay here at the start: nobody knows what happened to it since. `false` if there is none, or
    /// it is not what it was; then it is gone.
    fn recheck(&self, id: ContentId) -> Result<bool, CacheError> {
        match self.lock().get_mut(&id) {
            None => return Ok(false),
            // it must not make room for another while it is read
            Some(image) => image.users += 1,
        }
        let is_whole = root_of(&self.disk.image(id), &IMAGE_LIMITS).is_ok_and(|root| root == id);
        let gone = {
            let mut images = self.lock();
            if let Some(image) = images.get_mut(&id) {
                image.users = image.users.saturating_sub(1);
                image.is_checked = is_whole;
            }
            if is_whole {
                return Ok(true);
            }
            tracing::warn!(environment = %id, "an image on disk is not what it was; it is fetched anew");
            let gone = self.disk.leave(id)?;
            images.remove(&id);
            gone
        };
        drop(gone);
        Ok(false)
    }

    /// Takes in an image that was fetched whole.
    fn arrived(self: &Arc<Self>, id: ContentId, scratch: Scratch) -> Result<Lease, CacheError> {
        let bytes = scratch.size()?;
        if bytes > self.cap {
            return Err(CacheError::TooLarge { id, cap: self.cap });
        }
        let gone = {
            let mut images = self.lock();
            let candidates = images.iter().map(|(id, image)| Candidate {
                id: *id,
                bytes: image.bytes,
                last_used: image.last_used,
                is_used: image.users > 0,
            });
            let leaving = make_room(candidates.collect(), bytes, self.cap).ok_or(CacheError::Full {
                id,
                needed: bytes,
                cap: self.cap,
            })?;
            let mut gone = Vec::new();
            for old in leaving {
                tracing::info!(environment = %old, "makes room");
                gone.push(self.disk.leave(old)?);
                images.remove(&old);
            }
            self.disk.arrive(id, scratch)?;
            let image = Image {
                bytes,
                last_used: SystemTime::now(),
                users: 0,
                is_checked: true,
            };
            images.insert(id, image);
            gone
        };
        // takes a while, and nobody has to wait for it
        drop(gone);
        tracing::info!(environment = %id, bytes, "fetched");
        self.lease(id).ok_or(CacheError::ShuttingDown)
    }
}
