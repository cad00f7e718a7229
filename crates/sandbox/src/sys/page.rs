//! One page of memory that this process shares with a traced one.
//!
//! Owns its mapping on this side. What the other side writes there is never trusted to be anything but numbers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{SealFlags, fcntl_add_seals, ftruncate};

/// Bytes of it.
pub(crate) const LENGTH: usize = 4096;
/// Numbers of 64 bits in it.
const WORDS: usize = LENGTH / size_of::<AtomicU64>();

/// A page of a file in memory, zeros at first.
#[derive(Debug)]
pub(crate) struct SharedPage(NonNull<[AtomicU64; WORDS]>);

impl SharedPage {
    /// Makes a file in memory that is empty, and allows seals, one page long for good, and maps it.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        let length = u64::try_from(LENGTH).unwrap_or(0);
        ftruncate(file, length)?;
        // who makes it shorter would take the page from under this mapping
        fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is there already.
        let place = unsafe {
            libc::mmap(
                ptr::null_mut(),
                LENGTH,
                rights,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(place.cast())
            .map(Self)
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// The number at this index; zero behind the page's end.
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words()
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub(crate) fn set_word(&self, index: usize, value: u64) {
        if let Some(word) = self.words().get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    const fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: the page is mapped as long as this value lives and cannot be made shorter; every number is valid,
        // whoever writes it meanwhile, and all access from here is atomic.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by this value, and no reference to it is left.
        let _ = unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn both_sides_see_one_page_that_keeps_its_length() {
        let file = memfd_create("", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let page = SharedPage::of(&file).unwrap();
        assert_eq!((page.word(0), page.word(511), page.word(512)), (0, 0, 0));
        page.set_word(1, 77);
        page.set_word(512, 5);
        let mut bytes = [0; 16];
        rustix::io::pread(&file, &mut bytes, 0).unwrap();
        assert_eq!(bytes[8..], 77_u64.to_ne_bytes());
        rustix::io::pwrite(&file, &9_u64.to_ne_bytes(), 0).unwrap();
        assert_eq!(page.word(0), 9);
        for length in [0, 4095, 8192] {
            assert!(ftruncate(&file, length).is_err(), "{length}");
        }
    }

    #[test]
    fn a_file_without_seals_is_not_mapped() {
        let file = memfd_create("", MemfdFlags::CLOEXEC).unwrap();
        assert!(SharedPage::of(&file).is_err());
    }
}
