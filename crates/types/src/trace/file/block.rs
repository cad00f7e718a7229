//! The end of a trace's file, its index, and one block of leaves: what can be read without the rest.

use super::read::{HEADER_MAX, TraceFileError};
use super::{BlockEntry, END_BYTES, ENTRY_BYTES, FileRange, MAGIC, TRACE_BLOCK, TRACE_LEAF_MAX};
use crate::TraceRoot;
use crate::trace::merkle::{MerkleTree, merkle_root};

impl BlockEntry {
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.offset.to_be_bytes().as_slice(), &self.hash, &self.root].concat()
    }

    pub(super) fn decode(bytes: &[u8; 72]) -> Self {
        let (offset, roots) = bytes.split_at(8);
        let (hash, root) = roots.split_at(32);
        Self {
            offset: offset.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            hash: hash.try_into().unwrap_or_default(),
            root: root.try_into().unwrap_or_default(),
        }
    }
}

/// What stands at a file's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEnd {
    pub(super) index: u64,
    pub(super) leaves: u64,
    pub(super) root: [u8; 32],
}

impl FileEnd {
    /// Where it lies in a file of this length.
    ///
    /// # Errors
    /// [`TraceFileError::Format`] for a file that is too short.
    pub fn range(file_length: u64) -> Result<FileRange, TraceFileError> {
        let offset = file_length
            .checked_sub(END_BYTES)
            .ok_or(TraceFileError::Format("it is too short"))?;
        let length = END_BYTES;
        Ok(FileRange { offset, length })
    }

    /// Reads it from the bytes of [`Self::range`].
    ///
    /// # Errors
    /// [`TraceFileError::Format`].
    pub fn parse(bytes: &[u8], file_length: u64) -> Result<Self, TraceFileError> {
        let wrong = TraceFileError::Format("it does not end as one, or was cut off");
        let Ok(bytes) = <&[u8; 64]>::try_from(bytes) else {
            return Err(wrong);
        };
        let number = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let mut end = Self {
            index: number(0),
            leaves: number(8),
            root: [0; 32],
        };
        end.root.copy_from_slice(&bytes[16..48]);
        let index_bytes = end.blocks().checked_mul(ENTRY_BYTES);
        let fits = index_bytes
            .and_then(|length| end.index.checked_add(length)?.checked_add(END_BYTES))
            .is_some_and(|length| length == file_length);
        if bytes[48..] == MAGIC && fits && end.leaves > 0 {
            Ok(end)
        } else {
            Err(wrong)
        }
    }

    /// Root over all leaves.
    #[must_use]
    pub const fn root(&self) -> TraceRoot {
        TraceRoot(self.root)
    }

    /// How many leaves there are, the header included.
    #[must_use]
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// How many blocks there are.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.leaves.div_ceil(TRACE_BLOCK)
    }

    /// Where the index lies.
    #[must_use]
    pub(super) const fn index_range(&self) -> FileRange {
        FileRange {
            offset: self.index,
            length: self.blocks() * ENTRY_BYTES,
        }
    }

    /// The index, from the bytes of [`Self::index_range`]: its blocks make up each of its roots, and the trace root.
    pub(super) fn index(&self, bytes: &[u8]) -> Result<Vec<BlockEntry>, TraceFileError> {
        let (entries, rest) = bytes.as_chunks::<72>();
        if entries.len() as u64 != self.blocks() || !rest.is_empty() {
            return Err(TraceFileError::Format("its index is cut off"));
        }
        let whole = self.leaves / TRACE_BLOCK;
        let mut complete = MerkleTree::default();
        let (mut index, mut root) = (Vec::new(), None);
        for entry in entries.iter().map(BlockEntry::decode) {
            if complete.len() < whole {
                complete.push_hash(entry.hash);
                root = Some(complete.root());
            } else {
                root = complete.root_before(Some(entry.hash));
            }
            if root != Some(entry.root) {
                return Err(TraceFileError::Changed("index"));
            }
            index.push(entry);
        }
        if root == Some(self.root) {
            Ok(index)
        } else {
            Err(TraceFileError::Changed("root"))
        }
    }

    /// A block, which must be one, by the index.
    pub(super) fn block(&self, number: u64, index: &[BlockEntry]) -> Result<Block, TraceFileError> {
        let wrong = TraceFileError::Format("its index is out of order");
        let mut entries = index.iter().skip(usize::try_from(number).unwrap_or(usize::MAX));
        let Some(entry) = entries.next().copied() else {
            return Err(wrong);
        };
        // the leaves' end mark is before the index
        let end = entries
            .next()
            .map_or_else(|| self.index.saturating_sub(4), |next| next.offset);
        let leaves = (self.leaves - number * TRACE_BLOCK).min(TRACE_BLOCK);
        let longest = HEADER_MAX as u64 + leaves * (TRACE_LEAF_MAX as u64 + 4);
        match end.checked_sub(entry.offset) {
            Some(length) if end < self.index && length <= longest => Ok(Block {
                leaves,
                range: FileRange {
                    offset: entry.offset,
                    length,
                },
                entry,
            }),
            _ => Err(wrong),
        }
    }
}

/// One block of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    leaves: u64,
    pub(super) range: FileRange,
    pub(super) entry: BlockEntry,
}

impl Block {
    /// Its leaves, from the bytes of its range.
    pub(super) fn leaves(&self, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, TraceFileError> {
        let mut leaves = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((leaf, rest)) = rest.split_at_checked(length) else {
                return Err(TraceFileError::Format("a leaf is cut off"));
            };
            leaves.push(leaf.to_vec());
            bytes = rest;
        }
        if leaves.len() as u64 != self.leaves || merkle_root(&leaves) != self.entry.hash {
            return Err(TraceFileError::Changed("index"));
        }
        Ok(leaves)
    }
}
