//! A job's bundle on this side: fetched, checked against the order, and read for the executor.
//!
//! Never runs anything. A bundle that matches its content id and is not what the order says (wrong manifest, no
//! entrypoint) is a mismatch, which no further try will mend.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandrun_content::{ContentError, ContentId, ContentStore, Limits, MANIFEST_NAME};
use sandrun_core::seat::FetchFailure;
use sandrun_environment::first_dependency;
use sandrun_executor::ClientError;
use sandrun_types::{BundlePath, InputFile, Manifest, ManifestError, Order, Sha256Hex};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::fit::Unfit;

/// A bundle that is held and checked.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// Where its files lie.
    pub(crate) folder: PathBuf,
    /// What is to be run.
    pub(crate) manifest: Manifest,
    /// All its files.
    pub(crate) files: BTreeMap<BundlePath, InputFile>,
}

/// Why a bundle is not held.
#[derive(Debug, Error)]
pub(crate) enum BundleError {
    /// Nobody served it.
    #[error("the bundle cannot be had")]
    Fetch(#[source] ContentError),
    /// Nobody served it in time.
    #[error("the bundle did not arrive within {} s", .0.as_secs())]
    Late(Duration),
    /// Held, and no bundle of this order.
    #[error("the bundle is not what the order says: {0}")]
    Mismatch(Mismatch),
    /// What the order says, and nothing that can run here.
    #[error("this node cannot run it: {0}")]
    Unfit(Unfit),
    /// The environment that its manifest names.
    #[error("its environment cannot be had")]
    Environment(#[source] Box<ClientError>),
    /// Our own disk.
    #[error("cannot use the bundle's folder {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// How a bundle differs from what its order says.
#[derive(Debug, Error)]
pub(crate) enum Mismatch {
    /// Its content is broken, too large, or no directory.
    #[error("{0}")]
    Content(ContentError),
    /// It has no manifest.
    #[error("it has no {MANIFEST_NAME}")]
    NoManifest,
    /// Its manifest is another.
    #[error("its {MANIFEST_NAME} is not the manifest of the order")]
    OtherManifest,
    /// Its manifest cannot be run.
    #[error("{0}")]
    Manifest(ManifestError),
    /// Its manifest asks for another class than the order.
    #[error("its manifest asks for another class than the order")]
    Class,
    /// The program may run longer than the order pays for.
    #[error("its manifest allows {timeout} s, the order {wall_limit} s")]
    Timeout {
        /// Seconds in the manifest.
        timeout: u32,
        /// Seconds in the order.
        wall_limit: u32,
    },
    /// A file with a name that no bundle can have.
    #[error("`{0}` is no name that a bundle can have")]
    Name(String),
}

impl BundleError {
    /// What the seat's machine is told.
    pub(crate) const fn failure(&self) -> FetchFailure {
        match self {
            Self::Mismatch(_) | Self::Unfit(_) => FetchFailure::Mismatch,
            Self::Fetch(_) | Self::Late(_) | Self::Environment(_) | Self::Disk { .. } => {
                FetchFailure::NotFound
            }
        }
    }
}

/// How much may be fetched, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes in all.
    pub(crate) max_bytes: u64,
    /// Patience.
    pub(crate) patience: Duration,
}

/// Fetches the order's bundle into `folder` (in the place of whatever lies there), checks it, and pins it.
pub(crate) async fn obtain(
    store: &dyn ContentStore,
    order: &Order,
    folder: &Path,
    bounds: Bounds,
) -> Result<Bundle, BundleError> {
    clear(folder).await?;
    let id = ContentId::from_digest(order.bundle);
    let limits = Limits::default().with_bytes(bounds.max_bytes);
    match tokio::time::timeout(bounds.patience, fetch(store, id, folder, &limits)).await {
        Ok(fetched) => fetched?,
        Err(_) => return Err(BundleError::Late(bounds.patience)),
    }
    let (place, order) = (folder.to_owned(), order.clone());
    let checked = tokio::task::spawn_blocking(move || check(&place, &order)).await;
    checked.map_err(|error| BundleError::Disk {
        path: folder.to_owned(),
        source: std::io::Error::other(error),
    })?
}

async fn fetch(
    store: &dyn ContentStore,
    id: ContentId,
    folder: &Path,
    limits: &Limits,
) -> Result<(), BundleError> {
    let fetched = async {
        store.fetch(id, folder, limits).await?;
        // served from here on, until the job has ended
        store.pin(id).await
    };
    fetched.await.map_err(|error| {
        // what is not there, or is served wrongly, may be there later; else what is wrong with the content stays wrong
        if error.is_unavailable() && !error.is_of_the_store() {
            BundleError::Mismatch(Mismatch::Content(error))
        } else {
            BundleError::Fetch(error)
        }
    })
}

/// Removes a bundle's folder.
pub(crate) async fn clear(folder: &Path) -> Result<(), BundleError> {
    let disk = |source| BundleError::Disk {
        path: folder.to_owned(),
        source,
    };
    match tokio::fs::remove_dir_all(folder).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(disk(error)),
    }
    match folder.parent() {
        Some(parent) => tokio::fs::create_dir_all(parent).await.map_err(disk),
        None => Ok(()),
    }
}

/// Checks what lies in `folder` against the order, and reads it.
fn check(folder: &Path, order: &Order) -> Result<Bundle, BundleError> {
    let manifest = manifest(folder, order)?;
    let files = files(folder)?;
    let mismatch = |error| BundleError::Mismatch(Mismatch::Manifest(error));
    manifest.entry(files.keys()).map_err(mismatch)?;
    Ok(Bundle {
        folder: folder.to_owned(),
        manifest,
        files,
    })
}

fn manifest(folder: &Path, order: &Order) -> Result<Manifest, BundleError> {
    let path = folder.join(MANIFEST_NAME);
    let mismatch = |what| Err(BundleError::Mismatch(what));
    let length = match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return mismatch(Mismatch::NoManifest),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return mismatch(Mismatch::NoManifest),
        Err(source) => return Err(BundleError::Disk { path, source }),
    };
    if usize::try_from(length).map_or(true, |length| length > Manifest::MAX_BYTES) {
        return mismatch(Mismatch::OtherManifest);
    }
    let bytes = std::fs::read(&path).map_err(|source| BundleError::Disk { path, source })?;
    let manifest =
        Manifest::parse(&bytes).map_err(|error| BundleError::Mismatch(Mismatch::Manifest(error)))?;
    if manifest.digest() != order.manifest || manifest.canonical_bytes() != bytes {
        return mismatch(Mismatch::OtherManifest);
    }
    if manifest.class.is_some_and(|wanted| !wanted.accepts(order.class)) {
        return mismatch(Mismatch::Class);
    }
    match manifest.timeout {
        Some(timeout) if timeout > order.wall_limit => mismatch(Mismatch::Timeout {
            timeout,
            wall_limit: order.wall_limit,
        }),
        Some(_) | None => Ok(manifest),
    }
}

/// The first package that the bundle's requirements file names; `None` where it has none, or one that is empty.
pub(crate) async fn first_package(bundle: &Bundle) -> Result<Option<String>, BundleError> {
    let Some(file) = &bundle.manifest.requirements else {
        return Ok(None);
    };
    let path = bundle.folder.join(file.as_str());
    match tokio::fs::read(&path).await {
        Ok(text) => Ok(first_dependency(
            file.file_name(),
            &String::from_utf8_lossy(&text),
        )),
        Err(source) => Err(BundleError::Disk { path, source }),
    }
}

/// Every file below `folder`, hashed.
fn files(folder: &Path) -> Result<BTreeMap<BundlePath, InputFile>, BundleError> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        let disk = |source| BundleError::Disk {
            path: at.clone(),
            source,
        };
        for entry in std::fs::read_dir(&at).map_err(disk)? {
            let entry = entry.map_err(disk)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(disk)?);
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let bad = || BundleError::Mismatch(Mismatch::Name(name.clone()));
            let name = BundlePath::parse(&name).map_err(|_| bad()).and_then(|parsed| {
                // a name that only looks like another after parsing would be uploaded under the wrong one
                if kind.is_file() && parsed.as_str() == name {
                    Ok(parsed)
                } else {
                    Err(bad())
                }
            })?;
            files.insert(
                name,
                hash(&path).map_err(|source| BundleError::Disk { path, source })?,
            );
        }
    }
    Ok(files)
}

/// Hashes one file.
pub(crate) fn hash(path: &Path) -> std::io::Result<InputFile> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let size_bytes = std::io::copy(&mut file, &mut hasher)?;
    Ok(InputFile {
        sha256: Sha256Hex(hasher.finalize().into()),
        size_bytes,
    })
}

#[cfg(test)]
mod tests;
