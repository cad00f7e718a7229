//! Small files that came in just now, in memory: most jobs are sent on at once, and need not be read back for that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use sandrun_store::queue::BlobHash;

/// Bytes of all of them; the oldest go.
const CAPACITY: usize = 8 << 20;
/// Bytes of the longest.
const LONGEST: usize = 256 << 10;

/// The files; what a job refers to lies in the store as well.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    bodies: HashMap<BlobHash, Bytes>,
    order: VecDeque<BlobHash>,
    bytes: usize,
}

impl Recent {
    /// A file, if it is here.
    pub(crate) fn get(&self, hash: BlobHash) -> Option<Bytes> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.bodies.get(&hash).cloned()
    }

    /// Keeps a file, unless it is too long.
    pub(super) fn keep(&self, hash: BlobHash, body: Bytes) {
        if body.len() > LONGEST {
            return;
        }
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.bytes += body.len();
        match files.bodies.insert(hash, body) {
            Some(before) => files.bytes -= before.len(),
            None => files.order.push_back(hash),
        }
        while files.bytes > CAPACITY {
            let Some(oldest) = files.order.pop_front() else {
                break;
            };
            files.bytes -= files.bodies.remove(&oldest).map_or(0, |it| it.len());
        }
    }
}

/// A file that is put together on its way to the store, as long as it is short.
#[derive(Debug, Default)]
pub(super) struct Copy(Option<BytesMut>);

impl Copy {
    pub(super) fn new() -> Self {
        Self(Some(BytesMut::new()))
    }

    /// Takes the next piece.
    pub(super) fn add(&mut self, piece: &Bytes) {
        if let Some(whole) = self.0.take_if(|it| it.len() + piece.len() > LONGEST) {
            drop(whole);
        }
        if let Some(whole) = &mut self.0 {
            whole.extend_from_slice(piece);
        }
    }

    /// The file is in the store, under this name.
    pub(super) fn keep(self, hash: BlobHash, recent: &Recent) {
        if let Some(whole) = self.0 {
            recent.keep(hash, whole.freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> BlobHash {
        BlobHash(std::array::from_fn(|at| number.to_le_bytes()[at % 8]))
    }

    fn put(recent: &Recent, number: usize, size: usize) {
        let mut copy = Copy::new();
        for piece in vec![7_u8; size].chunks(1_000) {
            copy.add(&Bytes::copy_from_slice(piece));
        }
        copy.keep(hash(number), recent);
    }

    #[test]
    fn the_latest_short_files_are_here_and_no_more_than_fit() {
        let recent = Recent::default();
        put(&recent, 0, LONGEST + 1);
        assert_eq!(recent.get(hash(0)), None, "too long");
        let fit = CAPACITY / LONGEST;
        for number in 1..=fit + 2 {
            put(&recent, number, LONGEST);
            put(&recent, number, LONGEST);
        }
        assert_eq!(recent.get(hash(2)), None);
        assert_eq!(recent.get(hash(3)).map(|it| it.len()), Some(LONGEST));
        assert_eq!(recent.get(hash(fit + 2)).map(|it| it.len()), Some(LONGEST));
        assert_eq!(recent.0.lock().unwrap().bytes, CAPACITY);
    }
}
