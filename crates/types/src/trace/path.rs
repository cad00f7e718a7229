//! Paths in a trace's events. Owns their one form; never looks at a file system.

use std::fmt;

use serde::Serialize;

use super::codec::{Decoder, Encoder, TraceDecodeError};
use crate::Sha256Hex;

/// Longest path in an event, in bytes: Linux's `PATH_MAX` without its final zero.
pub const TRACE_PATH_MAX: usize = 4095;

/// A path inside the job: 1 to [`TRACE_PATH_MAX`] bytes without a zero, UTF-8 or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TracePath(Vec<u8>);

impl TracePath {
    /// The path of these bytes. What ends at a zero ends there; a path that is longer than a path can be is named by
    /// its hash, `sha256:` and 64 hexadecimal digits; an empty one is `.`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        match &bytes[..end] {
            [] => Self(b".".to_vec()),
            long if long.len() > TRACE_PATH_MAX => {
                Self(format!("sha256:{}", Sha256Hex::of(long)).into_bytes())
            }
            bytes => Self(bytes.to_vec()),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Printable: what is no text, and what a terminal would act on, is escaped.
impl fmt::Display for TracePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.utf8_chunks() {
            write!(f, "{}", piece.valid().escape_debug())?;
            for byte in piece.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for TracePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TracePath {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes(&self.0);
    }

    pub(super) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, TraceDecodeError> {
        let path = bytes.bytes("path")?;
        if path.is_empty() || path.len() > TRACE_PATH_MAX || path.contains(&0) {
            return Err(TraceDecodeError::Field("path"));
        }
        Ok(Self(path.to_vec()))
    }
}
