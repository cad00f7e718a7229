//! What may follow what in a trace: header, events of tasks (not in version 1), stdout, stderr, output tree, exit.

use crate::{STREAM_CHUNK, Stream, TRACE_VERSION, TraceEvent, TraceLeaf};

/// How far a trace has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Stage {
    #[default]
    Nothing,
    Tasks,
    Stdout,
    Stderr,
    OutputTree,
    Exit,
}

/// Checks the order of a trace's leaves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Order {
    stage: Stage,
    is_traced: bool,
    /// Where the stream's next chunk begins; `None` behind one that was not full.
    next: Option<u64>,
}

impl Order {
    /// Takes the next leaf; `false` if it cannot stand here.
    pub(super) fn admits(&mut self, leaf: &TraceLeaf) -> bool {
        let stage = match leaf {
            TraceLeaf::Header(header) => {
                self.is_traced = header.version() != TRACE_VERSION;
                let is_first = self.stage == Stage::Nothing;
                self.stage = Stage::Tasks;
                return is_first;
            }
            TraceLeaf::Event(TraceEvent::Task { .. }) => {
                return self.is_traced && self.stage == Stage::Tasks;
            }
            TraceLeaf::Event(TraceEvent::Chunk {
                stream,
                offset,
                length,
                ..
            }) => return self.admits_chunk(*stream, *offset, *length as usize),
            TraceLeaf::Event(TraceEvent::OutputTree { .. }) => Stage::OutputTree,
            TraceLeaf::Event(TraceEvent::Exit { .. }) => {
                let may = self.stage == Stage::OutputTree;
                self.stage = Stage::Exit;
                return may;
            }
        };
        let may = (Stage::Tasks..stage).contains(&self.stage);
        self.stage = stage;
        may
    }

    fn admits_chunk(&mut self, stream: Stream, offset: u64, length: usize) -> bool {
        let stage = match stream {
            Stream::Stdout => Stage::Stdout,
            Stream::Stderr => Stage::Stderr,
        };
        let may = if self.stage == stage {
            self.next == Some(offset)
        } else {
            (Stage::Tasks..stage).contains(&self.stage) && offset == 0
        };
        self.stage = stage;
        self.next = (length == STREAM_CHUNK)
            .then(|| offset.checked_add(length as u64))
            .flatten();
        may
    }

    /// Whether a trace may end here.
    pub(super) fn is_over(self) -> bool {
        self.stage == Stage::Exit
    }
}
