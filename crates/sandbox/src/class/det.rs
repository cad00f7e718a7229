//! The ids of the classes with a tracer. Owns what enters them; never runs a program.

use std::path::{Path, PathBuf};

use sandrun_types::{ClassId, Interpreter, TRACE_VERSION_TRACED};
use sha2::{Digest as _, Sha256};

use super::{cpu_features, fingerprint};
use crate::events::{MAX_EVENT_BYTES, MAX_EVENTS};
use crate::supervisor::cpuid_fingerprint;
use crate::{environment, sys};

/// Version of the tracer: raised by whatever makes a program see or do something else than before.
const TRACER_VERSION: u32 = 2;
/// Libraries that every program runs on: the loader, the C library, its mathematics, and the compilers' own.
const LIBRARIES: [&str; 5] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libstdc++.so.6",
];
/// Where they lie on one system or another.
const LIBRARY_DIRS: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];

/// Whether a class shows every program the same processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// CPUID is answered by the tracer: class `det`.
    Masked,
    /// By the processor itself: class `det-soft`, whose machines need the same features.
    Open,
}

/// Byte 0 is `kind`, the rest of SHA-256 over: the versions of tracer and trace, the budget of events, the architecture,
/// the processor that programs see, the fixed environment, each interpreter and the libraries below it (size, first and
/// last 64 KiB), and the float probe. On machines with the same id a program gives the same answer and the same trace.
pub(crate) fn id(kind: u8, mask: Mask, interpreters: &[(Interpreter, PathBuf)]) -> ClassId {
    let mut hasher = Sha256::new();
    hasher.update(b"sandrun-class-det-v1\0");
    hasher.update(TRACER_VERSION.to_be_bytes());
    hasher.update(TRACE_VERSION_TRACED.to_be_bytes());
    hasher.update(MAX_EVENTS.to_be_bytes());
    hasher.update(MAX_EVENT_BYTES.to_be_bytes());
    hasher.update(std::env::consts::ARCH);
    match mask {
        Mask::Masked => hasher.update(cpuid_fingerprint()),
        Mask::Open => hasher.update(cpu_features()),
    }
    for (name, value) in environment::FIXED {
        hasher.update(format!("\0{name}={value}"));
    }
    for (interpreter, path) in interpreters {
        hasher.update(format!("\0{interpreter}\0"));
        // One that cannot be read is another class than one that can.
        hasher.update(fingerprint(path).unwrap_or_default());
    }
    for name in LIBRARIES {
        let places = LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(name));
        hasher.update(format!("\0{name}\0"));
        for place in places.filter(|place| place.is_file()).take(1) {
            hasher.update(fingerprint(&place).unwrap_or_default());
        }
    }
    hasher.update(float_probe());
    let mut id: [u8; 32] = hasher.finalize().into();
    id[0] = kind;
    ClassId(id)
}

/// What the processor itself answers where the floating-point standard leaves room. The mathematics library needs no
/// probe of its own: it is among the libraries, and which of its variants runs is up to the processor that it sees.
/// (This process sees another one than the jobs do, so that a probe of the library here would tell nothing.)
fn float_probe() -> [u8; 32] {
    let mut hasher = Sha256::new();
    for step in 1_u16..=2048 {
        let x = std::hint::black_box(f32::from(step) * 0.037_5);
        for bits in sys::float::approximations(x) {
            hasher.update(bits.to_be_bytes());
        }
        let x = std::hint::black_box(f64::from(step) / 2049.0);
        for bits in sys::float::x87(x) {
            hasher.update(bits.to_be_bytes());
        }
        // Arithmetic that the standard does fix, denormal numbers among it: another answer is another class.
        let tiny = f64::MIN_POSITIVE * x;
        for value in [x * x, x / 3.0, x.sqrt(), tiny, tiny / 3.0, x + tiny, 1.0 / tiny] {
            hasher.update(value.to_bits().to_be_bytes());
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_kind_processor_and_interpreters() {
        let bash: [(Interpreter, PathBuf); 1] = [(Interpreter::Bash, "/proc/self/exe".into())];
        let det = id(1, Mask::Masked, &bash);
        assert_eq!(det.0[0], 1);
        assert_eq!(det, id(1, Mask::Masked, &bash));
        assert_ne!(det, id(1, Mask::Masked, &[]));
        assert_ne!(det.0[1..], id(2, Mask::Open, &bash).0[1..]);
    }
}
