//! The first difference of two traces, found by the roots of their blocks, which have to make up the roots of the traces.
//! Owns which ranges of the two files are read, and what follows from them; never reads them itself, so that either may
//! lie anywhere.

use super::block::{Block, FileEnd};
use super::read::TraceFileError;
use super::{BlockEntry, FileRange, TRACE_BLOCK};
use crate::{TraceLeaf, TraceRoot};

/// Equal leaves before the difference that are told with it.
const CONTEXT: usize = 3;

/// One of the two traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffStep {
    /// Read this range of this side's file and give it to [`TraceDiff::feed`].
    Read(Side, FileRange),
    /// It is over: the difference, or `None` where the traces are the same.
    Done(Option<Box<Difference>>),
}

/// Where two traces part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The place of the first leaf that differs; the header is 0, the first event 1.
    pub leaf: u64,
    /// The last leaves before it, 3 at most; both have them.
    pub before: Vec<TraceLeaf>,
    /// What the first trace has there; `None` if it is over.
    pub left: Option<TraceLeaf>,
    /// What the second has.
    pub right: Option<TraceLeaf>,
    /// The rest of the first trace's block of leaves: what follows [`Self::left`], as far as it was read to find this.
    pub left_after: Vec<TraceLeaf>,
    /// The same of the second.
    pub right_after: Vec<TraceLeaf>,
}

#[derive(Debug)]
struct Progress {
    file_length: u64,
    end: Option<FileEnd>,
    index: Option<Vec<BlockEntry>>,
    /// The one in which they part.
    block: Option<Block>,
    leaves: Option<Vec<Vec<u8>>>,
    /// Parts that were read.
    reads: u32,
}

impl Progress {
    const fn new(file_length: u64) -> Self {
        Self {
            file_length,
            end: None,
            index: None,
            block: None,
            leaves: None,
            reads: 0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    End,
    Index,
    Leaves,
}

/// The comparison of two traces.
#[derive(Debug)]
pub struct TraceDiff {
    left: Progress,
    right: Progress,
    wanted: Option<(Side, Wanted)>,
}

impl TraceDiff {
    /// Of two files of these lengths.
    #[must_use]
    pub const fn new(left_length: u64, right_length: u64) -> Self {
        Self {
            left: Progress::new(left_length),
            right: Progress::new(right_length),
            wanted: None,
        }
    }

    /// What to do next.
    ///
    /// # Errors
    /// [`TraceFileError`] where a file is no trace, or contradicts itself.
    pub fn step(&mut self) -> Result<DiffStep, TraceFileError> {
        for side in [Side::Left, Side::Right] {
            if self.of(side).end.is_none() {
                let range = FileEnd::range(self.of(side).file_length)?;
                return Ok(self.want(side, Wanted::End, range));
            }
        }
        let (Some(left), Some(right)) = (self.left.end, self.right.end) else {
            return Err(TraceFileError::Format("it has no end"));
        };
        if left.root() == right.root() {
            return Ok(DiffStep::Done(None));
        }
        for (side, end) in [(Side::Left, left), (Side::Right, right)] {
            if self.of(side).index.is_none() {
                return Ok(self.want(side, Wanted::Index, end.index_range()));
            }
        }
        let roots = |progress: &Progress| -> Vec<[u8; 32]> {
            let index = progress.index.iter().flatten();
            index.map(|entry| entry.root).collect()
        };
        let both = std::iter::zip(roots(&self.left), roots(&self.right));
        let same = both.take_while(|(left, right)| left == right).count();
        self.compare(same as u64, left, right)
    }

    /// The block in which they part was found: reads it on both sides.
    fn compare(&mut self, number: u64, left: FileEnd, right: FileEnd) -> Result<DiffStep, TraceFileError> {
        for (side, end) in [(Side::Left, left), (Side::Right, right)] {
            if self.of(side).leaves.is_some() || number >= end.blocks() {
                continue;
            }
            let block = end.block(number, self.of(side).index.as_deref().unwrap_or_default())?;
            self.of_mut(side).block = Some(block);
            return Ok(self.want(side, Wanted::Leaves, block.range));
        }
        let none = Vec::new();
        let left = self.left.leaves.as_ref().unwrap_or(&none);
        let right = self.right.leaves.as_ref().unwrap_or(&none);
        let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
        let read = |leaves: &[Vec<u8>], at: usize| {
            let number = number * TRACE_BLOCK + at as u64;
            let leaf = leaves.get(at).map(|leaf| TraceLeaf::decode(leaf, number == 0));
            leaf.transpose()
                .map_err(|source| TraceFileError::Leaf { number, source })
        };
        let after = |leaves: &[Vec<u8>]| -> Result<Vec<_>, TraceFileError> {
            let rest = same + 1..leaves.len();
            rest.filter_map(|at| read(leaves, at).transpose()).collect()
        };
        let difference = Difference {
            leaf: number * TRACE_BLOCK + same as u64,
            before: (same.saturating_sub(CONTEXT)..same)
                .filter_map(|at| read(left, at).transpose())
                .collect::<Result<_, _>>()?,
            left: read(left, same)?,
            right: read(right, same)?,
            left_after: after(left)?,
            right_after: after(right)?,
        };
        if difference.left == difference.right {
            // the roots differ, the leaves below do not
            return Err(TraceFileError::Changed("index"));
        }
        Ok(DiffStep::Done(Some(Box::new(difference))))
    }

    /// Takes the bytes of the range that was asked for.
    ///
    /// # Errors
    /// [`TraceFileError`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TraceFileError> {
        let Some((side, wanted)) = self.wanted.take() else {
            return Ok(());
        };
        let progress = self.of_mut(side);
        progress.reads += 1;
        match (wanted, progress.end, progress.block) {
            (Wanted::End, _, _) => progress.end = Some(FileEnd::parse(bytes, progress.file_length)?),
            (Wanted::Index, Some(end), _) => progress.index = Some(end.index(bytes)?),
            (Wanted::Leaves, _, Some(block)) => progress.leaves = Some(block.leaves(bytes)?),
            (Wanted::Index | Wanted::Leaves, _, _) => {}
        }
        Ok(())
    }

    /// The trace roots and the numbers of events of both, once they are known.
    #[must_use]
    pub fn roots(&self) -> Option<[(TraceRoot, u64); 2]> {
        let of = |progress: &Progress| Some((progress.end?.root(), progress.end?.leaves() - 1));
        Some([of(&self.left)?, of(&self.right)?])
    }

    /// How often this side's file was read.
    #[must_use]
    pub const fn reads(&self, side: Side) -> u32 {
        self.of(side).reads
    }

    const fn of(&self, side: Side) -> &Progress {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    const fn of_mut(&mut self, side: Side) -> &mut Progress {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    const fn want(&mut self, side: Side, wanted: Wanted, range: FileRange) -> DiffStep {
        self.wanted = Some((side, wanted));
        DiffStep::Read(side, range)
    }
}
