//! The pinned roots: a file each, and the same set in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cid::Cid;

use super::files;
use crate::block::supported;
use crate::error::ContentError;
use crate::id::cid_of;

/// The pins, by their CIDv1; the value is the CID as it was pinned (version 0 or 1).
#[derive(Debug)]
pub(super) struct PinDir {
    dir: PathBuf,
    tmp: PathBuf,
    pins: Mutex<BTreeMap<Cid, Cid>>,
}

impl PinDir {
    pub(super) fn open(dir: PathBuf, tmp: PathBuf) -> Result<Self, ContentError> {
        files::create_dirs(&dir)?;
        let mut pins = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(ContentError::io("read", &dir))? {
            let path = entry.map_err(ContentError::io("read", &dir))?.path();
            let text = fs::read_to_string(&path).map_err(ContentError::io("read", &path))?;
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            match (name.parse::<Cid>(), text.trim().parse::<Cid>()) {
                (Ok(key), Ok(pinned)) => {
                    pins.insert(key, pinned);
                }
                (Ok(key), Err(_)) => {
                    pins.insert(key, key);
                }
                (Err(_), _) => tracing::warn!(path = %path.display(), "not a pin; left alone"),
            }
        }
        Ok(Self {
            dir,
            tmp,
            pins: Mutex::new(pins),
        })
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Cid, Cid>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pins as they were pinned.
    pub(super) fn list(&self) -> Vec<Cid> {
        self.locked().values().copied().collect()
    }

    pub(super) fn contains(&self, cid: &Cid) -> bool {
        key(cid).is_ok_and(|key| self.locked().contains_key(&key))
    }

    /// Adds a pin; on `Ok` it is on disk.
    pub(super) fn add(&self, cid: &Cid) -> Result<(), ContentError> {
        let key = key(cid)?;
        let mut pins = self.locked();
        if pins.contains_key(&key) {
            return Ok(());
        }
        files::write_whole(
            &self.tmp,
            &self.dir.join(key.to_string()),
            cid.to_string().as_bytes(),
        )?;
        files::sync_dir(&self.dir)?;
        pins.insert(key, *cid);
        Ok(())
    }

    /// Removes a pin and says whether there was one.
    pub(super) fn remove(&self, cid: &Cid) -> Result<bool, ContentError> {
        let key = key(cid)?;
        let mut pins = self.locked();
        if !pins.contains_key(&key) {
            return Ok(false);
        }
        let path = self.dir.join(key.to_string());
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ContentError::Io {
                    action: "remove",
                    path,
                    source,
                });
            }
        }
        files::sync_dir(&self.dir)?;
        pins.remove(&key);
        Ok(true)
    }
}

/// CIDv0 and CIDv1 of one block are one pin.
fn key(cid: &Cid) -> Result<Cid, ContentError> {
    Ok(cid_of(cid.codec(), supported(cid)?))
}
