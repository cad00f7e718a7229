//! Adds up what a job's processes use, from the job's own `/proc`, where no control group counts it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags, openat};

/// A view of one job's processes; the default one sees none.
#[derive(Debug, Default)]
pub(super) struct Watch {
    proc: Option<OwnedFd>,
}

impl Watch {
    /// Watches through the job's `/proc` directory.
    pub(super) const fn new(proc: Option<OwnedFd>) -> Self {
        Self { proc }
    }

    /// Memory of all processes in bytes, shared pages counted once (`Pss`).
    pub(super) fn memory(&self) -> u64 {
        let kib = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        self.each("smaps_rollup")
            .iter()
            .filter_map(|text| kib(text))
            .sum::<u64>()
            .saturating_mul(1024)
    }

    /// CPU time of all living processes and of the children that they waited for.
    pub(super) fn cpu(&self) -> Duration {
        let ticks: u64 = self.each("stat").iter().map(|text| stat_ticks(text)).sum();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Duration::from_millis(ticks.saturating_mul(1000) / per_second)
    }

    fn each(&self, file: &str) -> Vec<String> {
        let Some(proc) = &self.proc else { return Vec::new() };
        let Ok(entries) = Dir::read_from(proc) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().map(str::to_owned).ok());
        let pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        pids.filter_map(|pid| {
            // A process that has just died needs no counting.
            let file = openat(
                proc,
                format!("{pid}/{file}"),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .ok()?;
            // names of tasks are any bytes
            let mut bytes = Vec::new();
            File::from(file).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
    }
}

/// utime, stime, cutime and cstime of a line of /proc/pid/stat, see proc_pid_stat(5).
fn stat_ticks(text: &str) -> u64 {
    // The name may hold blanks and parentheses; the fields follow its last one.
    let Some((_, rest)) = text.rsplit_once(')') else {
        return 0;
    };
    rest.split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 10 20 30 40 20 0 1 0 5 0 0\n";
        assert_eq!(stat_ticks(line), 100);
    }
}
