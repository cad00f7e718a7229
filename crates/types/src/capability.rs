//! Capabilities: what a node's machine offers, as it stands in the node's profile on chain.
//!
//! Owns the fields, their canonical JSON and the check against an order's requirements. Never looks at a machine:
//! detection is the agent's. What no driver has reported counts as not there, so that a job which asks for a GPU is
//! never seated where there is none.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Interpreter, Requirements, canonical_json};

/// What a machine offers. Written as canonical JSON; fields that a later version adds are ignored when reading.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Processors.
    pub cpu: Cpu,
    /// Main memory in MiB.
    pub memory_mib: u32,
    /// Graphics and compute cards, equal ones as one entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// Interpreters that the executor's fixed folders hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpreters: Vec<InstalledInterpreter>,
    /// Whether jobs may name an environment by its content id: the executor fetches it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub environments: bool,
    /// Where the machine stands, in its operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What else its operator says about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Processors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Cores that a job can be given: what affinity and control groups leave.
    pub cores: u16,
    /// Model name as the kernel tells it.
    pub model: String,
}

/// Equal cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Who made them.
    pub vendor: GpuVendor,
    /// Model name as the driver tells it, else the PCI id.
    pub model: String,
    /// Memory of each in MiB; absent when no driver reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// CUDA compute capability times ten (8.6 is 86); absent when no driver reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability_x10: Option<u16>,
    /// How many.
    pub count: u16,
}

/// Maker of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuVendor {
    /// NVIDIA, PCI vendor 10de.
    Nvidia,
    /// AMD, PCI vendor 1002.
    Amd,
    /// Intel, PCI vendor 8086.
    Intel,
}

/// One interpreter and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledInterpreter {
    /// Which.
    #[serde(
        serialize_with = "write_interpreter",
        deserialize_with = "read_interpreter",
        rename = "name"
    )]
    pub interpreter: Interpreter,
    /// Its version as it prints it, digits and dots.
    pub version: String,
}

fn write_interpreter<S: Serializer>(interpreter: &Interpreter, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(interpreter.name())
}

fn read_interpreter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Interpreter, D::Error> {
    let name = String::deserialize(deserializer)?;
    Interpreter::parse(&name)
        .ok_or_else(|| serde::de::Error::custom(format!("no interpreter `{name}` is known")))
}

/// Capabilities that cannot be announced or read.
#[derive(Debug, Error)]
pub enum CapabilityError {
    /// More than the registry takes.
    #[error("the capabilities take {length} bytes, the registry takes {max}; shorten labels and region", max = Capabilities::MAX_BYTES)]
    TooLong {
        /// Bytes of the canonical JSON.
        length: usize,
    },
    /// The announced text is no capabilities JSON.
    #[error("the announced capabilities are not readable")]
    Malformed(#[source] serde_json::Error),
}

/// The first requirement that a machine does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Shortfall {
    /// Too few cores.
    #[error("{needed} CPU cores are needed, {there} are there")]
    Cores {
        /// Asked for.
        needed: u16,
        /// Offered.
        there: u16,
    },
    /// Too little memory.
    #[error("{needed} MiB of memory are needed, {there} are there")]
    Memory {
        /// Asked for, MiB.
        needed: u32,
        /// Offered, MiB.
        there: u32,
    },
    /// No card with a working driver.
    #[error("a GPU is needed, none with a working driver is there")]
    NoGpu,
    /// No card has all that is asked for.
    #[error("no GPU here has {vram_mib} MiB and compute capability {major}.{minor}", major = compute_capability_x10 / 10, minor = compute_capability_x10 % 10)]
    Gpu {
        /// Asked for, MiB; 0 for any.
        vram_mib: u32,
        /// Asked for, times ten; 0 for any.
        compute_capability_x10: u16,
    },
}

impl Gpu {
    /// Whether a driver has spoken for the card: without one it computes nothing.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.count > 0 && (self.memory_mib.is_some() || self.compute_capability_x10.is_some())
    }

    fn has(&self, vram_mib: u32, compute_capability_x10: u16) -> bool {
        self.is_usable()
            && self.memory_mib.unwrap_or(0) >= vram_mib
            && self.compute_capability_x10.unwrap_or(0) >= compute_capability_x10
    }
}

impl Capabilities {
    /// Longest canonical JSON that the registry takes, bytes.
    pub const MAX_BYTES: usize = 4096;

    /// Checks an order's requirements. A demand on a GPU's memory or capability is a demand for a GPU, also where the
    /// order's GPU bit is not set.
    ///
    /// # Errors
    /// The first [`Shortfall`].
    pub fn satisfies(&self, requirements: &Requirements) -> Result<(), Shortfall> {
        let Requirements {
            cpu_cores,
            memory_mib,
            gpu,
            vram_mib,
            compute_capability_x10,
        } = *requirements;
        if cpu_cores > self.cpu.cores {
            return Err(Shortfall::Cores {
                needed: cpu_cores,
                there: self.cpu.cores,
            });
        }
        if memory_mib > self.memory_mib {
            return Err(Shortfall::Memory {
                needed: memory_mib,
                there: self.memory_mib,
            });
        }
        if !gpu && vram_mib == 0 && compute_capability_x10 == 0 {
            return Ok(());
        }
        if !self.gpus.iter().any(Gpu::is_usable) {
            return Err(Shortfall::NoGpu);
        }
        if !self
            .gpus
            .iter()
            .any(|card| card.has(vram_mib, compute_capability_x10))
        {
            return Err(Shortfall::Gpu {
                vram_mib,
                compute_capability_x10,
            });
        }
        Ok(())
    }

    /// The canonical JSON that goes on chain.
    ///
    /// # Errors
    /// [`CapabilityError::TooLong`].
    pub fn to_json(&self) -> Result<String, CapabilityError> {
        // Strings and integers alone, keys are strings: there is always a canonical form, and it is UTF-8.
        let text = String::from_utf8(canonical_json(self).unwrap_or_default()).unwrap_or_default();
        if text.len() > Self::MAX_BYTES {
            return Err(CapabilityError::TooLong { length: text.len() });
        }
        Ok(text)
    }

    /// Reads what a node has announced.
    ///
    /// # Errors
    /// [`CapabilityError`].
    pub fn from_json(text: &str) -> Result<Self, CapabilityError> {
        if text.len() > Self::MAX_BYTES {
            return Err(CapabilityError::TooLong { length: text.len() });
        }
        serde_json::from_str(text).map_err(CapabilityError::Malformed)
    }
}

impl fmt::Display for GpuVendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvidia => "NVIDIA",
            Self::Amd => "AMD",
            Self::Intel => "Intel",
        })
    }
}

#[cfg(test)]
mod tests;
