//! Identities. Owns the newtypes and their text forms; parsing is strict, so that a wrong identity is refused at the
//! edge. Never says what an identity may do.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is no identity of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: expected {expected}")]
pub struct IdError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

impl IdError {
    pub(crate) fn new(kind: &'static str, expected: &'static str, text: &str) -> Self {
        // a wrong secret pasted into the wrong field must not be echoed whole
        let text: String = text.chars().take(24).collect();
        Self { kind, expected, text }
    }
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hex digits, for people.
            pub fn short(&self) -> String {
                format!("0x{}", hex::encode(&self.0[..4]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bad = || IdError::new($kind, "64 hex digits, with or without 0x", text);
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let mut bytes = [0u8; 32];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| bad())?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl From<B256> for $name {
            fn from(word: B256) -> Self {
                Self(word.0)
            }
        }

        impl From<$name> for B256 {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }
    };
}

hash_id!(
    /// A market job: EIP-712 hash of its order, chain and contract in the domain.
    JobId, "job id"
);
hash_id!(
    /// sha2-256 digest of a content root block (CIDv1, dag-pb): the form in which content stands on chain.
    ContentDigest, "content digest"
);
hash_id!(
    /// sha256 of a canonical manifest.
    ManifestDigest, "manifest digest"
);
hash_id!(
    /// An exact execution class; its first byte is the kind (see [`ClassKind`]).
    ClassId, "class id"
);
hash_id!(
    /// What nodes agree on: see [`crate::ResultParts::digest`].
    ResultDigest, "result digest"
);
hash_id!(
    /// Merkle root over the outputs of a run.
    OutputRoot, "output root"
);
hash_id!(
    /// Merkle root over the trace of a run.
    TraceRoot, "trace root"
);

impl ContentDigest {
    /// The same name as CID text (CIDv1, dag-pb, sha2-256, base32 without padding): `bafybei…`.
    #[must_use]
    pub fn cid(&self) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut text = String::from("b");
        let (mut held, mut bits) = (0_u16, 0_u8);
        // version 1, dag-pb, sha2-256, 32 bytes
        for byte in [1, 0x70, 0x12, 0x20].iter().chain(&self.0) {
            held = (held << 8) | u16::from(*byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                text.push(char::from(ALPHABET[usize::from((held >> bits) & 31)]));
            }
        }
        if bits > 0 {
            text.push(char::from(ALPHABET[usize::from((held << (5 - bits)) & 31)]));
        }
        text
    }
}

/// Kind of an execution class: the first byte of a [`ClassId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassKind {
    /// 0: isolated, not deterministic.
    Native,
    /// 1: deterministic under the tracer.
    Det,
}

impl ClassId {
    /// Byte 1 of a class `det-soft`; that of a class `det` is 0.
    pub const SOFT: u8 = 2;

    /// Whether programs of this class see the machine's own processor: its kind is that of `det`, as two runs in this
    /// very class give one answer, but fewer machines share it.
    pub const fn is_soft(&self) -> bool {
        self.0[1] == Self::SOFT
    }

    /// The class's kind, or `None` for a kind that this version does not know.
    pub const fn kind(&self) -> Option<ClassKind> {
        match self.0[0] {
            0 => Some(ClassKind::Native),
            1 => Some(ClassKind::Det),
            2..=u8::MAX => None,
        }
    }
}

impl ResultDigest {
    /// The leading 216 bits: what the escrow keeps of a digest and compares before it has decided. Two digests with one
    /// tag are one answer.
    pub fn tag(&self) -> [u8; 27] {
        let mut tag = [0u8; 27];
        tag.copy_from_slice(&self.0[..27]);
        tag
    }
}

/// Index of a node in the registry, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeIndex(pub u32);

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A seat's number within its job, from 0, both rounds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeatIndex(pub u8);

impl fmt::Display for SeatIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of an attempt at one piece of work, from 1; a late answer of an earlier attempt is refused by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first attempt.
    pub const FIRST: Self = Self(1);

    /// The attempt after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Seconds since 1970-01-01 UTC, as chains and journals count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This time plus `seconds`, saturating.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from this time until `later`; zero when it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

/// A chain's id (EIP-155).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub u64);

impl ChainId {
    /// The chain id that anvil and most local chains use.
    pub const LOCAL: Self = Self(31_337);

    /// Confirmations that make a fact final: none on a local test chain, one elsewhere.
    pub const fn default_confirmations(self) -> u64 {
        if self.0 == Self::LOCAL.0 { 0 } else { 1 }
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An escrow on a chain: what a job id, a commit and a digest are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EscrowRef {
    /// The chain.
    pub chain: ChainId,
    /// The escrow contract.
    pub escrow: Address,
}

/// Ed25519 public key of an executor; text form is standard base64 of the 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub [u8; 32]);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({self})")
    }
}

impl FromStr for WorkerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        use base64::Engine as _;
        let bad = || IdError::new("worker id", "base64 of a 32-byte Ed25519 public key", text);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .map_err(|_| bad())?;
        Ok(Self(bytes.try_into().map_err(|_| bad())?))
    }
}

impl Serialize for WorkerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_ids_round_trip_and_refuse_other_lengths() {
        let id = JobId([7; 32]);
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert!("0x1234".parse::<JobId>().is_err());
        assert!("zz".repeat(32).parse::<JobId>().is_err());
        assert_eq!(
            serde_json::from_str::<JobId>(&serde_json::to_string(&id).unwrap()).unwrap(),
            id
        );
    }

    #[test]
    fn class_kind_is_the_first_byte() {
        assert_eq!(ClassId([0; 32]).kind(), Some(ClassKind::Native));
        assert_eq!(ClassId([1; 32]).kind(), Some(ClassKind::Det));
        assert_eq!(ClassId([9; 32]).kind(), None);
    }

    #[test]
    fn worker_id_is_base64_of_32_bytes() {
        let id = WorkerId([3; 32]);
        assert_eq!(id.to_string().parse::<WorkerId>(), Ok(id));
        assert!("AAAA".parse::<WorkerId>().is_err());
    }
}
