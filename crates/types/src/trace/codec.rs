//! The byte form of leaves: a tag, then fields. Owns integers, texts and hashes as bytes, and the refusal of every other
//! form; never knows what a field means.

use thiserror::Error;

use crate::Sha256Hex;

/// Why bytes are no leaf of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TraceDecodeError {
    /// They end within a field.
    #[error("the leaf ends before its {0}")]
    Short(&'static str),
    /// There is something behind the last field.
    #[error("the leaf has {0} bytes too many")]
    Trailing(usize),
    /// No such kind of leaf.
    #[error("{0:#04x} is no tag of a leaf")]
    Tag(u8),
    /// A version that this code does not know, or not the one that its fields call for.
    #[error("the trace's version is {0}, which its header cannot have")]
    Version(u16),
    /// A field with a value that the specification does not allow.
    #[error("the leaf's {0} is none that the specification allows")]
    Field(&'static str),
}

/// Writes the byte form; integers big-endian, texts with their length in front.
#[derive(Debug)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.raw(&number.to_be_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.raw(&number.to_be_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.raw(&number.to_be_bytes());
    }

    pub(super) fn hash(&mut self, hash: Sha256Hex) {
        self.raw(&hash.0);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Reads what [`Encoder`] writes.
#[derive(Debug)]
pub(super) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Refuses what is left.
    pub(super) const fn done(self) -> Result<(), TraceDecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(TraceDecodeError::Trailing(self.0.len()))
        }
    }

    pub(super) fn raw(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], TraceDecodeError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(TraceDecodeError::Short(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TraceDecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TraceDecodeError::Short(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, TraceDecodeError> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, TraceDecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, TraceDecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, TraceDecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(super) fn hash(&mut self, what: &'static str) -> Result<Sha256Hex, TraceDecodeError> {
        self.array(what).map(Sha256Hex)
    }

    /// A length, then so many bytes.
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], TraceDecodeError> {
        let length = usize::try_from(self.u64(what)?).map_err(|_| TraceDecodeError::Short(what))?;
        self.raw(length, what)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<String, TraceDecodeError> {
        let bytes = self.bytes(what)?.to_vec();
        String::from_utf8(bytes).map_err(|_| TraceDecodeError::Field(what))
    }
}
