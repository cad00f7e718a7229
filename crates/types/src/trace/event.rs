//! What happened in a run, one event a leaf. Owns the kinds of events and their byte form.

use serde::Serialize;

use super::STREAM_CHUNK;
use super::codec::{Decoder, Encoder, TraceDecodeError};
use super::task::{TaskEvent, TaskId};
use crate::{ExitStatus, RunOutcome, Sha256Hex};

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TraceEvent {
    /// A task did something that the tracer sees; never in an untraced class.
    Task {
        /// Who.
        task: TaskId,
        /// What.
        #[serde(flatten)]
        event: TaskEvent,
    },
    /// A piece of a stream, cut by offset and not by when it was written.
    Chunk {
        /// Which stream.
        stream: Stream,
        /// Where the piece begins, a multiple of [`STREAM_CHUNK`].
        offset: u64,
        /// Its length, from 1 to [`STREAM_CHUNK`].
        length: u32,
        /// SHA-256 of its bytes.
        sha256: Sha256Hex,
    },
    /// The collected files.
    OutputTree {
        /// See [`crate::tree_root`].
        #[serde(serialize_with = "super::leaf::as_hex")]
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

/// The chunks of one stream.
pub(super) fn chunks(stream: Stream, bytes: &[u8]) -> impl Iterator<Item = TraceEvent> + '_ {
    bytes
        .chunks(STREAM_CHUNK)
        .enumerate()
        .map(move |(at, piece)| TraceEvent::Chunk {
            stream,
            offset: (at * STREAM_CHUNK) as u64,
            // A chunk is at most 64 KiB.
            length: u32::try_from(piece.len()).unwrap_or(u32::MAX),
            sha256: Sha256Hex::of(piece),
        })
}

impl TraceEvent {
    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Task { task, event } => {
                let mut out = Encoder::new(event.tag());
                out.u32(task.0);
                event.encode(&mut out);
                out.done()
            }
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
                out.hash(*sha256);
                out.done()
            }
            Self::OutputTree { root } => {
                let mut out = Encoder::new(0x20);
                out.raw(root);
                out.done()
            }
            Self::Exit { outcome, status } => {
                let mut out = Encoder::new(0x30);
                out.raw(&[outcome_number(*outcome), u8::from(status.is_some())]);
                out.u32(status.map_or(0, ExitStatus::number));
                out.done()
            }
        }
    }

    /// Reads the byte form; whatever [`Self::encode`] would not write is refused.
    ///
    /// # Errors
    /// [`TraceDecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TraceDecodeError> {
        let mut bytes = Decoder::new(bytes);
        let event = match bytes.u8("tag")? {
            0x10 => Self::decode_chunk(Stream::Stdout, &mut bytes)?,
            0x11 => Self::decode_chunk(Stream::Stderr, &mut bytes)?,
            0x20 => Self::OutputTree {
                root: bytes.array("root")?,
            },
            0x30 => Self::decode_exit(&mut bytes)?,
            tag @ 0x50..=0x81 => Self::Task {
                task: TaskId(bytes.u32("task")?),
                event: TaskEvent::decode(tag, &mut bytes)?,
            },
            other => return Err(TraceDecodeError::Tag(other)),
        };
        bytes.done()?;
        Ok(event)
    }

    fn decode_chunk(stream: Stream, bytes: &mut Decoder<'_>) -> Result<Self, TraceDecodeError> {
        let (offset, length) = (bytes.u64("offset")?, bytes.u32("length")?);
        if !offset.is_multiple_of(STREAM_CHUNK as u64) {
            return Err(TraceDecodeError::Field("offset"));
        }
        if length == 0 || length as usize > STREAM_CHUNK {
            return Err(TraceDecodeError::Field("length"));
        }
        Ok(Self::Chunk {
            stream,
            offset,
            length,
            sha256: bytes.hash("hash")?,
        })
    }

    fn decode_exit(bytes: &mut Decoder<'_>) -> Result<Self, TraceDecodeError> {
        let number = bytes.u8("outcome")?;
        let outcome = OUTCOMES
            .into_iter()
            .find(|outcome| outcome_number(*outcome) == number)
            .ok_or(TraceDecodeError::Field("outcome"))?;
        let status = match (bytes.u8("presence of a status")?, bytes.u32("status")?) {
            (0, 0) => None,
            (1, number) => Some(ExitStatus::try_from(number).map_err(|_| TraceDecodeError::Field("status"))?),
            _ => return Err(TraceDecodeError::Field("status")),
        };
        Ok(Self::Exit { outcome, status })
    }
}

const OUTCOMES: [RunOutcome; 8] = [
    RunOutcome::Exited,
    RunOutcome::Signalled,
    RunOutcome::Timeout,
    RunOutcome::Memory,
    RunOutcome::OutputLimit,
    RunOutcome::Budget,
    RunOutcome::Refused,
    RunOutcome::Internal,
];

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
