//! What a run was. Owns the report's words; never judges them.

use std::fmt;
use std::time::Duration;

use sandrun_types::{
    BundlePath, ClassId, ExitStatus, FileHash, OutputRoot, RunOutcome, Sha256Hex, TraceFileSummary, TraceRoot,
};

use crate::Layers;

/// One ended run.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// How it ended.
    pub outcome: RunOutcome,
    /// How the main process ended, in the words that enter a result digest. `None` where two machines cannot be held
    /// to the same answer: `timeout` and `output_limit`.
    pub exit: Option<ExitStatus>,
    /// Exit code of the main process; 128 + the signal's number if a signal ended it (137 for every kill by us).
    pub exit_code: i32,
    /// One sentence for people if the job did not end by itself; empty else.
    pub explanation: String,
    /// What it used.
    pub usage: Usage,
    /// The layers that were on for this job.
    pub layers: Layers,
    /// Standard output, as much as the limit allows. There for people also where it is not part of the result.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// The files that may leave, sorted by name; their bytes lie in the request's `outputs_dir` under the same names.
    pub outputs: Vec<CollectedFile>,
    /// What matched, but was not taken; at most 100 of them.
    pub skipped: Vec<SkippedFile>,
    /// Merkle root over stdout, stderr and outputs.
    pub output_root: OutputRoot,
    /// What of stdout and stderr is under the output root: nothing of them where a limit of this machine ended it.
    pub streams: [FileHash; 2],
    /// Root of the trace.
    pub trace_root: TraceRoot,
    /// How large the trace is.
    pub trace: TraceFileSummary,
    /// The exact class that it ran under.
    pub class: ClassId,
}

/// What a job used, of all its processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Most memory at once, in bytes: of the whole job with control groups, of its largest process without.
    pub memory_peak_bytes: u64,
    /// From the start of its supervisor to the death of its last process.
    pub wall: Duration,
}

impl Usage {
    /// CPU time in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu.as_secs_f64()
    }
}

/// One collected output file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedFile {
    /// Its name, relative to the work directory.
    pub path: BundlePath,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Hex,
}

/// An entry that the collector did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedFile {
    /// Its name, made printable.
    pub name: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why the collector leaves an entry alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A symbolic link; it is not followed.
    Symlink,
    /// A FIFO, socket or device.
    SpecialFile,
    /// A name that is no [`BundlePath`]: not UTF-8, control characters, too long or too deep.
    BadName,
}

/// What is wrong with it, as the end of a sentence.
impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symlink => "it is a symbolic link",
            Self::SpecialFile => "it is no regular file",
            Self::BadName => {
                "its name can't be a result's: UTF-8 without backslashes and control characters, not too long"
            }
        })
    }
}
