//! Calls that a filter hands to a listener instead of a tracer, see seccomp_unotify(2): quicker to wait for and to answer
//! than a stop.
//!
//! Owns the listener's calls, and how one waits for such a call and for the stop of a traced task at the same time: stops
//! then send a signal, which ends the wait. It cannot be missed between the look for it and the wait, as its handler
//! takes whoever stands there out (as cancellation points of C libraries do it). Never decides anything.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check;
use super::trace::HostId;

/// Flags of `seccomp(2)` for a filter with a listener: for all threads, with an error if that cannot be, and so that whoever
/// waits for the listener can be killed but not interrupted.
pub(crate) const FLAGS: u64 = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 5;

std::arch::global_asm!(
    r#"
    .pushsection .text.sandrun_receive,"ax",@progbits
    .globl sandrun_receive, sandrun_receive_waits, sandrun_receive_out
    .type sandrun_receive, @function
    sandrun_receive:
        cmp byte ptr [rcx], 0
        jne sandrun_receive_out
        mov eax, 16
        syscall
    sandrun_receive_waits:
        ret
    sandrun_receive_out:
        mov rax, -4
        ret
    .size sandrun_receive, . - sandrun_receive
    .popsection
    "#
);

unsafe extern "C" {
    /// `ioctl(file, request, into)` unless `stop` is set; EINTR (negative) if it is, or if the signal comes.
    fn sandrun_receive(
        file: libc::c_int,
        request: libc::c_ulong,
        into: *mut Received,
        stop: *const AtomicBool,
    ) -> libc::c_long;
    static sandrun_receive_waits: u8;
    static sandrun_receive_out: u8;
}

/// `struct seccomp_notif`.
#[repr(C)]
struct Received {
    id: u64,
    task: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Reply {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// A request of the listener's: its direction, its number, the length of what it takes.
const fn ioctl(direction: libc::c_ulong, number: libc::c_ulong, length: usize) -> libc::c_ulong {
    const KIND: libc::c_ulong = b'!' as libc::c_ulong;
    direction << 30 | (length as libc::c_ulong) << 16 | KIND << 8 | number
}

const READ_WRITE: libc::c_ulong = 3;
const WRITE: libc::c_ulong = 1;
const RECEIVE: libc::c_ulong = ioctl(READ_WRITE, 0, size_of::<Received>());
const SEND: libc::c_ulong = ioctl(READ_WRITE, 1, size_of::<Reply>());
const IS_VALID: libc::c_ulong = ioctl(WRITE, 2, size_of::<u64>());
const SET_FLAGS: libc::c_ulong = ioctl(WRITE, 4, size_of::<u64>());

/// A call that a task waits for the answer of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// Which one it is, of all calls of this listener.
    pub(crate) id: u64,
    /// The task.
    pub(crate) task: HostId,
    /// The call's number.
    pub(crate) number: u64,
    /// Where the task goes on.
    pub(crate) instruction: u64,
    /// The call's arguments.
    pub(crate) arguments: [u64; 6],
}

/// A filter's listener.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// The listener behind a file.
    pub(crate) fn of(file: OwnedFd) -> Self {
        const SYNC_WAKE_UP: libc::c_ulong = 1;
        // the task and this process share a processor; kernels that cannot be told so are slower
        // SAFETY: takes numbers only.
        let _ = unsafe { libc::ioctl(file.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
        Self(file)
    }

    /// Waits for a call. `None` if a signal came first; ENOENT if the task was killed meanwhile, or none is left that could
    /// make a call.
    pub(crate) fn receive(&self) -> io::Result<Option<Notification>> {
        // SAFETY: the structure is plain data for which zeros are a value, and what the kernel wants to find.
        let mut received: Received = unsafe { std::mem::zeroed() };
        // SAFETY: the pointers are to a local of the type that this request fills, and to a static.
        let result =
            unsafe { sandrun_receive(self.0.as_raw_fd(), RECEIVE, &raw mut received, &raw const STOPPED) };
        match i32::try_from(-result).unwrap_or(libc::EIO) {
            0 => Ok(Some(Notification {
                id: received.id,
                task: HostId::try_from(received.task).unwrap_or(-1),
                number: u64::from(received.number.unsigned_abs()),
                instruction: received.instruction,
                arguments: received.arguments,
            })),
            libc::EINTR => Ok(None),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Answers a call without making it: a value, or a negative error number. ENOENT if the task was killed.
    pub(crate) fn answer(&self, id: u64, result: i64) -> io::Result<()> {
        let error = i32::try_from(result.min(0)).unwrap_or(-libc::EIO);
        let value = result.max(0);
        let flags = 0;
        self.send(&Reply {
            id,
            value,
            error,
            flags,
        })
    }

    /// Lets a call be made as it is.
    pub(crate) fn let_make(&self, id: u64) -> io::Result<()> {
        const CONTINUE: u32 = 1;
        self.send(&Reply {
            id,
            value: 0,
            error: 0,
            flags: CONTINUE,
        })
    }

    fn send(&self, reply: &Reply) -> io::Result<()> {
        // SAFETY: the pointer is to a structure of the type that this request reads.
        let sent = unsafe { libc::ioctl(self.0.as_raw_fd(), SEND, ptr::from_ref(reply)) };
        check(libc::c_long::from(sent)).map(drop)
    }

    /// Whether a task still waits for the answer of a call.
    pub(crate) fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the pointer is to a local of the type that this request reads.
        unsafe { libc::ioctl(self.0.as_raw_fd(), IS_VALID, &raw const id) == 0 }
    }
}

/// Set where a traced task may have stopped or ended since somebody asked.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether stops send a signal.
static HEARD: AtomicBool = AtomicBool::new(false);

/// Whether a task may have stopped or ended since this was last asked. True whenever it is not known.
pub(crate) fn take_stopped() -> bool {
    STOPPED.swap(false, Ordering::Relaxed)
}

/// There may be one more that has.
pub(crate) fn set_stopped() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Lets the kernel send this process a signal where a task of it stops, or not; who waits for stops alone needs none. Costs
/// a call only where it is other than before.
pub(crate) fn hear_stops(hear: bool) -> io::Result<()> {
    extern "C" fn note(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        STOPPED.store(true, Ordering::Relaxed);
        let context = context.cast::<libc::ucontext_t>();
        let (from, to) = (
            sandrun_receive as *const () as usize,
            (&raw const sandrun_receive_waits).addr(),
        );
        // SAFETY: the kernel hands a handler with SA_SIGINFO its interrupted state here, to be changed at will.
        let place = unsafe {
            let gregs = &raw mut (*context).uc_mcontext.gregs;
            &mut (&mut *gregs)[usize::try_from(libc::REG_RIP).unwrap_or(0)]
        };
        // from before the flag was looked at to right before the wait begins
        if usize::try_from(*place).is_ok_and(|place| (from..to).contains(&place)) {
            *place = i64::try_from((&raw const sandrun_receive_out).addr()).unwrap_or(*place);
        }
    }
    if HEARD.swap(hear, Ordering::Relaxed) == hear {
        return Ok(());
    }
    // SAFETY: the structure is plain data for which zeros are a value: the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    if hear {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = note;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
    } else {
        action.sa_flags = libc::SA_NOCLDSTOP;
    }
    // SAFETY: the structure is a local of the right type; its function sets an atomic flag and its own return address.
    let set = unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut()) };
    check(libc::c_long::from(set))?;
    // what stopped before sent none
    set_stopped();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_kernels() {
        assert_eq!((RECEIVE, SEND), (0xc050_2100, 0xc018_2101));
        assert_eq!((IS_VALID, SET_FLAGS), (0x4008_2102, 0x4008_2104));
    }
}
