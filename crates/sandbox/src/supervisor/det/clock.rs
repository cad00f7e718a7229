//! Virtual time: where it stands, and how it gets into the programs that read it by themselves.
//!
//! Programs advance it on their own page (see [`crate::sys::vdso`]); the tracer takes it over when it needs to know,
//! and hands it to the program that runs next where that has another memory.

use std::io;

use super::memory;
use super::task::Task;
use crate::sys::vdso::{CLOCK_PAGE, EPOCH_SECONDS};

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
}

impl Clock {
    pub(super) const fn new() -> Self {
        Self {
            now: SECOND,
            due: u64::MAX,
            owed: 0,
            ahead: None,
            told: None,
            told_due: None,
        }
    }

    /// Nanoseconds since the job's boot, which was a second before it started.
    pub(in crate::supervisor) fn now(&mut self) -> u64 {
        if let Some((host, _)) = self.ahead.take() {
            // a program that has unmapped its page has no clock any more
            if let Ok(time) = memory::word(host, CLOCK_PAGE) {
                self.now = self.now.max(time);
            }
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
            // without its page it lives on, without a clock
            let _ = memory::set_word(task.host, CLOCK_PAGE, now);
            let due = Some((task.space, self.due));
            if self.told_due != due {
                let _ = memory::set_word(task.host, CLOCK_PAGE + 8, self.due);
                self.told_due = due;
            }
            self.told = Some(task.space);
        }
        self.ahead = Some((task.host, task.space));
        Ok(())
    }
}
