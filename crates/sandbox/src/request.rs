//! What a caller asks to be run. Owns the request's words and default limits; never runs anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sandrun_types::{ContentDigest, Entry, OutputPatterns};
use serde::{Deserialize, Serialize};

use crate::Class;

/// One job.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Directory with the job's files. It is read, never written: the job works on a copy in memory, which counts
    /// neither against `tmpfs_bytes` nor against its memory. Symbolic links and special files in it are refused.
    pub workspace: PathBuf,
    /// Directory that the collected outputs are written to, under their own names. The caller owns it; it must exist,
    /// and should be empty.
    pub outputs_dir: PathBuf,
    /// The file to run and what runs it.
    pub entry: Entry,
    /// Arguments after the entrypoint.
    pub args: Vec<String>,
    /// Environment variables; the sandbox's own win over them, and those of the dynamic loader are left out.
    pub env: BTreeMap<String, String>,
    /// Bounds.
    pub limits: Limits,
    /// What may leave.
    pub outputs: OutputPatterns,
    /// How it runs.
    pub class: Class,
    /// The image that is mounted read-only at `/env`: a directory of [`crate::SandboxConfig::environments_dir`] by the
    /// name of its content id. The caller keeps it there, unchanged, until the run is over.
    pub environment: Option<ContentDigest>,
    /// File that the trace is written to as the job goes; it is there, and whole, where there is a report. Without one
    /// only the trace's root is kept.
    pub trace: Option<PathBuf>,
}

/// Bounds of one job. They are part of its trace, but for the wall clock and CPU time, which depend on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall clock.
    pub wall: Duration,
    /// CPU time, user and system, of all its processes together.
    pub cpu: Duration,
    /// Memory of all its processes together, in bytes, what it writes to its file systems included.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u32,
    /// Open files in one process.
    pub open_files: u32,
    /// What it may write to its file systems (work directory, `/tmp`, `/dev/shm`) together, in bytes.
    pub tmpfs_bytes: u64,
    /// Files and directories that it may create, all together.
    pub inodes: u64,
    /// Bytes printed to stdout and stderr together; one more ends the job.
    pub output_bytes: u64,
}

impl Default for Limits {
    /// The defaults of the HTTP API.
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            wall: Duration::from_secs(300),
            cpu: Duration::from_secs(300),
            memory_bytes: 512 * MIB,
            processes: 32,
            open_files: 256,
            tmpfs_bytes: 100 * MIB,
            inodes: 16_384,
            output_bytes: 10 * MIB,
        }
    }
}

/// Gets a job's output while it runs. Called from the thread that called [`crate::Sandbox::run`]; while it does not
/// return, the job's pipes fill up and the job waits.
pub trait OutputSink {
    /// The next piece of standard output.
    fn stdout(&self, piece: &[u8]);
    /// The next piece of standard error.
    fn stderr(&self, piece: &[u8]);
}

/// Drops everything.
impl OutputSink for () {
    fn stdout(&self, _: &[u8]) {}
    fn stderr(&self, _: &[u8]) {}
}
