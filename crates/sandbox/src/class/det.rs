//! The ids of the classes with a tracer. Owns what enters them; never runs a program.

use std::path::PathBuf;

use sandrun_types::{ClassId, Interpreter, TRACE_VERSION_TRACED};
use sha2::{Digest as _, Sha256};

use super::cpu_features;
use crate::events::{MAX_EVENT_BYTES, MAX_EVENTS};
use crate::supervisor::cpuid_fingerprint;
use crate::{environment, sys};

/// What the ids of both classes begin with: the kind `det`.
const KIND: u8 = 1;
/// Version of the tracer: raised by whatever makes a program see or do something else than before.
const TRACER_VERSION: u32 = 5;

/// Whether a class shows every program the same processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// CPUID is answered by the tracer: class `det`.
    Masked,
    /// By the processor itself: class `det-soft`, whose machines need the same features.
    Open,
}

/// Byte 0 is the kind, byte 1 says `det` or `det-soft`, the rest is of SHA-256 over: the versions of tracer and trace,
/// the budget of events, the architecture, the processor that programs see, the fixed environment, where each
/// interpreter lies, all that jobs can see of the machine's files (`system`), where memory lies (`layout`), and the
/// float probe. On machines with the same id a program gives the same answer and the same trace.
pub(crate) fn id(
    mask: Mask,
    interpreters: &[(Interpreter, PathBuf)],
    system: &[u8; 32],
    layout: &str,
) -> ClassId {
    let mut hasher = Sha256::new();
    hasher.update(b"sandrun-class-det-v2\0");
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
        hasher.update(format!("\0{interpreter}={}", path.display()));
    }
    hasher.update(b"\0");
    hasher.update(system);
    hasher.update(layout);
    hasher.update(float_probe());
    let mut id: [u8; 32] = hasher.finalize().into();
    id[0] = KIND;
    id[1] = match mask {
        Mask::Masked => 0,
        Mask::Open => ClassId::SOFT,
    };
    ClassId(id)
}

/// What the processor itself answers where the floating-point standard leaves room. The mathematics library needs no
/// probe of its own: it is among the system's files, and which of its variants runs is up to the processor that it sees.
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
    use sandrun_types::ClassKind;

    use super::*;

    #[test]
    fn an_id_names_kind_processor_interpreters_and_system() {
        let bash: [(Interpreter, PathBuf); 1] = [(Interpreter::Bash, "/proc/self/exe".into())];
        let system = [7; 32];
        let det = id(Mask::Masked, &bash, &system, "flat");
        assert_eq!(det.0[0], 1);
        assert_eq!(det, id(Mask::Masked, &bash, &system, "flat"));
        assert_ne!(det, id(Mask::Masked, &[], &system, "flat"));
        assert_ne!(det, id(Mask::Masked, &bash, &[8; 32], "flat"));
        assert_ne!(det, id(Mask::Masked, &bash, &system, "steep"));
        let soft = id(Mask::Open, &bash, &system, "flat");
        assert_ne!(det.0[2..], soft.0[2..]);
        assert_eq!((det.kind(), det.is_soft()), (Some(ClassKind::Det), false));
        assert_eq!((soft.kind(), soft.is_soft()), (Some(ClassKind::Det), true));
    }
}
