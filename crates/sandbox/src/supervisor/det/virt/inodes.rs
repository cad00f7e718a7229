//! Which inode is which, in numbers and times that are the same in every run.
//!
//! Owns the virtual inode numbers, the virtual times of the job's own files, and what is known of their content. Never
//! looks at a file: what the kernel says of it is an argument.
//!
//! A file's time of change must not be the machine's. Whoever looks at a file of the job sets its real time of change
//! to [`UNTOUCHED`]; the kernel sets it to the machine's time at the next write, whichever way that comes (mappings
//! included), and the next look sees that it differs, gives the file the virtual time of that look, and sets
//! [`UNTOUCHED`] again. A job cannot set that real time: its own calls for it end here, in the table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use sandrun_types::FileHash;

use crate::supervisor::det::hash::Numbered;

/// Records that are kept: a job that looks at more files than this has them forgotten and their numbers begin anew.
const KEPT: usize = 1 << 18;
/// Bytes of paths that are kept; they can be asked for again.
const KEPT_PATHS: usize = 16 << 20;
/// The first virtual inode number.
const FIRST: u64 = 1000;

/// A point in time as file systems have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct FileTime {
    /// Seconds since 1970-01-01 UTC; before it they are negative.
    pub(in super::super) seconds: i64,
    /// Nanoseconds, below 10^9.
    pub(in super::super) nanos: u32,
}

/// The real time of change of a file of the job that has not been written since the last look.
pub(in super::super) const UNTOUCHED: FileTime = FileTime { seconds: 1, nanos: 1 };

/// A real inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct Inode {
    /// Real device.
    pub(in super::super) device: u64,
    /// Real number.
    pub(in super::super) number: u64,
}

/// Virtual times of a file of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Times {
    /// Of the last change.
    pub(in super::super) modified: FileTime,
    /// Of the last access, as far as the job itself has set it; the time of change else.
    pub(in super::super) accessed: FileTime,
}

/// What is known of a file.
#[derive(Debug)]
struct Record {
    number: u64,
    times: Option<Times>,
    unreported: bool,
    /// Somebody has mapped it to write into it: what is written so, the kernel does not always tell.
    mapped: bool,
    content: Option<FileHash>,
    told: Option<FileHash>,
    hashed: u64,
    path: Option<(u64, Rc<[u8]>)>,
    /// It was empty at the last look, which left its real time as it was.
    empty: bool,
}

/// All that was looked at.
#[derive(Debug)]
pub(in super::super) struct Inodes {
    records: Records,
    /// Names of files of the system that have several.
    names: BTreeMap<Vec<u8>, u64>,
    next: u64,
    start: FileTime,
    /// Bytes of all records' paths, at most.
    paths: usize,
    /// Number of changes of the tree of files, after which names may be others.
    changes: u64,
}

impl Inodes {
    /// Nothing known; files that nobody has written since the start have the time `start`.
    pub(in super::super) fn new(start: FileTime) -> Self {
        Self {
            records: Records::default(),
            names: BTreeMap::new(),
            next: FIRST,
            start,
            paths: 0,
            changes: 0,
        }
    }

    /// The time of everything that the job has not written.
    pub(in super::super) const fn start(&self) -> FileTime {
        self.start
    }

    /// The virtual number of an inode: they are given in the order of the first look.
    pub(in super::super) fn number(&mut self, inode: Inode) -> u64 {
        self.record(inode).number
    }

    /// What a file of the system is numbered by that has several names, this among them.
    pub(in super::super) fn key_of(&mut self, name: &[u8]) -> Inode {
        /// No file system has it.
        const BY_NAME: u64 = u64::MAX;
        let new = u64::try_from(self.names.len()).unwrap_or(u64::MAX);
        let number = match self.names.get(name) {
            Some(number) => *number,
            None => *self.names.entry(name.to_vec()).or_insert(new),
        };
        Inode {
            device: BY_NAME,
            number,
        }
    }

    /// A look at a file of the job whose real time of change is `real`: its virtual times. The caller sets the real
    /// time to [`UNTOUCHED`] if this says so.
    pub(in super::super) fn look(
        &mut self,
        inode: Inode,
        (real, is_empty): (FileTime, bool),
        now: impl FnOnce() -> FileTime,
    ) -> (Times, Stamp) {
        let start = self.start;
        let record = self.record(inode);
        let was_empty = std::mem::take(&mut record.empty);
        let times = record.times.unwrap_or(Times {
            modified: start,
            accessed: start,
        });
        if real == UNTOUCHED {
            return (times, Stamp::Keep);
        }
        if was_empty && is_empty {
            return (times, Stamp::Set);
        }
        // Asking for it is not free: most looks are at files that nobody has written.
        let now = now();
        let times = Times {
            modified: now,
            accessed: now,
        };
        record.times = Some(times);
        record.unreported = true;
        record.content = None;
        (times, Stamp::Set)
    }

    /// The same for a file that somebody has open, so that there will be another look when it is closed: one that is
    /// empty needs no stamp until then, as its next byte will tell that it was written.
    pub(in super::super) fn look_open(
        &mut self,
        inode: Inode,
        (real, is_empty): (FileTime, bool),
        now: impl FnOnce() -> FileTime,
    ) -> (Times, Stamp) {
        let (times, stamp) = self.look(inode, (real, is_empty), now);
        if stamp == Stamp::Set && is_empty {
            self.record(inode).empty = true;
            return (times, Stamp::Keep);
        }
        (times, stamp)
    }

    /// The job sets a file's times itself; `None` leaves one as it is.
    pub(in super::super) fn set_times(
        &mut self,
        inode: Inode,
        accessed: Option<FileTime>,
        modified: Option<FileTime>,
    ) {
        let start = self.start;
        let record = self.record(inode);
        let old = record.times.unwrap_or(Times {
            modified: start,
            accessed: start,
        });
        record.times = Some(Times {
            modified: modified.unwrap_or(old.modified),
            accessed: accessed.unwrap_or(old.accessed),
        });
    }

    /// Whether a file was written since its content was last told, or may have been.
    pub(in super::super) fn is_unreported(&mut self, inode: Inode) -> bool {
        let record = self.record(inode);
        record.unreported || record.mapped
    }

    /// The content of a file that was hashed and not written since.
    pub(in super::super) fn content(&self, inode: Inode) -> Option<FileHash> {
        let record = self.records.get(inode).filter(|record| !record.mapped)?;
        record.content
    }

    /// A file is mapped by somebody who may write into it.
    pub(in super::super) fn map(&mut self, inode: Inode) {
        self.record(inode).mapped = true;
    }

    /// Whether a file of this length may be hashed once more. What hashing costs stays within a few times what the
    /// job itself can have written: a file that grows by many small writes is hashed at ever longer intervals.
    pub(in super::super) fn may_hash(&mut self, inode: Inode, length: u64) -> bool {
        const FREE: u64 = 16 << 20;
        self.record(inode).hashed <= length.saturating_mul(4).saturating_add(FREE)
    }

    /// A file's content was hashed.
    pub(in super::super) fn hashed(&mut self, inode: Inode, content: FileHash) {
        let record = self.record(inode);
        record.hashed = record.hashed.saturating_add(content.length);
        record.content = Some(content);
    }

    /// The tree of files is about to change.
    pub(in super::super) const fn tree_changes(&mut self) {
        self.changes += 1;
    }

    /// Number of changes of the tree so far.
    pub(in super::super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// The path of a file with one name, if it was asked since the last change of the tree.
    pub(in super::super) fn path(&self, inode: Inode) -> Option<Rc<[u8]>> {
        let (changes, path) = self.records.get(inode)?.path.as_ref()?;
        (*changes == self.changes).then(|| Rc::clone(path))
    }

    /// Keeps the path of a file with one name.
    pub(in super::super) fn keep_path(&mut self, inode: Inode, path: &Rc<[u8]>) {
        if self.paths + path.len() > KEPT_PATHS {
            self.paths = 0;
            self.records.all.iter_mut().for_each(|record| record.path = None);
        }
        self.paths += path.len();
        let kept = (self.changes, Rc::clone(path));
        self.record(inode).path = Some(kept);
    }

    /// A file's content is about to be told: whether it is another one than was told last.
    pub(in super::super) fn report(&mut self, inode: Inode, content: FileHash) -> bool {
        let record = self.record(inode);
        record.unreported = false;
        record.told.replace(content) != Some(content)
    }

    fn record(&mut self, inode: Inode) -> &mut Record {
        let next = &mut self.next;
        self.records.get_or_add(inode, || {
            let number = *next;
            *next += 1;
            Record {
                number,
                times: None,
                unreported: false,
                mapped: false,
                content: None,
                told: None,
                hashed: 0,
                path: None,
                empty: false,
            }
        })
    }
}

/// Records in the order of the first look, which is often that of later ones.
#[derive(Debug, Default)]
struct Records {
    all: Vec<Record>,
    places: Numbered<Inode, usize>,
    /// What was asked for last: one call asks many things of one file.
    last: Cell<Option<(Inode, usize)>>,
}

impl Records {
    fn place(&self, inode: Inode) -> Option<usize> {
        if let Some((last, place)) = self.last.get()
            && last == inode
        {
            return Some(place);
        }
        let place = *self.places.get(&inode)?;
        self.last.set(Some((inode, place)));
        Some(place)
    }

    fn get(&self, inode: Inode) -> Option<&Record> {
        self.all.get(self.place(inode)?)
    }

    fn get_or_add(&mut self, inode: Inode, new: impl FnOnce() -> Record) -> &mut Record {
        let place = match self.place(inode) {
            Some(place) => place,
            None => self.add(inode, new()),
        };
        &mut self.all[place]
    }

    fn add(&mut self, inode: Inode, record: Record) -> usize {
        if self.all.len() >= KEPT {
            self.all.clear();
            self.places.clear();
        }
        let place = self.all.len();
        self.all.push(record);
        self.places.insert(inode, place);
        self.last.set(Some((inode, place)));
        place
    }
}

/// What a look asks its caller to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Stamp {
    /// Nothing: the file was not written.
    Keep,
    /// Set the real time of change to [`UNTOUCHED`].
    Set,
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: FileTime = FileTime {
        seconds: 1000,
        nanos: 0,
    };

    const fn at(seconds: i64) -> FileTime {
        FileTime { seconds, nanos: 0 }
    }

    const fn inode(number: u64) -> Inode {
        Inode { device: 5, number }
    }

    #[test]
    fn names_of_one_file_have_one_number_and_others_another() {
        let mut inodes = Inodes::new(START);
        let first = inodes.number(inode(77));
        assert_eq!(inodes.number(inode(77)), first);
        assert_eq!(inodes.number(inode(3)), first + 1);
        assert_ne!(
            inodes.number(Inode {
                device: 6,
                number: 77
            }),
            first
        );
    }

    #[test]
    fn records_begin_anew_where_there_are_too_many() {
        let mut inodes = Inodes::new(START);
        let most = u64::try_from(KEPT).unwrap();
        let first = inodes.number(inode(0));
        (1..most).for_each(|number| inodes.map(inode(number)));
        assert_eq!(inodes.number(inode(0)), first);
        assert!(inodes.is_unreported(inode(most - 1)));
        assert_eq!(inodes.number(inode(most)), first + most);
        assert_eq!(inodes.number(inode(0)), first + most + 1);
        assert!(!inodes.is_unreported(inode(most - 1)));
    }

    #[test]
    fn a_write_gives_the_time_of_the_next_look_and_no_look_changes_it() {
        let mut inodes = Inodes::new(START);
        let times = |inodes: &mut Inodes, real, now| {
            let (times, stamp) = inodes.look(inode(1), (real, false), || at(now));
            (times.modified, stamp)
        };
        assert_eq!(times(&mut inodes, UNTOUCHED, 2000), (START, Stamp::Keep));
        assert_eq!(
            times(&mut inodes, at(1_800_000_000), 2001),
            (at(2001), Stamp::Set)
        );
        assert_eq!(times(&mut inodes, UNTOUCHED, 2005), (at(2001), Stamp::Keep));
        assert!(inodes.is_unreported(inode(1)));
        assert!(inodes.report(inode(1), FileHash::of(b"1")));
        assert!(!inodes.is_unreported(inode(1)));
    }

    #[test]
    fn times_that_the_job_sets_stay_until_it_writes() {
        let mut inodes = Inodes::new(START);
        inodes.set_times(inode(1), None, Some(at(5)));
        let (times, _) = inodes.look(inode(1), (UNTOUCHED, false), || at(2000));
        assert_eq!((times.modified, times.accessed), (at(5), START));
        let (times, _) = inodes.look(inode(1), (at(9), false), || at(2000));
        assert_eq!((times.modified, times.accessed), (at(2000), at(2000)));
    }

    #[test]
    fn an_open_empty_file_is_stamped_when_it_is_closed() {
        let mut inodes = Inodes::new(START);
        let real = at(1_800_000_000);
        let looks = |inodes: &mut Inodes, open, is_empty, now| {
            let (times, stamp) = if open {
                inodes.look_open(inode(1), (real, is_empty), || at(now))
            } else {
                inodes.look(inode(1), (real, is_empty), || at(now))
            };
            (times.modified, stamp)
        };
        assert_eq!(looks(&mut inodes, true, true, 2000), (at(2000), Stamp::Keep));
        assert_eq!(looks(&mut inodes, true, true, 2001), (at(2000), Stamp::Keep));
        assert_eq!(looks(&mut inodes, false, true, 2002), (at(2000), Stamp::Set));
        assert!(inodes.is_unreported(inode(1)));
        assert_eq!(looks(&mut inodes, true, true, 2003), (at(2003), Stamp::Keep));
        assert_eq!(looks(&mut inodes, true, false, 2004), (at(2004), Stamp::Set));
    }

    #[test]
    fn paths_hold_until_the_tree_changes() {
        let mut inodes = Inodes::new(START);
        assert_eq!(inodes.path(inode(1)), None);
        inodes.keep_path(inode(1), &Rc::from(b"/work/a".as_slice()));
        assert_eq!(&*inodes.path(inode(1)).unwrap(), b"/work/a");
        inodes.tree_changes();
        assert_eq!(inodes.path(inode(1)), None);
    }

    #[test]
    fn mapped_files_are_told_where_their_content_is_another() {
        let mut inodes = Inodes::new(START);
        let (one, other) = (FileHash::of(b"1"), FileHash::of(b"2"));
        inodes.hashed(inode(1), one);
        inodes.map(inode(1));
        assert!(inodes.is_unreported(inode(1)) && inodes.content(inode(1)).is_none());
        assert!(inodes.report(inode(1), one));
        assert!(!inodes.report(inode(1), one));
        assert!(inodes.report(inode(1), other));
    }

    #[test]
    fn content_is_forgotten_by_a_write_and_hashing_is_bounded() {
        let mut inodes = Inodes::new(START);
        let content = FileHash::of(b"abc");
        inodes.hashed(inode(1), content);
        assert_eq!(inodes.content(inode(1)), Some(content));
        inodes.look(inode(1), (at(9), false), || at(2000));
        assert_eq!(inodes.content(inode(1)), None);
        let large = FileHash {
            length: 10 << 20,
            ..content
        };
        let times = (0..100)
            .take_while(|_| {
                let may = inodes.may_hash(inode(2), large.length);
                inodes.hashed(inode(2), large);
                may
            })
            .count();
        assert_eq!(times, 6);
    }
}
