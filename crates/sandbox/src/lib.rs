//! Runs one program among hostile ones: isolation of a job from the machine, from the network and from other jobs.
//!
//! Owns namespaces, the root file system that a job sees, resource limits, the system call filter, the collection of
//! outputs, and the trace of class `native`. Never speaks HTTP, never chooses which job runs, keeps nothing after a
//! job but what it was told to collect.
//!
//! How it is driven: [`Sandbox::start`] starts one single-threaded launcher process (the same executable, which calls
//! [`supervisor_main`] first thing) and proves every layer by a probe job. [`Sandbox::run`] blocks for one job and may
//! be called from many threads at once; each job has a supervisor process of its own. When the process that holds the
//! `Sandbox` dies, in whatever way, every job process dies with it and nothing stays mounted.

mod cancel;
mod class;
mod collect;
mod config;
mod environment;
mod errors;
mod events;
mod hashing;
mod inputs;
mod launch;
mod layers;
mod prepare;
mod prove;
mod report;
mod request;
mod sandbox;
mod session;
mod supervisor;
mod sys;
mod system;
mod trace_log;
mod verdict;
mod wire;

pub use cancel::CancelHandle;
pub use class::{Class, masks_cpuid};
pub use config::{CgroupPolicy, SandboxConfig};
pub use errors::{RunError, StartError};
pub use layers::{Layer, Layers, MemoryControl, ProcessControl};
pub use report::{CollectedFile, RunReport, SkipReason, SkippedFile, Usage};
pub use request::{Limits, OutputSink, RunRequest};
pub use sandbox::Sandbox;
pub use supervisor::supervisor_main;
pub use sys::heap::give_large_buffers_back;
