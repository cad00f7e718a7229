//! The embedded content store: blocks in files of one directory, and the pins that keep them.
//!
//! ```text
//! DIR/lock               held while a process has the store open
//! DIR/blocks/ab/<hex>    one block a file, named by its sha2-256 digest
//! DIR/pins/<cid>         one file a pinned root, holding the CID as it was pinned
//! DIR/tmp/               files in the making; emptied at every start
//! ```
//!
//! **Invariant**: what was acknowledged is on disk. A block is written to `tmp`, synced, and renamed into place; the
//! directories are synced before the last block (the root) is written, and again before anyone is told. So after
//! `kill -9` or a power cut at any point, a block that is there is whole, and a root that is there has all its blocks.
//!
//! **Invariant**: a block is checked against its digest each time it is read. One that fails is an error and is never
//! served; adding the same content again heals it.
//!
//! Garbage collection removes blocks that no pin reaches, oldest first, when the size cap is passed; blocks that were
//! written or re-added lately are spared, since their root may not be pinned yet.

mod blocks;
mod collect;
mod files;
mod pins;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use cid::Cid;
use futures::stream::FuturesUnordered;
use futures::{Stream, TryStreamExt};
use sandrun_store::LockFile;
use tokio::sync::RwLock;

use crate::block::{Block, supported};
use crate::error::ContentError;
use crate::id::ContentId;
use crate::pack::PackedTree;
use crate::store::{BlockStream, ContentStore, StoreHealth};

use blocks::{BlockDir, Digest32};
use pins::PinDir;

/// Writes at once: the disk syncs them together.
const WRITERS: usize = 8;

/// Where the embedded store is and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Its directory; created where missing.
    pub dir: PathBuf,
    /// Bytes of blocks above which unpinned ones are collected, and beyond which nothing is taken. None: no cap.
    pub max_bytes: Option<u64>,
    /// How long a block is spared from the collection by size after it was last added.
    pub grace: Duration,
}

impl EmbeddedConfig {
    /// The store in `dir`, without a cap, an hour of grace.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: None,
            grace: Duration::from_secs(3600),
        }
    }
}

/// What is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStat {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pinned roots.
    pub pins: u64,
    /// The size cap.
    pub max_bytes: Option<u64>,
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The removed blocks, as raw CIDs (a file does not say which codec it was stored under).
    pub removed: Vec<Cid>,
    /// Their bytes.
    pub bytes: u64,
}

/// The content store in a directory of this machine. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: EmbeddedConfig,
    blocks: BlockDir,
    pins: PinDir,
    /// Bytes of all blocks.
    used: AtomicU64,
    /// Whoever adds holds it shared until the root is pinned; a collection of everything unpinned holds it alone.
    adding: RwLock<()>,
    /// Released by the system when the process ends, however it ends.
    _lock: LockFile,
}

impl EmbeddedStore {
    /// Opens the store, creating it where missing, and removes what an interrupted write left.
    ///
    /// # Errors
    /// [`ContentError::Locked`] where another process has it open, [`ContentError::Io`] where the disk fails.
    pub async fn open(config: EmbeddedConfig) -> Result<Self, ContentError> {
        let opened = tokio::task::spawn_blocking(move || Inner::open(config)).await;
        let inner = opened.map_err(|_| ContentError::ShuttingDown)??;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.config.dir
    }

    /// Counts the blocks and pins.
    ///
    /// # Errors
    /// [`ContentError::Io`].
    pub async fn stat(&self) -> Result<StoreStat, ContentError> {
        self.blocking(|inner| {
            let mut blocks = 0;
            let mut bytes = 0;
            inner.blocks.each(|file| {
                blocks += 1;
                bytes += file.len;
            })?;
            Ok(StoreStat {
                blocks,
                bytes,
                pins: inner.pins.list().len() as u64,
                max_bytes: inner.config.max_bytes,
            })
        })
        .await
    }

    /// Removes every block that no pin reaches, those of running additions spared.
    ///
    /// # Errors
    /// [`ContentError`] where a pinned tree has a missing or corrupt block: then nothing is removed, for what hangs
    /// below that block can't be told from garbage.
    pub async fn collect(&self) -> Result<Collected, ContentError> {
        let _alone = self.inner.adding.write().await;
        self.blocking(|inner| inner.collect(SystemTime::now(), None))
            .await
    }

    /// The pinned roots, as they were pinned.
    #[must_use]
    pub fn pins(&self) -> Vec<Cid> {
        self.inner.pins.list()
    }

    /// Whether this very root is pinned.
    #[must_use]
    pub fn is_pinned(&self, cid: &Cid) -> bool {
        self.inner.pins.contains(cid)
    }

    /// Pins any root, also a single raw block. All its blocks must be there.
    ///
    /// # Errors
    /// [`ContentError::NotFound`] for the first block that is missing.
    pub async fn pin_cid(&self, cid: Cid) -> Result<(), ContentError> {
        self.blocking(move |inner| {
            // whoever is pinned is whole, and fresh: a collection that began before spares what is touched here
            inner.reach(&cid, &mut |digest| inner.blocks.touch(digest))?;
            inner.pins.add(&cid)
        })
        .await
    }

    /// Unpins a root and says whether it was pinned.
    ///
    /// # Errors
    /// [`ContentError::Io`].
    pub async fn unpin_cid(&self, cid: Cid) -> Result<bool, ContentError> {
        self.blocking(move |inner| inner.pins.remove(&cid)).await
    }

    /// All blocks below a root, itself included, each once.
    ///
    /// # Errors
    /// [`ContentError::NotFound`] for the first block that is missing.
    pub async fn blocks_below(&self, cid: Cid) -> Result<Vec<Cid>, ContentError> {
        self.blocking(move |inner| inner.reachable(&cid)).await
    }

    /// Whether the block is there; its content is checked when it is read.
    ///
    /// # Errors
    /// [`ContentError::Io`].
    pub async fn has_block(&self, cid: &Cid) -> Result<bool, ContentError> {
        let digest = supported(cid)?;
        self.blocking(move |inner| inner.blocks.contains(&digest)).await
    }

    /// Keeps collections of everything unpinned away while something is added block by block and pinned at the end.
    pub(crate) async fn adding(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.inner.adding.read().await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ContentError> + Send + 'static,
    ) -> Result<T, ContentError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(_) => Err(ContentError::ShuttingDown),
        }
    }

    async fn write(&self, block: Block) -> Result<Digest32, ContentError> {
        self.blocking(move |inner| inner.write(&block)).await
    }

    /// Writes and syncs all blocks but the last, and returns it with the count of all.
    async fn write_all_but_last(
        &self,
        mut blocks: impl Stream<Item = Result<Block, ContentError>> + Unpin,
    ) -> Result<(u64, Option<Block>), ContentError> {
        let mut count = 0;
        let mut last = None;
        let mut dirs = BTreeSet::new();
        let mut writes = FuturesUnordered::new();
        // a file of many equal chunks is written once
        let mut seen = HashSet::new();
        while let Some(block) = blocks.try_next().await? {
            count += 1;
            if !seen.insert(block.cid()) {
                continue;
            }
            if let Some(previous) = last.replace(block) {
                writes.push(self.write(previous));
            }
            if writes.len() >= WRITERS
                && let Some(digest) = writes.try_next().await?
            {
                dirs.insert(digest[0]);
            }
        }
        while let Some(digest) = writes.try_next().await? {
            dirs.insert(digest[0]);
        }
        self.sync(dirs).await?;
        Ok((count, last))
    }

    async fn sync(&self, dirs: BTreeSet<u8>) -> Result<(), ContentError> {
        self.blocking(move |inner| dirs.iter().try_for_each(|first| inner.blocks.sync(*first)))
            .await
    }
}

#[async_trait]
impl ContentStore for EmbeddedStore {
    async fn get_block(&self, cid: &Cid) -> Result<Block, ContentError> {
        let cid = *cid;
        self.blocking(move |inner| inner.blocks.read(&cid)).await
    }

    async fn put_blocks(&self, blocks: BlockStream<'_>) -> Result<u64, ContentError> {
        let (count, last) = self.write_all_but_last(blocks).await?;
        if let Some(root) = last {
            let digest = self.write(root).await?;
            self.sync(BTreeSet::from([digest[0]])).await?;
        }
        Ok(count)
    }

    async fn has(&self, id: ContentId) -> Result<bool, ContentError> {
        self.has_block(&id.to_cid()).await
    }

    async fn pin(&self, id: ContentId) -> Result<(), ContentError> {
        self.pin_cid(id.to_cid()).await
    }

    async fn unpin(&self, id: ContentId) -> Result<(), ContentError> {
        self.unpin_cid(id.to_cid()).await.map(drop)
    }

    async fn is_pinned(&self, id: ContentId) -> Result<bool, ContentError> {
        Ok(self.inner.pins.contains(&id.to_cid()))
    }

    async fn health(&self) -> Result<StoreHealth, ContentError> {
        let place = self.dir().display().to_string();
        Ok(StoreHealth {
            place,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    async fn add(&self, tree: &PackedTree) -> Result<ContentId, ContentError> {
        let _adding = self.adding().await;
        self.put_blocks(tree.stream()).await?;
        self.pin(tree.root()).await?;
        Ok(tree.root())
    }
}

impl Inner {
    fn open(config: EmbeddedConfig) -> Result<Self, ContentError> {
        let dir = &config.dir;
        files::create_dirs(dir)?;
        let lock = files::lock(dir)?;
        let tmp = dir.join("tmp");
        files::create_dirs(&tmp)?;
        files::empty(&tmp)?;
        let blocks = BlockDir::open(dir.join("blocks"), tmp.clone())?;
        let pins = PinDir::open(dir.join("pins"), tmp)?;
        files::sync_dir(dir)?;
        let mut used = 0;
        blocks.each(|file| used += file.len)?;
        Ok(Self {
            blocks,
            pins,
            used: AtomicU64::new(used),
            adding: RwLock::new(()),
            _lock: lock,
            config,
        })
    }

    /// Writes a block that is not there yet, making room first.
    fn write(&self, block: &Block) -> Result<Digest32, ContentError> {
        let digest = supported(&block.cid())?;
        if self.blocks.touch_whole(block)? {
            return Ok(digest);
        }
        self.reserve(block.bytes().len() as u64)?;
        match self.blocks.write(block) {
            Ok(replaced) => {
                self.used.fetch_sub(replaced, Ordering::Relaxed);
                Ok(digest)
            }
            Err(error) => {
                self.used.fetch_sub(block.bytes().len() as u64, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Counts `needed` bytes as used, collecting garbage where the cap is passed.
    fn reserve(&self, needed: u64) -> Result<(), ContentError> {
        let Some(cap) = self.config.max_bytes else {
            self.used.fetch_add(needed, Ordering::Relaxed);
            return Ok(());
        };
        if self.try_reserve(needed, cap) {
            return Ok(());
        }
        let before = SystemTime::now()
            .checked_sub(self.config.grace)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        // a tenth more than needed, so that not every block collects anew
        let target = cap.saturating_sub(needed).min(cap - cap / 10);
        self.collect(before, Some(target))?;
        if self.try_reserve(needed, cap) {
            return Ok(());
        }
        Err(ContentError::Full {
            used: self.used.load(Ordering::Relaxed),
            cap,
            needed,
        })
    }

    fn try_reserve(&self, needed: u64, cap: u64) -> bool {
        let fits = |used: u64| used.checked_add(needed).filter(|sum| *sum <= cap);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
