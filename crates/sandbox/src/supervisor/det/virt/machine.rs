//! The machine that a job of class `det` sees: one processor, no load, its own limits as its memory.
//!
//! Owns the kernel's structures as bytes. Never makes a call.

/// Bytes of `struct utsname`.
const FIELD: usize = 65;
const UTSNAME_BYTES: usize = 6 * FIELD;
/// Bytes of `struct sysinfo` on x86-64.
const SYSINFO_BYTES: usize = 112;
/// Bytes of `struct rusage` on x86-64.
pub(in super::super) const RUSAGE_BYTES: usize = 144;
/// The kernel's version that every job is told; the static files in `/proc` say the same.
pub(in super::super) const RELEASE: &str = "6.0.0";
/// What `times(2)` counts in.
const TICKS: u64 = 100;

/// `uname(2)`.
pub(in super::super) fn utsname() -> [u8; UTSNAME_BYTES] {
    let mut bytes = [0; UTSNAME_BYTES];
    let fields = ["Linux", "sandbox", RELEASE, "#1 SMP sandrun", "x86_64", "(none)"];
    for (field, text) in bytes.chunks_mut(FIELD).zip(fields) {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

/// `sysinfo(2)` of a job with this much memory, `uptime` seconds after its boot.
pub(in super::super) fn sysinfo(uptime: u64, memory: u64) -> [u8; SYSINFO_BYTES] {
    let mut bytes = [0; SYSINFO_BYTES];
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(0, uptime);
    put(32, memory);
    put(40, memory);
    // One process; the unit is a byte.
    put(80, 1);
    put(104, 1);
    bytes
}

/// A pair of seconds and millionths.
fn timeval(nanos: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(nanos / 1_000_000_000).to_le_bytes());
    bytes[8..].copy_from_slice(&(nanos % 1_000_000_000 / 1000).to_le_bytes());
    bytes
}

/// `struct rusage` of somebody that has run for `nanos`: all of it its own time, and nothing else is counted.
pub(in super::super) fn rusage(nanos: u64) -> [u8; RUSAGE_BYTES] {
    let mut bytes = [0; RUSAGE_BYTES];
    bytes[..16].copy_from_slice(&timeval(nanos));
    // The largest resident set, in KiB.
    bytes[32..40].copy_from_slice(&16_384_u64.to_le_bytes());
    bytes
}

/// `struct tms` of somebody that has run for `nanos`.
pub(in super::super) fn tms(nanos: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&ticks(nanos).to_le_bytes());
    bytes
}

/// Clock ticks as `times(2)` counts them.
pub(in super::super) const fn ticks(nanos: u64) -> u64 {
    nanos / (1_000_000_000 / TICKS)
}

/// Whether a limit of processes is inherited from the machine and told as "none".
pub(in super::super) fn is_machines_limit(resource: u32) -> bool {
    [
        libc::RLIMIT_CPU,
        libc::RLIMIT_AS,
        libc::RLIMIT_RSS,
        libc::RLIMIT_LOCKS,
        libc::RLIMIT_RTTIME,
        libc::RLIMIT_DATA,
    ]
    .contains(&resource)
}

/// Limits that a job may set as it likes, without effect: they count real time, or are the sandbox's where that has no
/// better means.
pub(in super::super) fn is_without_effect(resource: u32) -> bool {
    [libc::RLIMIT_CPU, libc::RLIMIT_RTTIME, libc::RLIMIT_DATA].contains(&resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_nothing_of_the_machine() {
        let bytes = utsname();
        let fields: Vec<&str> = bytes
            .chunks(FIELD)
            .map(|field| {
                let end = field.iter().position(|byte| *byte == 0).unwrap();
                std::str::from_utf8(&field[..end]).unwrap()
            })
            .collect();
        assert_eq!(
            fields,
            ["Linux", "sandbox", "6.0.0", "#1 SMP sandrun", "x86_64", "(none)"]
        );
    }

    #[test]
    fn the_structures_are_those_of_the_c_library() {
        assert_eq!(size_of::<libc::utsname>(), UTSNAME_BYTES);
        assert_eq!(size_of::<libc::sysinfo>(), SYSINFO_BYTES);
        assert_eq!(size_of::<libc::rusage>(), RUSAGE_BYTES);
        let bytes = sysinfo(7, 1 << 20);
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(word(std::mem::offset_of!(libc::sysinfo, totalram)), 1 << 20);
        assert_eq!(word(std::mem::offset_of!(libc::sysinfo, freeram)), 1 << 20);
        assert_eq!(word(std::mem::offset_of!(libc::sysinfo, mem_unit)), 1);
        let usage = rusage(3_000_004_000);
        assert_eq!((usage[0], usage[8]), (3, 4));
        assert_eq!(std::mem::offset_of!(libc::rusage, ru_maxrss), 32);
        assert_eq!(ticks(1_250_000_000), 125);
    }
}
