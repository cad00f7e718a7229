//! Reading and writing a stopped task's memory.

use std::io;
use std::os::fd::AsFd;

use rustix::io::pread;

use crate::sys::trace::{self, HostId};

const PAGE: u64 = 4096;
/// So much of a text is read at once.
const PIECE: usize = 256;
/// What is read most quickly.
const WORD: u64 = 8;

fn fault() -> io::Error {
    io::Error::from_raw_os_error(libc::EFAULT)
}

/// Reads all of `into`, or fails with EFAULT (ESRCH where the task is gone).
pub(super) fn read(host: HostId, address: u64, into: &mut [u8]) -> io::Result<()> {
    if into.is_empty() {
        return Ok(());
    }
    let within = usize::try_from(address % WORD).unwrap_or(0);
    if let Some(place) = within.checked_add(into.len()).filter(|end| *end <= 8) {
        let word = word(host, address - address % WORD)?.to_ne_bytes();
        into.copy_from_slice(&word[within..place]);
        return Ok(());
    }
    whole(trace::read_memory(host, address, into)?, into)
}

/// Reads eight bytes, or fails with EFAULT (ESRCH where the task is gone).
pub(super) fn word(host: HostId, address: u64) -> io::Result<u64> {
    match trace::peek(host, address) {
        // it does not stand at a stop: it waits for a listener
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            let mut word = [0; 8];
            whole(trace::read_memory(host, address, &mut word)?, &word)?;
            Ok(u64::from_ne_bytes(word))
        }
        other => other.map_err(missing),
    }
}

/// EFAULT where fewer bytes were read or written.
fn whole(done: usize, bytes: &[u8]) -> io::Result<()> {
    if done == bytes.len() { Ok(()) } else { Err(fault()) }
}

/// Writes eight bytes, likewise.
pub(super) fn set_word(host: HostId, address: u64, word: u64) -> io::Result<()> {
    match trace::poke(host, address, word) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            let word = word.to_ne_bytes();
            whole(trace::write_memory(host, address, &word)?, &word)
        }
        other => other.map_err(missing),
    }
}

/// The kernel's error for memory that is not there, as calls have it.
fn missing(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EIO) => fault(),
        _ => error,
    }
}

/// Writes all of `bytes`, or fails with EFAULT; then some may have been written.
pub(super) fn write(host: HostId, address: u64, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    whole(trace::write_memory(host, address, bytes)?, bytes)
}

/// Reads up to a NUL, which is left out; EFAULT where there is none within `limit` bytes.
pub(super) fn read_text(host: HostId, address: u64, limit: usize) -> io::Result<Vec<u8>> {
    text(address, limit, |at, piece| read(host, at, piece))
}

/// The same through a file of the task's memory, which takes less but heeds no protection.
pub(super) fn look_at_text(
    memory: impl AsFd,
    host: HostId,
    address: u64,
    limit: usize,
) -> io::Result<Vec<u8>> {
    text(address, limit, |at, piece| {
        match pread(&memory, &mut *piece, at) {
            Ok(done) if done == piece.len() => Ok(()),
            Ok(_) | Err(_) => read(host, at, piece),
        }
    })
}

fn text(address: u64, limit: usize, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut piece = [0; PIECE];
    let mut at = address;
    while text.len() < limit {
        // never across a page: the next one may be missing
        let room = usize::try_from(PAGE - at % PAGE)
            .unwrap_or(1)
            .min(limit - text.len())
            .min(PIECE);
        let piece = &mut piece[..room];
        read(at, piece)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            return Ok(text);
        }
        text.extend_from_slice(piece);
        at = at
            .checked_add(u64::try_from(room).unwrap_or(0))
            .ok_or_else(fault)?;
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}
