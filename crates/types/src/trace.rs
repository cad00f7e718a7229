//! The trace of a run and the Merkle roots over trace and outputs. Specification and test vectors: `docs/trace.md`.
//!
//! Owns the events, their one byte form, and the roots (RFC 6962 with SHA-256). Never watches a program: who runs it
//! says what happened.

mod change;
mod codec;
mod event;
mod file;
mod header;
mod leaf;
mod merkle;
mod path;
mod roots;
mod task;

use std::collections::BTreeMap;

use crate::{BundlePath, ExitStatus, InputFile, RunOutcome, TraceRoot};

pub use change::{NodeKind, TreeChange};
pub use codec::TraceDecodeError;
pub use event::{Stream, TraceEvent};
pub use file::{
    DiffStep, Difference, FileEnd, FileRange, Side, TRACE_BLOCK, TRACE_LEAF_MAX, TraceDiff, TraceFileError,
    TraceFileSummary, TraceReader, TraceWriter,
};
pub use header::{TRACE_VERSION, TRACE_VERSION_TRACED, TraceHeader, TraceLimits};
pub use leaf::TraceLeaf;
pub use merkle::{InclusionProof, MerkleTree, ProofError, merkle_root};
pub use path::{TRACE_PATH_MAX, TracePath};
pub use roots::{OutputLeaves, OutputName, OutputProof, output_root, tree_root};
pub use task::{EntropySource, FileHash, TaskEnd, TaskEvent, TaskId, TaskKind, list_hash};

/// Bytes of a stream that one event covers; the last event of a stream may cover fewer.
pub const STREAM_CHUNK: usize = 64 * 1024;

/// A run's trace: the header, then the events in their canonical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What it started from.
    pub header: TraceHeader,
    /// What happened.
    pub events: Vec<TraceEvent>,
}

/// What a run left behind, as far as it belongs to the result.
#[derive(Debug, Clone, Copy)]
pub struct RunResult<'a> {
    /// Standard output.
    pub stdout: &'a [u8],
    /// Standard error.
    pub stderr: &'a [u8],
    /// The collected files.
    pub files: &'a BTreeMap<BundlePath, InputFile>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The main process's end, where machines can be held to one.
    pub status: Option<ExitStatus>,
}

impl RunResult<'_> {
    /// The events at the end of every trace: stdout, stderr, output tree, exit.
    pub fn events(&self) -> impl Iterator<Item = TraceEvent> + '_ {
        event::chunks(Stream::Stdout, self.stdout)
            .chain(event::chunks(Stream::Stderr, self.stderr))
            .chain([
                TraceEvent::OutputTree {
                    root: tree_root(self.files),
                },
                TraceEvent::Exit {
                    outcome: self.outcome,
                    status: self.status,
                },
            ])
    }
}

impl Trace {
    /// The trace of class `native`, in which only the start and the end are seen: stdout, stderr, output tree, exit.
    #[must_use]
    pub fn of_untraced(header: TraceHeader, result: RunResult<'_>) -> Self {
        let events = result.events().collect();
        Self { header, events }
    }

    /// The byte forms of header and events: the leaves of the Merkle tree.
    #[must_use]
    pub fn leaves(&self) -> Vec<Vec<u8>> {
        let mut leaves = vec![self.header.encode()];
        leaves.extend(self.events.iter().map(TraceEvent::encode));
        leaves
    }

    /// Root over header and all events.
    #[must_use]
    pub fn root(&self) -> TraceRoot {
        TraceRoot(merkle_root(&self.leaves()))
    }

    /// Root over the header and the first `events` events. Two traces that differ do so first at the smallest number
    /// for which these roots differ, which bisection finds.
    #[must_use]
    pub fn root_at(&self, events: usize) -> TraceRoot {
        let leaves = self.leaves();
        let end = events.saturating_add(1).min(leaves.len());
        TraceRoot(merkle_root(&leaves[..end]))
    }
}

#[cfg(test)]
mod tests;
