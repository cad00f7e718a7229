//! Where the kernel puts mappings that ask for no place. Owns the mappings that find out; they are gone afterwards.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// What large mappings are aligned to, if at all.
const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;
/// So many tries: each is at such a place by chance once in 512 times.
const TRIES: usize = 4;

/// Whether private mappings of this many bytes, of a file or of none, are put at multiples of 2 MiB. A file may be
/// shorter than its mapping.
pub(crate) fn is_aligned(length: usize, file: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let mut made = Vec::new();
    let mut found = Ok(true);
    for _ in 0..TRIES {
        match map(ptr::null_mut(), length, file) {
            Ok(place) => {
                made.push((place, length));
                found = found.map(|aligned| aligned && place.addr().is_multiple_of(HUGE));
                // so that the next one does not follow at the same distance
                if let Ok(gap) = map(place.wrapping_byte_sub(PAGE), PAGE, None) {
                    made.push((gap, PAGE));
                }
            }
            Err(error) => {
                found = Err(error);
                break;
            }
        }
    }
    for (place, length) in made {
        // SAFETY: these are the mappings made above, which nobody else knows of and nothing points into.
        unsafe { libc::munmap(place, length) };
    }
    found
}

/// A mapping that is never written; near a place or, without one, wherever the kernel puts it.
fn map(
    near: *mut libc::c_void,
    length: usize,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<*mut libc::c_void> {
    let (flags, fd) = match file {
        Some(file) => (libc::MAP_PRIVATE, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1),
    };
    let exactly = if near.is_null() {
        0
    } else {
        libc::MAP_FIXED_NOREPLACE
    };
    // SAFETY: a fresh mapping, which replaces none: its place is the kernel's choice, or free.
    let place = unsafe { libc::mmap(near, length, libc::PROT_READ, flags | exactly, fd, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(place)
}
