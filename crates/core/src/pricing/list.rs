//! The price list, in whole micro-dollars.

use std::fmt;
use std::str::FromStr;

use sandrun_types::Requirements;
use serde::{Deserialize, Serialize};

/// A sum of money in millionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dollars {
    micro: u64,
}

/// A text that is no sum of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no sum of dollars: write a decimal number with at most six decimals, such as 2500 or 0.35")]
pub struct DollarsError(String);

impl Dollars {
    /// Nothing.
    pub const ZERO: Self = Self { micro: 0 };

    /// `micro` millionths of a dollar.
    pub const fn from_micro(micro: u64) -> Self {
        Self { micro }
    }

    /// In millionths of a dollar.
    pub const fn micro(self) -> u64 {
        self.micro
    }

    /// Sum, or `None` on overflow.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.micro.checked_add(other.micro) {
            Some(micro) => Some(Self { micro }),
            None => None,
        }
    }

    /// Product, or `None` on overflow.
    pub const fn checked_mul(self, factor: u64) -> Option<Self> {
        match self.micro.checked_mul(factor) {
            Some(micro) => Some(Self { micro }),
            None => None,
        }
    }
}

impl fmt::Display for Dollars {
    /// `$0.20`: two decimals at least, as many as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.micro % 1_000_000);
        let needed = fraction.trim_end_matches('0').len().max(2);
        write!(f, "${}.{}", self.micro / 1_000_000, &fraction[..needed])
    }
}

impl FromStr for Dollars {
    type Err = DollarsError;

    fn from_str(text: &str) -> Result<Self, DollarsError> {
        let bad = || DollarsError(text.chars().take(32).collect());
        let number = text.strip_prefix('$').unwrap_or(text);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let fraction = fraction.trim_end_matches('0');
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return Err(bad());
        }
        format!("{whole}{fraction:0<6}")
            .parse()
            .map(Self::from_micro)
            .map_err(|_| bad())
    }
}

/// Which price a GPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuTier {
    /// What a T4 can do: up to 16 GiB, compute capability up to 7.5.
    T4,
    /// More than that.
    A100,
}

impl GpuTier {
    /// The cheapest tier that meets an order's requirements; `None` when they ask for no GPU.
    pub const fn of(requirements: &Requirements) -> Option<Self> {
        let Requirements {
            gpu,
            vram_mib,
            compute_capability_x10,
            ..
        } = *requirements;
        if !gpu && vram_mib == 0 && compute_capability_x10 == 0 {
            None
        } else if vram_mib <= 16 * 1024 && compute_capability_x10 <= 75 {
            Some(Self::T4)
        } else {
            Some(Self::A100)
        }
    }
}

/// What one replica of a job uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Seconds of run, each counted once for each core.
    pub cpu_seconds: u64,
    /// Seconds of a GPU, if one is used.
    pub gpu: Option<(GpuTier, u64)>,
    /// Memory, MB.
    pub memory_mb: u64,
    /// Ahead of others.
    pub priority: bool,
}

impl Resources {
    /// What an order with these requirements may use at most in `seconds` of real time, on at least one core.
    pub fn of(requirements: &Requirements, memory_mb: u64, seconds: u64, priority: bool) -> Self {
        let cores = u64::from(requirements.cpu_cores.max(1));
        Self {
            cpu_seconds: seconds.saturating_mul(cores),
            gpu: GpuTier::of(requirements).map(|tier| (tier, seconds)),
            memory_mb: memory_mb.max(u64::from(requirements.memory_mib)),
            priority,
        }
    }
}

/// What is asked for each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PriceList {
    /// A second of a CPU core.
    pub cpu_second: Dollars,
    /// A second of a T4.
    pub t4_second: Dollars,
    /// A second of an A100.
    pub a100_second: Dollars,
    /// A megabyte of memory, for the whole job.
    pub memory_mb: Dollars,
    /// What a job with priority costs, as a multiple.
    pub priority_factor: u64,
}

impl Default for PriceList {
    /// The project's list: CPU $0.001/s, T4 $0.01/s, A100 $0.05/s, memory $0.0001/MB, priority twice.
    fn default() -> Self {
        Self {
            cpu_second: Dollars::from_micro(1_000),
            t4_second: Dollars::from_micro(10_000),
            a100_second: Dollars::from_micro(50_000),
            memory_mb: Dollars::from_micro(100),
            priority_factor: 2,
        }
    }
}

impl PriceList {
    /// What one replica costs; `None` when it is beyond all bounds.
    pub fn price(&self, resources: &Resources) -> Option<Dollars> {
        let gpu = match resources.gpu {
            None => Dollars::ZERO,
            Some((GpuTier::T4, seconds)) => self.t4_second.checked_mul(seconds)?,
            Some((GpuTier::A100, seconds)) => self.a100_second.checked_mul(seconds)?,
        };
        let factor = if resources.priority {
            self.priority_factor
        } else {
            1
        };
        self.cpu_second
            .checked_mul(resources.cpu_seconds)?
            .checked_add(gpu)?
            .checked_add(self.memory_mb.checked_mul(resources.memory_mb)?)?
            .checked_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(cpu_seconds: u64, gpu: Option<(GpuTier, u64)>, memory_mb: u64, priority: bool) -> String {
        PriceList::default()
            .price(&Resources {
                cpu_seconds,
                gpu,
                memory_mb,
                priority,
            })
            .unwrap()
            .to_string()
    }

    #[test]
    fn the_examples_of_the_published_list_hold() {
        assert_eq!(price(10, None, 0, false), "$0.01");
        assert_eq!(price(0, Some((GpuTier::T4, 10)), 0, false), "$0.10");
        assert_eq!(price(0, Some((GpuTier::A100, 10)), 0, false), "$0.50");
        assert_eq!(price(0, None, 2_000, false), "$0.20");
        assert_eq!(price(10, Some((GpuTier::T4, 10)), 2_000, true), "$0.62");
    }

    #[test]
    fn a_job_beyond_all_bounds_has_no_price() {
        let resources = Resources {
            cpu_seconds: u64::MAX,
            gpu: None,
            memory_mb: 0,
            priority: false,
        };
        assert_eq!(PriceList::default().price(&resources), None);
    }

    #[test]
    fn requirements_choose_the_cheapest_tier_that_meets_them() {
        let of = |gpu, vram_mib, compute_capability_x10| {
            GpuTier::of(&Requirements {
                gpu,
                vram_mib,
                compute_capability_x10,
                ..Requirements::default()
            })
        };
        assert_eq!(of(false, 0, 0), None);
        assert_eq!(of(true, 0, 0), Some(GpuTier::T4));
        assert_eq!(of(false, 8_192, 0), Some(GpuTier::T4));
        assert_eq!(of(true, 16_384, 75), Some(GpuTier::T4));
        assert_eq!(of(true, 16_385, 75), Some(GpuTier::A100));
        assert_eq!(of(true, 0, 80), Some(GpuTier::A100));
    }

    #[test]
    fn dollars_are_read_strictly() {
        for (text, micro) in [
            ("2500", 2_500_000_000),
            ("0.35", 350_000),
            ("$1.000001", 1_000_001),
            ("0.10000000", 100_000),
        ] {
            assert_eq!(text.parse(), Ok(Dollars::from_micro(micro)), "{text}");
        }
        for bad in [
            "",
            ".",
            ".5",
            "-1",
            "1e3",
            "0.0000001",
            "1,5",
            "99999999999999999999",
        ] {
            assert!(bad.parse::<Dollars>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn dollars_round_trip(micro: u64) {
            let dollars = Dollars::from_micro(micro);
            prop_assert_eq!(dollars.to_string().parse(), Ok(dollars));
        }

        #[test]
        fn more_of_anything_never_costs_less(cpu in 0u64..1_000_000, gpu in 0u64..1_000_000, memory in 0u64..1_000_000, more in 0u64..1_000) {
            let list = PriceList::default();
            let of = |cpu_seconds, gpu, memory_mb, priority| {
                list.price(&Resources { cpu_seconds, gpu: Some((GpuTier::T4, gpu)), memory_mb, priority }).unwrap()
            };
            let base = of(cpu, gpu, memory, false);
            prop_assert!(of(cpu + more, gpu, memory, false) >= base);
            prop_assert!(of(cpu, gpu + more, memory, false) >= base);
            prop_assert!(of(cpu, gpu, memory + more, false) >= base);
            prop_assert_eq!(of(cpu, gpu, memory, true).micro(), 2 * base.micro());
        }
    }
}
