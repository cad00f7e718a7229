//! The file of a trace: its leaves, and behind them the roots at intervals, by which two files are compared without
//! reading them. Format: `docs/trace.md`, "File".
//!
//! Owns the bytes. Never opens a file: it writes to what it is given, and says which range to read next.

mod block;
mod diff;
mod order;
mod read;
mod write;

pub use block::FileEnd;
pub use diff::{DiffStep, Difference, Side, TraceDiff};
pub use read::{TraceFileError, TraceReader};
pub use write::{TraceFileSummary, TraceWriter};

/// The first and the last bytes of a file.
const MAGIC: [u8; 16] = *b"sandrun-trace-1\n";
/// Leaves of one block; a power of two, so that a block is a subtree.
pub const TRACE_BLOCK: u64 = 256;
/// Bytes of the end: where the index begins, how many leaves there are, their root, the magic bytes.
const END_BYTES: u64 = 64;
/// Bytes of one entry of the index.
const ENTRY_BYTES: u64 = 72;
/// Longest leaf of a task's event: two paths, and room.
pub const TRACE_LEAF_MAX: usize = 16 * 1024;

/// A range of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// What the index says of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockEntry {
    /// Where its first leaf begins.
    offset: u64,
    /// Root over the block's own leaves.
    hash: [u8; 32],
    /// Root over all leaves up to the block's last one.
    root: [u8; 32],
}
