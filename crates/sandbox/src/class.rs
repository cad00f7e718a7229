//! The ids of the classes on this machine. Owns what enters them; never runs a program.

mod contents;
pub(crate) mod det;
mod known;
mod layout;
mod system;
mod walk;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use sandrun_types::{ClassId, Interpreter, TRACE_VERSION};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::environment;
pub(crate) use known::{Ground, Known};
use walk::Found;
pub(crate) use walk::Reader;

/// Bytes at the beginning and at the end of an interpreter that stand for it: headers, build id and section tables.
const SAMPLE: u64 = 64 * 1024;

/// How a job is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Isolated, at real time: two runs may differ.
    #[default]
    Native,
    /// The same answer and the same trace in every run on every machine of the class.
    Det,
    /// The same without masked CPU features, for machines whose processors cannot mask them.
    DetSoft,
}

impl Class {
    /// The deterministic class that this machine runs: `det`, or `det-soft` where CPUID can't be masked.
    #[must_use]
    pub fn deterministic_here() -> Self {
        if masks_cpuid() { Self::Det } else { Self::DetSoft }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Det => "det",
            Self::DetSoft => "det-soft",
        })
    }
}

/// The classes with a tracer that this machine can run, with their exact ids, from what was `found` of the system. Reads
/// all of it that jobs of these classes see.
fn traced(ground: &Ground<'_>, found: &[Found]) -> Vec<(Class, ClassId)> {
    if !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    let system = system::digest(found, ground.cache);
    let programs: Vec<PathBuf> = ground.interpreters.iter().map(|(_, path)| path.clone()).collect();
    let layout = layout::text(&programs, ground.images);
    let id = |mask| det::id(mask, ground.interpreters, &system, &layout);
    let masked = masks_cpuid().then(|| (Class::Det, id(det::Mask::Masked)));
    masked
        .into_iter()
        .chain([(Class::DetSoft, id(det::Mask::Open))])
        .collect()
}

/// Whether the processor lets the kernel answer CPUID, without which there is no class `det`.
#[must_use]
pub fn masks_cpuid() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == "cpuid_fault"))
}

/// Byte 0 is the kind (0), the rest of SHA-256 over: the trace's version, the architecture, the CPU features on which
/// numeric libraries choose their code, the fixed environment, each interpreter's name and file (size, first and last
/// 64 KiB), and what the mathematics library answers. Machines with the same id run the same programs in the same way
/// as far as isolation alone can make them.
pub(crate) fn native(interpreters: &[(Interpreter, PathBuf)]) -> ClassId {
    let mut hasher = Sha256::new();
    hasher.update(b"sandrun-class-native-v1\0");
    hasher.update(TRACE_VERSION.to_be_bytes());
    hasher.update(std::env::consts::ARCH);
    hasher.update(cpu_features());
    for (name, value) in environment::FIXED {
        hasher.update(format!("\0{name}={value}"));
    }
    for (interpreter, path) in interpreters {
        hasher.update(format!("\0{interpreter}\0"));
        // One that cannot be read is another class than one that can.
        hasher.update(fingerprint(path).unwrap_or_default());
    }
    hasher.update(floating_point());
    let mut id: [u8; 32] = hasher.finalize().into();
    id[0] = 0;
    ClassId(id)
}

fn fingerprint(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = size.to_be_bytes().to_vec();
    (&mut file).take(SAMPLE).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(size.saturating_sub(SAMPLE)))?;
    file.take(SAMPLE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<u8> {
    let features = [
        is_x86_feature_detected!("sse4.2"),
        is_x86_feature_detected!("avx"),
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("avx512f"),
    ];
    features.map(u8::from).to_vec()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<u8> {
    Vec::new()
}

/// What the C library's mathematics gives for inputs on which its variants differ in the last bit.
fn floating_point() -> Vec<u8> {
    let functions: [fn(f64) -> f64; 8] = [
        f64::sin,
        f64::cos,
        f64::tan,
        f64::exp,
        f64::ln,
        f64::atan,
        f64::sinh,
        f64::cbrt,
    ];
    let inputs = (1..=512).map(|step| std::hint::black_box(f64::from(step) * 0.137_503));
    inputs
        .flat_map(|x| functions.map(|function| function(x).to_bits().to_be_bytes()))
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_the_interpreters_and_is_native() {
        let some = native(&[(Interpreter::Bash, "/proc/self/exe".into())]);
        assert_eq!(some.kind(), Some(sandrun_types::ClassKind::Native));
        assert_eq!(some, native(&[(Interpreter::Bash, "/proc/self/exe".into())]));
        assert_ne!(some, native(&[]));
    }
}
