//! Hashes a file while copying it.

use std::io::{self, Read, Write};

use sandrun_types::Sha256Hex;
use sha2::{Digest as _, Sha256};

/// Copies at most `limit` bytes and hashes them: their number and hash. More than `limit` is an error.
pub(crate) fn hash_file(
    from: &mut impl Read,
    to: &mut impl Write,
    limit: u64,
) -> io::Result<(u64, Sha256Hex)> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 128 * 1024];
    let mut size = 0_u64;
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok((size, Sha256Hex(hasher.finalize().into())));
        }
        size += u64::try_from(length).unwrap_or(u64::MAX);
        if size > limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        hasher.update(&piece[..length]);
        to.write_all(&piece[..length])?;
    }
}
