//! Entropy that is the same in every run of the same job.
//!
//! Owns the generator and one stream for each process, so that what a process draws depends on its own draws alone.
//! Never traps a call: who asks, and for how many bytes, is an argument.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Bytes of one block.
const BLOCK: usize = 32;
/// Largest draw of one call, as of `getrandom(2)` and of reading `/dev/urandom`.
pub(in super::super) const MAX_DRAW: usize = 33_554_431;

/// All entropy of a job.
#[derive(Debug)]
pub(in super::super) struct Entropy {
    seed: [u8; 32],
    streams: BTreeMap<u32, Stream>,
}

impl Entropy {
    /// From a job's seed (see [`crate::seed`]).
    pub(in super::super) const fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            streams: BTreeMap::new(),
        }
    }

    /// Fills `out` with the next bytes of the stream of the process with this virtual id.
    pub(in super::super) fn draw(&mut self, process: u32, out: &mut [u8]) {
        let seed = &self.seed;
        let stream = self
            .streams
            .entry(process)
            .or_insert_with(|| Stream::new(seed, b"process", process));
        stream.fill(out);
    }

    /// The random identity that `/proc/sys/kernel/random/boot_id` shows: one for the whole job.
    pub(in super::super) fn boot_id(&self) -> String {
        let mut bytes = [0; 16];
        Stream::new(&self.seed, b"boot", 0).fill(&mut bytes);
        uuid(bytes)
    }

    /// A fresh identity, as each read of `/proc/sys/kernel/random/uuid` gives one.
    pub(in super::super) fn uuid(&mut self, process: u32) -> String {
        let mut bytes = [0; 16];
        self.draw(process, &mut bytes);
        uuid(bytes)
    }
}

/// Version 4 of RFC 9562, with a line's end.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(37);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    text
}

/// Block number *n* is `SHA-256(key || n)`; what is left of a block is used first.
#[derive(Debug)]
struct Stream {
    key: [u8; 32],
    next: u64,
    block: [u8; BLOCK],
    used: usize,
}

impl Stream {
    fn new(seed: &[u8; 32], purpose: &[u8], number: u32) -> Self {
        let key = Sha256::new()
            .chain_update(b"sandrun-entropy-v1\0")
            .chain_update(seed)
            .chain_update(number.to_be_bytes())
            .chain_update(purpose)
            .finalize()
            .into();
        Self {
            key,
            next: 0,
            block: [0; BLOCK],
            used: BLOCK,
        }
    }

    fn fill(&mut self, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            if self.used == BLOCK {
                self.block = Sha256::new()
                    .chain_update(self.key)
                    .chain_update(self.next.to_be_bytes())
                    .finalize()
                    .into();
                self.next = self.next.wrapping_add(1);
                self.used = 0;
            }
            let length = (out.len() - at).min(BLOCK - self.used);
            out[at..at + length].copy_from_slice(&self.block[self.used..self.used + length]);
            self.used += length;
            at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entropy: &mut Entropy, process: u32, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        entropy.draw(process, &mut out);
        out
    }

    #[test]
    fn the_cut_of_draws_does_not_matter() {
        let whole = bytes(&mut Entropy::new([7; 32]), 2, 500);
        let mut entropy = Entropy::new([7; 32]);
        let pieces: Vec<u8> = [1, 31, 32, 33, 0, 100, 303]
            .iter()
            .flat_map(|length| bytes(&mut entropy, 2, *length))
            .collect();
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_process_draws_the_same_whatever_others_draw() {
        let alone = bytes(&mut Entropy::new([7; 32]), 2, 64);
        let mut entropy = Entropy::new([7; 32]);
        let others = bytes(&mut entropy, 3, 64);
        assert_eq!(bytes(&mut entropy, 2, 64), alone);
        assert_ne!(others, alone);
        assert_ne!(bytes(&mut Entropy::new([8; 32]), 2, 64), alone);
    }

    #[test]
    fn the_stream_is_fixed_for_ever() {
        let mut key = Sha256::new();
        key.update(b"sandrun-entropy-v1\0");
        key.update([0; 32]);
        key.update([0, 0, 0, 1]);
        key.update(b"process");
        let mut block = Sha256::new();
        block.update(key.finalize());
        block.update([0; 8]);
        let expected: [u8; 32] = block.finalize().into();
        assert_eq!(bytes(&mut Entropy::new([0; 32]), 1, 32), expected);
    }

    #[test]
    fn identities_are_of_version_4() {
        let mut entropy = Entropy::new([1; 32]);
        let (one, two) = (entropy.uuid(1), entropy.uuid(1));
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (37, "4"));
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(entropy.boot_id(), Entropy::new([1; 32]).boot_id());
    }
}
