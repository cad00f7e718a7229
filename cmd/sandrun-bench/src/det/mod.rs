//! `det.*` and `trace.size.*`: what determinism costs, and whether it holds. The peer is the plain program in the same run.
//! Where the processor cannot mask CPUID, class `det-soft` stands for `det`, and is named.

mod distinct;
mod pairs;
mod size;

pub(crate) use distinct::most_distinct;
pub(crate) use pairs::pairs;
pub(crate) use size::bytes_per_second;

use std::path::Path;
use std::sync::Once;

use anyhow::Context as _;
use sandrun_sandbox::{Class, masks_cpuid};

use crate::note;

/// The class that is measured.
pub(crate) fn class() -> Class {
    static NOTED: Once = Once::new();
    if masks_cpuid() {
        return Class::Det;
    }
    NOTED.call_once(|| note("this processor cannot mask CPUID: class det-soft is measured"));
    Class::DetSoft
}

/// A program that is measured in class `det` and plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Computes.
    Cpu,
    /// Writes and reads many small files.
    Io,
    /// Asks for the time.
    Clock,
    /// Threads that hand over to each other.
    Threads,
}

impl Load {
    const fn text(self) -> &'static str {
        match self {
            Self::Cpu => include_str!("programs/cpu.py"),
            Self::Io => include_str!("programs/io.py"),
            Self::Clock => include_str!("programs/clock.py"),
            Self::Threads => include_str!("programs/threads.py"),
        }
    }

    /// Writes it, as a job that hands out no files.
    fn write(self, directory: &Path) -> anyhow::Result<()> {
        write_job(directory, self.text())
    }
}

/// A directory with a job of one script. Its pattern names no file: without one, every new file would leave the job, and
/// what that costs is no cost of determinism.
fn write_job(directory: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("writing {}", directory.display());
    std::fs::create_dir_all(directory).with_context(failed)?;
    std::fs::write(directory.join("main.py"), text).with_context(failed)?;
    std::fs::write(
        directory.join("job.json"),
        r#"{"outputs": ["nothing"], "timeout": 600}"#,
    )
    .with_context(failed)
}
