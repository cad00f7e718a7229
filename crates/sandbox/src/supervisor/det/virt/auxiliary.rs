//! The auxiliary vector: what the kernel hands a fresh program besides arguments and environment.
//!
//! Owns which values depend on the machine and what stands in their place. Never touches a program.

use super::cpuid;

/// `AT_HWCAP`, `AT_CLKTCK`, `AT_HWCAP2`, `AT_MINSIGSTKSZ`, and the two of restartable sequences.
const HWCAP: u64 = 16;
const HWCAP2: u64 = 26;
const RSEQ_FEATURE_SIZE: u64 = 27;
const RSEQ_ALIGN: u64 = 28;
const HWCAP3: u64 = 29;
const HWCAP4: u64 = 30;
const MINSIGSTKSZ: u64 = 51;
/// `AT_RANDOM`: address of 16 bytes of entropy.
pub(in super::super) const RANDOM: u64 = 25;
/// Room for a signal's frame, enough for the largest register set that kernels save today.
const SIGNAL_FRAME: u64 = 8192;

/// What a program is told instead of this value; `None` if it is the same on every machine.
pub(in super::super) fn fixed(kind: u64) -> Option<u64> {
    match kind {
        HWCAP => Some(u64::from(cpuid::FEATURES_EDX)),
        HWCAP2 | HWCAP3 | HWCAP4 => Some(0),
        RSEQ_FEATURE_SIZE => Some(20),
        RSEQ_ALIGN => Some(32),
        MINSIGSTKSZ => Some(SIGNAL_FRAME),
        _ => None,
    }
}

/// The whole vector as `/proc/<id>/auxv` shows it.
pub(in super::super) fn fix(mut vector: Vec<u8>) -> Vec<u8> {
    for pair in vector.chunks_exact_mut(16) {
        let kind = pair
            .first_chunk::<8>()
            .map_or(0, |kind| u64::from_le_bytes(*kind));
        if let Some(value) = fixed(kind) {
            pair[8..].copy_from_slice(&value.to_le_bytes());
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_and_the_machine_goes() {
        let vector = |values: [(u64, u64); 3]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|(kind, value)| [kind.to_le_bytes(), value.to_le_bytes()].concat())
                .collect()
        };
        let fixed = fix(vector([(HWCAP, 0xbfeb_fbff), (RANDOM, 0x7fff_0000), (0, 0)]));
        assert_eq!(
            fixed,
            vector([(HWCAP, 0x078b_fbff), (RANDOM, 0x7fff_0000), (0, 0)])
        );
    }
}
