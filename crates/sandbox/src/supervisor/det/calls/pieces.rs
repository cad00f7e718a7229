//! Memory that a call reads or fills: one piece, those of a vector, or those of a message. See readv(2), sendmsg(2).

use std::io;

use crate::supervisor::det::task::Task;

/// Address and length.
pub(in crate::supervisor::det) type Piece = (u64, u64);

/// Pieces of one vector, as in the kernel.
const MOST: usize = 1024;
/// Bytes of a vector for each piece.
const BYTES: usize = 16;

/// Where a call that a task has made takes its bytes from, or puts them. EINVAL for more pieces than there can be.
pub(in crate::supervisor::det) fn of(task: &Task, call: libc::c_long) -> io::Result<Vec<Piece>> {
    match call {
        libc::SYS_writev => vector(task, task.argument(1), task.argument(2)),
        libc::SYS_recvmsg | libc::SYS_sendmsg => {
            let header = task.argument(1);
            let number = |offset| task.read_u64(header.wrapping_add(offset));
            vector(task, number(16)?, number(24)?)
        }
        _ => Ok(vec![(task.argument(1), task.argument(2))]),
    }
}

fn vector(task: &Task, address: u64, count: u64) -> io::Result<Vec<Piece>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MOST {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let bytes = task.read_bytes(address, BYTES * count)?;
    let number = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
    Ok(bytes
        .chunks_exact(BYTES)
        .map(|pair| (number(&pair[..8]), number(&pair[8..])))
        .collect())
}

/// Bytes of all pieces; what a job says they are may be any number.
pub(in crate::supervisor::det) fn total(pieces: &[Piece]) -> u64 {
    pieces
        .iter()
        .fold(0, |total, (_, length)| total.saturating_add(*length))
}

/// What is left of the piece in which this byte of all lies.
pub(in crate::supervisor::det) fn from(pieces: &[Piece], mut skip: u64) -> Option<Piece> {
    for (address, length) in pieces {
        if skip < *length {
            return Some((address.wrapping_add(skip), length - skip));
        }
        skip -= length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_in_the_piece_that_they_lie_in() {
        let pieces = [(100, 3), (200, 0), (300, 2), (u64::MAX, 5)];
        let found = |skip| from(&pieces, skip);
        assert_eq!((found(0), found(2)), (Some((100, 3)), Some((102, 1))));
        assert_eq!((found(3), found(4)), (Some((300, 2)), Some((301, 1))));
        assert_eq!((found(7), found(10)), (Some((1, 3)), None));
        assert_eq!((total(&pieces), total(&[(0, 9), (0, u64::MAX)])), (10, u64::MAX));
    }
}
