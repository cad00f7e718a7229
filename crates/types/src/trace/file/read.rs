//! Reads the file of a trace from its beginning to its end, and checks what stands behind the leaves against them.

use std::io::{self, Read};

use thiserror::Error;

use super::block::FileEnd;
use super::order::Order;
use super::write::Blocks;
use super::{BlockEntry, MAGIC, TRACE_LEAF_MAX};
use crate::{TraceDecodeError, TraceLeaf, TraceRoot};

/// Longest header: arguments and variables take 1 MiB at most, and their lengths are beside them.
pub(super) const HEADER_MAX: usize = 4 << 20;

/// Why a file is no whole trace.
#[derive(Debug, Error)]
pub enum TraceFileError {
    /// It could not be read.
    #[error("the trace could not be read")]
    Read(#[source] io::Error),
    /// It begins or ends otherwise.
    #[error("that is no trace: {0}")]
    Format(&'static str),
    /// A leaf of it is none.
    #[error("leaf {number} of the trace is none")]
    Leaf {
        /// Its place; the header is 0.
        number: u64,
        /// Why.
        #[source]
        source: TraceDecodeError,
    },
    /// A leaf cannot stand where it does, or the trace cannot end there.
    #[error("the trace is out of order at leaf {0}")]
    Order(u64),
    /// Its leaves do not have the root that it states.
    #[error("the trace was changed: its {0} does not belong to its leaves")]
    Changed(&'static str),
}

/// Reads a whole trace leaf by leaf. Whoever reads to the end knows that the file is whole and says of its leaves what is
/// true.
#[derive(Debug)]
pub struct TraceReader<R> {
    from: R,
    blocks: Blocks,
    order: Order,
    offset: u64,
    has_ended: bool,
}

impl<R: Read> TraceReader<R> {
    /// Begins to read. `from` is read in small pieces: give it a buffer.
    ///
    /// # Errors
    /// [`TraceFileError`], as all others here.
    pub fn new(from: R) -> Result<Self, TraceFileError> {
        let mut reader = Self {
            from,
            blocks: Blocks::default(),
            order: Order::default(),
            offset: 0,
            has_ended: false,
        };
        if reader.array::<16>().ok() == Some(MAGIC) {
            Ok(reader)
        } else {
            Err(TraceFileError::Format("it does not begin as one"))
        }
    }

    /// Root over the leaves that were read.
    #[must_use]
    pub fn root(&self) -> TraceRoot {
        TraceRoot(self.blocks.root())
    }

    /// How many were read.
    #[must_use]
    pub const fn leaves(&self) -> u64 {
        self.blocks.leaves()
    }

    fn leaf(&mut self) -> Result<Option<TraceLeaf>, TraceFileError> {
        if self.has_ended {
            return Ok(None);
        }
        let number = self.blocks.leaves();
        let begins = self.offset;
        let length = u32::from_be_bytes(self.array()?) as usize;
        if length == 0 {
            if !self.order.is_over() {
                return Err(TraceFileError::Order(number));
            }
            self.has_ended = true;
            self.end()?;
            return Ok(None);
        }
        if length > if number == 0 { HEADER_MAX } else { TRACE_LEAF_MAX } {
            return Err(TraceFileError::Format("a leaf is too long"));
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        let leaf = TraceLeaf::decode(&bytes, number == 0)
            .map_err(|source| TraceFileError::Leaf { number, source })?;
        if !self.order.admits(&leaf) {
            return Err(TraceFileError::Order(number));
        }
        self.blocks.push(&bytes, begins);
        Ok(Some(leaf))
    }

    /// Checks what stands behind the leaves.
    fn end(&mut self) -> Result<(), TraceFileError> {
        let (root, leaves, index) = (self.blocks.root(), self.blocks.leaves(), self.offset);
        for entry in self.blocks.take_index() {
            if BlockEntry::decode(&self.array()?) != entry {
                return Err(TraceFileError::Changed("index"));
            }
        }
        let end: [u8; 64] = self.array()?;
        let expected = FileEnd { index, leaves, root };
        if FileEnd::parse(&end, self.offset)? != expected {
            return Err(TraceFileError::Changed("root"));
        }
        if self.from.read(&mut [0]).map_err(TraceFileError::Read)? != 0 {
            return Err(TraceFileError::Format("it goes on behind its end"));
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TraceFileError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TraceFileError> {
        self.from.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                TraceFileError::Format("it is cut off")
            } else {
                TraceFileError::Read(error)
            }
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl<R: Read> Iterator for TraceReader<R> {
    type Item = Result<TraceLeaf, TraceFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let leaf = self.leaf().transpose();
        self.has_ended |= matches!(leaf, Some(Err(_)));
        leaf
    }
}
