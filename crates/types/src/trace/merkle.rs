//! The Merkle tree hash of RFC 6962, section 2.1, with SHA-256: roots, and proofs that a leaf is under a root.
//!
//! Leaf: `SHA-256(0x00 || leaf)`; node: `SHA-256(0x01 || left || right)`; the left subtree holds the largest power of
//! two of leaves that is smaller than their number; the root of no leaves is SHA-256 of nothing.

mod proof;

use sha2::{Digest as _, Sha256};

pub use proof::{InclusionProof, ProofError};

/// Root over the leaves in their order. The root of no leaves is SHA-256 of nothing.
#[must_use]
pub fn merkle_root<L: AsRef<[u8]>>(leaves: &[L]) -> [u8; 32] {
    let mut tree = MerkleTree::default();
    leaves.iter().for_each(|leaf| tree.push(leaf.as_ref()));
    tree.root()
}

/// A tree that grows leaf by leaf and keeps no more than one hash for each doubling of its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerkleTree {
    /// Complete subtrees, their heights strictly falling, as a binary counter does it.
    subtrees: Vec<(u32, [u8; 32])>,
    leaves: u64,
}

impl MerkleTree {
    /// Adds a leaf behind all others.
    pub fn push(&mut self, leaf: &[u8]) {
        self.push_hash(hash_leaf(leaf));
    }

    /// Adds a leaf by its hash. What counts as a leaf here may itself be the root of a complete tree, if all are of one
    /// size: the root is the same as over the leaves below.
    pub(super) fn push_hash(&mut self, leaf: [u8; 32]) {
        let (mut level, mut hash) = (0, leaf);
        while let Some((_, left)) = self.subtrees.pop_if(|(at, _)| *at == level) {
            hash = hash_node(&left, &hash);
            level += 1;
        }
        self.subtrees.push((level, hash));
        self.leaves += 1;
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.leaves
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        self.root_before(None)
            .unwrap_or_else(|| Sha256::digest([]).into())
    }

    /// The root over these leaves and, behind them, a tree with this root that is smaller than any subtree here; `None`
    /// where there is nothing at all.
    pub(super) fn root_before(&self, rest: Option<[u8; 32]>) -> Option<[u8; 32]> {
        let hashes = self.subtrees.iter().rev().map(|(_, hash)| *hash);
        rest.into_iter()
            .chain(hashes)
            .reduce(|right, left| hash_node(&left, &right))
    }
}

fn hash_leaf(leaf: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update([0])
        .chain_update(leaf)
        .finalize()
        .into()
}

fn hash_node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}
