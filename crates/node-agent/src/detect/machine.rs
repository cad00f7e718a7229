//! Processors and memory, from the kernel's own texts.

use sandrun_types::Cpu;

/// Where a control group's memory limit stands, v2 first.
pub(super) const MEMORY_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

const MIB: u64 = 1024 * 1024;
const LONGEST_MODEL: usize = 96;

/// The model from `/proc/cpuinfo` (x86 `model name`, else what other architectures write), and `cores` as affinity and
/// quota leave them.
pub(super) fn cpu(cpuinfo: &str, cores: usize) -> Cpu {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name && !value.trim().is_empty()).then(|| value.trim())
        })
    };
    let model = ["model name", "Model", "cpu model", "Hardware", "uarch"]
        .into_iter()
        .find_map(field);
    let words: Vec<&str> = model.unwrap_or("unknown").split_whitespace().collect();
    let model = words.join(" ").chars().take(LONGEST_MODEL).collect();
    Cpu {
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
        model,
    }
}

/// Memory in MiB: the machine's from `/proc/meminfo`, or the smallest control group limit below it.
pub(super) fn memory_mib<'a>(meminfo: &str, limits: impl Iterator<Item = &'a str>) -> u32 {
    let total = meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib.saturating_mul(1024));
    let bytes = limits
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .fold(total, u64::min);
    u32::try_from(bytes / MIB).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_on_several_architectures() {
        let x86 =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC  7B13\nflags\t\t: fpu vme\n";
        assert_eq!(
            cpu(x86, 8),
            Cpu {
                cores: 8,
                model: "AMD EPYC 7B13".to_owned()
            }
        );
        let pi = "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n";
        assert_eq!(cpu(pi, 4).model, "Raspberry Pi 5 Model B Rev 1.0");
        assert_eq!(
            cpu("", 70_000),
            Cpu {
                cores: u16::MAX,
                model: "unknown".to_owned()
            }
        );
    }

    #[test]
    fn the_smallest_limit_counts() {
        let meminfo = "MemTotal:       16384000 kB\nMemFree:         100 kB\n";
        assert_eq!(memory_mib(meminfo, [].into_iter()), 16_000);
        assert_eq!(memory_mib(meminfo, ["max\n", "1073741824\n"].into_iter()), 1024);
        assert_eq!(memory_mib(meminfo, ["9223372036854771712\n"].into_iter()), 16_000);
        assert_eq!(memory_mib("nonsense", [].into_iter()), 0);
    }
}
