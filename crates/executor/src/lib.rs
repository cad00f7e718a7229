//! The `sandrun` HTTP service: takes jobs from anybody, runs each in the sandbox, and hands out what it wrote, with a
//! signed receipt. Also the client that talks to any sandrun service.
//!
//! Owns the wire format, uploads, quotas, the queue, retention and the worker key. Never isolates anything by itself
//! (that is the sandbox crate's), never knows of orders, stakes or money, and keeps no job over a restart.
//!
//! How it is driven: [`Executor::start`] proves the isolation and binds; [`Executor::run`] serves until its `shutdown`
//! future is done, and is over within the configured grace. One task owns all state (`service.rs`) and asks one pure
//! function what to do (`jobs/registry.rs`); HTTP handlers only ask it, and each run blocks a thread of its own.
//!
//! **Invariant**: a refused upload leaves nothing on disk. **Invariant**: a job that was queued ends, as `completed`
//! or `failed`, also when the service stops. **Invariant**: only files that the receipt names leave the service.

mod admit;
mod client;
mod config;
mod environment;
mod files;
mod http;
mod id;
mod image;
mod job;
mod jobs;
mod log;
mod machine;
mod meters;
mod origin;
mod runner;
mod server;
mod service;
mod upload;
pub mod wire;
pub mod worker_key;

pub use client::{
    BegunRun, ClientError, ExecutorClient, FileContent, FollowedRun, SignedReceipt, Submission,
    decode_signature, without_credentials,
};
pub use config::{DEFAULT_PORT, ExecutorConfig, Limits};
pub use environment::is_environment;
pub use id::{RunId, RunIdError};
pub use jobs::{QuotaRefusal, QuotaRules, QuotaView, Retention};
pub use log::TextPieces;
pub use machine::hardware;
pub use sandrun_environment::EnvironmentsConfig;
pub use sandrun_sandbox::SandboxConfig;
pub use server::{Executor, ServeError, serve};
pub use upload::{Commitment, CommitmentError, UploadedFile, commitment, is_archive};
