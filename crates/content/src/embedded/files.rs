//! The few file operations that the store's promises rest on: create, lock, sync.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;

use sandrun_store::LockFile;
use tempfile::NamedTempFile;

use crate::error::ContentError;

/// Creates a directory and its parents, closed to others.
pub(super) fn create_dirs(dir: &Path) -> Result<(), ContentError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(ContentError::io("create", dir))
}

/// Takes the store for this process.
pub(super) fn lock(dir: &Path) -> Result<LockFile, ContentError> {
    let path = dir.join("lock");
    let taken = LockFile::take(&path).map_err(ContentError::io("lock", &path))?;
    taken.ok_or_else(|| ContentError::Locked { path: dir.to_owned() })
}

/// Removes the files in a directory.
pub(super) fn empty(dir: &Path) -> Result<(), ContentError> {
    for entry in fs::read_dir(dir).map_err(ContentError::io("read", dir))? {
        let path = entry.map_err(ContentError::io("read", dir))?.path();
        fs::remove_file(&path).map_err(ContentError::io("remove", &path))?;
    }
    Ok(())
}

/// Makes names that were created in a directory survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<(), ContentError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(ContentError::io("sync", dir))
}

/// Writes a file whole: beside, synced, renamed. The directory is still to be synced.
pub(super) fn write_whole(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<(), ContentError> {
    let file = write_beside(tmp, bytes)?;
    file.persist(path)
        .map(drop)
        .map_err(|e| ContentError::io("create", path)(e.error))
}

/// Writes and syncs a file that is still to be renamed to its place. Its time is exact, in contrast to the kernel's.
pub(super) fn write_beside(tmp: &Path, bytes: &[u8]) -> Result<NamedTempFile, ContentError> {
    let mut file = NamedTempFile::new_in(tmp).map_err(ContentError::io("create a file in", tmp))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.as_file().set_modified(SystemTime::now()));
    written
        .and_then(|()| file.as_file().sync_all())
        .map_err(ContentError::io("write", file.path()))?;
    Ok(file)
}
