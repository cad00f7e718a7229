//! The process itself, as every Prometheus client library names it. Where there is no `/proc` there are no such numbers.

use crate::text::{Exposition, Kind, Sample};

/// Memory and open files of this process.
pub fn expose(out: &mut Exposition) {
    let mut gauge = |name, help, value: Option<u64>| {
        if let Some(value) = value {
            out.family(name, Kind::Gauge, help, &[Sample::of(value)]);
        }
    };
    let resident = std::fs::read_to_string("/proc/self/status").ok();
    let resident = resident.as_deref().and_then(|it| kib(it, "VmRSS:"));
    gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        resident.map(|it| it * 1_024),
    );
    // one of them is the folder that is read
    let open = std::fs::read_dir("/proc/self/fd").ok();
    let open = open.map(|it| (it.count() as u64).saturating_sub(1));
    gauge("process_open_fds", "Open file descriptors.", open);
    let limits = std::fs::read_to_string("/proc/self/limits").ok();
    let most = limits.as_deref().and_then(most_files);
    gauge("process_max_fds", "Most file descriptors that may be open.", most);
}

/// A line of `/proc/self/status` that ends with `kB`.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The soft limit of open files in `/proc/self/limits`.
fn most_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(kib("VmHWM:\t  10 kB\nVmRSS:\t   7 kB\n", "VmRSS:"), Some(7));
        let limits = "Max open files            1024                 4096                 files\n";
        assert_eq!(most_files(limits), Some(1_024));
    }
}
