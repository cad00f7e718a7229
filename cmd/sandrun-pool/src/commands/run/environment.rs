//! The environment of a local run: fetched as a node does, kept below this user's folder.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use sandrun_content::KuboClient;
use sandrun_environment::{CacheError, EnvironmentList, Environments, EnvironmentsConfig, Lease};
use sandrun_store::LockFile;
use sandrun_types::{ContentDigest, Manifest};
use tempfile::TempDir;

use crate::exit::{Failure, Status, WithStatus as _, words};

/// An image at hand.
#[derive(Debug)]
pub(super) struct LocalEnvironment {
    lease: Lease,
    /// Where the images lie.
    pub(super) images: PathBuf,
    _folder: Folder,
}

/// Held for as long as the image is used.
#[derive(Debug)]
enum Folder {
    /// The user's own, which no other run may use meanwhile.
    Kept { _lock: LockFile },
    /// One for this run alone, as another run uses the user's.
    Passing { _folder: TempDir },
}

impl LocalEnvironment {
    /// Which image it is.
    pub(super) fn id(&self) -> ContentDigest {
        self.lease.id().to_digest()
    }
}

/// Gets what the manifest names, if it names something.
///
/// # Errors
/// No such name, no such image, no content store that answers.
pub(super) async fn obtain(
    manifest: &Manifest,
    list: EnvironmentList,
    store: KuboClient,
) -> anyhow::Result<Option<Arc<LocalEnvironment>>> {
    let Some(asked) = &manifest.environment else {
        return Ok(None);
    };
    let id = list
        .resolve(asked)
        .context("the manifest's `environment`")
        .status(Status::BadInput)?;
    let config = EnvironmentsConfig {
        list,
        store: Some(Arc::new(store)),
        ..EnvironmentsConfig::default()
    };
    let opened = tokio::task::spawn_blocking(move || open(config)).await?;
    let (environments, folder) = opened.context("the folder of environments")?;
    let lease = environments.obtain(id).await.map_err(|error| {
        let status = match &error {
            CacheError::Fetch { source, .. } if source.is_unavailable() => Status::BadInput,
            CacheError::NoStore(_) | CacheError::TooLarge { .. } => Status::BadInput,
            CacheError::Fetch { .. } | CacheError::Late { .. } => Status::Unreachable,
            CacheError::Full { .. } | CacheError::Disk { .. } | CacheError::ShuttingDown => Status::Failure,
        };
        Failure::new(status, words(&error.into()))
    })?;
    Ok(Some(Arc::new(LocalEnvironment {
        lease,
        images: environments.images_dir(),
        _folder: folder,
    })))
}

fn open(config: EnvironmentsConfig) -> anyhow::Result<(Environments, Folder)> {
    let own = crate::config::home().join("run-environments");
    std::fs::create_dir_all(&own)?;
    let (dir, folder) = match LockFile::take(&own.join("lock"))? {
        Some(lock) => (own, Folder::Kept { _lock: lock }),
        None => {
            let folder = tempfile::tempdir()?;
            (folder.path().to_owned(), Folder::Passing { _folder: folder })
        }
    };
    Ok((Environments::open(&dir, config)?, folder))
}
