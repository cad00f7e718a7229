//! CPU time of a program in class `det` and plain, in alternating pairs. It is taken from outside, of the whole family of
//! processes, as the program's own clock is not the machine's; and less that of an interpreter that does nothing, so
//! that what a start costs is left to `det.start`. Both sides have a file system in memory of their own, which goes with
//! them, so that the end of their files counts on both.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use super::{Load, class, write_job};
use crate::peer;
use crate::statistics::median;

/// Pairs that are measured, after one that is not.
const PAIRS: usize = 15;
/// Where both sides' files lie: a job's are in memory too.
const MEMORY: &str = "/dev/shm";
/// The interpreter that jobs have.
const PYTHON: &str = "/usr/bin/python3";

/// Medians of CPU time, less that of the empty program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds {
    /// In class `det`.
    pub(crate) subject: f64,
    /// Plain.
    pub(crate) peer: f64,
}

/// CPU time that a directory with a job takes on one side, in seconds.
type Side<'a> = &'a dyn Fn(&Path) -> anyhow::Result<f64>;

/// Both sides of one load.
///
/// # Errors
/// A run that fails.
pub(crate) fn pairs(load: Load, program: &Path) -> anyhow::Result<Seconds> {
    let directory = tempfile::tempdir_in(MEMORY).context("a directory in memory")?;
    let (job, empty) = (directory.path().join("job"), directory.path().join("empty"));
    load.write(&job)?;
    write_job(&empty, "pass\n")?;
    let plain = |code: &Path| plain(load, code);
    let det = |code: &Path| det(program, code);
    let sides: [Side<'_>; 2] = [&det, &plain];
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for pair in 0..=PAIRS {
        for side in [pair % 2, (pair + 1) % 2] {
            let net = sides[side](&job)? - sides[side](&empty)?;
            times[side].push(net);
        }
        if pair == 0 {
            times.iter_mut().for_each(Vec::clear);
        }
    }
    let middle = |times: &[f64]| median(times).context("nothing was measured");
    Ok(Seconds {
        subject: middle(&times[0])?,
        peer: middle(&times[1])?,
    })
}

fn det(program: &Path, code: &Path) -> anyhow::Result<f64> {
    let mut command = Command::new(program);
    command
        .args(["run", "--class", &class().to_string(), "--quiet"])
        .arg(code)
        .env("SANDRUN_CONFIG", "/dev/null");
    measured(command)
}

/// The program in a file system of its own, as a job has; threads have one processor, as they have in class `det`.
fn plain(load: Load, code: &Path) -> anyhow::Result<f64> {
    let work = tempfile::tempdir_in(MEMORY).context("a directory in memory")?;
    let mut command = peer::in_own_memory(work.path());
    match load {
        Load::Threads => command.args(["taskset", "--cpu-list", "0", PYTHON]),
        Load::Cpu | Load::Io | Load::Clock => command.arg(PYTHON),
    };
    command
        .arg(code.join("main.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LC_ALL", "C.UTF-8");
    measured(command)
}

/// CPU time, user and system, of a command and all its children, in seconds.
fn measured(command: Command) -> anyhow::Result<f64> {
    let used = || -> anyhow::Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
        Ok((usage.user_time() + usage.system_time()).num_microseconds())
    };
    let before = used()?;
    peer::run(command)?;
    let micros = u32::try_from(used()? - before).context("more CPU time than can be counted")?;
    Ok(f64::from(micros) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_time_is_seen() {
        let mut busy = Command::new("/bin/sh");
        busy.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let mut idle = Command::new("/bin/sh");
        idle.args(["-c", ":"]);
        assert!(measured(busy).unwrap() > measured(idle).unwrap());
    }
}
