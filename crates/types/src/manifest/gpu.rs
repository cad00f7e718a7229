//! What a job asks of a GPU.

use std::fmt;

use serde::{Serialize, Serializer};

/// A dotted version such as a CUDA version (`11.8`) or a compute capability (`7.0`): major, then minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DottedVersion {
    /// Before the dot.
    pub major: u16,
    /// After the dot; 0 where there is none.
    pub minor: u16,
}

impl DottedVersion {
    /// Parses `7`, `7.0` or `sm_70`-free forms of two numbers; a third part (`12.4.1`) is ignored, as drivers report it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().map_or(Ok(0), str::parse).ok()?;
        if !parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())) {
            return None;
        }
        Some(Self { major, minor })
    }
}

impl fmt::Display for DottedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for DottedVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A manifest's `gpu` object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GpuRequirement {
    /// Least CUDA compute capability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<DottedVersion>,
    /// Least CUDA version of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<DottedVersion>,
    /// The index of one certain device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<u32>,
    /// Least memory of the device in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_vram_gb: Option<u32>,
    /// The job cannot run without one. True unless the manifest says `false`.
    pub required: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text| DottedVersion::parse(text).unwrap();
        assert!(version("7.5") < version("12"));
        assert_eq!(version("12.4.1"), version("12.4"));
        assert_eq!(version("7").to_string(), "7.0");
        for bad in ["", "a", "7.", "7.x", "7.0.", "-1"] {
            assert_eq!(DottedVersion::parse(bad), None, "{bad}");
        }
    }
}
