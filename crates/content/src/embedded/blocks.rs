//! The blocks on disk. Owns their names and the check on reading; knows nothing of trees and pins.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use cid::Cid;

use super::files;
use crate::block::{Block, BlockError, MAX_BLOCK_BYTES, supported};
use crate::error::ContentError;

/// A sha2-256 digest, the name of a block.
pub(super) type Digest32 = [u8; 32];

/// The directory of blocks.
#[derive(Debug)]
pub(super) struct BlockDir {
    dir: PathBuf,
    tmp: PathBuf,
    /// Shared while a block is touched, alone while one appears or is removed: none is removed that was just touched,
    /// and none is counted twice.
    changing: RwLock<()>,
}

/// A block's file.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockFile {
    pub(super) digest: Digest32,
    pub(super) len: u64,
    /// When it was last added.
    pub(super) added: SystemTime,
}

impl BlockDir {
    /// Opens the directory with its 256 subdirectories, all of which survive a power cut from here on.
    pub(super) fn open(dir: PathBuf, tmp: PathBuf) -> Result<Self, ContentError> {
        files::create_dirs(&dir)?;
        for first in 0..=u8::MAX {
            files::create_dirs(&dir.join(hex::encode([first])))?;
        }
        files::sync_dir(&dir)?;
        Ok(Self {
            dir,
            tmp,
            changing: RwLock::new(()),
        })
    }

    fn path(&self, digest: &Digest32) -> PathBuf {
        self.dir.join(hex::encode(&digest[..1])).join(hex::encode(digest))
    }

    /// Reads a block and checks it.
    pub(super) fn read(&self, cid: &Cid) -> Result<Block, ContentError> {
        let path = self.path(&supported(cid)?);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(ContentError::NotFound { cid: *cid }),
            Err(source) => {
                return Err(ContentError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let mut bytes = Vec::new();
        // one byte more than a block may have, so that a grown file is noticed
        let read = file.take(MAX_BLOCK_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(ContentError::io("read", &path))?;
        Block::checked(*cid, Bytes::from(bytes)).map_err(|error| {
            tracing::error!(%cid, path = %path.display(), %error, "a stored block is corrupt");
            error.into()
        })
    }

    pub(super) fn contains(&self, digest: &Digest32) -> Result<bool, ContentError> {
        let path = self.path(digest);
        path.try_exists().map_err(ContentError::io("read", path))
    }

    /// Marks a block as added now, and says whether it is there.
    pub(super) fn touch(&self, digest: &Digest32) -> Result<bool, ContentError> {
        let path = self.path(digest);
        let _shared = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        let touched = File::options()
            .write(true)
            .open(&path)
            .and_then(|f| f.set_modified(SystemTime::now()));
        match touched {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ContentError::Io {
                action: "touch",
                path,
                source,
            }),
        }
    }

    /// Touches a block if its file holds these very bytes; a corrupt one is as good as missing.
    pub(super) fn touch_whole(&self, block: &Block) -> Result<bool, ContentError> {
        let digest = supported(&block.cid())?;
        if !self.touch(&digest)? {
            return Ok(false);
        }
        match self.read(&block.cid()) {
            Ok(_) => Ok(true),
            Err(ContentError::NotFound { .. }) => Ok(false),
            Err(ContentError::Block(error)) => match *error {
                BlockError::Corrupt { .. } | BlockError::TooLarge { .. } => Ok(false),
                BlockError::Unsupported { .. } => Err(ContentError::Block(error)),
            },
            Err(error) => Err(error),
        }
    }

    /// Writes a block, synced, and returns the bytes of the file that it replaced. Its directory is still to be
    /// synced.
    pub(super) fn write(&self, block: &Block) -> Result<u64, ContentError> {
        let path = self.path(&supported(&block.cid())?);
        let file = files::write_beside(&self.tmp, block.bytes())?;
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = fs::metadata(&path).map_or(0, |about| about.len());
        file.persist(&path)
            .map_err(|e| ContentError::io("create", &path)(e.error))?;
        Ok(replaced)
    }

    /// Makes the names below one of the 256 subdirectories survive a power cut.
    pub(super) fn sync(&self, first: u8) -> Result<(), ContentError> {
        files::sync_dir(&self.dir.join(hex::encode([first])))
    }

    /// Removes a block if it was last added before `before`, and returns the bytes that are free now.
    pub(super) fn remove(&self, digest: &Digest32, before: SystemTime) -> Result<Option<u64>, ContentError> {
        let path = self.path(digest);
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let about = match fs::metadata(&path) {
            Ok(about) => about,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ContentError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        if about.modified().map_err(ContentError::io("read", &path))? >= before {
            return Ok(None);
        }
        fs::remove_file(&path).map_err(ContentError::io("remove", &path))?;
        Ok(Some(about.len()))
    }

    /// Visits all blocks, in no order.
    pub(super) fn each(&self, mut visit: impl FnMut(BlockFile)) -> Result<(), ContentError> {
        for first in 0..=u8::MAX {
            let dir = self.dir.join(hex::encode([first]));
            for entry in fs::read_dir(&dir).map_err(ContentError::io("read", &dir))? {
                let entry = entry.map_err(ContentError::io("read", &dir))?;
                let mut digest = Digest32::default();
                // what is not named like a block is not ours
                if hex::decode_to_slice(entry.file_name().as_encoded_bytes(), &mut digest).is_err() {
                    continue;
                }
                let about = match entry.metadata() {
                    Ok(about) => about,
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(source) => {
                        return Err(ContentError::Io {
                            action: "read",
                            path: entry.path(),
                            source,
                        });
                    }
                };
                let added = about.modified().map_err(ContentError::io("read", entry.path()))?;
                visit(BlockFile {
                    digest,
                    len: about.len(),
                    added,
                });
            }
        }
        Ok(())
    }
}
