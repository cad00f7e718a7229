//! What a tracer sees the tasks of a job do. Owns the events of the classes with a tracer and their byte form; never
//! says when one is made (`docs/trace.md` does).

use std::fmt;
use std::io::{self, Read};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::change::TreeChange;
use super::codec::{Decoder, Encoder, TraceDecodeError};
use super::path::TracePath;
use crate::Sha256Hex;

/// A task (a process's thread) as the job sees itself: its virtual thread id, the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TaskId(pub u32);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A file's bytes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct FileHash {
    /// How many.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: Sha256Hex,
}

/// What a new task shares with the one that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Nothing: a process of its own.
    Process,
    /// The process: a thread.
    Thread,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEnd {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// Where a task draws entropy from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntropySource {
    /// The kernel's 16 bytes for a new program (`AT_RANDOM`).
    Auxiliary,
    /// The system call `getrandom`.
    Call,
    /// `/dev/random`, `/dev/urandom`.
    Device,
}

/// What one task did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEvent {
    /// It began.
    Started {
        /// The task that made it; 0 for the job's first one.
        parent: TaskId,
        /// What it shares.
        kind: TaskKind,
    },
    /// It ended.
    Ended {
        /// How.
        end: TaskEnd,
    },
    /// It became another program.
    Exec {
        /// The program file.
        path: TracePath,
        /// The file's bytes.
        program: FileHash,
        /// See [`list_hash`].
        argv: Sha256Hex,
        /// The environment (`NAME=value`), as [`list_hash`].
        env: Sha256Hex,
    },
    /// It closed a file that was open for reading.
    FileRead {
        /// The path that it was opened by.
        path: TracePath,
        /// All of it.
        content: FileHash,
    },
    /// It closed a file that was open for writing.
    FileWritten {
        /// The path that it was opened by.
        path: TracePath,
        /// All of it.
        content: FileHash,
    },
    /// It changed the tree of files.
    Tree(TreeChange),
    /// It drew entropy.
    Entropy {
        /// From where.
        source: EntropySource,
        /// How many bytes.
        bytes: u64,
    },
    /// It called what the class does not allow.
    Denied {
        /// The call's number on the class's architecture.
        call: u32,
        /// The error number that it got.
        errno: u16,
    },
}

/// The hash of a list of byte strings: SHA-256 over their number (`u64`) and each one's length (`u64`) and bytes.
#[must_use]
pub fn list_hash<T: AsRef<[u8]>>(list: &[T]) -> Sha256Hex {
    let mut hasher = Sha256::new();
    hasher.update((list.len() as u64).to_be_bytes());
    for item in list {
        let item = item.as_ref();
        hasher.update((item.len() as u64).to_be_bytes());
        hasher.update(item);
    }
    Sha256Hex(hasher.finalize().into())
}

impl FileHash {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            length: bytes.len() as u64,
            sha256: Sha256Hex::of(bytes),
        }
    }

    /// Of all that a reader has.
    ///
    /// # Errors
    /// The reader's.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let (mut length, mut piece) = (0, vec![0; 128 * 1024]);
        loop {
            let count = match from.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                let sha256 = Sha256Hex(hasher.finalize().into());
                return Ok(Self { length, sha256 });
            }
            hasher.update(&piece[..count]);
            length += count as u64;
        }
    }

    fn encode(self, out: &mut Encoder) {
        out.u64(self.length);
        out.hash(self.sha256);
    }

    fn decode(bytes: &mut Decoder<'_>) -> Result<Self, TraceDecodeError> {
        Ok(Self {
            length: bytes.u64("length")?,
            sha256: bytes.hash("hash")?,
        })
    }
}

impl TaskEvent {
    /// The tag of its leaf.
    pub(super) const fn tag(&self) -> u8 {
        match self {
            Self::Started { .. } => 0x50,
            Self::Ended { .. } => 0x51,
            Self::Exec { .. } => 0x52,
            Self::FileRead { .. } => 0x60,
            Self::FileWritten { .. } => 0x61,
            Self::Tree(change) => change.tag(),
            Self::Entropy { .. } => 0x80,
            Self::Denied { .. } => 0x81,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Started { parent, kind } => {
                out.u32(parent.0);
                out.u8(match kind {
                    TaskKind::Process => 0,
                    TaskKind::Thread => 1,
                });
            }
            Self::Ended { end } => match end {
                TaskEnd::Code(code) => out.raw(&[0, *code]),
                TaskEnd::Signal(signal) => out.raw(&[1, *signal]),
            },
            Self::Exec {
                path,
                program,
                argv,
                env,
            } => {
                program.encode(out);
                out.hash(*argv);
                out.hash(*env);
                path.encode(out);
            }
            Self::FileRead { path, content } | Self::FileWritten { path, content } => {
                content.encode(out);
                path.encode(out);
            }
            Self::Tree(change) => change.encode(out),
            Self::Entropy { source, bytes } => {
                out.u8(match source {
                    EntropySource::Auxiliary => 0,
                    EntropySource::Call => 1,
                    EntropySource::Device => 2,
                });
                out.u64(*bytes);
            }
            Self::Denied { call, errno } => {
                out.u32(*call);
                out.u16(*errno);
            }
        }
    }

    /// Reads the fields behind the tag and the task.
    pub(super) fn decode(tag: u8, bytes: &mut Decoder<'_>) -> Result<Self, TraceDecodeError> {
        Ok(match tag {
            0x50 => Self::Started {
                parent: TaskId(bytes.u32("parent")?),
                kind: match bytes.u8("kind")? {
                    0 => TaskKind::Process,
                    1 => TaskKind::Thread,
                    _ => return Err(TraceDecodeError::Field("kind")),
                },
            },
            0x51 => Self::Ended {
                end: match (bytes.u8("end")?, bytes.u8("status")?) {
                    (0, code) => TaskEnd::Code(code),
                    (1, signal) => TaskEnd::Signal(signal),
                    _ => return Err(TraceDecodeError::Field("end")),
                },
            },
            0x52 => Self::Exec {
                program: FileHash::decode(bytes)?,
                argv: bytes.hash("arguments")?,
                env: bytes.hash("environment")?,
                path: TracePath::decode(bytes)?,
            },
            0x60 => Self::FileRead {
                content: FileHash::decode(bytes)?,
                path: TracePath::decode(bytes)?,
            },
            0x61 => Self::FileWritten {
                content: FileHash::decode(bytes)?,
                path: TracePath::decode(bytes)?,
            },
            0x70..=0x78 => Self::Tree(TreeChange::decode(tag, bytes)?),
            0x80 => Self::Entropy {
                source: match bytes.u8("source")? {
                    0 => EntropySource::Auxiliary,
                    1 => EntropySource::Call,
                    2 => EntropySource::Device,
                    _ => return Err(TraceDecodeError::Field("source")),
                },
                bytes: bytes.u64("number of bytes")?,
            },
            0x81 => Self::Denied {
                call: bytes.u32("call")?,
                errno: bytes.u16("error")?,
            },
            other => return Err(TraceDecodeError::Tag(other)),
        })
    }
}
