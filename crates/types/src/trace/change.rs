//! Changes of a job's tree of files as a trace tells them, and their byte form.

use serde::Serialize;

use super::codec::{Decoder, Encoder, TraceDecodeError};
use super::path::TracePath;

/// What kind of entry a directory got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
    /// A socket's name.
    Socket,
}

/// A change of the job's tree of files that is no change of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum TreeChange {
    /// An entry was made.
    Made {
        /// What it is.
        kind: NodeKind,
        /// Its path.
        path: TracePath,
    },
    /// A symbolic link was made.
    Symlinked {
        /// What it says.
        target: TracePath,
        /// Its path.
        path: TracePath,
    },
    /// A second name was made for a file.
    Linked {
        /// The name that there was.
        from: TracePath,
        /// The new one.
        path: TracePath,
    },
    /// An entry that is no directory was removed.
    Removed {
        /// Its path.
        path: TracePath,
    },
    /// A directory was removed.
    RemovedDirectory {
        /// Its path.
        path: TracePath,
    },
    /// An entry got another name; what had that name before is gone.
    Renamed {
        /// The old one.
        from: TracePath,
        /// The new one.
        path: TracePath,
    },
    /// Two entries got each other's names.
    Exchanged {
        /// One.
        from: TracePath,
        /// The other.
        path: TracePath,
    },
    /// An entry's mode was changed.
    Mode {
        /// The permission bits, 12 at most.
        mode: u16,
        /// Its path.
        path: TracePath,
    },
    /// A file's length was changed by its name.
    Resized {
        /// Bytes.
        length: u64,
        /// Its path.
        path: TracePath,
    },
}

impl TreeChange {
    pub(super) const fn tag(&self) -> u8 {
        match self {
            Self::Made { .. } => 0x70,
            Self::Symlinked { .. } => 0x71,
            Self::Linked { .. } => 0x72,
            Self::Removed { .. } => 0x73,
            Self::RemovedDirectory { .. } => 0x74,
            Self::Renamed { .. } => 0x75,
            Self::Exchanged { .. } => 0x76,
            Self::Mode { .. } => 0x77,
            Self::Resized { .. } => 0x78,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Made { kind, path } => {
                out.u8(match kind {
                    NodeKind::File => 0,
                    NodeKind::Directory => 1,
                    NodeKind::Fifo => 2,
                    NodeKind::Socket => 3,
                });
                path.encode(out);
            }
            Self::Symlinked { target: first, path }
            | Self::Linked { from: first, path }
            | Self::Renamed { from: first, path }
            | Self::Exchanged { from: first, path } => {
                first.encode(out);
                path.encode(out);
            }
            Self::Removed { path } | Self::RemovedDirectory { path } => path.encode(out),
            Self::Mode { mode, path } => {
                out.u16(*mode & MODE_BITS);
                path.encode(out);
            }
            Self::Resized { length, path } => {
                out.u64(*length);
                path.encode(out);
            }
        }
    }

    pub(super) fn decode(tag: u8, bytes: &mut Decoder<'_>) -> Result<Self, TraceDecodeError> {
        let path = TracePath::decode;
        Ok(match tag {
            0x70 => Self::Made {
                kind: match bytes.u8("kind")? {
                    0 => NodeKind::File,
                    1 => NodeKind::Directory,
                    2 => NodeKind::Fifo,
                    3 => NodeKind::Socket,
                    _ => return Err(TraceDecodeError::Field("kind")),
                },
                path: path(bytes)?,
            },
            0x71 => Self::Symlinked {
                target: path(bytes)?,
                path: path(bytes)?,
            },
            0x72 => Self::Linked {
                from: path(bytes)?,
                path: path(bytes)?,
            },
            0x73 => Self::Removed { path: path(bytes)? },
            0x74 => Self::RemovedDirectory { path: path(bytes)? },
            0x75 => Self::Renamed {
                from: path(bytes)?,
                path: path(bytes)?,
            },
            0x76 => Self::Exchanged {
                from: path(bytes)?,
                path: path(bytes)?,
            },
            0x77 => Self::Mode {
                mode: match bytes.u16("mode")? {
                    mode if mode <= MODE_BITS => mode,
                    _ => return Err(TraceDecodeError::Field("mode")),
                },
                path: path(bytes)?,
            },
            0x78 => Self::Resized {
                length: bytes.u64("length")?,
                path: path(bytes)?,
            },
            other => return Err(TraceDecodeError::Tag(other)),
        })
    }
}

/// All permission bits, with set-user-id, set-group-id and sticky.
const MODE_BITS: u16 = 0o7777;
