//! SHA-256 of the system's files, each read once: what was read is remembered in a file by what `stat` says of it. Owns
//! that file; a job cannot reach it. Nothing of it is trusted that another user could have written.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::walk::Stamp;

/// SHA-256 of a file's bytes.
pub(super) type Hash = [u8; 32];

/// First bytes of the file; another form has other ones.
const MAGIC: &[u8; 16] = b"sandrun-files-1\n";
/// One file: seven numbers and the hash.
const RECORD: usize = 7 * 8 + 32;
/// Longest file that is taken: half a million files.
const LONGEST: u64 = 64 << 20;
/// A file that has changed this recently may change again without another time of change.
const FRESH_SECONDS: i64 = 2;
const BUFFER: usize = 256 * 1024;

/// Hashes of files in given states.
#[derive(Debug, Default)]
pub(super) struct Contents {
    known: HashMap<Stamp, Hash>,
}

impl Contents {
    /// What the file says; nothing where it is missing, damaged, or not ours alone.
    pub(super) fn load(path: &Path) -> Self {
        let known = read_own(path).and_then(|bytes| parse(&bytes).ok_or(io::ErrorKind::InvalidData.into()));
        Self {
            known: known.unwrap_or_default(),
        }
    }

    /// The hashes of these files, `None` for one that cannot be read; reads what is not known, on all processors.
    /// `true` if anything was.
    pub(super) fn of(&mut self, files: &[(&Path, Stamp)]) -> (Vec<Option<Hash>>, bool) {
        let missing: Vec<_> = files
            .iter()
            .filter(|(_, stamp)| !self.known.contains_key(stamp))
            .collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((path, stamp)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((*stamp, hash(path, *stamp)));
            }
            done
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, NonZeroUsize::get)
            .min(missing.len());
        let read: HashMap<_, _> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .filter_map(|worker| worker.join().ok())
                .flatten()
                .collect()
        });
        let hashes = files.iter().map(|(_, stamp)| {
            let known = self.known.get(stamp).copied();
            known.or_else(|| read.get(stamp).copied().flatten())
        });
        let hashes = hashes.collect();
        let now = now();
        let lasting = read.iter().filter_map(|(stamp, hash)| Some((*stamp, (*hash)?)));
        self.known
            .extend(lasting.filter(|(stamp, _)| stamp.changed.0 + FRESH_SECONDS < now));
        (hashes, !missing.is_empty())
    }

    /// Keeps the hashes of these files, and forgets all others. By a rename: another process sees all of it or none.
    pub(super) fn store(&self, path: &Path, files: &[(&Path, Stamp)]) -> io::Result<()> {
        let Some(dir) = path.parent() else { return Ok(()) };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut bytes = MAGIC.to_vec();
        for (_, stamp) in files {
            if let Some(hash) = self.known.get(stamp) {
                bytes.extend(record(stamp, hash));
            }
        }
        let sum: Hash = Sha256::digest(&bytes).into();
        bytes.extend(sum);
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&bytes)?;
        file.persist(path)?;
        Ok(())
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `None` for a file that cannot be read, or that is another than it was.
fn hash(path: &Path, stamp: Stamp) -> Option<Hash> {
    let mut file = File::open(path).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(buffer.get(..length)?),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    (Stamp::of(&file.metadata().ok()?) == stamp).then(|| hasher.finalize().into())
}

fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let about = file.metadata()?;
    let is_ours = about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o022 == 0;
    if !is_ours || about.size() > LONGEST {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn record(stamp: &Stamp, hash: &Hash) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let times = [
        stamp.modified.0,
        stamp.modified.1,
        stamp.changed.0,
        stamp.changed.1,
    ];
    let numbers = [stamp.device, stamp.inode, stamp.size].map(u64::to_be_bytes);
    let numbers = numbers.into_iter().chain(times.map(i64::to_be_bytes)).flatten();
    for (place, byte) in record.iter_mut().zip(numbers.chain(*hash)) {
        *place = byte;
    }
    record
}

fn parse(bytes: &[u8]) -> Option<HashMap<Stamp, Hash>> {
    let (body, sum) = bytes.split_last_chunk::<32>()?;
    let records = body.strip_prefix(MAGIC)?;
    let is_whole = Sha256::digest(body)[..] == sum[..] && records.len().is_multiple_of(RECORD);
    let all = is_whole.then(|| records.chunks_exact(RECORD).map(one))?;
    all.collect()
}

fn one(record: &[u8]) -> Option<(Stamp, Hash)> {
    let (numbers, hash) = record.split_last_chunk::<32>()?;
    let mut numbers = numbers
        .chunks_exact(8)
        .filter_map(|number| number.try_into().ok());
    let mut unsigned = || Some(u64::from_be_bytes(numbers.next()?));
    let (device, inode, size) = (unsigned()?, unsigned()?, unsigned()?);
    let mut signed = || Some(unsigned()?.cast_signed());
    let stamp = Stamp {
        device,
        inode,
        size,
        modified: (signed()?, signed()?),
        changed: (signed()?, signed()?),
    };
    Some((stamp, *hash))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn old(path: &Path) -> Stamp {
        // As if it had lain there for a while; the hash is checked against the stamp when the file is read.
        Stamp::of(&fs::metadata(path).unwrap())
    }

    #[test]
    fn what_was_read_is_remembered_and_what_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, shell) = (folder.path().join("inner/cache"), Path::new("/bin/sh"));
        let files = [(shell, old(shell))];
        let mut contents = Contents::default();
        let (hashes, is_new) = contents.of(&files);
        assert!(is_new && hashes[0].is_some());
        contents.store(&cache, &files).unwrap();
        assert_eq!(Contents::load(&cache).of(&files), (hashes, false));
        let mut other = files;
        other[0].1.changed.1 ^= 1;
        assert!(Contents::load(&cache).of(&other).1);
    }

    #[test]
    fn a_file_that_changed_a_moment_ago_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let files = [(file.as_path(), old(&file))];
        let mut contents = Contents::default();
        assert_eq!(contents.of(&files).0, [Some(Sha256::digest("x").into())]);
        assert!(contents.of(&files).1);
    }

    #[test]
    fn nothing_is_taken_from_a_file_that_is_damaged_or_open_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, shell) = (folder.path().join("cache"), Path::new("/bin/sh"));
        let files = [(shell, old(shell))];
        let mut contents = Contents::default();
        contents.of(&files);
        contents.store(&cache, &files).unwrap();
        let whole = fs::read(&cache).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(parse(&bytes).is_none(), "{at}");
            assert!(parse(&whole[..at]).is_none(), "{at}");
        }
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Contents::load(&cache).known.is_empty());
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Contents::load(&cache).known.len(), 1);
    }
}
