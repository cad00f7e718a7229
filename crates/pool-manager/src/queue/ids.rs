//! Public ids of jobs and nodes: numbers under a keyed permutation, so that nobody guesses a neighbour's and nothing
//! has to be remembered.
//!
//! A Feistel network (Luby and Rackoff 1988) of four rounds over 32-bit halves, SHA-256 as its round function.

use std::fmt;

use sandrun_core::pool::{JobNumber, NodeNumber};
use sandrun_types::Attempt;
use sha2::{Digest as _, Sha256};

/// What is permuted: a job's number and an equal node's number give different ids.
#[derive(Debug, Clone, Copy)]
enum Domain {
    Job,
    Node,
}

/// The key of a service's ids, and what its job ids begin with; all replicas have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdKey {
    key: [u8; 32],
    prefix: &'static str,
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}

const ROUNDS: u8 = 4;

impl IdKey {
    /// A key of these bytes; job ids begin with `prefix`.
    #[must_use]
    pub const fn new(key: [u8; 32], prefix: &'static str) -> Self {
        Self { key, prefix }
    }

    /// A job's id: the prefix and 16 hexadecimal digits.
    #[must_use]
    pub fn job_id(&self, job: JobNumber) -> String {
        format!("{}{:016x}", self.prefix, self.permute(Domain::Job, job.0))
    }

    /// The job that an id means: digits in lower case after the prefix. `None` for other texts and for numbers that no
    /// service gives out.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<JobNumber> {
        let id = id.strip_prefix(self.prefix)?;
        let is_id = id.len() == 16
            && id
                .bytes()
                .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
        let word = u64::from_str_radix(id, 16).ok().filter(|_| is_id)?;
        let number = self.invert(Domain::Job, word);
        // stores count with signed words
        i64::try_from(number).is_ok().then_some(JobNumber(number))
    }

    /// A node's id.
    #[must_use]
    pub fn node_id(&self, node: NodeNumber) -> String {
        format!("node-{:016x}", self.permute(Domain::Node, u64::from(node.0)))
    }

    /// A name for an attempt that its executor can tell a repeat by, and that nobody guesses: 64 hexadecimal digits.
    #[must_use]
    pub fn attempt_key(&self, job: JobNumber, attempt: Attempt) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        hasher.update(b"attempt");
        hasher.update(job.0.to_be_bytes());
        hasher.update(attempt.0.to_be_bytes());
        hex::encode(hasher.finalize())
    }

    fn permute(&self, domain: Domain, word: u64) -> u64 {
        let (mut left, mut right) = halves(word);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(domain, round, right));
        }
        join(left, right)
    }

    fn invert(&self, domain: Domain, word: u64) -> u64 {
        let (mut left, mut right) = halves(word);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(domain, round, left), left);
        }
        join(left, right)
    }

    fn round(&self, domain: Domain, round: u8, half: u32) -> u32 {
        let domain = match domain {
            Domain::Job => b'j',
            Domain::Node => b'n',
        };
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        hasher.update([domain, round]);
        hasher.update(half.to_be_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }
}

fn halves(word: u64) -> (u32, u32) {
    let bytes = word.to_be_bytes();
    (
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    )
}

fn join(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_means_its_job(number in 0..=u64::try_from(i64::MAX).unwrap(), key: [u8; 32]) {
            let key = IdKey::new(key, "pool-");
            prop_assert_eq!(key.job(&key.job_id(JobNumber(number))), Some(JobNumber(number)));
        }
    }

    #[test]
    fn ids_depend_on_the_key_and_neighbours_are_far_apart() {
        let (one, other) = (IdKey::new([1; 32], ""), IdKey::new([2; 32], ""));
        assert_ne!(one.job_id(JobNumber(1)), other.job_id(JobNumber(1)));
        assert_ne!(one.job_id(JobNumber(1))[..8], one.job_id(JobNumber(2))[..8]);
        assert_ne!(
            one.node_id(NodeNumber(1)),
            format!("node-{}", one.job_id(JobNumber(1)))
        );
        assert_eq!(format!("{one:?}"), "IdKey(…)");
    }

    #[test]
    fn other_texts_are_no_ids() {
        let key = IdKey::new([1; 32], "");
        let id = key.job_id(JobNumber(7));
        for text in [
            "",
            "7",
            &id[1..],
            &id.to_uppercase(),
            "+00000000000000a",
            &format!("{id}0"),
        ] {
            let is_itself = text == id;
            assert!(is_itself || key.job(text).is_none(), "{text}");
        }
    }
}
