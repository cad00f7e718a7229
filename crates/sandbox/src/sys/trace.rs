//! The calls of a tracer: ptrace(2), reading and writing another process's memory, CPUID faulting.
//!
//! Owns their safe forms; never decides anything. A caller is the tracer of the task that it names, else the kernel
//! answers ESRCH.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::check;

/// A task's registers, as the kernel hands them out.
pub(crate) type Registers = libc::user_regs_struct;

/// Number of the task in the tracer's own PID namespace.
pub(crate) type HostId = i32;

/// What a task reports: `None` in [`wait`] means that no task has anything to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// It ended by itself, with this code.
    Exited(u8),
    /// A signal ended it.
    Killed(u8),
    /// It stands at a ptrace event (`PTRACE_EVENT_*`); the signal tells a group stop from others.
    Event(i32, i32),
    /// It stands at the exit of a system call.
    Call,
    /// It is about to get this signal.
    Signal(i32),
}

/// Attaches to a task without stopping it.
pub(crate) fn seize(task: HostId, options: libc::c_int) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, task, 0, usize::try_from(options).unwrap_or(0))
}

/// Lets a task go for good.
pub(crate) fn detach(task: HostId) -> io::Result<()> {
    request(libc::PTRACE_DETACH, task, 0, 0)
}

/// Resumes a task, with a signal (0: none).
pub(crate) fn resume(task: HostId, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, task, 0, usize::try_from(signal).unwrap_or(0))
}

/// Resumes a task up to the exit of the system call that it is in.
pub(crate) fn resume_to_exit(task: HostId, signal: i32) -> io::Result<()> {
    request(
        libc::PTRACE_SYSCALL,
        task,
        0,
        usize::try_from(signal).unwrap_or(0),
    )
}

/// Lets a task stop as soon as it can, which is where it would go back to its program.
pub(crate) fn interrupt(task: HostId) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, task, 0, 0)
}

/// Sets the register of a stopped task that holds a call's argument 5.
pub(crate) fn set_last_argument(task: HostId, value: u64) -> io::Result<()> {
    const R9: usize = 8;
    let value = usize::try_from(value).unwrap_or(usize::MAX);
    request(
        libc::PTRACE_POKEUSER,
        task,
        R9 * size_of::<libc::c_ulong>(),
        value,
    )
}

/// Sets which signals a stopped task blocks; those that it did.
pub(crate) fn block_signals(task: HostId, mut set: u64) -> io::Result<u64> {
    const GET: libc::c_uint = 0x420a;
    const SET: libc::c_uint = 0x420b;
    let mut former = 0_u64;
    // SAFETY: the pointer is to a local of the length that is named, which the kernel fills.
    check(unsafe { libc::ptrace(GET, task, size_of::<u64>(), &raw mut former) })?;
    // SAFETY: the pointer is to a local of the length that is named, which the kernel only reads.
    check(unsafe { libc::ptrace(SET, task, size_of::<u64>(), &raw mut set) })?;
    Ok(former)
}

/// The registers of a stopped task.
pub(crate) fn registers(task: HostId) -> io::Result<Registers> {
    // SAFETY: the structure is plain data for which zeros are a value.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local of the type that this request fills.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, task, 0_usize, &raw mut registers) })?;
    Ok(registers)
}

/// What a task that stands at a filter's stop is about to call, see `PTRACE_GET_SYSCALL_INFO` in ptrace(2).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Calling {
    kind: u8,
    hole: [u8; 3],
    architecture: u32,
    /// Where it goes on.
    pub(crate) instruction: u64,
    /// Its stack.
    pub(crate) stack: u64,
    /// The call.
    pub(crate) number: u64,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
    data: u64,
}

/// The call at whose entry a task stands. `None` if it stands elsewhere, or if the kernel does not know how to tell.
pub(crate) fn calling(task: HostId) -> io::Result<Option<Calling>> {
    const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    const AT_A_FILTER: u8 = 3;
    // SAFETY: the structure is plain data for which zeros are a value.
    let mut calling: Calling = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local of the size that is named, which the kernel fills.
    let told = check(unsafe { libc::ptrace(GET_SYSCALL_INFO, task, size_of::<Calling>(), &raw mut calling) });
    match told {
        Ok(_) => Ok((calling.kind == AT_A_FILTER).then_some(calling)),
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the registers of a stopped task.
pub(crate) fn set_registers(task: HostId, registers: &Registers) -> io::Result<()> {
    // SAFETY: the pointer is to a structure of the type that this request reads.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, task, 0_usize, ptr::from_ref(registers)) }).map(drop)
}

/// Whether the signal that a task is about to get was sent by a process that the task's PID namespace does not hold.
pub(crate) fn is_from_outside(task: HostId) -> io::Result<bool> {
    // SAFETY: the structure is plain data for which zeros are a value.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local of the type that this request fills.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, task, 0_usize, &raw mut information) })?;
    let is_sent = matches!(information.si_code, libc::SI_USER | libc::SI_TKILL);
    // SAFETY: a signal with one of these codes has its sender's number there, which is zero for those outside.
    Ok(is_sent && unsafe { information.si_pid() } == 0)
}

/// Bytes of a `siginfo_t`.
pub(crate) const INFORMATION: usize = 128;

/// A `siginfo_t`, aligned as the kernel's.
#[repr(C, align(8))]
struct Information([u8; INFORMATION]);

/// What a task will be told of the signal that it is about to get.
pub(crate) fn information(task: HostId) -> io::Result<[u8; INFORMATION]> {
    let mut told = Information([0; INFORMATION]);
    // SAFETY: the pointer is to a local of the size that this request fills.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, task, 0_usize, &raw mut told) })?;
    Ok(told.0)
}

/// Changes that.
pub(crate) fn set_information(task: HostId, told: [u8; INFORMATION]) -> io::Result<()> {
    let told = Information(told);
    // SAFETY: the pointer is to a local of the size that this request reads.
    check(unsafe { libc::ptrace(libc::PTRACE_SETSIGINFO, task, 0_usize, &raw const told) }).map(drop)
}

/// Sets what a stopped task's call gives, and that it is not made: of a task that stands at a call's entry.
pub(crate) fn answer(task: HostId, result: u64) -> io::Result<()> {
    let place = |register: usize| register * size_of::<libc::c_ulong>();
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (rax, orig_rax) = (place(10), place(15));
    request(libc::PTRACE_POKEUSER, task, rax, number(result))?;
    request(libc::PTRACE_POKEUSER, task, orig_rax, usize::MAX)
}

/// Reads eight bytes of a stopped task's memory, whatever it may do there itself.
pub(crate) fn peek(task: HostId, address: u64) -> io::Result<u64> {
    let mut word = 0_u64;
    // SAFETY: the pointer is to a local, which the kernel fills; the address is another process's, which it checks.
    check(unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::c_long::from(libc::PTRACE_PEEKDATA),
            libc::c_long::from(task),
            address,
            &raw mut word,
        )
    })?;
    Ok(word)
}

/// Writes eight bytes of it.
pub(crate) fn poke(task: HostId, address: u64, word: u64) -> io::Result<()> {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    request(libc::PTRACE_POKEDATA, task, number(address), number(word))
}

/// Lets the kernel send this process no signal where a task of it stops: whoever waits is told all the same.
pub(crate) fn hear_no_stops() -> io::Result<()> {
    // SAFETY: the structure is plain data for which zeros are a value: the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_flags = libc::SA_NOCLDSTOP;
    // SAFETY: the structure is a local of the right type.
    check(libc::c_long::from(unsafe {
        libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut())
    }))
    .map(drop)
}

/// What a ptrace event says: the new task's number, or the former one.
pub(crate) fn event_message(task: HostId) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the pointer is to a local of the type that this request fills.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, task, 0_usize, &raw mut message) })?;
    Ok(message)
}

/// Waits for a report of one task, or of any (`-1`). `None` if `block` is false and there is none, or if a signal
/// came first.
pub(crate) fn wait(task: HostId, block: bool) -> io::Result<Option<(HostId, Report)>> {
    let mut status = 0;
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: the pointer is to a local of the right type.
    let found = unsafe { libc::waitpid(task, &raw mut status, options) };
    match check(libc::c_long::from(found)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some((found, report(status)))),
    }
}

fn report(status: libc::c_int) -> Report {
    // Codes and signals are eight bits wide.
    let byte = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    if libc::WIFEXITED(status) {
        return Report::Exited(byte(libc::WEXITSTATUS(status)));
    }
    if libc::WIFSIGNALED(status) {
        return Report::Killed(byte(libc::WTERMSIG(status)));
    }
    let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
    match (event, signal) {
        (0, signal) if signal == libc::SIGTRAP | 0x80 => Report::Call,
        (0, signal) => Report::Signal(signal),
        (event, signal) => Report::Event(event, signal),
    }
}

/// Reads a task's memory; the number of bytes read, which is fewer where a page is missing.
pub(crate) fn read_memory(task: HostId, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = remote(address, into.len())?;
    // SAFETY: the local vector is the given slice; the other is in another process, which the kernel checks.
    let read = check(
        libc::c_long::try_from(unsafe {
            libc::process_vm_readv(task, &raw const local, 1, &raw const remote, 1, 0)
        })
        .unwrap_or(-1),
    )?;
    Ok(usize::try_from(read).unwrap_or(0))
}

/// Writes a task's memory; the number of bytes written, which is fewer where a page may not be written.
pub(crate) fn write_memory(task: HostId, address: u64, bytes: &[u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = remote(address, bytes.len())?;
    // SAFETY: the local vector is the given slice, only read; the other is in another process.
    let written = check(
        libc::c_long::try_from(unsafe {
            libc::process_vm_writev(task, &raw const local, 1, &raw const remote, 1, 0)
        })
        .unwrap_or(-1),
    )?;
    Ok(usize::try_from(written).unwrap_or(0))
}

fn remote(address: u64, length: usize) -> io::Result<libc::iovec> {
    let address = usize::try_from(address).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
    Ok(libc::iovec {
        iov_base: ptr::without_provenance_mut(address),
        iov_len: length,
    })
}

fn request(request: libc::c_uint, task: HostId, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the requests that come here take numbers only.
    check(unsafe { libc::ptrace(request, task, address, data) }).map(drop)
}

/// Sends a signal to a process that this one traces, whose number cannot mean another one.
pub(crate) fn signal_process(process: HostId, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(libc::c_long::from(unsafe { libc::kill(process, signal) })).map(drop)
}

/// Sends a traced process, or one thread of it, the signal of its POSIX timer with this number and value.
pub(crate) fn send_expiry(
    process: HostId,
    thread: Option<HostId>,
    signal: i32,
    (timer, value): (i32, u64),
) -> io::Result<()> {
    /// `siginfo_t` of a timer's signal, as the kernel lays it out.
    #[repr(C)]
    struct Expiry {
        signal: i32,
        error: i32,
        code: i32,
        hole: i32,
        timer: i32,
        overrun: i32,
        value: u64,
        rest: [u8; 96],
    }
    let information = Expiry {
        signal,
        error: 0,
        code: libc::SI_TIMER,
        hole: 0,
        timer,
        overrun: 0,
        value,
        rest: [0; 96],
    };
    let information = &raw const information;
    // SAFETY: the pointer is to a local of the size of `siginfo_t`, which the kernel only reads.
    check(unsafe {
        match thread {
            Some(thread) => libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, information),
            None => libc::syscall(libc::SYS_rt_sigqueueinfo, process, signal, information),
        }
    })
    .map(drop)
}

/// Whether one of our descriptors and one of another task's stand for the same open file.
pub(crate) fn is_same_file(own: i32, task: HostId, number: u64) -> bool {
    const KCMP_FILE: i32 = 0;
    let process = std::process::id();
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, process, task, KCMP_FILE, own, number) == 0 }
}

/// Set at each interruption, until somebody asks.
static TICKED: AtomicBool = AtomicBool::new(false);

/// Interruptions since somebody asked.
static UNHEARD: AtomicU32 = AtomicU32::new(0);

/// Whether this process was interrupted since this was last asked.
pub(crate) fn take_tick() -> bool {
    // most of the time nothing is written
    if !TICKED.load(Ordering::Relaxed) {
        return false;
    }
    UNHEARD.store(0, Ordering::Relaxed);
    TICKED.swap(false, Ordering::Relaxed)
}

/// The same, and whoever asks next is told so again.
pub(crate) fn has_ticked() -> bool {
    let ticked = TICKED.load(Ordering::Relaxed);
    if ticked {
        // it was heard
        UNHEARD.store(0, Ordering::Relaxed);
    }
    ticked
}

/// Interrupts this process's waiting at regular times. Once it has heard nothing of so many of them it ends, and with
/// it all that it traces: it would keep to no limit any more.
pub(crate) fn interrupt_regularly(every: std::time::Duration) -> io::Result<()> {
    const MOST_UNHEARD: u32 = 24_000;
    extern "C" fn note(_: libc::c_int) {
        TICKED.store(true, Ordering::Relaxed);
        if UNHEARD.fetch_add(1, Ordering::Relaxed) >= MOST_UNHEARD {
            // SAFETY: takes a number only, and may be called where a signal has interrupted anything.
            unsafe { libc::_exit(1) }
        }
    }
    // SAFETY: the structure is plain data for which zeros are a value: no flags, so that calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = note;
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the structure is a local, and its function only sets an atomic flag.
    check(libc::c_long::from(unsafe {
        libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut())
    }))?;
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: libc::suseconds_t::from(every.subsec_micros()),
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the structure is a local of the right type.
    check(libc::c_long::from(unsafe {
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut())
    }))
    .map(drop)
}

/// Lets this process and its children fault on CPUID until they exec. `false` where the CPU cannot.
pub(crate) fn fault_on_cpuid() -> bool {
    const ARCH_SET_CPUID: libc::c_long = 0x1012;
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, 0) == 0 }
}

/// Lets the kernel keep no account of this thread's restartable sequences, which it does at every return to it and which
/// nothing here uses. Where the C library has none, or another one, it is left as it is.
pub(crate) fn restart_no_sequences() {
    const LENGTH: libc::c_long = 32;
    const UNREGISTER: libc::c_long = 1;
    const SIGNATURE: libc::c_long = 0x5305_3053;
    // SAFETY: the name is a text that ends with NUL.
    let offset = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()) };
    let Some(offset) = ptr::NonNull::new(offset.cast::<isize>()) else {
        return;
    };
    let thread: *mut u8;
    // SAFETY: the C library keeps the address of the thread's block in its first word.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: the symbol is a number; the kernel takes the place only if it is the one that it was told of.
    unsafe {
        let place = thread.wrapping_offset(offset.read());
        libc::syscall(libc::SYS_rseq, place, LENGTH, UNREGISTER, SIGNATURE);
    }
}

/// Switches address randomisation off for this process and its children.
pub(crate) fn fix_addresses() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(libc::c_long::from(unsafe {
        libc::personality(libc::c_ulong::try_from(libc::ADDR_NO_RANDOMIZE).unwrap_or(0))
    }))
    .map(drop)
}
