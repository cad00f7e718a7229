//! Answers: what a node says about a job. Owns the digest that nodes agree on and the soft answers. Never runs anything.

use alloy_primitives::{B256, U256};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{ClassId, ContentDigest, EscrowRef, JobId, OutputRoot, ResultDigest, TraceRoot};

/// How a program ended, as it enters the digest. A program that fails has a result too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// Ended by itself with this code.
    Code(u8),
    /// Ended by this signal.
    Signal(u8),
    /// Killed for memory; has no outputs.
    Memory,
    /// Ran out of its budget of virtual time or events (class `det`).
    Budget,
}

/// A number that is no exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no exit status: expected 0…255, 256 + signal, 65536 (memory) or 65537 (budget)")]
pub struct ExitStatusError(pub u32);

impl ExitStatus {
    /// The number that stands on chain: code, 256 + signal, 65,536 for memory, 65,537 for budget.
    pub const fn number(self) -> u32 {
        match self {
            Self::Code(code) => code as u32,
            Self::Signal(signal) => 256 + signal as u32,
            Self::Memory => 65_536,
            Self::Budget => 65_537,
        }
    }

    /// Whether the program ended well.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl TryFrom<u32> for ExitStatus {
    type Error = ExitStatusError;

    fn try_from(number: u32) -> Result<Self, ExitStatusError> {
        let bad = |_| ExitStatusError(number);
        match number {
            0..=255 => u8::try_from(number).map(Self::Code).map_err(bad),
            256..=511 => u8::try_from(number - 256).map(Self::Signal).map_err(bad),
            65_536 => Ok(Self::Memory),
            65_537 => Ok(Self::Budget),
            512..=65_535 | 65_538.. => Err(ExitStatusError(number)),
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Memory => f.write_str("out of memory"),
            Self::Budget => f.write_str("out of budget"),
        }
    }
}

/// What a result digest is the hash of, but for chain, contract and job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultParts {
    /// Class that ran it.
    pub class: ClassId,
    /// How it ended.
    pub exit: ExitStatus,
    /// Merkle root over the outputs, stdout and stderr included.
    pub output_root: OutputRoot,
    /// Merkle root over the trace.
    pub trace_root: TraceRoot,
    /// The packed result.
    pub content: ContentDigest,
}

impl ResultParts {
    /// The digest that nodes agree on. See docs/protocol.md, "Result digest".
    pub fn digest(&self, at: EscrowRef, job: JobId) -> ResultDigest {
        let mut domain = [0u8; 32];
        const NAME: &[u8] = b"sandrun-result-v1";
        domain[..NAME.len()].copy_from_slice(NAME);
        let mut hasher = Sha256::new();
        hasher.update(domain);
        hasher.update(U256::from(at.chain.0).to_be_bytes::<32>());
        hasher.update(at.escrow.into_word());
        hasher.update(job.as_bytes());
        hasher.update(self.class.as_bytes());
        hasher.update(U256::from(self.exit.number()).to_be_bytes::<32>());
        hasher.update(self.output_root.as_bytes());
        hasher.update(self.trace_root.as_bytes());
        hasher.update(self.content.as_bytes());
        ResultDigest(hasher.finalize().into())
    }
}

/// What a node says about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The program ended; this is its digest.
    Digest(ResultDigest),
    /// The bundle can't be had, or does not match its content id.
    Unavailable,
    /// Real time was over before the program ended.
    Limit,
}

impl Answer {
    /// The word that is committed and revealed: the digest, 1 for `unavailable`, 2 for `limit`.
    pub fn to_word(self) -> B256 {
        match self {
            Self::Digest(digest) => digest.into(),
            Self::Unavailable => B256::with_last_byte(1),
            Self::Limit => B256::with_last_byte(2),
        }
    }

    /// Reads the word; every other word is a digest.
    pub fn from_word(word: B256) -> Self {
        if word == B256::with_last_byte(1) {
            Self::Unavailable
        } else if word == B256::with_last_byte(2) {
            Self::Limit
        } else {
            Self::Digest(word.into())
        }
    }

    /// Whether this is a soft answer.
    pub const fn is_soft(self) -> bool {
        match self {
            Self::Digest(_) => false,
            Self::Unavailable | Self::Limit => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChainId;
    use alloy_primitives::Address;

    #[test]
    fn exit_status_numbers_round_trip() {
        for status in [
            ExitStatus::Code(0),
            ExitStatus::Code(255),
            ExitStatus::Signal(9),
            ExitStatus::Memory,
            ExitStatus::Budget,
        ] {
            assert_eq!(ExitStatus::try_from(status.number()), Ok(status));
        }
        assert!(ExitStatus::try_from(512).is_err());
        assert!(ExitStatus::try_from(70_000).is_err());
    }

    #[test]
    fn answers_round_trip_through_their_word() {
        for answer in [
            Answer::Unavailable,
            Answer::Limit,
            Answer::Digest(ResultDigest([5; 32])),
        ] {
            assert_eq!(Answer::from_word(answer.to_word()), answer);
        }
    }

    #[test]
    fn digest_is_bound_to_job_and_contract() {
        let parts = ResultParts {
            class: ClassId([0; 32]),
            exit: ExitStatus::Code(0),
            output_root: OutputRoot([1; 32]),
            trace_root: TraceRoot([2; 32]),
            content: ContentDigest([3; 32]),
        };
        let at = EscrowRef {
            chain: ChainId(31_337),
            escrow: Address::repeat_byte(9),
        };
        let digest = parts.digest(at, JobId([4; 32]));
        assert_ne!(digest, parts.digest(at, JobId([5; 32])));
        assert_ne!(
            digest,
            parts.digest(
                EscrowRef {
                    chain: ChainId(1),
                    ..at
                },
                JobId([4; 32])
            )
        );
        assert_ne!(
            digest,
            ResultParts {
                exit: ExitStatus::Code(1),
                ..parts
            }
            .digest(at, JobId([4; 32]))
        );
    }
}
