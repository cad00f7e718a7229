//! A node's environments: its list of names, the images at hand, and where others are fetched from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandrun_content::{ContentId, ContentStore};
use thiserror::Error;

use crate::cache::{Cache, CacheError, Lease};
use crate::list::{EnvironmentList, UnknownEnvironment};
use crate::name::EnvironmentName;

/// How a node's environments are set up.
#[derive(Debug, Clone)]
pub struct EnvironmentsConfig {
    /// The names that it knows.
    pub list: EnvironmentList,
    /// Where images come from; without one only those at hand can be used.
    pub store: Option<Arc<dyn ContentStore>>,
    /// Bytes that images may take on disk.
    pub max_bytes: u64,
    /// How long fetching one may take.
    pub patience: Duration,
}

impl Default for EnvironmentsConfig {
    /// The product's own names, no content store, 8 GiB, five minutes.
    fn default() -> Self {
        Self {
            list: EnvironmentList::built_in(),
            store: None,
            max_bytes: 8 << 30,
            patience: Duration::from_secs(300),
        }
    }
}

/// The environments of one node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Environments {
    config: EnvironmentsConfig,
    cache: Cache,
}

/// An environment that jobs can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// Its name, if it has one.
    pub name: Option<EnvironmentName>,
    /// The image.
    pub content: ContentId,
    /// What it takes on disk, if it is at hand.
    pub bytes: Option<u64>,
}

/// Why there is no such environment.
#[derive(Debug, Error)]
pub enum ObtainError {
    /// Nobody knows it by this name.
    #[error(transparent)]
    Unknown(#[from] UnknownEnvironment),
    /// The image cannot be had.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl ObtainError {
    /// Whether asking again may help: nothing is wrong with the name.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Cache(CacheError::NoStore(_) | CacheError::TooLarge { .. }) => false,
            Self::Cache(CacheError::Fetch { source, .. }) => !source.is_unavailable(),
            Self::Cache(
                CacheError::Late { .. }
                | CacheError::Full { .. }
                | CacheError::Disk { .. }
                | CacheError::ShuttingDown,
            ) => true,
        }
    }
}

impl Environments {
    /// Opens the images in `dir`, which is made where it is missing. Blocking.
    ///
    /// # Errors
    /// [`CacheError::Disk`].
    pub fn open(dir: &Path, config: EnvironmentsConfig) -> Result<Self, CacheError> {
        let cache = Cache::open(dir, config.max_bytes)?;
        Ok(Self { config, cache })
    }

    /// Where the images lie, each in a directory named by its content id.
    #[must_use]
    pub fn images_dir(&self) -> PathBuf {
        self.cache.images_dir()
    }

    /// Whether images that are not at hand can be fetched.
    #[must_use]
    pub const fn can_fetch(&self) -> bool {
        self.config.store.is_some()
    }

    /// The image that a manifest's `environment` stands for; it need not be at hand.
    ///
    /// # Errors
    /// [`UnknownEnvironment`].
    pub fn resolve(&self, text: &str) -> Result<ContentId, UnknownEnvironment> {
        self.config.list.resolve(text)
    }

    /// Gets an image and keeps it at hand for as long as the lease lives.
    ///
    /// # Errors
    /// [`CacheError`].
    pub async fn obtain(&self, id: ContentId) -> Result<Lease, CacheError> {
        self.cache
            .obtain(self.config.store.as_ref(), id, self.config.patience)
            .await
    }

    /// What an image takes on disk, if it is at hand.
    #[must_use]
    pub fn size(&self, id: ContentId) -> Option<u64> {
        self.cache.size(id)
    }

    /// What there is: everything that has a name, then whatever else is at hand.
    #[must_use]
    pub fn available(&self) -> Vec<Available> {
        let held: BTreeMap<ContentId, u64> = self.cache.held().into_iter().collect();
        let named = self.config.list.iter().map(|(name, content)| Available {
            name: Some(name.clone()),
            content,
            bytes: held.get(&content).copied(),
        });
        let mut all: Vec<Available> = named.collect();
        let nameless = held
            .iter()
            .filter(|(id, _)| !self.config.list.iter().any(|(_, named)| named == **id));
        let nameless: Vec<Available> = nameless
            .map(|(id, bytes)| Available {
                name: None,
                content: *id,
                bytes: Some(*bytes),
            })
            .collect();
        all.extend(nameless);
        all
    }

    /// Runs that got an image since the start.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.cache.uses()
    }
}
