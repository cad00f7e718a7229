//! The trace of a run and the Merkle roots over trace and outputs. Specification and test vectors: `docs/trace.md`.
//!
//! Owns the events, their one byte form, and the roots (RFC 6962 with SHA-256). Never watches a program: who runs it
//! says what happened.

mod merkle;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::{BundlePath, ClassId, ExitStatus, InputFile, OutputRoot, RunOutcome, Sha256Hex, TraceRoot};

pub use merkle::merkle_root;

/// Version of the byte form that this crate writes.
pub const TRACE_VERSION: u16 = 1;
/// Bytes of a stream that one event covers; the last event of a stream may cover fewer.
pub const STREAM_CHUNK: usize = 64 * 1024;

/// What a run starts from. Everything in it is the same on every machine that runs the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceHeader {
    /// Exact class.
    pub class: ClassId,
    /// Seed of virtual entropy; zeros where the class has none (`native`).
    pub seed: [u8; 32],
    /// The limits that bound a run in the same way everywhere.
    pub limits: TraceLimits,
    /// Program and arguments as the program sees them.
    pub argv: Vec<String>,
    /// The whole environment as the program sees it.
    pub env: BTreeMap<String, String>,
    /// Root over the input files, see [`tree_root`].
    pub input_tree: [u8; 32],
}

/// Limits whose effect does not depend on the machine. (Real time does, and is no part of a trace.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLimits {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Open files in one process.
    pub open_files: u32,
    /// Bytes on the job's file systems.
    pub tmpfs_bytes: u64,
    /// Files and directories that may be created.
    pub inodes: u64,
    /// Bytes on stdout and stderr together.
    pub output_bytes: u64,
}

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing that happened. Classes with a tracer will have more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceEvent {
    /// A piece of a stream, cut by offset and not by when it was written.
    Chunk {
        /// Which stream.
        stream: Stream,
        /// Where the piece begins, a multiple of [`STREAM_CHUNK`].
        offset: u64,
        /// Its length, at most [`STREAM_CHUNK`].
        length: u32,
        /// SHA-256 of its bytes.
        sha256: Sha256Hex,
    },
    /// The collected files.
    OutputTree {
        /// See [`tree_root`].
        root: [u8; 32],
    },
    /// The end.
    Exit {
        /// How it ended.
        outcome: RunOutcome,
        /// The main process's end, where machines can be held to one.
        status: Option<ExitStatus>,
    },
}

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

impl Trace {
    /// The trace of class `native`, in which only the start and the end are seen: stdout, stderr, output tree, exit.
    #[must_use]
    pub fn of_untraced(header: TraceHeader, result: RunResult<'_>) -> Self {
        let mut events = chunks(Stream::Stdout, result.stdout);
        events.extend(chunks(Stream::Stderr, result.stderr));
        events.push(TraceEvent::OutputTree {
            root: tree_root(result.files),
        });
        events.push(TraceEvent::Exit {
            outcome: result.outcome,
            status: result.status,
        });
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

/// Root over a set of files: one leaf each, sorted by the name's bytes.
#[must_use]
pub fn tree_root(files: &BTreeMap<BundlePath, InputFile>) -> [u8; 32] {
    let leaves: Vec<Vec<u8>> = files.iter().map(|(path, file)| file_leaf(path, file)).collect();
    merkle_root(&leaves)
}

/// Root over what a run hands out: a leaf for stdout, one for stderr, then one for each file as in [`tree_root`].
#[must_use]
pub fn output_root(stdout: &[u8], stderr: &[u8], files: &BTreeMap<BundlePath, InputFile>) -> OutputRoot {
    let mut leaves = vec![
        stream_leaf(Stream::Stdout, stdout),
        stream_leaf(Stream::Stderr, stderr),
    ];
    leaves.extend(files.iter().map(|(path, file)| file_leaf(path, file)));
    OutputRoot(merkle_root(&leaves))
}

fn chunks(stream: Stream, bytes: &[u8]) -> Vec<TraceEvent> {
    let mut offset = 0;
    let mut events = Vec::new();
    for piece in bytes.chunks(STREAM_CHUNK) {
        // A chunk is at most 64 KiB.
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        events.push(TraceEvent::Chunk {
            stream,
            offset,
            length,
            sha256: Sha256Hex::of(piece),
        });
        offset += u64::from(length);
    }
    events
}

fn stream_leaf(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new(match stream {
        Stream::Stdout => 0x40,
        Stream::Stderr => 0x41,
    });
    out.u64(bytes.len() as u64);
    out.raw(&Sha256::digest(bytes));
    out.0
}

fn file_leaf(path: &BundlePath, file: &InputFile) -> Vec<u8> {
    let mut out = Encoder::new(0x42);
    out.u64(file.size_bytes);
    out.raw(&file.sha256.0);
    out.text(path.as_str());
    out.0
}

impl TraceHeader {
    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(0x00);
        out.u16(TRACE_VERSION);
        out.raw(self.class.as_bytes());
        out.raw(&self.seed);
        out.u64(self.limits.memory_bytes);
        out.u32(self.limits.processes);
        out.u32(self.limits.open_files);
        out.u64(self.limits.tmpfs_bytes);
        out.u64(self.limits.inodes);
        out.u64(self.limits.output_bytes);
        out.u64(self.argv.len() as u64);
        self.argv.iter().for_each(|argument| out.text(argument));
        out.u64(self.env.len() as u64);
        for (name, value) in &self.env {
            out.text(name);
            out.text(value);
        }
        out.raw(&self.input_tree);
        out.0
    }
}

impl TraceEvent {
    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Chunk {
                stream,
                offset,
                length,
                sha256,
            } => {
                let mut out = Encoder::new(match stream {
                    Stream::Stdout => 0x10,
                    Stream::Stderr => 0x11,
                });
                out.u64(*offset);
                out.u32(*length);
                out.raw(&sha256.0);
                out.0
            }
            Self::OutputTree { root } => {
                let mut out = Encoder::new(0x20);
                out.raw(root);
                out.0
            }
            Self::Exit { outcome, status } => {
                let mut out = Encoder::new(0x30);
                out.raw(&[outcome_number(*outcome), u8::from(status.is_some())]);
                out.u32(status.map_or(0, ExitStatus::number));
                out.0
            }
        }
    }
}

/// The number of an outcome in the byte form; fixed for ever.
const fn outcome_number(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Exited => 0,
        RunOutcome::Signalled => 1,
        RunOutcome::Timeout => 2,
        RunOutcome::Memory => 3,
        RunOutcome::OutputLimit => 4,
        RunOutcome::Budget => 5,
        RunOutcome::Refused => 6,
        RunOutcome::Internal => 7,
    }
}

/// Writes the byte form: a tag, then fields; integers big-endian, texts with their length in front.
struct Encoder(Vec<u8>);

impl Encoder {
    fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u16(&mut self, number: u16) {
        self.raw(&number.to_be_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.raw(&number.to_be_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.raw(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u64(text.len() as u64);
        self.raw(text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
