//! A leaf of a trace, whichever it is, and its words for people and scripts.

use std::fmt;

use serde::Serialize;

use super::change::{NodeKind, TreeChange};
use super::codec::TraceDecodeError;
use super::event::{Stream, TraceEvent};
use super::header::TraceHeader;
use super::task::{EntropySource, FileHash, TaskEnd, TaskEvent, TaskKind};

/// A leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceLeaf {
    /// The first one.
    Header(TraceHeader),
    /// Any other.
    Event(TraceEvent),
}

impl TraceLeaf {
    /// Reads the first leaf or another one; what is not in its only byte form is refused.
    ///
    /// # Errors
    /// [`TraceDecodeError`].
    pub fn decode(bytes: &[u8], is_first: bool) -> Result<Self, TraceDecodeError> {
        if is_first {
            TraceHeader::decode(bytes).map(Self::Header)
        } else {
            TraceEvent::decode(bytes).map(Self::Event)
        }
    }
}

/// 32 bytes as text in JSON.
pub(super) fn as_hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

impl fmt::Display for TraceLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(header) => header.fmt(f),
            Self::Event(event) => event.fmt(f),
        }
    }
}

/// One line: version, class, image, program and arguments.
impl fmt::Display for TraceHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "begin version {} class {}", self.version(), self.class)?;
        if let Some(image) = self.image {
            write!(f, " image {image}")?;
        }
        write!(f, " input {} argv {:?}", hex::encode(self.input_tree), self.argv)
    }
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task { task, event } => write!(f, "[{task}] {event}"),
            Self::Chunk {
                stream,
                offset,
                length,
                sha256,
            } => {
                let stream = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                let end = offset.saturating_add(u64::from(*length));
                write!(f, "{stream} bytes {offset}..{end} sha256 {sha256}")
            }
            Self::OutputTree { root } => write!(f, "output tree {}", hex::encode(root)),
            Self::Exit { outcome, status } => {
                write!(f, "end {outcome}")?;
                status.map_or(Ok(()), |status| write!(f, ", {status}"))
            }
        }
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes sha256 {}", self.length, self.sha256)
    }
}

impl fmt::Display for TaskEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { parent, kind } => {
                let kind = match kind {
                    TaskKind::Process => "process",
                    TaskKind::Thread => "thread",
                };
                write!(f, "{kind} started by {parent}")
            }
            Self::Ended { end } => match end {
                TaskEnd::Code(code) => write!(f, "ended with code {code}"),
                TaskEnd::Signal(signal) => write!(f, "ended by signal {signal}"),
            },
            Self::Exec {
                path,
                program,
                argv,
                env,
            } => write!(f, "exec {path} {program} argv {argv} env {env}"),
            Self::FileRead { path, content } => write!(f, "read {path} {content}"),
            Self::FileWritten { path, content } => write!(f, "wrote {path} {content}"),
            Self::Tree(change) => change.fmt(f),
            Self::Entropy { source, bytes } => {
                let source = match source {
                    EntropySource::Auxiliary => "AT_RANDOM",
                    EntropySource::Call => "getrandom",
                    EntropySource::Device => "/dev/urandom",
                };
                write!(f, "drew {bytes} bytes of entropy from {source}")
            }
            Self::Denied { call, errno } => write!(f, "was denied system call {call} (error {errno})"),
        }
    }
}

impl fmt::Display for TreeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made { kind, path } => {
                let kind = match kind {
                    NodeKind::File => "file",
                    NodeKind::Directory => "directory",
                    NodeKind::Fifo => "FIFO",
                    NodeKind::Socket => "socket",
                };
                write!(f, "made {kind} {path}")
            }
            Self::Symlinked { target, path } => write!(f, "made symbolic link {path} to {target}"),
            Self::Linked { from, path } => write!(f, "linked {from} as {path}"),
            Self::Removed { path } => write!(f, "removed {path}"),
            Self::RemovedDirectory { path } => write!(f, "removed directory {path}"),
            Self::Renamed { from, path } => write!(f, "renamed {from} to {path}"),
            Self::Exchanged { from, path } => write!(f, "exchanged {from} and {path}"),
            Self::Mode { mode, path } => write!(f, "changed the mode of {path} to {mode:04o}"),
            Self::Resized { length, path } => write!(f, "changed the length of {path} to {length}"),
        }
    }
}
