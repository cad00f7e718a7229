//! What the CPUID instruction answers in class `det`: one processor of level x86-64-v2, the same on every machine.
//!
//! Owns the table. What is left out is left out on purpose: AVX, AVX2, AVX-512, FMA and F16C (libraries choose code
//! by them that rounds differently), RDRAND and RDSEED (true entropy), TSX (aborts by chance), XSAVE (its area's size
//! differs), AES and CLMUL (not part of the level), serial numbers, and everything that tells how many processors of
//! which kind a machine has. Never runs the instruction.

/// Name of the processor, 48 bytes with its final zeros.
const BRAND: &[u8; 48] = b"sandrun x86-64-v2 virtual processor\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Family 6, model 26, stepping 5: the first processor of this level.
const SIGNATURE: u32 = 0x0001_06a5;
/// fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2.
pub(super) const FEATURES_EDX: u32 = 0x078b_fbff;
/// sse3 ssse3 cx16 sse4.1 sse4.2 popcnt.
const FEATURES_ECX: u32 = 0x0098_2201;
/// Highest leaf of the basic and of the extended range.
const MAX_BASIC: u32 = 0xb;
const MAX_EXTENDED: u32 = 0x8000_0008;

/// Registers EAX, EBX, ECX and EDX for a leaf and a subleaf. What the table does not know is zeros.
pub(in crate::supervisor::det) fn leaf(leaf: u32, subleaf: u32) -> [u32; 4] {
    match leaf {
        // "GenuineIntel": libraries choose their caches' sizes by leaf 4 for this name only.
        0 => [MAX_BASIC, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        1 => [SIGNATURE, 0x0001_0800, FEATURES_ECX, FEATURES_EDX],
        // "see leaf 4".
        2 => [0x00fe_ff01, 0xf0, 0, 0],
        4 => cache(subleaf),
        0xb => topology(subleaf),
        0x8000_0000 => [MAX_EXTENDED, 0, 0, 0],
        // lahf_lm; syscall, nx, rdtscp, lm.
        0x8000_0001 => [0, 0, 1, 0x2810_0800],
        0x8000_0002..=0x8000_0004 => brand(leaf - 0x8000_0002),
        // 256 KiB of second-level cache in lines of 64 bytes, 8 ways.
        0x8000_0006 => [0, 0, 0x0100_6040, 0],
        // The time stamp counter never stops.
        0x8000_0007 => [0, 0, 0, 0x100],
        // 40 bits of physical, 48 of virtual addresses.
        0x8000_0008 => [0x3028, 0, 0, 0],
        _ => [0; 4],
    }
}

/// Deterministic cache parameters: 32 KiB of data, 32 KiB of instructions, 256 KiB, 8 MiB.
const fn cache(index: u32) -> [u32; 4] {
    match index {
        0 => [0x121, 0x01c0_003f, 63, 0],
        1 => [0x122, 0x00c0_003f, 127, 0],
        2 => [0x143, 0x01c0_003f, 511, 0],
        3 => [0x163, 0x03c0_003f, 8191, 2],
        _ => [0; 4],
    }
}

/// One thread of one core.
const fn topology(level: u32) -> [u32; 4] {
    match level {
        0 => [0, 1, 0x100, 0],
        1 => [0, 1, 0x201, 0],
        other => [0, 0, other & 0xff, 0],
    }
}

fn brand(third: u32) -> [u32; 4] {
    let start = usize::try_from(third).unwrap_or(0).min(2) * 16;
    std::array::from_fn(|register| {
        let at = start + register * 4;
        u32::from_le_bytes([BRAND[at], BRAND[at + 1], BRAND[at + 2], BRAND[at + 3]])
    })
}

/// The table as bytes, for the id of the class.
pub(crate) fn fingerprint() -> Vec<u8> {
    let leaves = (0..=MAX_BASIC).chain(0x8000_0000..=MAX_EXTENDED);
    leaves
        .flat_map(|number| (0..4).flat_map(move |subleaf| leaf(number, subleaf)))
        .flat_map(u32::to_be_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_level_and_nothing_above_it() {
        let [_, _, ecx, edx] = leaf(1, 0);
        for (bit, name) in [
            (0, "sse3"),
            (9, "ssse3"),
            (13, "cx16"),
            (19, "sse4.1"),
            (20, "sse4.2"),
            (23, "popcnt"),
        ] {
            assert_ne!(ecx & 1 << bit, 0, "{name}");
        }
        for (bit, name) in [
            (1, "pclmulqdq"),
            (12, "fma"),
            (25, "aes"),
            (26, "xsave"),
            (27, "osxsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
            (31, "hypervisor"),
        ] {
            assert_eq!(ecx & 1 << bit, 0, "{name}");
        }
        for (bit, name) in [(4, "tsc"), (15, "cmov"), (24, "fxsr"), (25, "sse"), (26, "sse2")] {
            assert_ne!(edx & 1 << bit, 0, "{name}");
        }
        assert_eq!(edx & 1 << 18, 0, "serial number");
        // avx2, rtm, rdseed, avx512
        assert_eq!(leaf(7, 0), [0; 4]);
        assert_eq!(leaf(0xd, 0), [0; 4]);
        // No hypervisor's leaves.
        assert_eq!(leaf(0x4000_0000, 0), [0; 4]);
    }

    #[test]
    fn caches_have_the_sizes_that_their_geometry_says() {
        let size = |index| {
            let [_, ebx, sets, _] = cache(index);
            ((ebx >> 22) + 1) * ((ebx & 0xfff) + 1) * (sets + 1)
        };
        assert_eq!([0, 1, 2, 3].map(size), [32 << 10, 32 << 10, 256 << 10, 8 << 20]);
    }

    #[test]
    fn the_brand_is_text() {
        let text: Vec<u8> = (0x8000_0002..=0x8000_0004)
            .flat_map(|number| leaf(number, 0))
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(&text, BRAND);
    }
}
