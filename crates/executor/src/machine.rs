//! Processors and memory of the machine under the process, from the kernel's own texts.

use crate::wire::Hardware;

/// Where a control group's memory limit stands, v2 first.
const MEMORY_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Looks: cores as affinity and quota leave them, memory as control groups do. What can't be found out counts as not
/// there.
#[must_use]
pub fn hardware() -> Hardware {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = MEMORY_LIMITS.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    Hardware {
        cpu_cores: u16::try_from(cores).unwrap_or(u16::MAX),
        memory_mib: memory_mib(&meminfo, &limits),
    }
}

/// All memory, or the smallest limit below it.
fn memory_mib(meminfo: &str, limits: &[String]) -> u32 {
    let total = meminfo.lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()
    });
    let total = total.map_or(0, |kib| kib.saturating_mul(1_024));
    let limits = limits.iter().filter_map(|text| text.trim().parse::<u64>().ok());
    let bytes = limits.fold(total, u64::min);
    u32::try_from(bytes / (1_024 * 1_024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_and_limits_leave() {
        let meminfo = "MemTotal:       16384000 kB\nMemFree:        1 kB\n";
        let limits = |text: &str| [text.to_owned(), String::new()];
        assert_eq!(memory_mib(meminfo, &limits("max\n")), 16_000);
        assert_eq!(memory_mib(meminfo, &limits("1073741824\n")), 1_024);
        assert_eq!(memory_mib(meminfo, &limits("9223372036854771712\n")), 16_000);
        assert_eq!(memory_mib("nonsense", &limits("")), 0);
        let here = hardware();
        assert!(here.cpu_cores > 0 && here.memory_mib > 0, "{here:?}");
    }
}
