//! How rows are kept in columns, the same in both databases.

use std::borrow::Cow;

use sandrun_core::pool::JobNumber;
use sandrun_types::Attempt;

use super::reader::LOG_READ;
use super::{BlobHash, Doing, JobWord, LogPiece, LogStream, OutputRef, QueueStoreError};

/// Text without NUL, which PostgreSQL has no place for.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Databases count with a sign.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A number that was written from 32 bits.
pub(super) fn narrow(value: i64) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

/// Words of open jobs come first.
pub(super) const fn word_code(word: JobWord) -> i64 {
    match word {
        JobWord::Pending => 0,
        JobWord::Assigned => 1,
        JobWord::Running => 2,
        JobWord::Completed => 3,
        JobWord::Failed => 4,
    }
}

/// # Errors
/// A code that no version of this program has written.
pub(super) fn word_of(code: i64, doing: Doing) -> Result<JobWord, QueueStoreError> {
    [
        JobWord::Pending,
        JobWord::Assigned,
        JobWord::Running,
        JobWord::Completed,
        JobWord::Failed,
    ]
    .into_iter()
    .find(|word| word_code(*word) == code)
    .ok_or(QueueStoreError::Unreadable {
        doing,
        what: "a job's status",
    })
}

pub(super) const fn stream_code(stream: LogStream) -> i64 {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

pub(super) fn pack_blobs(blobs: &[BlobHash]) -> Vec<u8> {
    blobs.iter().flat_map(|blob| blob.0).collect()
}

pub(super) fn unpack_blobs(bytes: &[u8]) -> Vec<BlobHash> {
    bytes.as_chunks().0.iter().copied().map(BlobHash).collect()
}

pub(super) fn pack_parents(parents: &[JobNumber]) -> Vec<u8> {
    parents.iter().flat_map(|parent| parent.0.to_be_bytes()).collect()
}

pub(super) fn unpack_parents(bytes: &[u8]) -> Vec<JobNumber> {
    let chunks = bytes.as_chunks().0.iter();
    chunks
        .map(|chunk| JobNumber(u64::from_be_bytes(*chunk)))
        .collect()
}

/// # Errors
/// None in practice: a list of texts and numbers has a JSON form.
pub(super) fn pack_outputs(outputs: &[OutputRef], doing: Doing) -> Result<Vec<u8>, QueueStoreError> {
    serde_json::to_vec(outputs).map_err(|_| QueueStoreError::Unreadable {
        doing,
        what: "a list of outputs",
    })
}

/// # Errors
/// A list that no version of this program has written.
pub(super) fn unpack_outputs(json: &[u8], doing: Doing) -> Result<Vec<OutputRef>, QueueStoreError> {
    serde_json::from_slice(json).map_err(|_| QueueStoreError::Unreadable {
        doing,
        what: "a list of outputs",
    })
}

/// Joins the pieces of one attempt's log, in the order of their beginnings, to one that begins at `from` or later.
#[derive(Debug)]
pub(super) struct LogJoin {
    piece: LogPiece,
    most: usize,
}

impl LogJoin {
    /// One of at most `most` bytes.
    pub(super) fn new(job: JobNumber, attempt: Attempt, stream: LogStream, from: u64, most: usize) -> Self {
        Self {
            piece: LogPiece {
                job,
                attempt,
                stream,
                from,
                bytes: Vec::new(),
            },
            most: most.min(LOG_READ),
        }
    }

    /// Adds the piece that begins at `start`; whether another one can follow.
    pub(super) fn add(&mut self, start: u64, bytes: &[u8]) -> bool {
        let piece = &mut self.piece;
        let cursor = piece.from + piece.bytes.len() as u64;
        if start > cursor && !piece.bytes.is_empty() {
            return false;
        }
        if start > cursor {
            piece.from = start;
        }
        let known = usize::try_from(cursor.saturating_sub(start)).unwrap_or(usize::MAX);
        let fresh = bytes.get(known..).unwrap_or_default();
        let room = self.most - piece.bytes.len();
        piece.bytes.extend_from_slice(&fresh[..fresh.len().min(room)]);
        piece.bytes.len() < self.most
    }

    pub(super) fn end(self) -> LogPiece {
        self.piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(from: u64, pieces: &[(u64, &str)]) -> (u64, String) {
        let mut join = LogJoin::new(JobNumber(1), Attempt::FIRST, LogStream::Stdout, from, usize::MAX);
        for (start, text) in pieces {
            if !join.add(*start, text.as_bytes()) {
                break;
            }
        }
        let piece = join.end();
        (piece.from, String::from_utf8(piece.bytes).unwrap())
    }

    #[test]
    fn pieces_join_over_overlaps_and_end_at_gaps() {
        let told = |from, text: &str| (from, text.to_owned());
        assert_eq!(join(0, &[(0, "ab"), (2, "cd")]), told(0, "abcd"));
        assert_eq!(join(1, &[(0, "abc"), (2, "cde")]), told(1, "bcde"));
        assert_eq!(join(0, &[(0, "ab"), (1, "b"), (3, "d")]), told(0, "ab"));
        assert_eq!(join(2, &[(0, "ab"), (5, "f")]), told(5, "f"));
        assert_eq!(join(9, &[(0, "ab")]), told(9, ""));
        let big = "x".repeat(LOG_READ - 1);
        assert_eq!(join(0, &[(0, &big), (big.len() as u64, "yz")]).1.len(), LOG_READ);
    }

    #[test]
    fn lists_come_back() {
        let blobs = [BlobHash([1; 32]), BlobHash([2; 32])];
        assert_eq!(unpack_blobs(&pack_blobs(&blobs)), blobs);
        let parents = [JobNumber(1), JobNumber(u64::MAX)];
        assert_eq!(unpack_parents(&pack_parents(&parents)), parents);
        let outputs = [OutputRef {
            path: "a\0b".to_owned(),
            size: 3,
            blob: blobs[0],
        }];
        assert_eq!(
            unpack_outputs(&pack_outputs(&outputs, "x").unwrap(), "x").unwrap(),
            outputs
        );
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
    }
}
