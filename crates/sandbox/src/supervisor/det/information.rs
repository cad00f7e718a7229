//! What a signal's information (`siginfo_t`) says: nothing that the kernel has counted, and nobody outside the job.
//!
//! Owns which of its bytes are the machine's matter. Never asks the kernel for it.

/// Bytes that are used of it.
pub(super) const BYTES: usize = 48;

/// A child's fate: from `CLD_EXITED` to `CLD_CONTINUED`.
const FATES: std::ops::RangeInclusive<i32> = 1..=6;
/// Signals that a process has sent: `SI_USER`, `SI_QUEUE`, `SI_TKILL`.
const SENT: [i32; 3] = [0, -1, -6];

/// Makes it the same on every machine; whether it was not.
///
/// A child's times become zero, as its use of the machine is. Of what was sent from outside the job's processes (by the
/// tracer, that is) the user becomes zero: it is whoever the service is.
pub(super) fn settle(information: &mut [u8; BYTES]) -> bool {
    let before = *information;
    let number = |at: usize| {
        let bytes = before.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    };
    let (code, process) = (number(8), number(16));
    if FATES.contains(&code) {
        information[32..].fill(0);
    } else if SENT.contains(&code) && process == 0 {
        information[20..24].fill(0);
    }
    *information != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn information(code: i32, process: i32) -> [u8; BYTES] {
        let mut bytes = [7; BYTES];
        bytes[8..12].copy_from_slice(&code.to_ne_bytes());
        bytes[16..20].copy_from_slice(&process.to_ne_bytes());
        bytes
    }

    #[test]
    fn times_of_children_are_none_and_the_rest_stays() {
        for code in FATES {
            let (before, mut bytes) = (information(code, 3), information(code, 3));
            assert!(settle(&mut bytes) && !settle(&mut bytes));
            assert_eq!((&bytes[..32], &bytes[32..]), (&before[..32], &[0; 16][..]));
        }
    }

    #[test]
    fn users_outside_are_nobody_and_others_stay() {
        for code in SENT {
            let mut bytes = information(code, 3);
            assert!(!settle(&mut bytes));
            bytes = information(code, 0);
            assert!(settle(&mut bytes) && bytes[20..24] == [0; 4] && bytes[24..] == [7; 24]);
        }
        assert!(!settle(&mut information(-2, 0)) && !settle(&mut information(128, 0)));
    }
}
