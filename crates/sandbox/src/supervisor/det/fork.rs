//! New tasks.

use std::io;

use rustix::fs::{AtFlags, statat};

use super::patience::Patience;
use super::run::Engine;
use super::task::{Next, Task, TaskId};
use super::world::{Process, World};
use crate::sys::trace::{self, HostId, Report};

/// How far the kernel's next number may be from the last one: numbers are lost where a fork fails late.
const LOST_NUMBERS: u32 = 1024;

impl Engine {
    /// A task has made another one, which gets its turn after those that are ready.
    pub(super) fn forked(&mut self, parent: &mut Task, event: i32) -> io::Result<bool> {
        parent.fetch()?;
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let host = HostId::try_from(trace::event_message(parent.host)?).map_err(invalid)?;
        self.first_stop(host)?;
        let flags = match parent.call() {
            libc::SYS_clone => parent.int(0),
            libc::SYS_vfork => libc::CLONE_VM | libc::CLONE_VFORK,
            _ => 0,
        };
        self.world.held.cloned(flags);
        let id = self.world.new_id()?;
        let process = if flags & libc::CLONE_THREAD == 0 {
            id
        } else {
            parent.process
        };
        let space = if flags & libc::CLONE_VM == 0 {
            self.world.last_space += 1;
            self.world.clock.fork(parent.space, self.world.last_space);
            self.world.last_space
        } else {
            parent.space
        };
        let mut child = Task::new(id, process, host, space, trace::registers(host)?);
        if flags & libc::CLONE_CHILD_CLEARTID != 0 {
            child.clear_at_exit = parent.argument(3);
        }
        if process == id {
            let mut new = Process::new(host, parent.process);
            if let Some(process) = self.world.processes.get(&parent.process) {
                new.blocking = process.blocking;
                new.route = process.route.of_child();
            }
            if event == libc::PTRACE_EVENT_VFORK {
                new.releases = Some(parent.id);
            }
            self.world.processes.insert(id, new);
        }
        self.world.by_host.insert(host, id);
        super::observe::started(&mut self.world, parent, &child);
        self.world.tasks.insert(id, Box::new(child));
        self.world.ready.push_back(id);
        self.world.due_changed = true;
        if event == libc::PTRACE_EVENT_VFORK {
            parent.next = Next::Held;
            return Ok(false);
        }
        parent.next = Next::Run(0);
        Ok(true)
    }

    /// Waits until a new task stands at its beginning.
    fn first_stop(&mut self, host: HostId) -> io::Result<()> {
        if let Some(place) = self.early.iter().position(|early| *early == host) {
            self.early.swap_remove(place);
            return Ok(());
        }
        let patience = Patience::new();
        loop {
            match trace::wait(host, true)? {
                Some((_, Report::Exited(_) | Report::Killed(_))) => {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                Some(_) => return Ok(()),
                None if patience.is_over() => return Err(io::ErrorKind::TimedOut.into()),
                None => {}
            }
        }
    }
}

impl World {
    /// The number inside of the task that has just been made: the kernel counts upwards.
    fn new_id(&mut self) -> io::Result<TaskId> {
        for step in 1..LOST_NUMBERS {
            let id = self.last_id + step;
            if statat(&self.proc, id.to_string().as_str(), AtFlags::empty()).is_ok() {
                self.last_id = id;
                return Ok(id);
            }
        }
        Err(io::Error::other("a new task has no number"))
    }
}
