//! The C library's heap.

#[cfg(target_env = "gnu")]
use std::sync::Once;

/// Has large buffers go back to the system when they are freed, for processes that live long. The C library raises by
/// itself the size from which it asks the system for a buffer of its own, up to 32 MiB: below that they lie among small
/// ones, of which one that stays keeps all that is free before it. See mallopt(3). Does nothing with another C library.
pub fn give_large_buffers_back() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 128 << 10;
        static DONE: Once = Once::new();
        DONE.call_once(|| {
            for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
                // SAFETY: takes numbers only, and holds the heap's own lock; a parameter that is not known is refused.
                unsafe { libc::mallopt(parameter, LARGE) };
            }
        });
    }
}
