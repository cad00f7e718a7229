//! The cache's folder. Owns its layout:
//!
//! ```text
//! DIR/images/<cid>/…   whole images
//! DIR/used/<cid>       an empty file: its time says when the image was last used
//! DIR/incoming/<n>/…   images that come or go; emptied at every start
//! ```
//!
//! An image comes and goes by one rename, so that whatever lies in `images` was whole when it came.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sandrun_content::ContentId;

use super::CacheError;

/// What a file or a directory takes at least.
const BLOCK: u64 = 4096;

/// The folders of a cache.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    dir: PathBuf,
    /// Numbers of what comes or goes: no two of them are in each other's way.
    next: Arc<AtomicU64>,
}

/// A place for an image that comes or goes, removed with what is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an image that was put together here takes.
    pub(super) fn size(&self) -> Result<u64, CacheError> {
        size(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// An image that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: ContentId,
    pub(super) bytes: u64,
    pub(super) last_used: SystemTime,
}

impl Disk {
    /// Makes the folders and removes what an interrupted process left.
    pub(super) fn open(dir: &Path) -> Result<Self, CacheError> {
        let disk = Self {
            dir: dir.to_owned(),
            next: Arc::default(),
        };
        let incoming = disk.incoming();
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("empty", &incoming)(error));
            }
            Ok(()) | Err(_) => {}
        }
        for folder in [&incoming, &disk.images(), &disk.used()] {
            fs::create_dir_all(folder).map_err(failed("make", folder))?;
        }
        disk.forget_gone()?;
        Ok(disk)
    }

    pub(super) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    fn used(&self) -> PathBuf {
        self.dir.join("used")
    }

    fn incoming(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    pub(super) fn image(&self, id: ContentId) -> PathBuf {
        self.images().join(id.to_string())
    }

    /// A new place, where nothing is yet.
    pub(super) fn scratch(&self) -> Scratch {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Scratch {
            path: self.incoming().join(number.to_string()),
        }
    }

    /// Forgets when images were used that are not here.
    fn forget_gone(&self) -> Result<(), CacheError> {
        let used = self.used();
        for entry in fs::read_dir(&used).map_err(failed("read", &used))? {
            let entry = entry.map_err(failed("read", &used))?;
            if !self.images().join(entry.file_name()).exists() {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// All images; what has no content id for a name is none.
    pub(super) fn found(&self) -> Result<Vec<Found>, CacheError> {
        let images = self.images();
        let mut all = Vec::new();
        for entry in fs::read_dir(&images).map_err(failed("read", &images))? {
            let entry = entry.map_err(failed("read", &images))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let used = fs::metadata(self.used().join(entry.file_name())).and_then(|about| about.modified());
            all.push(Found {
                id,
                bytes: size(&entry.path())?,
                last_used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(all)
    }

    /// Lets an image that was put together be one.
    pub(super) fn arrive(&self, id: ContentId, scratch: Scratch) -> Result<(), CacheError> {
        self.touch(id)?;
        fs::rename(scratch.path(), self.image(id)).map_err(failed("keep", scratch.path()))
    }

    /// Takes an image away: nobody finds it from here on. It goes when the place is dropped.
    pub(super) fn leave(&self, id: ContentId) -> Result<Scratch, CacheError> {
        let (image, scratch) = (self.image(id), self.scratch());
        match fs::rename(&image, scratch.path()) {
            // somebody else took it
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &image)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let used = self.used().join(id.to_string());
        match fs::remove_file(&used) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &used)(error)),
            Ok(()) | Err(_) => Ok(scratch),
        }
    }

    /// Notes that an image is used now.
    pub(super) fn touch(&self, id: ContentId) -> Result<(), CacheError> {
        let path = self.used().join(id.to_string());
        let noted = File::create(&path).and_then(|file| file.set_modified(SystemTime::now()));
        noted.map_err(failed("write", &path))
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "an image's remains stay; the next start removes them");
        }
        Ok(()) | Err(_) => {}
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError + use<> {
    let path = path.to_owned();
    move |source| CacheError::Disk { action, path, source }
}

/// What a tree takes on disk, about.
fn size(folder: &Path) -> Result<u64, CacheError> {
    let mut bytes = BLOCK;
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        let about = entry.metadata().map_err(failed("read", folder))?;
        bytes += if about.is_dir() {
            size(&entry.path())?
        } else {
            about.len().div_ceil(BLOCK) * BLOCK
        };
    }
    Ok(bytes)
}
