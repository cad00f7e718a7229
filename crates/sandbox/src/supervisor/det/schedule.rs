//! Whose turn it is: the order of arrival decides, and when nobody can run time jumps.

use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::run::Watching;
use super::task::TaskId;
use super::wait::{On, Woken};
use super::world::World;
use crate::sys::trace;
use crate::wire::End;

/// Virtual nanoseconds of looks at the clock after which another runnable task gets its turn.
const SLICE_NANOS: u64 = 10_000_000;

impl World {
    /// The next task, or how the job ends where none will ever run again. Timers that wake nobody may be due any number
    /// of times until then, so that now and then `watch` is asked.
    pub(super) fn next(&mut self, watch: Watching<'_>) -> Result<TaskId, End> {
        self.slice = 0;
        loop {
            if trace::take_tick()
                && let Some(end) = watch()
            {
                return Err(end);
            }
            self.look();
            if let Some(id) = self.ready.pop_front() {
                self.set_due();
                return Ok(id);
            }
            let budget = self.det.budget_nanos;
            match self.earliest() {
                Some(time) if time <= budget => self.clock.jump(time),
                Some(_) | None => return Err(End::Budget),
            }
        }
    }

    /// Wakes whoever has a reason to run: signals, files, time.
    pub(super) fn look(&mut self) {
        self.look_at_files();
        let now = self.clock.now();
        self.expire(now);
        self.deliver();
        let over = self.tasks.values().filter_map(|task| {
            let until = task.wait.as_ref()?.until?;
            (until <= now).then_some((until, task.id))
        });
        let mut over: Vec<(u64, TaskId)> = over.collect();
        over.sort_unstable();
        for (_, id) in over {
            self.wake(id, Woken::Time);
        }
    }

    /// When the next wait ends by itself, or a timer is due.
    pub(super) fn earliest(&self) -> Option<u64> {
        let waits = self.tasks.values().filter_map(|task| task.wait.as_ref()?.until);
        waits.chain(self.timers.earliest()).min()
    }

    /// Whether anything is to happen by itself at some time: not, where tasks only look again for what others may do.
    pub(super) fn is_time_awaited(&self) -> bool {
        let mut waits = self.tasks.values().filter_map(|task| task.wait.as_ref());
        self.timers.earliest().is_some() || waits.any(|wait| wait.until.is_some() && !wait.on.is_of_others())
    }

    /// Tells programs when they have to ask the tracer for the time.
    pub(super) fn set_due(&mut self) {
        let now = self.clock.now();
        let slice = if self.ready.is_empty() {
            u64::MAX
        } else {
            now.saturating_add(SLICE_NANOS)
        };
        let due = self
            .earliest()
            .unwrap_or(u64::MAX)
            .min(slice)
            .min(self.det.budget_nanos);
        self.clock.set_due(due);
    }

    fn look_at_files(&mut self) {
        let waits = self
            .tasks
            .values()
            .filter_map(|task| match &task.wait.as_ref()?.on {
                On::Files(files) => Some((task.id, files)),
                On::Nothing | On::Futex(..) | On::Child | On::Writer(..) | On::Others | On::Owner(_) => None,
            });
        let (mut ids, mut fds) = (Vec::new(), Vec::new());
        for (id, files) in waits {
            for (file, events) in files {
                ids.push(id);
                fds.push(PollFd::from_borrowed_fd(file.as_fd(), *events));
            }
        }
        if fds.is_empty() {
            return;
        }
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&now)).is_err() {
            return;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.revents() != PollFlags::empty()).collect();
        drop(fds);
        for (id, _) in ids.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.wake(id, Woken::Ready);
        }
    }
}
