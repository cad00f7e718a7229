//! Collects a job's outputs from its work directory.
//!
//! Runs only when every process of the job is dead, so nothing can be swapped meanwhile. Follows no link, leaves the
//! directory never (openat2 with RESOLVE_BENEATH), takes regular files only, and adds up sizes before it reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmodat, openat2, statat};
use sandrun_types::{BundlePath, InputFile, OutputPatterns};

use crate::hashing::hash_file;
use crate::{CollectedFile, RunError, SkipReason, SkippedFile};

/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 64;
/// Most entries that are reported as skipped.
const MAX_SKIPPED: usize = 100;

/// What was found and taken.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) files: Vec<CollectedFile>,
    pub(crate) skipped: Vec<SkippedFile>,
}

/// Why nothing was taken.
#[derive(Debug)]
pub(crate) enum CollectError {
    /// The files that match are larger than the limit, all together.
    TooLarge,
    /// The system failed.
    Io(RunError),
}

/// Copies what `patterns` allow into `target`. Input files that did not change stay, but those that a pattern names in
/// full. After an error `target` is empty: what half a collection takes would only fill a disk that may be full already.
pub(crate) fn collect(
    work: BorrowedFd<'_>,
    patterns: &OutputPatterns,
    inputs: &BTreeMap<BundlePath, InputFile>,
    limit: u64,
    target: &Path,
) -> Result<Collected, CollectError> {
    let collected = copy_all(work, patterns, inputs, limit, target);
    if collected.is_err()
        && let Err(error) = empty(target)
    {
        tracing::warn!(%error, folder = %target.display(), "cannot remove what a failed collection left");
    }
    collected
}

/// Removes everything below a folder, and not the folder.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn copy_all(
    work: BorrowedFd<'_>,
    patterns: &OutputPatterns,
    inputs: &BTreeMap<BundlePath, InputFile>,
    limit: u64,
    target: &Path,
) -> Result<Collected, CollectError> {
    let failed = |source: io::Error| {
        CollectError::Io(RunError::Files {
            what: "collect the outputs".to_owned(),
            source,
        })
    };
    let mut found = Found {
        patterns,
        files: BTreeMap::new(),
        skipped: Vec::new(),
    };
    found.walk(work, "", 0).map_err(failed)?;
    let total: u64 = found
        .files
        .values()
        .fold(0, |sum, size| sum.saturating_add(*size));
    if total > limit {
        return Err(CollectError::TooLarge);
    }
    let mut collected = Collected {
        files: Vec::new(),
        skipped: found.skipped,
    };
    for (path, size) in found.files {
        let file = open_file(work, path.as_str()).map_err(failed)?;
        let to = target.join(path.as_str());
        let (size_bytes, sha256) = copy(file, &to, size).map_err(failed)?;
        let unchanged = inputs.get(&path).is_some_and(|input| input.sha256 == sha256);
        if unchanged && !patterns.name(&path) {
            fs::remove_file(&to).map_err(failed)?;
        } else {
            collected.files.push(CollectedFile {
                path,
                size_bytes,
                sha256,
            });
        }
    }
    Ok(collected)
}

struct Found<'a> {
    patterns: &'a OutputPatterns,
    files: BTreeMap<BundlePath, u64>,
    skipped: Vec<SkippedFile>,
}

impl Found<'_> {
    fn walk(&mut self, dir: BorrowedFd<'_>, prefix: &str, depth: usize) -> io::Result<()> {
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let raw = entry.file_name();
            if raw == c"." || raw == c".." {
                continue;
            }
            let stat = || statat(dir, raw, AtFlags::SYMLINK_NOFOLLOW);
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                // some file systems do not list it
                kind = FileType::from_raw_mode(stat()?.st_mode);
            }
            let name = format!("{prefix}{}", raw.to_string_lossy());
            let path = raw.to_str().ok().and_then(|_| BundlePath::parse(&name).ok());
            match (kind, path) {
                (FileType::Directory, Some(_)) if depth < MAX_DEPTH => {
                    let inner = open(dir, raw, OFlags::DIRECTORY, 0o700)?;
                    self.walk(inner.as_fd(), &format!("{name}/"), depth + 1)?;
                }
                (FileType::RegularFile, Some(path)) => {
                    if self.patterns.allow(&path) {
                        let length = u64::try_from(stat()?.st_size).unwrap_or(u64::MAX);
                        self.files.insert(path, length);
                    }
                }
                (FileType::Directory | FileType::RegularFile, _) => self.skip(name, SkipReason::BadName),
                (FileType::Symlink, _) => self.skip(name, SkipReason::Symlink),
                (
                    FileType::Fifo
                    | FileType::Socket
                    | FileType::CharacterDevice
                    | FileType::BlockDevice
                    | FileType::Unknown,
                    _,
                ) => self.skip(name, SkipReason::SpecialFile),
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: String, reason: SkipReason) {
        if self.skipped.len() < MAX_SKIPPED {
            let name = name.escape_debug().take(1024).collect();
            self.skipped.push(SkippedFile { name, reason });
        }
    }
}

const STAY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens an entry that has been looked at. A mode without rights for its owner, as we may be, is mended: nobody else
/// is there any more.
fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr, kind: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let flags = kind | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match openat2(dir, name, flags, Mode::empty(), STAY) {
        Err(rustix::io::Errno::ACCESS) => {
            chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
            Ok(openat2(dir, name, flags, Mode::empty(), STAY)?)
        }
        other => Ok(other?),
    }
}

fn open_file(work: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let name = std::ffi::CString::new(path)?;
    Ok(File::from(open(work, &name, OFlags::empty(), 0o600)?))
}

fn copy(mut file: File, to: &Path, size: u64) -> io::Result<(u64, sandrun_types::Sha256Hex)> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut out = File::create_new(to)?;
    hash_file(&mut file, &mut out, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_that_fails_leaves_nothing_in_the_target() {
        let (work, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a", "d/b", "z"] {
            let file = work.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, vec![0; 1000]).unwrap();
        }
        let open = File::open(work.path()).unwrap();
        let run = |limit| {
            collect(
                open.as_fd(),
                &OutputPatterns::default(),
                &BTreeMap::new(),
                limit,
                target.path(),
            )
        };
        // the last of the three cannot be written
        fs::create_dir(target.path().join("z")).unwrap();
        assert!(matches!(run(10_000), Err(CollectError::Io(_))));
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
        assert_eq!(run(10_000).unwrap().files.len(), 3);
    }
}
