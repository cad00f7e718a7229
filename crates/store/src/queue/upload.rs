//! Cuts a body into chunks of one size and hashes it on the way.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{BlobBody, BlobHash, CHUNK, QueueStoreError};

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A full chunk; there is more, be it nothing.
    Chunk(Bytes),
    /// The rest, perhaps empty.
    Last(Bytes),
}

/// A body that is cut.
pub(super) struct Cutter {
    body: BlobBody,
    /// Taken from the body and not given out.
    waiting: BytesMut,
    hash: Sha256,
    size: u64,
}

impl Cutter {
    pub(super) fn new(body: BlobBody) -> Self {
        Self {
            body,
            waiting: BytesMut::new(),
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// The next part. Hashes it, which takes about a millisecond for a chunk.
    ///
    /// # Errors
    /// [`QueueStoreError::Body`].
    pub(super) async fn next(&mut self) -> Result<Cut, QueueStoreError> {
        while self.waiting.len() <= CHUNK {
            match self.body.next().await {
                Some(piece) => self
                    .waiting
                    .extend_from_slice(&piece.map_err(QueueStoreError::Body)?),
                None => {
                    let rest = self.waiting.split().freeze();
                    self.take(&rest);
                    return Ok(Cut::Last(rest));
                }
            }
        }
        let chunk = self.waiting.split_to(CHUNK).freeze();
        self.take(&chunk);
        Ok(Cut::Chunk(chunk))
    }

    fn take(&mut self, part: &[u8]) {
        self.hash.update(part);
        self.size += part.len() as u64;
    }

    /// Name and size of what was cut.
    pub(super) fn end(self) -> (BlobHash, u64) {
        (BlobHash(self.hash.finalize().into()), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    async fn cut(size: usize, piece: usize) -> (Vec<usize>, BlobHash, u64) {
        let whole: Vec<u8> = (0u8..251).cycle().take(size).collect();
        let pieces: Vec<_> = whole
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let mut cutter = Cutter::new(Box::pin(stream::iter(pieces)));
        let (mut sizes, mut joined) = (Vec::new(), Vec::new());
        loop {
            let cut = cutter.next().await.unwrap();
            let (Cut::Chunk(part) | Cut::Last(part)) = &cut;
            sizes.push(part.len());
            joined.extend_from_slice(part);
            if matches!(cut, Cut::Last(_)) {
                break;
            }
        }
        assert_eq!(joined, whole);
        let (hash, size) = cutter.end();
        assert_eq!(hash.0, <[u8; 32]>::from(Sha256::digest(&whole)));
        (sizes, hash, size)
    }

    #[tokio::test]
    async fn every_chunk_but_the_last_is_full() {
        assert_eq!(cut(0, 1).await.0, [0]);
        assert_eq!(cut(CHUNK, 1000).await.0, [CHUNK]);
        assert_eq!(cut(CHUNK + 1, 70_000).await.0, [CHUNK, 1]);
        let (sizes, hash, size) = cut(2 * CHUNK + 5, 3 * CHUNK).await;
        assert_eq!(
            (sizes.as_slice(), size),
            ([CHUNK, CHUNK, 5].as_slice(), 2 * 1_048_576 + 5)
        );
        assert_eq!(cut(2 * CHUNK + 5, 999).await.1, hash);
    }

    #[tokio::test]
    async fn a_failing_body_is_no_short_one() {
        let pieces = [Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))];
        let mut cutter = Cutter::new(Box::pin(stream::iter(pieces)));
        assert!(matches!(cutter.next().await, Err(QueueStoreError::Body(_))));
    }
}
