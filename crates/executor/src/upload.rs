//! How files come in: a multipart upload is spooled to disk, then assembled into a bundle.
//!
//! Owns names, archives and their limits. Nothing outside the job's own folder is ever written: names are
//! [`sandrun_types::BundlePath`]s, and only regular files and folders are made, each of them new.

mod archive;
mod assemble;
mod bundle;
mod commitment;
mod overflow;
mod quirk;
mod receive;

pub(crate) use assemble::{AssembleError, Assembled, assemble};
pub(crate) use bundle::BundleLimits;
pub use commitment::{Commitment, CommitmentError, UploadedFile, commitment};
pub(crate) use overflow::{bounded, discard};
pub use receive::is_archive;
pub(crate) use receive::{ReceiveError, Received, receive};
