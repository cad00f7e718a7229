//! The words that every room of sandrun-pool shares: identities, money, orders, answers, manifests, receipts and
//! traces.
//!
//! Owns definitions, their text and byte forms, and the pure functions on them. Never does I/O, never reads a clock.

mod canonical;
mod capability;
mod digest;
mod ids;
mod manifest;
mod money;
mod order;
mod receipt;
mod trace;

pub use alloy_primitives::{Address, B256, Bytes, U256};
pub use canonical::{CanonicalError, canonical_json};
pub use capability::{Capabilities, CapabilityError, Cpu, Gpu, GpuVendor, InstalledInterpreter, Shortfall};
pub use digest::{Answer, ExitStatus, ExitStatusError, ResultParts};
pub use ids::{
    Attempt, ChainId, ClassId, ClassKind, ContentDigest, EscrowRef, IdError, JobId, ManifestDigest,
    NodeIndex, OutputRoot, ResultDigest, SeatIndex, TraceRoot, UnixSeconds, WorkerId,
};
pub use manifest::{
    BundlePath, BundlePathError, ClassRequest, DottedVersion, Entry, GpuRequirement, Interpreter, Manifest,
    ManifestError, NoClass, OutputPatterns, node_features,
};
pub use money::{Amount, AmountError, Token};
pub use order::{
    Commitment, ORDER_VERSION, Order, Redundancy, RedundancyError, Requirements, SeatRef, commitment, ticket,
};
pub use receipt::{
    InputFile, OutputFile, RECEIPT_FORMAT, Receipt, ReceiptError, RunOutcome, Sha256Hex, job_hash,
    verify_signature,
};
pub use trace::{
    DiffStep, Difference, EntropySource, FileEnd, FileHash, FileRange, InclusionProof, MerkleTree, NodeKind,
    OutputLeaves, OutputName, OutputProof, ProofError, RunResult, STREAM_CHUNK, Side, Stream, TRACE_BLOCK,
    TRACE_LEAF_MAX, TRACE_PATH_MAX, TRACE_VERSION, TRACE_VERSION_TRACED, TaskEnd, TaskEvent, TaskId,
    TaskKind, Trace, TraceDecodeError, TraceDiff, TraceEvent, TraceFileError, TraceFileSummary, TraceHeader,
    TraceLeaf, TraceLimits, TracePath, TraceReader, TraceWriter, TreeChange, list_hash, merkle_root,
    output_root, tree_root,
};
