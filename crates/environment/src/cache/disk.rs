//! The cache's folder. Owns its layout:
//!
//! ```text
//! DIR/images/<cid>/…   whole images
//! DIR/used/<cid>       an empty file: its time says when the image was last used
//! DIR/incoming/        images that come or go; emptied at every start
//! ```
//!
//! An image comes and goes by one rename, so that whatever lies in `images` was whole when it came.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sandrun_content::ContentId;

use super::CacheError;

/// What a file or a directory takes at least.
const BLOCK: u64 = 4096;

/// The folders of a cache.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    dir: PathBuf,
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
        let disk = Self { dir: dir.to_owned() };
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

    /// Where an image is put together.
    pub(super) fn coming(&self, id: ContentId) -> PathBuf {
        self.incoming().join(id.to_string())
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

    /// What an image that was put together takes.
    pub(super) fn coming_size(&self, id: ContentId) -> Result<u64, CacheError> {
        size(&self.coming(id))
    }

    /// Lets an image that was put together be one.
    pub(super) fn arrive(&self, id: ContentId) -> Result<(), CacheError> {
        let coming = self.coming(id);
        self.touch(id)?;
        fs::rename(&coming, self.image(id)).map_err(failed("keep", &coming))
    }

    /// Removes what was put together and is not wanted.
    pub(super) fn discard(&self, id: ContentId) {
        remove(&self.coming(id));
    }

    /// Takes an image away: nobody finds it from here on. The rest is for [`Self::discard`].
    pub(super) fn leave(&self, id: ContentId) -> Result<(), CacheError> {
        let image = self.image(id);
        remove(&self.coming(id));
        fs::rename(&image, self.coming(id)).map_err(failed("remove", &image))?;
        let used = self.used().join(id.to_string());
        match fs::remove_file(&used) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &used)(error)),
            Ok(()) | Err(_) => Ok(()),
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
