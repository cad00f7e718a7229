//! The journal: batches as they were decided, one write each and one sync for all that were written meanwhile, in two
//! files that are written over and over.
//!
//! The tables take them over a moment later, many at a time (`settle`). A batch stays here until the tables that hold it
//! are on the disk; after a crash it is brought to them again. So a commit costs what one row costs, however many rows and
//! indexes it changes. Files keep their size, so that a sync has nothing but the batch to write.
//!
//! A file is a header (magic, the queue's mark, the number of its first batch, a salt) and records one behind the other:
//! number, length, CRC-32 of the salt, both and the body, body. The salt is another one each time a file begins anew: what
//! is left of a former time is no record any more, whatever its number. Never knows what is in a batch.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;

use super::replay;
use crate::queue::{Doing, QueueStoreError, Writes};

/// The format of files and bodies (postcard of [`Writes`]) is in its last digit.
pub(super) const MAGIC: &[u8; 8] = b"sandrnj2";
pub(super) const HEADER: usize = 40;
/// Bytes before a record's body.
pub(super) const LEAD: usize = 16;
/// Bytes of a file; a larger batch makes it longer.
const SIZE: u64 = 16 << 20;
/// Length of a queue's mark.
pub(super) const MARK: usize = 16;
const DOING: Doing = "write a batch";

/// One of the two files.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: Arc<File>,
    /// The number of its last batch.
    last: u64,
    /// Bytes of the file.
    length: u64,
}

/// The journal, open for its one writer.
#[derive(Debug)]
pub(super) struct Journal {
    mark: [u8; MARK],
    /// Of the file that is written.
    salt: u64,
    parts: [Part; 2],
    active: usize,
    /// Where the next record goes; 0 where the file has no header yet.
    at: u64,
    next: u64,
    /// What is on the disk of the file that is written.
    kept: Kept,
    /// A record that was not acknowledged may stand there: nothing may follow it.
    is_broken: bool,
}

/// A batch as it is written.
#[derive(Debug)]
pub(super) struct Record {
    /// With room for its lead.
    bytes: Vec<u8>,
    /// Has seen the body.
    sum: Hasher,
}

impl Record {
    /// A batch.
    ///
    /// # Errors
    /// More than 4 GiB.
    pub(super) fn of(writes: &Writes) -> Result<Self, QueueStoreError> {
        let unreadable = || QueueStoreError::Unreadable {
            doing: DOING,
            what: "a batch",
        };
        let mut bytes = Vec::with_capacity(LEAD + size_of_body(writes));
        bytes.resize(LEAD, 0);
        let bytes = postcard::to_extend(writes, bytes).map_err(|_| unreadable())?;
        let length = u32::try_from(bytes.len() - LEAD).map_err(|_| unreadable())?;
        let mut sum = Hasher::new();
        sum.update(&bytes[LEAD..]);
        let mut record = Self { bytes, sum };
        record.bytes[8..12].copy_from_slice(&length.to_le_bytes());
        Ok(record)
    }

    /// Its size in bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All of it, as the batch with this number in a file with this salt.
    fn seal(&mut self, id: u64, salt: u64) -> &[u8] {
        self.bytes[..8].copy_from_slice(&id.to_le_bytes());
        let mut sum = Hasher::new();
        sum.update(&salt.to_le_bytes());
        sum.update(&self.bytes[..12]);
        sum.combine(&self.sum);
        self.bytes[12..LEAD].copy_from_slice(&sum.finalize().to_le_bytes());
        &self.bytes
    }
}

/// About how long a batch is, so that room is made for it once.
fn size_of_body(writes: &Writes) -> usize {
    /// What a row has beside its long parts.
    const ROW: usize = 96;
    let news = writes.new_jobs.iter().map(|it| it.request.len());
    let jobs = writes.jobs.iter().map(|it| it.snapshot.len());
    let nodes = writes
        .nodes
        .iter()
        .map(|it| it.announced.len() + it.snapshot.len() + it.endpoint.len());
    let answers = writes
        .answers
        .iter()
        .map(|it| it.stdout.len() + it.stderr.len() + it.details.len());
    let bodies = writes.bodies.iter().map(|it| it.data.len());
    let logs = writes.logs.iter().map(|it| it.bytes.len());
    let rows = news
        .chain(jobs)
        .chain(nodes)
        .chain(answers)
        .chain(bodies)
        .chain(logs);
    rows.map(|long| long + ROW).sum()
}

impl Journal {
    /// Opens or makes the journal in these files of the queue with this mark, whose tables hold every batch up to `settled`; and
    /// the batches that they don't have. Those have to be in the tables on the disk before the first one is appended.
    /// `salt` is random.
    ///
    /// # Errors
    /// Files that can't be used, that belong to another queue, or that lack batches which the tables don't have.
    pub(super) fn open(
        files: [PathBuf; 2],
        mark: [u8; MARK],
        salt: u64,
        settled: u64,
    ) -> Result<(Self, Vec<(u64, Writes)>), QueueStoreError> {
        let [first, second] = files;
        let (first, mut batches) = Part::open(first, &mark)?;
        let (second, others) = Part::open(second, &mark)?;
        batches.extend(others);
        batches.retain(|(id, _)| *id > settled);
        batches.sort_unstable_by_key(|(id, _)| *id);
        if (settled + 1..).zip(&batches).any(|(id, (found, _))| id != *found) {
            return Err(QueueStoreError::Mixed(first.path));
        }
        let next = batches.last().map_or(settled, |(id, _)| *id) + 1;
        let journal = Self {
            mark,
            salt,
            parts: [first, second],
            active: 0,
            at: 0,
            next,
            kept: Kept { at: 0, next },
            is_broken: false,
        };
        Ok((journal, batches))
    }

    /// Lets nothing be found in either file: all that is there is in the tables on the disk. What a former process wrote
    /// and took back may still be on the disk, where the next power cut brings it back beside what was written instead.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn forget(&mut self) -> Result<(), QueueStoreError> {
        for part in &mut self.parts {
            let cleared = part.clear(0, HEADER as u64);
            cleared.map_err(|error| part.error(error))?;
            part.last = 0;
        }
        Ok(())
    }

    /// The number of the last batch, 0 where there was never one.
    pub(super) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Whether the file that is written takes a record; else it goes to the other one, which begins anew.
    pub(super) fn has_room(&self, record: &Record) -> bool {
        self.at <= HEADER as u64 || self.at + record.len() as u64 <= SIZE
    }

    /// The batch that has to be in the tables on the disk before the other file can begin anew.
    pub(super) const fn waits_for(&self) -> u64 {
        self.parts[1 - self.active].last
    }

    /// Lets the other file begin anew. All that was written is on the disk, and all up to [`Self::waits_for`] in the
    /// tables there.
    pub(super) const fn turn(&mut self) {
        self.active = 1 - self.active;
        self.salt = self.salt.wrapping_add(1);
        self.at = 0;
        self.kept = Kept {
            at: 0,
            next: self.next,
        };
    }

    /// Writes the next batch, for which there is room. The end of this process does not take it away any more.
    ///
    /// # Errors
    /// What the disk says. The batch may then be found by the next start and by nobody before.
    pub(super) fn write(&mut self, record: &mut Record) -> Result<(), QueueStoreError> {
        let part = &mut self.parts[self.active];
        if self.is_broken {
            return Err(part.error(io::Error::other(
                "an earlier batch could not be written; start the service again",
            )));
        }
        let begin = self.at.max(HEADER as u64);
        let mut write = || {
            if self.at == 0 {
                part.shorten()?;
                let header = header(&self.mark, self.next, self.salt);
                part.file.write_all_at(&header, 0)?;
            }
            part.file.write_all_at(record.seal(self.next, self.salt), begin)
        };
        if let Err(error) = write() {
            self.is_broken = part.clear(begin, begin + LEAD as u64).is_err();
            return Err(part.error(error));
        }
        part.last = self.next;
        self.at = begin + record.len() as u64;
        part.length = part.length.max(self.at);
        self.next += 1;
        Ok(())
    }

    /// The file that is written, to be synced, and what a sync that begins now keeps.
    pub(super) fn unsynced(&self) -> (Arc<File>, Kept) {
        let Self { at, next, .. } = *self;
        (Arc::clone(&self.parts[self.active].file), Kept { at, next })
    }

    /// A sync has kept so much.
    pub(super) const fn synced(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// A sync has failed: takes back all that was written since the last one. Whoever is told that it failed must not
    /// find it later.
    pub(super) fn take_back(&mut self, error: io::Error) -> QueueStoreError {
        let Kept { at, next } = self.kept;
        let part = &mut self.parts[self.active];
        // each of them: else the second one would follow what comes in the place of the first
        self.is_broken |= part.clear(at.max(HEADER as u64), self.at).is_err();
        part.last = next - 1;
        (self.at, self.next) = (at, next);
        part.error(error)
    }
}

/// Where the records end that are on the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    at: u64,
    next: u64,
}

fn header(mark: &[u8; MARK], first: u64, salt: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..24].copy_from_slice(mark);
    header[24..32].copy_from_slice(&first.to_le_bytes());
    header[32..].copy_from_slice(&salt.to_le_bytes());
    header
}

impl Part {
    /// Opens or makes a file, with the batches in it.
    fn open(path: PathBuf, mark: &[u8; MARK]) -> Result<(Self, Vec<(u64, Writes)>), QueueStoreError> {
        let (file, bytes) = read(&path).map_err(|error| failed(&path, error))?;
        let batches = replay::batches(&bytes, mark, &path)?;
        let part = Self {
            path,
            length: SIZE.max(bytes.len() as u64),
            last: batches.last().map_or(0, |(id, _)| *id),
            file: Arc::new(file),
        };
        Ok((part, batches))
    }

    /// Cuts off what a record longer than the file has left, of which nothing is needed any more.
    fn shorten(&mut self) -> io::Result<()> {
        if self.length > SIZE {
            self.file.set_len(SIZE)?;
            self.length = SIZE;
        }
        Ok(())
    }

    /// Lets no record be found there.
    fn clear(&self, from: u64, to: u64) -> io::Result<()> {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or_default();
        self.file.write_all_at(&vec![0; length], from)?;
        self.file.sync_data()
    }

    fn error(&self, error: io::Error) -> QueueStoreError {
        failed(&self.path, error)
    }
}

fn failed(path: &Path, source: io::Error) -> QueueStoreError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::StorageFull {
        return QueueStoreError::JournalFull { path, source };
    }
    QueueStoreError::Sync { path, source }
}

/// A file of full length, and what is in it.
fn read(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < SIZE {
        let missing = usize::try_from(SIZE).unwrap_or_default() - bytes.len();
        file.write_all(&vec![0; missing])?;
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok((file, bytes))
}

#[cfg(test)]
impl Journal {
    /// Lets its disk be full from now on.
    pub(super) fn fill_disk(&mut self) {
        let full = OpenOptions::new().write(true).open("/dev/full");
        self.parts[self.active].file = Arc::new(full.unwrap());
    }
}

#[cfg(test)]
mod tests;
