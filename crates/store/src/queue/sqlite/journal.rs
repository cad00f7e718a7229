//! The journal: batches as they were decided, one write each and one sync for all that were written meanwhile, in two
//! files that are written over and over.
//!
//! The tables take them over a moment later, many at a time (`settle`). A batch stays here until the tables that hold it
//! are on the disk; after a crash it is brought to them again. So a commit costs what one row costs, however many rows and
//! indexes it changes. Files keep their size, so that a sync has nothing but the batch to write.
//!
//! A file is a header (magic, the queue's mark, the number of its first batch) and records one behind the other: number,
//! length, CRC-32 of both and the body, body. What was left from the last time around has lower numbers. Never knows what
//! is in a batch.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::queue::{Doing, QueueStoreError, Writes};

/// The format of files and bodies (postcard of [`Writes`]) is in its last digit.
const MAGIC: &[u8; 8] = b"sandrnj1";
const HEADER: usize = 32;
/// Bytes before a record's body.
const LEAD: usize = 16;
/// Bytes of a file; a larger batch makes it longer.
const SIZE: u64 = 8 << 20;
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
}

/// The journal, open for its one writer.
#[derive(Debug)]
pub(super) struct Journal {
    mark: [u8; MARK],
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
pub(super) struct Record(Vec<u8>);

impl Record {
    /// The batch with this number.
    ///
    /// # Errors
    /// More than 4 GiB.
    pub(super) fn of(writes: &Writes, id: u64) -> Result<Self, QueueStoreError> {
        let unreadable = || QueueStoreError::Unreadable {
            doing: DOING,
            what: "a batch",
        };
        let body = postcard::to_extend(writes, vec![0; LEAD]);
        let mut record = body.map(Self).map_err(|_| unreadable())?;
        let length = u32::try_from(record.0.len() - LEAD).map_err(|_| unreadable())?;
        record.seal(id, length);
        Ok(record)
    }

    /// Its size in bytes.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    fn seal(&mut self, id: u64, length: u32) {
        self.0[..8].copy_from_slice(&id.to_le_bytes());
        self.0[8..12].copy_from_slice(&length.to_le_bytes());
        let sum = sum(&self.0[..12], &self.0[LEAD..]);
        self.0[12..LEAD].copy_from_slice(&sum.to_le_bytes());
    }
}

fn sum(lead: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(lead);
    hasher.update(body);
    hasher.finalize()
}

/// Where the files of the queue at `path` lie.
pub(super) fn paths(path: &Path) -> [PathBuf; 2] {
    [path.with_extension("journal-0"), path.with_extension("journal-1")]
}

impl Journal {
    /// Opens or makes the journal of the queue at `path` with this mark, whose tables hold every batch up to `settled`; and
    /// the batches that they don't have. Those have to be in the tables on the disk before the first one is appended.
    ///
    /// # Errors
    /// Files that can't be used, that belong to another queue, or that lack batches which the tables don't have.
    pub(super) fn open(
        path: &Path,
        mark: [u8; MARK],
        settled: u64,
    ) -> Result<(Self, Vec<(u64, Writes)>), QueueStoreError> {
        let [first, second] = paths(path);
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
            parts: [first, second],
            active: 0,
            at: 0,
            next,
            kept: Kept { at: 0, next },
            is_broken: false,
        };
        Ok((journal, batches))
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
    pub(super) fn write(&mut self, record: &Record) -> Result<(), QueueStoreError> {
        let part = &mut self.parts[self.active];
        if self.is_broken {
            return Err(part.error(io::Error::other(
                "an earlier batch could not be written; start the service again",
            )));
        }
        let begin = self.at.max(HEADER as u64);
        let write = || {
            if self.at == 0 {
                part.file.write_all_at(&header(&self.mark, self.next), 0)?;
            }
            part.file.write_all_at(&record.0, begin)
        };
        if let Err(error) = write() {
            self.is_broken = part.clear(begin, begin + LEAD as u64).is_err();
            return Err(part.error(error));
        }
        part.last = self.next;
        self.at = begin + record.len() as u64;
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

fn header(mark: &[u8; MARK], first: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..24].copy_from_slice(mark);
    header[24..].copy_from_slice(&first.to_le_bytes());
    header
}

impl Part {
    /// Opens or makes a file, with the batches in it.
    fn open(path: PathBuf, mark: &[u8; MARK]) -> Result<(Self, Vec<(u64, Writes)>), QueueStoreError> {
        let (file, bytes) = read(&path).map_err(|error| failed(&path, error))?;
        let batches = match bytes.strip_prefix(MAGIC) {
            Some(rest) if !rest.starts_with(mark) => return Err(QueueStoreError::Mixed(path)),
            Some(_) => batches(&bytes)?,
            None if bytes.starts_with(&MAGIC[..7]) => {
                return Err(QueueStoreError::Unreadable {
                    doing: "read the journal",
                    what: "its format",
                });
            }
            None => Vec::new(),
        };
        let last = batches.last().map_or(0, |(id, _)| *id);
        let file = Arc::new(file);
        Ok((Self { path, file, last }, batches))
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

/// The batches of a file, up to the first that is not whole or not the next one.
fn batches(bytes: &[u8]) -> Result<Vec<(u64, Writes)>, QueueStoreError> {
    let mut batches = Vec::new();
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER) else {
        return Ok(batches);
    };
    let mut expected = number(&header[24..]);
    while let Some((lead, tail)) = rest.split_first_chunk::<LEAD>() {
        let length = u32::from_le_bytes([lead[8], lead[9], lead[10], lead[11]]);
        let found = u32::from_le_bytes([lead[12], lead[13], lead[14], lead[15]]);
        let Some((body, tail)) = tail.split_at_checked(length as usize) else {
            break;
        };
        if number(&lead[..8]) != expected || found != sum(&lead[..12], body) {
            break;
        }
        let writes = postcard::from_bytes(body).map_err(|_| QueueStoreError::Unreadable {
            doing: "read the journal",
            what: "a batch",
        })?;
        batches.push((expected, writes));
        expected += 1;
        rest = tail;
    }
    Ok(batches)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
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
mod tests {
    use super::*;
    use crate::queue::ClientRow;
    use sandrun_core::pool::ClientNumber;

    const OURS: [u8; MARK] = [7; MARK];

    fn batch(number: u32, bytes: usize) -> Writes {
        Writes {
            clients: vec![ClientRow {
                number: ClientNumber(number),
                name: "x".repeat(bytes),
            }],
            ..Writes::default()
        }
    }

    fn open(folder: &Path, settled: u64) -> (Journal, Vec<(u64, Writes)>) {
        Journal::open(&folder.join("q.sqlite"), OURS, settled).unwrap()
    }

    fn append(journal: &mut Journal, writes: &Writes) -> u64 {
        let record = Record::of(writes, journal.next).unwrap();
        if !journal.has_room(&record) {
            journal.turn();
        }
        journal.write(&record).unwrap();
        journal.synced(journal.unsynced().1);
        journal.last()
    }

    #[test]
    fn batches_come_back_in_their_order_and_a_torn_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, before) = open(folder.path(), 0);
        assert!(before.is_empty());
        let written: Vec<(u64, Writes)> = (1..=5)
            .map(|number| (u64::from(number), batch(number, 100)))
            .collect();
        for (id, writes) in &written {
            assert_eq!(append(&mut journal, writes), *id);
        }
        let end = journal.at;
        drop(journal);
        assert_eq!(open(folder.path(), 0).1, written);
        assert_eq!(open(folder.path(), 3).1, written[3..]);
        assert_eq!(open(folder.path(), 5).0.next, 6);
        for at in [end - 1, end - 50, end - 110] {
            let file = OpenOptions::new()
                .write(true)
                .open(&paths(&folder.path().join("q.sqlite"))[0]);
            file.unwrap().write_all_at(b"!", at).unwrap();
            assert_eq!(open(folder.path(), 0).1, written[..4], "torn at {at}");
        }
    }

    #[test]
    fn what_a_sync_did_not_keep_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path(), 0);
        append(&mut journal, &batch(1, 10));
        for number in 2..=3 {
            let record = Record::of(&batch(number, 10), u64::from(number)).unwrap();
            journal.write(&record).unwrap();
        }
        let _ = journal.take_back(io::Error::other("a torn cable"));
        assert_eq!(open(folder.path(), 0).1, [(1, batch(1, 10))]);
        assert_eq!(append(&mut journal, &batch(9, 10)), 2);
        drop(journal);
        assert_eq!(open(folder.path(), 0).1, [(1, batch(1, 10)), (2, batch(9, 10))]);
    }

    #[test]
    fn files_take_turns_and_wait_for_the_tables() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path(), 0);
        let big = batch(1, 3 << 20);
        let mut waited = Vec::new();
        for _ in 0..7 {
            let has_room = journal.has_room(&Record::of(&big, 1).unwrap());
            waited.push(if has_room { 0 } else { journal.waits_for() });
            append(&mut journal, &big);
        }
        // two to a file: the third goes to the second one, the fifth has to wait for the first two
        assert_eq!(waited, [0, 0, 0, 0, 2, 0, 4]);
        drop(journal);
        let found = open(folder.path(), 4).1;
        let numbers: Vec<u64> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!(numbers, [5, 6, 7]);
        let gone = Journal::open(&folder.path().join("q.sqlite"), OURS, 1);
        assert!(
            matches!(gone, Err(QueueStoreError::Mixed(_))),
            "batches 2 to 4 are gone"
        );
    }

    #[test]
    fn a_batch_that_is_larger_than_a_file_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path(), 0);
        let large = batch(1, 20 << 20);
        append(&mut journal, &large);
        append(&mut journal, &batch(2, 5));
        drop(journal);
        assert_eq!(open(folder.path(), 0).1, [(1, large), (2, batch(2, 5))]);
    }

    #[test]
    fn another_queues_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        append(&mut open(folder.path(), 0).0, &batch(1, 1));
        let other = Journal::open(&folder.path().join("q.sqlite"), [8; MARK], 0);
        assert!(matches!(other, Err(QueueStoreError::Mixed(_))));
    }
}
