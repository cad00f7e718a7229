//! Reads names and sizes from disk into a [`Layout`]. Never follows a symlink, opens no special file, and stops at the
//! limits instead of counting on.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::PackError;
use super::layout::{Counted, Data, Item, Layout};
use crate::limits::Limits;
use crate::name;

/// A directory's tree, or a tree with one file under its own name.
pub(super) fn directory_or_file(path: &Path, limits: &Limits) -> Result<Layout, PackError> {
    if metadata(path)?.is_dir() {
        return directory(path, limits);
    }
    let (data, executable) = regular_file(path)?;
    let name = path.file_name().ok_or_else(|| PackError::Missing {
        path: path.to_owned(),
    })?;
    let mut layout = Layout::new(path);
    layout.insert(checked_name(name, path)?, Item::File { data, executable });
    Ok(layout)
}

/// The tree below a directory.
pub(super) fn directory(root: &Path, limits: &Limits) -> Result<Layout, PackError> {
    if !metadata(root)?.is_dir() {
        return Err(PackError::NotADirectory {
            path: root.to_owned(),
        });
    }
    let mut layout = Layout::new(root);
    let mut counted = Counted::new(limits);
    let mut pending = vec![(String::new(), root.to_owned(), 1)];
    while let Some((prefix, dir, depth)) = pending.pop() {
        for (name, at) in children(&dir)? {
            let path = name::join(&prefix, &name);
            counted.entry(&at, depth)?;
            let about = metadata(&at)?;
            if about.is_dir() {
                layout.insert(path.clone(), Item::Directory);
                pending.push((path, at, depth + 1));
            } else {
                let (data, executable) = file(&at, &about)?;
                counted.bytes(&at, data.size())?;
                layout.insert(path, Item::File { data, executable });
            }
        }
    }
    Ok(layout)
}

/// A regular file and whether its owner may execute it.
pub(super) fn regular_file(path: &Path) -> Result<(Data, bool), PackError> {
    file(path, &metadata(path)?)
}

/// Opens a file that was found to be regular; whatever has taken its place since is not read.
pub(super) fn open(path: &Path, size: u64) -> Result<File, PackError> {
    // NONBLOCK so that a pipe in its place can't hold us; it means nothing for a regular file
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
    let file = File::from(opened.map_err(|source| read_error(path, source))?);
    let about = file.metadata().map_err(|source| read_error(path, source))?;
    if about.is_file() && about.len() == size {
        Ok(file)
    } else {
        Err(PackError::Changed {
            path: path.to_owned(),
        })
    }
}

pub(super) fn read_error(path: &Path, source: io::Error) -> PackError {
    let path = path.to_owned();
    if source.kind() == ErrorKind::NotFound {
        PackError::Missing { path }
    } else {
        PackError::Read { path, source }
    }
}

fn metadata(path: &Path) -> Result<Metadata, PackError> {
    let about = fs::symlink_metadata(path).map_err(|source| read_error(path, source))?;
    if about.is_symlink() {
        Err(PackError::Symlink {
            path: path.to_owned(),
        })
    } else {
        Ok(about)
    }
}

fn file(path: &Path, about: &Metadata) -> Result<(Data, bool), PackError> {
    if !about.is_file() {
        return Err(PackError::Special {
            path: path.to_owned(),
        });
    }
    let executable = about.permissions().mode() & 0o100 != 0;
    Ok((
        Data::File {
            path: path.to_owned(),
            size: about.len(),
        },
        executable,
    ))
}

/// The entries of a directory, sorted, so that an error is the same each time.
fn children(dir: &Path) -> Result<Vec<(String, PathBuf)>, PackError> {
    let mut children = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| read_error(dir, source))? {
        let entry = entry.map_err(|source| read_error(dir, source))?;
        let at = entry.path();
        children.push((checked_name(&entry.file_name(), &at)?, at));
    }
    children.sort();
    Ok(children)
}

fn checked_name(name: &std::ffi::OsStr, at: &Path) -> Result<String, PackError> {
    let name = name
        .to_str()
        .ok_or_else(|| PackError::NotUtf8 { path: at.to_owned() })?;
    match name::check(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(reason) => Err(PackError::Name {
            path: at.to_owned(),
            reason,
        }),
    }
}
