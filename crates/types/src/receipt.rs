//! The receipt of a run: what an executor states about it, in the bytes that its worker key signs.
//!
//! Owns the fields, their canonical form, the commitment to a job's inputs ([`job_hash`]) and the check of a
//! signature. Never runs anything and never holds a private key.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::canonical::canonical_json;
use crate::{BundlePath, ManifestDigest, WorkerId};

/// The only format that this version writes and reads. It begins every receipt's first field but one, so that a
/// receipt's bytes can be taken for nothing else that a worker key signs.
pub const RECEIPT_FORMAT: &str = "sandrun-receipt-v1";

/// 32 bytes of SHA-256; text form is 64 hexadecimal digits without a prefix, as the HTTP API writes hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hex(pub [u8; 32]);

impl Sha256Hex {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Hex({self})")
    }
}

impl Serialize for Sha256Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(&text), &mut bytes)
            .map_err(|_| serde::de::Error::custom("expected 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// The program ended by itself.
    Exited,
    /// A signal ended it.
    Signalled,
    /// Its wall clock was over.
    Timeout,
    /// It was killed for memory; it has no outputs.
    Memory,
    /// It printed or wrote more than it may.
    OutputLimit,
    /// Its budget of CPU time, virtual time or events was used up.
    Budget,
    /// A layer of isolation could not be enforced, so it was not run.
    Refused,
    /// The executor failed, or was stopped.
    Internal,
}

impl RunOutcome {
    /// Whether what the run printed and left is part of its result. What one that was cut off has written until then is
    /// chance, and its receipt says nothing about it.
    #[must_use]
    pub const fn states_output(self) -> bool {
        match self {
            Self::Exited | Self::Signalled | Self::Budget => true,
            Self::Timeout | Self::Memory | Self::OutputLimit | Self::Refused | Self::Internal => false,
        }
    }

    /// The name in statuses and receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signalled => "signalled",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::OutputLimit => "output_limit",
            Self::Budget => "budget",
            Self::Refused => "refused",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One output file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// SHA-256 of its bytes.
    pub sha256: Sha256Hex,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// What kind of file its name says it is: `text`, `image`, `data` …; for people and pages, committed to nothing.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What an executor states about one run: all that `GET /status` shows of an ended job, times as integers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Exact class id that it ran under (64 hexadecimal digits).
    pub class: Sha256Hex,
    /// CPU time in microseconds, user and system, of all its processes.
    pub cpu_time_us: u64,
    /// Content id of the image of packages that it ran with, whatever name the manifest has for it; empty if none.
    pub environment: String,
    /// One sentence for people where the program did not end by itself; else empty.
    pub explanation: String,
    /// Exit code; 128 + the signal's number if a signal ended it.
    pub exit_code: i32,
    /// Always [`RECEIPT_FORMAT`].
    pub format: String,
    /// The program that ran the entrypoint.
    pub interpreter: String,
    /// The layers of isolation that were enforced for this run.
    pub isolation: Vec<String>,
    /// Commitment to the inputs, see [`job_hash`].
    pub job_hash: Sha256Hex,
    /// The executor's own id of the job.
    pub job_id: String,
    /// Digest of the manifest alone.
    pub manifest_sha256: Sha256Hex,
    /// Most memory that it used at once, in bytes.
    pub memory_peak_bytes: u64,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The files that it may hand out, by name.
    pub output_files: BTreeMap<BundlePath, OutputFile>,
    /// Merkle root over stdout, stderr and the output files; `None` if nothing was run.
    pub output_root: Option<Sha256Hex>,
    /// `completed` or `failed`.
    pub status: String,
    /// Merkle root over the trace; `None` if nothing was run.
    pub trace_root: Option<Sha256Hex>,
    /// Wall clock in milliseconds.
    pub wall_time_ms: u64,
    /// Public key of the executor; `None` for an anonymous one, whose receipts nobody signs.
    pub worker_id: Option<WorkerId>,
}

/// Why a receipt is not believed.
#[derive(Debug, Error)]
pub enum ReceiptError {
    /// The bytes are no receipt of this format.
    #[error("the bytes are no receipt of the format {RECEIPT_FORMAT}")]
    Malformed(#[source] serde_json::Error),
    /// Another format.
    #[error("the receipt's format is {0:?}, not {RECEIPT_FORMAT}")]
    Format(String),
    /// Right fields, but other bytes than the canonical ones.
    #[error("the receipt is not in its canonical form")]
    NotCanonical,
    /// It names another worker than the one that is asked about, or none.
    #[error("the receipt was made by {}, not by {expected}", found.map_or("an anonymous executor".to_owned(), |id| id.to_string()))]
    WrongWorker {
        /// Who should have made it.
        expected: WorkerId,
        /// Who it says made it.
        found: Option<WorkerId>,
    },
    /// The worker id is no point on the curve.
    #[error("{0} is no Ed25519 public key")]
    BadKey(WorkerId),
    /// The signature does not fit the bytes and the key.
    #[error("the signature over the receipt is not one of {0}")]
    BadSignature(WorkerId),
}

impl Receipt {
    /// The bytes that are signed: canonical JSON, keys sorted, integers only.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        // Strings and integers alone: there is always a canonical form.
        canonical_json(self).unwrap_or_default()
    }

    /// Reads a receipt from its canonical bytes; other bytes are refused, so that one receipt has one byte form.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`], [`ReceiptError::Format`] or [`ReceiptError::NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let receipt: Self = serde_json::from_slice(bytes).map_err(ReceiptError::Malformed)?;
        if receipt.format != RECEIPT_FORMAT {
            return Err(ReceiptError::Format(receipt.format));
        }
        if receipt.canonical_bytes() != bytes {
            return Err(ReceiptError::NotCanonical);
        }
        Ok(receipt)
    }

    /// Reads a receipt and checks that `worker` made and signed it (Ed25519, RFC 8032, strict).
    ///
    /// # Errors
    /// Any [`ReceiptError`].
    pub fn verify(bytes: &[u8], signature: &[u8; 64], worker: WorkerId) -> Result<Self, ReceiptError> {
        verify_signature(bytes, signature, worker)?;
        let receipt = Self::parse(bytes)?;
        if receipt.worker_id != Some(worker) {
            return Err(ReceiptError::WrongWorker {
                expected: worker,
                found: receipt.worker_id,
            });
        }
        Ok(receipt)
    }
}

/// Checks one Ed25519 signature of a worker key.
///
/// # Errors
/// [`ReceiptError::BadKey`] or [`ReceiptError::BadSignature`].
pub fn verify_signature(message: &[u8], signature: &[u8; 64], worker: WorkerId) -> Result<(), ReceiptError> {
    let key = VerifyingKey::from_bytes(&worker.0).map_err(|_| ReceiptError::BadKey(worker))?;
    key.verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| ReceiptError::BadSignature(worker))
}

/// One input file of a job: its length in bytes and the hash of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// SHA-256 of its bytes.
    pub sha256: Sha256Hex,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// The commitment to a job's inputs, which anyone who has manifest and files can compute again: SHA-256 over these
/// lines, each ended by `\n`:
///
/// ```text
/// sandrun-job-v1
/// manifest <SHA-256 of the manifest's canonical bytes, hexadecimal>
/// file <SHA-256 of its bytes> <length in bytes> <name>        one for each file, sorted by the name's bytes
/// ```
///
/// Files are those of the unpacked bundle (archives by their content), under their normal names; folders and modes
/// do not count: an executor stores every file with the same mode. A job that came without a manifest has `{}`.
#[must_use]
pub fn job_hash(manifest: ManifestDigest, files: &BTreeMap<BundlePath, InputFile>) -> Sha256Hex {
    let mut hasher = Sha256::new();
    hasher.update(b"sandrun-job-v1\n");
    hasher.update(format!("manifest {}\n", hex::encode(manifest.0)));
    for (path, file) in files {
        hasher.update(format!("file {} {} {path}\n", file.sha256, file.size_bytes));
    }
    Sha256Hex(hasher.finalize().into())
}

#[cfg(test)]
mod tests;
