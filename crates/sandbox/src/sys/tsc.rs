//! The processor's counter of time (RDTSC), which programs of class `det` fault at: so does their tracer.
//!
//! Owns that of this process. Where the two differ every change from one to the other has to change a register of the
//! processor's, which in a virtual machine takes longer than all else of the change. This process may read the counter all
//! the same, as whoever asks for the time does: its fault lets it, until [`fault_again`].
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check;

/// Set while this process reads the counter without a fault.
static READS: AtomicBool = AtomicBool::new(false);

/// Lets this process and its children, also after an exec, fault on RDTSC.
pub(crate) fn fault() -> io::Result<()> {
    const SIGSEGV: libc::c_ulong = 2;
    set(SIGSEGV)
}

fn set(how: libc::c_ulong) -> io::Result<()> {
    const PR_SET_TSC: libc::c_int = 26;
    // SAFETY: takes numbers only.
    check(libc::c_long::from(unsafe { libc::prctl(PR_SET_TSC, how) })).map(drop)
}

/// The same for this process alone, for as long as it does not ask for the time.
pub(crate) fn fault_until_read() -> io::Result<()> {
    extern "C" fn note(_: libc::c_int, told: *mut libc::siginfo_t, context: *mut libc::c_void) {
        const ENABLE: libc::c_ulong = 1;
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the kernel hands a handler with SA_SIGINFO both structures.
        let (code, place) = unsafe {
            let place =
                usize::try_from(libc::REG_RIP).map(|register| (&(*context).uc_mcontext.gregs)[register]);
            ((*told).si_code, place.unwrap_or(0))
        };
        // SAFETY: a fault with this code came from an instruction that was fetched from there.
        let reads = || unsafe { is_read(ptr::with_exposed_provenance(usize::try_from(place).unwrap_or(0))) };
        if code == libc::SI_KERNEL && reads() && set(ENABLE).is_ok() {
            READS.store(true, Ordering::Relaxed);
            return;
        }
        // any other fault ends this process, once it goes back to it
        // SAFETY: takes numbers only.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    }
    // SAFETY: the structure is plain data for which zeros are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = note;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the structure is a local of the right type; its function makes calls that a handler may make.
    let set = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
    check(libc::c_long::from(set))?;
    fault()
}

/// Whether the instruction at a place is RDTSC or RDTSCP.
///
/// # Safety
/// There is an instruction of two bytes or more.
unsafe fn is_read(place: *const u8) -> bool {
    // SAFETY: the third byte is read where the first two say that there is one.
    unsafe {
        match (*place, *place.add(1)) {
            (0x0f, 0x31) => true,
            (0x0f, 0x01) => *place.add(2) == 0xf9,
            _ => false,
        }
    }
}

/// Lets this process fault once more, if it has read the counter since. Where that cannot be it is slower.
pub(crate) fn fault_again() {
    // most of the time nothing is written
    if READS.load(Ordering::Relaxed) && READS.swap(false, Ordering::Relaxed) {
        let _ = fault();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_asks_for_the_time_is_told_and_faults_later() {
        // counted for each thread by the kernel, and for the process here
        let before = Instant::now();
        fault_until_read().unwrap();
        for _ in 0..3 {
            assert!(before.elapsed().as_secs() < 100);
            // SAFETY: takes nothing and gives a number.
            let (first, second) = unsafe { (std::arch::x86_64::_rdtsc(), std::arch::x86_64::_rdtsc()) };
            assert!(first <= second && READS.load(Ordering::Relaxed));
            fault_again();
            assert!(!READS.load(Ordering::Relaxed));
        }
    }
}
