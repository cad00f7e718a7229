//! Files that can block: from the first one on, a process's reads and writes stop for the tracer.
//!
//! Programs that have none but regular files read and write at full speed.

use std::io;

use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;
use crate::supervisor::filter;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_pipe, When::Always, opens),
    Rule(libc::SYS_pipe2, When::Always, opens),
    Rule(libc::SYS_socketpair, When::Always, opens_socket),
    Rule(libc::SYS_socket, When::Always, opens_socket),
    Rule(libc::SYS_eventfd, When::Always, opens),
    Rule(libc::SYS_eventfd2, When::Always, opens),
    Rule(libc::SYS_timerfd_create, When::Always, opens),
    Rule(libc::SYS_signalfd, When::Always, opens),
    Rule(libc::SYS_signalfd4, When::Always, opens),
    Rule(libc::SYS_mknod, When::Always, opens),
    Rule(libc::SYS_mknodat, When::Always, opens),
];

/// Red zone below a stack pointer, which the program may be using.
const RED_ZONE: u64 = 128;

fn opens(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    Ok(world.trace_blocking(task)?.unwrap_or(Entry::Pass))
}

fn opens_socket(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    // the filter stops every family for the tracer
    if task.int(0) == libc::AF_UNIX {
        opens(world, task)
    } else {
        Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    }
}

impl World {
    /// To be asked at the entry of a call that makes a file which can block, or whose reads have to be seen: an answer
    /// that must be returned as the handler's own, after which the call is made again; `None` where nothing is to do.
    pub(in crate::supervisor) fn trace_blocking(&mut self, task: &mut Task) -> io::Result<Option<Entry>> {
        const SET_FILTER: u64 = 1;
        const ALL_THREADS: u64 = 1;
        let Some(process) = self.processes.get_mut(&task.process) else {
            return Ok(None);
        };
        if process.blocking {
            return Ok(None);
        }
        process.blocking = true;
        let program = filter::blocking();
        let length = u64::try_from(program.len()).unwrap_or(0);
        let code = task.registers.rsp.wrapping_sub(RED_ZONE + 8 * length + 16) & !15;
        let mut bytes = Vec::new();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(code.wrapping_add(16).to_ne_bytes());
        for instruction in &program {
            bytes.extend(instruction.code.to_ne_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_ne_bytes());
        }
        task.write(code, &bytes)?;
        task.registers.orig_rax = u64::try_from(libc::SYS_seccomp).unwrap_or(0);
        task.set_argument(0, SET_FILTER);
        task.set_argument(1, ALL_THREADS);
        task.set_argument(2, code);
        Ok(Some(Entry::Make(installed)))
    }
}

/// What the call was for cannot be had where the filter could not be put on: its reads would wait in the kernel.
fn installed(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == 0 {
        task.retry = true;
        return Ok(());
    }
    if let Some(process) = world.processes.get_mut(&task.process) {
        process.blocking = false;
    }
    Err(io::Error::from_raw_os_error(libc::ENOMEM))
}
