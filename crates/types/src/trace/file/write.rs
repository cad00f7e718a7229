//! Writes a trace to a file as it goes. Keeps a few hashes, and the index: 72 bytes for every 256 leaves.

use std::io::{self, Write};

use super::{BlockEntry, MAGIC, TRACE_BLOCK};
use crate::trace::merkle::MerkleTree;
use crate::{TraceEvent, TraceHeader, TraceRoot};

/// What is known of a trace once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceFileSummary {
    /// Root over all leaves.
    pub root: TraceRoot,
    /// How many there are, the header included.
    pub leaves: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The blocks of a trace as its leaves come in: what the index and the roots are made of.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Over the complete blocks.
    complete: MerkleTree,
    /// Over the leaves of the one that is not.
    current: MerkleTree,
    /// Where that one begins.
    begins: u64,
    /// The entries of the complete ones.
    index: Vec<BlockEntry>,
}

impl Blocks {
    /// Adds a leaf that begins at this offset of the file.
    pub(super) fn push(&mut self, leaf: &[u8], offset: u64) {
        if self.current.is_empty() {
            self.begins = offset;
        }
        self.current.push(leaf);
        if self.current.len() == TRACE_BLOCK {
            let hash = std::mem::take(&mut self.current).root();
            self.complete.push_hash(hash);
            let (offset, root) = (self.begins, self.complete.root());
            self.index.push(BlockEntry { offset, hash, root });
        }
    }

    /// How many leaves there are.
    pub(super) const fn leaves(&self) -> u64 {
        self.complete.len() * TRACE_BLOCK + self.current.len()
    }

    /// Root over all leaves.
    pub(super) fn root(&self) -> [u8; 32] {
        let rest = (!self.current.is_empty()).then(|| self.current.root());
        let whole = self.complete.root_before(rest);
        whole.unwrap_or_else(|| self.complete.root())
    }

    /// The index, with the last block that is not complete; nothing can be added afterwards.
    pub(super) fn take_index(&mut self) -> Vec<BlockEntry> {
        if !self.current.is_empty() {
            self.index.push(BlockEntry {
                offset: self.begins,
                hash: self.current.root(),
                root: self.root(),
            });
        }
        std::mem::take(&mut self.index)
    }
}

/// Writes one trace.
#[derive(Debug)]
pub struct TraceWriter<W> {
    out: W,
    offset: u64,
    blocks: Blocks,
}

impl<W: Write> TraceWriter<W> {
    /// Begins a trace. `out` is written in small pieces: give it a buffer.
    ///
    /// # Errors
    /// Those of `out`, as all others here.
    pub fn new(out: W, header: &TraceHeader) -> io::Result<Self> {
        let mut writer = Self {
            out,
            offset: 0,
            blocks: Blocks::default(),
        };
        writer.raw(&MAGIC)?;
        writer.leaf(&header.encode())?;
        Ok(writer)
    }

    /// Adds an event.
    ///
    /// # Errors
    /// Those of the output.
    pub fn event(&mut self, event: &TraceEvent) -> io::Result<()> {
        self.leaf(&event.encode())
    }

    /// Adds an event by its byte form, which must be one.
    ///
    /// # Errors
    /// Those of the output.
    pub fn leaf(&mut self, leaf: &[u8]) -> io::Result<()> {
        let length = u32::try_from(leaf.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.blocks.push(leaf, self.offset);
        self.raw(&length.to_be_bytes())?;
        self.raw(leaf)
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.blocks.leaves().saturating_sub(1)
    }

    /// Writes what stands behind the leaves.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<TraceFileSummary> {
        let (root, leaves) = (self.blocks.root(), self.blocks.leaves());
        self.raw(&0_u32.to_be_bytes())?;
        let index_begins = self.offset;
        for entry in self.blocks.take_index() {
            self.raw(&entry.encode())?;
        }
        self.raw(&index_begins.to_be_bytes())?;
        self.raw(&leaves.to_be_bytes())?;
        self.raw(&root)?;
        self.raw(&MAGIC)?;
        self.out.flush()?;
        Ok(TraceFileSummary {
            root: TraceRoot(root),
            leaves,
            bytes: self.offset,
        })
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
