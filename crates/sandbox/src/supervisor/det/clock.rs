//! Virtual time: where it stands, and how it gets into the programs that read it by themselves.
//!
//! Programs advance it on their own page (see [`crate::sys::vdso`]); the tracer takes it over when it needs to know,
//! and hands it to the program that runs next where that has another memory. The page is shared with the tracer, with
//! all processes that a program forks off as well: one of them runs at a time, and what runs next was told the time.
//! Where a program has none that is shared, its memory is read and written from here.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use super::memory;
use super::task::Task;
use crate::sys::page::SharedPage;
use crate::sys::vdso::{CLOCK_PAGE, EPOCH_SECONDS};

/// Where on the page what stands, in words of eight bytes: the time, and when the tracer wants to be asked.
const NOW: usize = 0;
const DUE: usize = 1;

/// Virtual nanoseconds that a traced call takes.
const CALL_NANOS: u64 = 1_000;
/// So much of it may be behind: reading and writing a program's page takes time.
const MOST_OWED: u64 = 50 * CALL_NANOS;
/// One second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// Virtual time.
#[derive(Debug)]
pub(in crate::supervisor) struct Clock {
    now: u64,
    due: u64,
    /// Time that traced calls took and that is not in `now` yet.
    owed: u64,
    /// The program whose page may be ahead of `now`: host id of a task of it, and its address space.
    ahead: Option<(i32, u32)>,
    /// The address space whose page holds exactly what stands here.
    told: Option<u32>,
    /// The address space that was told last when to ask, and what.
    told_due: Option<(u32, u64)>,
    /// Pages that are shared with programs, by their address spaces.
    pages: HashMap<u32, Rc<SharedPage>>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            now: SECOND,
            due: u64::MAX,
            owed: 0,
            ahead: None,
            told: None,
            told_due: None,
            pages: HashMap::new(),
        }
    }

    /// A program shares its page with the tracer from now on.
    pub(super) fn share(&mut self, space: u32, page: SharedPage) {
        self.pages.insert(space, Rc::new(page));
    }

    /// A process was forked off: it has its parent's page.
    pub(super) fn fork(&mut self, parent: u32, child: u32) {
        if let Some(page) = self.pages.get(&parent).map(Rc::clone) {
            self.pages.insert(child, page);
        }
    }

    /// An address space is gone.
    pub(super) fn forget(&mut self, space: u32) {
        self.pages.remove(&space);
    }

    /// A task has ended, or become another program: by how much it was ahead nobody knows any more.
    pub(super) fn lose(&mut self, task: &Task) {
        if self.ahead.is_some_and(|(host, _)| host == task.host) {
            self.ahead = None;
        }
    }

    /// What stands on a program's page. One that has unmapped it has no clock any more.
    fn read(&self, host: i32, space: u32) -> Option<u64> {
        match self.pages.get(&space) {
            Some(page) => Some(page.word(NOW)),
            None => memory::word(host, CLOCK_PAGE).ok(),
        }
    }

    fn write(&self, task: &Task, index: usize, value: u64) {
        if let Some(page) = self.pages.get(&task.space) {
            page.set_word(index, value);
        } else {
            let offset = u64::try_from(8 * index).unwrap_or(0);
            // without its page it lives on, without a clock
            let _ = memory::set_word(task.host, CLOCK_PAGE + offset, value);
        }
    }

    /// Nanoseconds since the job's boot, which was a second before it started.
    pub(in crate::supervisor) fn now(&mut self) -> u64 {
        if let Some((host, space)) = self.ahead.take()
            && let Some(time) = self.read(host, space)
        {
            self.now = self.now.max(time);
        }
        if self.owed > 0 {
            self.now = self.now.saturating_add(std::mem::take(&mut self.owed));
            self.told = None;
        }
        self.now
    }

    /// Nanoseconds since 1970.
    pub(in crate::supervisor) fn unix(&mut self) -> u64 {
        self.now().saturating_add(EPOCH_SECONDS * SECOND)
    }

    /// Lets time pass for a call that the tracer saw.
    pub(super) fn spend(&mut self) {
        self.spend_nanos(CALL_NANOS);
    }

    /// The same for what takes so long.
    pub(super) fn spend_nanos(&mut self, nanos: u64) {
        self.owed = self.owed.saturating_add(nanos);
        if self.owed >= MOST_OWED {
            self.now();
        }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, nanos: u64) {
        self.now = self.now().saturating_add(nanos);
        self.told = None;
    }

    /// Jumps to a time, if that is later.
    pub(super) fn jump(&mut self, to: u64) {
        let now = self.now();
        if to > now {
            self.now = to;
            self.told = None;
        }
    }

    /// Sets when a program that reads the clock has to ask the tracer.
    pub(super) fn set_due(&mut self, due: u64) {
        if self.due != due {
            self.due = due;
            self.told = None;
        }
    }

    /// Hands the time to a task that runs next.
    pub(super) fn lend(&mut self, task: &Task) -> io::Result<()> {
        if self.told != Some(task.space) {
            let now = self.now();
            self.write(task, NOW, now);
            let due = Some((task.space, self.due));
            if self.told_due != due {
                self.write(task, DUE, self.due);
                self.told_due = due;
            }
            self.told = Some(task.space);
        }
        self.ahead = Some((task.host, task.space));
        Ok(())
    }
}
