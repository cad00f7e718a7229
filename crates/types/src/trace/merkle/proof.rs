//! Proofs that a leaf stands at a place under a root: the audit paths of RFC 6962, section 2.1.1. Owns making and
//! checking them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{hash_leaf, hash_node, merkle_root};
use crate::Sha256Hex;

/// Most hashes in a path: one for each doubling of a `u64`.
const MAX_PATH: usize = 64;

/// An audit path: the hashes beside the way from a leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The leaf's place, from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub leaves: u64,
    /// The hashes, from the leaf's own neighbour upwards.
    pub path: Vec<Sha256Hex>,
}

/// Why a proof does not show that a leaf is under a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The place is behind the last leaf.
    #[error("the proof is for leaf {index} of a tree that has {leaves}, the first of which is 0")]
    Index {
        /// The place.
        index: u64,
        /// The tree's leaves.
        leaves: u64,
    },
    /// The path has not as many hashes as the way to the root.
    #[error(
        "the proof has {found} hashes where a tree of {leaves} leaves has another number: it is cut off, or not for this tree"
    )]
    Length {
        /// How many it has.
        found: usize,
        /// The tree's leaves.
        leaves: u64,
    },
    /// The path ends at another root.
    #[error(
        "the proof leads to the root {found}, not to {expected}: the file, its name or the proof is another one"
    )]
    Root {
        /// Where it ends.
        found: Sha256Hex,
        /// Where it should end.
        expected: Sha256Hex,
    },
}

impl InclusionProof {
    /// The proof for one of these leaves; `None` if there is no such leaf.
    #[must_use]
    pub fn of<L: AsRef<[u8]>>(leaves: &[L], index: usize) -> Option<Self> {
        if index >= leaves.len() {
            return None;
        }
        let mut path = Vec::new();
        let (mut rest, mut at) = (leaves, index);
        while rest.len() > 1 {
            let (left, right) = rest.split_at(1 << (rest.len() - 1).ilog2());
            let beside;
            if at < left.len() {
                (rest, beside) = (left, right);
            } else {
                at -= left.len();
                (rest, beside) = (right, left);
            }
            path.push(Sha256Hex(merkle_root(beside)));
        }
        path.reverse();
        Some(Self {
            index: index as u64,
            leaves: leaves.len() as u64,
            path,
        })
    }

    /// Checks that this leaf stands at the proof's place under `root` (the algorithm of RFC 9162, section 2.1.3.2).
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, leaf: &[u8], root: [u8; 32]) -> Result<(), ProofError> {
        let (index, leaves) = (self.index, self.leaves);
        if index >= leaves {
            return Err(ProofError::Index { index, leaves });
        }
        let wrong_length = ProofError::Length {
            found: self.path.len(),
            leaves,
        };
        if self.path.len() > MAX_PATH {
            return Err(wrong_length);
        }
        // The node on the way and the last node of its level.
        let (mut node, mut last) = (index, leaves - 1);
        let mut hash = hash_leaf(leaf);
        for beside in &self.path {
            if last == 0 {
                return Err(wrong_length);
            }
            if node % 2 == 1 || node == last {
                hash = hash_node(&beside.0, &hash);
                // a last node without a neighbour goes up unchanged
                while node.is_multiple_of(2) && node != 0 {
                    (node, last) = (node / 2, last / 2);
                }
            } else {
                hash = hash_node(&hash, &beside.0);
            }
            (node, last) = (node / 2, last / 2);
        }
        if last != 0 {
            return Err(wrong_length);
        }
        if hash == root {
            Ok(())
        } else {
            Err(ProofError::Root {
                found: Sha256Hex(hash),
                expected: Sha256Hex(root),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: u8) -> Vec<[u8; 1]> {
        (0..count).map(|leaf| [leaf]).collect()
    }

    #[test]
    fn a_tree_of_one_leaf_needs_no_path() {
        let proof = InclusionProof::of(&leaves(1), 0).unwrap();
        assert_eq!(proof.path, []);
        proof.check(&[0], merkle_root(&leaves(1))).unwrap();
        assert_eq!(InclusionProof::of(&leaves(1), 1), None);
    }

    proptest! {
        #[test]
        fn every_leaf_has_a_proof_and_no_other_has_it(count in 1_u8..70, at in any::<prop::sample::Index>(), other in any::<u8>()) {
            let (leaves, at) = (leaves(count), at.index(usize::from(count)));
            let root = merkle_root(&leaves);
            let proof = InclusionProof::of(&leaves, at).unwrap();
            prop_assert_eq!(proof.check(&leaves[at], root), Ok(()));
            if [other] != leaves[at] {
                let found = proof.check(&[other], root);
                prop_assert!(matches!(found, Err(ProofError::Root { .. })), "{found:?}");
            }
        }

        #[test]
        fn a_changed_proof_proves_nothing(count in 2_u8..70, at in any::<prop::sample::Index>(), how in 0..5, bit in 0_usize..256) {
            let (leaves, at) = (leaves(count), at.index(usize::from(count)));
            let root = merkle_root(&leaves);
            let mut proof = InclusionProof::of(&leaves, at).unwrap();
            match how {
                0 => drop(proof.path.pop()),
                1 => drop(proof.path.remove(0)),
                2 => proof.path.push(Sha256Hex([0; 32])),
                3 => {
                    let hash = bit % proof.path.len();
                    proof.path[hash].0[bit / 8] ^= 1 << (bit % 8);
                }
                _ => proof.index = (proof.index + 1) % proof.leaves,
            }
            prop_assert!(proof.check(&leaves[at], root).is_err());
        }
    }
}
