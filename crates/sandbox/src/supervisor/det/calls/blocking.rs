//! Files that can block: from the first one on, a process's reads and writes stop for the tracer.
//!
//! Programs that have none but regular files read and write at full speed.

use std::io;

use super::buffers;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;
use crate::supervisor::filter;
use crate::sys::Instruction;
use crate::sys::vdso::CLOCK_PAGE;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_pipe, When::Always, opens_pipe),
    Rule(libc::SYS_pipe2, When::Always, opens_pipe),
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

fn opens_pipe(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    Ok(world
        .trace_blocking(task)?
        .unwrap_or(Entry::Watch(buffers::pipe_made)))
}

/// Red zone below a stack pointer, which the program may be using.
const RED_ZONE: u64 = 128;

/// Room on the clock page behind what is used of it.
const SCRATCH: u64 = CLOCK_PAGE + 1024;

/// A filter as the kernel takes it from this place: its length, where it is, and its instructions.
fn placed(program: &[Instruction], at: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u64::try_from(program.len()).unwrap_or(0).to_ne_bytes());
    bytes.extend(at.wrapping_add(16).to_ne_bytes());
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

/// Puts a filter where a task has room for it, and says where that is.
pub(in crate::supervisor::det) fn place(task: &Task, program: &[Instruction]) -> io::Result<u64> {
    let length = u64::try_from(program.len()).unwrap_or(0);
    let below_stack = task.registers.rsp.wrapping_sub(RED_ZONE + 8 * length + 16) & !15;
    // at the end of a stack there is no room, in a program without its clock page only there
    if task.write(SCRATCH, &placed(program, SCRATCH)).is_ok() {
        return Ok(SCRATCH);
    }
    task.write(below_stack, &placed(program, below_stack))?;
    Ok(below_stack)
}

fn opens(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    Ok(world.trace_blocking(task)?.unwrap_or(Entry::Pass))
}

fn opens_socket(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    // the filter stops every family for the tracer
    if task.int(0) == libc::AF_UNIX {
        Ok(world
            .trace_blocking(task)?
            .unwrap_or(Entry::Watch(buffers::socket_made)))
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
        if self
            .processes
            .get(&task.process)
            .is_none_or(|process| process.blocking)
        {
            return Ok(None);
        }
        let program = filter::blocking();
        let code = place(task, &program)?;
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
        if let Some(process) = world.processes.get_mut(&task.process) {
            process.blocking = true;
        }
        task.retry = true;
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::ENOMEM))
}
