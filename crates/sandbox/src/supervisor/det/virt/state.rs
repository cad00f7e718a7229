//! What the answers remember of a job, and how files are looked at for it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, MemfdFlags, Timespec, Timestamps, fstat, futimens, memfd_create, utimensat};
use rustix::io::Errno;

use sandrun_types::FileHash;

use super::constants::Constants;
use super::entropy::Entropy;
use super::inodes::{FileTime, Inode, Inodes, Stamp, UNTOUCHED};
use super::links::Link;
use super::listing::Listings;
use super::made::Made;
use super::named::Named;
use super::paths;
use super::stat::{self, Place, Places, Real, Seen, Told};
use crate::supervisor::det::clock::{Clock, SECOND};
use crate::supervisor::det::task::TaskId;
use crate::supervisor::det::{Task, World};
use crate::sys::vdso::EPOCH_SECONDS;

/// State of a job.
#[derive(Debug)]
pub(in crate::supervisor) struct State {
    entropy: Option<Entropy>,
    pub(super) inodes: Inodes,
    pub(super) listings: Listings,
    pub(super) constants: Constants,
    /// Processes' own directories, each with the number of changes of the tree before it was asked.
    directories: BTreeMap<TaskId, (u64, Rc<[u8]>)>,
    places: Option<Places>,
    root: Option<OwnedFd>,
    /// The directory of the file that was opened once more last. Changes of the tree end it, so that one which is removed
    /// does not stay.
    pub(super) parent: Option<(Box<[u8]>, OwnedFd)>,
    /// Whether anybody has opened a device of entropy.
    pub(super) device_opened: bool,
    /// A name may lead to `/proc` or `/dev` without saying so: by a link that the job has made, or from a directory.
    pub(super) indirect: bool,
    /// The link of `/proc` that is being asked for.
    pub(super) link: Option<Link>,
    /// What processes have set as their niceness.
    pub(super) niceness: BTreeMap<TaskId, i32>,
    /// What the files that tasks are opening will hold.
    pub(super) opening: BTreeMap<TaskId, Vec<u8>>,
    /// Such files.
    pub(super) made: Made,
    /// Bytes of all such files so far.
    made_bytes: u64,
}

/// Most bytes of files that are made for a job in all, each in whole pages. Nothing tells when the last copy or mapping
/// of one is gone, and where no group counts memory nothing else bounds them.
const MOST_MADE: u64 = 512 << 20;
const PAGE: u64 = 4096;

impl Default for State {
    fn default() -> Self {
        let seconds = i64::try_from(EPOCH_SECONDS).unwrap_or(0);
        Self {
            entropy: None,
            inodes: Inodes::new(FileTime { seconds, nanos: 0 }),
            listings: Listings::default(),
            constants: Constants::default(),
            directories: BTreeMap::new(),
            places: None,
            root: None,
            parent: None,
            device_opened: false,
            indirect: false,
            link: None,
            niceness: BTreeMap::new(),
            opening: BTreeMap::new(),
            made: Made::default(),
            made_bytes: 0,
        }
    }
}

/// What is known of the job's files, for those who tell what happened to them.
impl State {
    /// A file's virtual number.
    pub(in super::super) fn number(&mut self, inode: Inode) -> u64 {
        self.inodes.number(inode)
    }

    /// Whether a file was written since its content was last told.
    pub(in super::super) fn is_unreported(&mut self, inode: Inode) -> bool {
        self.inodes.is_unreported(inode)
    }

    /// Whether names may lead to other files than they say.
    pub(in super::super) const fn are_names_indirect(&self) -> bool {
        self.indirect
    }

    /// The tree of files is about to change.
    pub(in super::super) fn tree_changes(&mut self) {
        self.parent = None;
        self.inodes.tree_changes();
    }

    /// The path of a file with one name, if it was asked since the last change of the tree.
    pub(in super::super) fn path(&self, inode: Inode) -> Option<Rc<[u8]>> {
        self.inodes.path(inode)
    }

    /// The directory of a process, if it was asked since the last change of the tree.
    pub(super) fn directory(&self, process: TaskId) -> Option<Rc<[u8]>> {
        let (changes, path) = self.directories.get(&process)?;
        (*changes == self.inodes.changes()).then(|| Rc::clone(path))
    }

    /// Keeps it.
    pub(super) fn keep_directory(&mut self, process: TaskId, path: &Rc<[u8]>) {
        let kept = (self.inodes.changes(), Rc::clone(path));
        self.directories.insert(process, kept);
    }

    /// It is another one, or none any more.
    pub(in super::super) fn forget_directory(&mut self, process: TaskId) {
        self.directories.remove(&process);
    }

    /// Whether one more file of this length may be made, which then counts.
    pub(super) fn may_make(&mut self, length: usize) -> bool {
        let pages = u64::try_from(length).unwrap_or(u64::MAX).div_ceil(PAGE).max(1);
        self.made_bytes = self.made_bytes.saturating_add(pages.saturating_mul(PAGE));
        self.made_bytes <= MOST_MADE
    }

    /// Keeps the path of a file with one name.
    pub(in super::super) fn keep_path(&mut self, inode: Inode, path: &Rc<[u8]>) {
        self.inodes.keep_path(inode, path);
    }

    /// A file's content is about to be told: whether it is another one than was told last.
    pub(in super::super) fn report(&mut self, inode: Inode, content: FileHash) -> bool {
        self.inodes.report(inode, content)
    }

    /// A file is mapped by somebody who may write into it.
    pub(in super::super) fn map(&mut self, inode: Inode) {
        self.inodes.map(inode);
    }

    /// A file's content, if it was hashed and not written since.
    pub(in super::super) fn content(&self, inode: Inode) -> Option<FileHash> {
        self.inodes.content(inode)
    }

    /// Whether a file of this length may be hashed once more.
    pub(in super::super) fn may_hash(&mut self, inode: Inode, length: u64) -> bool {
        self.inodes.may_hash(inode, length)
    }

    /// A file was hashed.
    pub(in super::super) fn hashed(&mut self, inode: Inode, content: FileHash) {
        self.inodes.hashed(inode, content);
    }
}

impl World {
    /// The job's entropy.
    pub(super) fn entropy(&mut self) -> &mut Entropy {
        let seed = self.det.seed;
        self.virt.entropy.get_or_insert_with(|| Entropy::new(seed))
    }

    /// Virtual time as file systems have it.
    pub(in super::super) fn file_time(&mut self) -> FileTime {
        file_time(&mut self.clock)
    }

    /// The root directory that the job has.
    pub(in super::super) fn root(&mut self, task: &Task) -> io::Result<&OwnedFd> {
        let root = match self.virt.root.take() {
            Some(root) => root,
            None => paths::open_root(self, task)?,
        };
        Ok(self.virt.root.insert(root))
    }

    /// The devices of the job's places.
    pub(in super::super) fn places(&mut self, task: &Task) -> io::Result<Places> {
        if let Some(places) = self.virt.places {
            return Ok(places);
        }
        let work = paths::open(self, task, b"/work", false)?;
        let memory = memfd_create("places", MemfdFlags::CLOEXEC)?;
        let places = Places {
            job: fstat(&work)?.st_dev,
            proc: fstat(&self.proc)?.st_dev,
            memory: fstat(&memory)?.st_dev,
        };
        Ok(*self.virt.places.insert(places))
    }

    /// What the kernel says of an open file, and where it lies.
    pub(in super::super) fn look_at(&mut self, task: &Task, file: impl AsFd) -> io::Result<(Real, Place)> {
        let real = Real::of(file)?;
        Ok((real, self.places(task)?.of(&real)))
    }

    /// What the job is told of an open file of which the kernel says `real`; if the job has written it, its real time of
    /// change is set back.
    pub(super) fn tell(
        &mut self,
        task: &Task,
        file: impl AsFd,
        real: &Real,
        named: Named,
    ) -> io::Result<Told> {
        let places = self.places(task)?;
        let clock = &mut self.clock;
        let now = || file_time(clock);
        let seen = Seen::Open(named);
        let (told, stamp) = stat::tell(real, &places, &mut self.virt.inodes, now, seen);
        if stamp == Stamp::Set {
            set_untouched(file)?;
        }
        Ok(told)
    }

    /// The same for what the kernel has said.
    pub(super) fn tell_real(&mut self, task: &Task, real: &Real, named: Named) -> io::Result<(Told, Stamp)> {
        let places = self.places(task)?;
        let clock = &mut self.clock;
        let now = || file_time(clock);
        let seen = Seen::ByName(named);
        Ok(stat::tell(real, &places, &mut self.virt.inodes, now, seen))
    }

    /// Takes notice of what the job has written to an open file of its own.
    pub(in super::super) fn notice(&mut self, real: &Real, file: impl AsFd) -> io::Result<()> {
        let clock = &mut self.clock;
        let (_, stamp) = self
            .virt
            .inodes
            .look(real.inode, (real.modified, real.is_empty()), || file_time(clock));
        if stamp == Stamp::Set {
            set_untouched(file)
        } else {
            Ok(())
        }
    }

    /// Takes notice of what the job has written to the file by this name, if that is what `real` says.
    pub(super) fn notice_path(&mut self, task: &Task, dir: i32, path: &[u8], follow: bool, inode: Inode) {
        let file = paths::open_at(self, task, dir, path, follow);
        // What cannot be reached from here keeps the machine's time, and is looked at again.
        if let Ok(file) = file
            && Real::of(&file).is_ok_and(|real| real.inode == inode)
        {
            let _ = set_untouched(&file);
        }
    }
}

fn file_time(clock: &mut Clock) -> FileTime {
    let unix = clock.unix();
    FileTime {
        seconds: i64::try_from(unix / SECOND).unwrap_or(i64::MAX),
        nanos: u32::try_from(unix % SECOND).unwrap_or(0),
    }
}

/// Sets a file's real time of change to [`UNTOUCHED`].
pub(in crate::supervisor) fn set_untouched(file: impl AsFd) -> io::Result<()> {
    let time = Timespec {
        tv_sec: UNTOUCHED.seconds,
        tv_nsec: i64::from(UNTOUCHED.nanos),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    match futimens(&file, &times) {
        // it is open for its name only
        Err(Errno::BADF) => Ok(utimensat(file, "", &times, AtFlags::EMPTY_PATH)?),
        other => Ok(other?),
    }
}

impl Real {
    /// Asks the kernel.
    pub(in super::super) fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = fstat(file)?;
        Ok(Self {
            inode: Inode {
                device: stat.st_dev,
                number: stat.st_ino,
            },
            mode: stat.st_mode,
            links: stat.st_nlink,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            device_file: stat.st_rdev,
            modified: FileTime {
                seconds: stat.st_mtime,
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_made_are_bounded_in_whole_pages() {
        let mut state = State::default();
        assert!(state.may_make(0) && state.may_make(4097));
        let rest = usize::try_from(MOST_MADE / PAGE).unwrap() - 3;
        assert!((0..rest).all(|_| state.may_make(1)));
        assert!(!state.may_make(0) && !state.may_make(1));
    }
}
