//! The Merkle tree hash of RFC 6962, section 2.1, with SHA-256.

use sha2::{Digest as _, Sha256};

/// Root over the leaves in their order. The root of no leaves is SHA-256 of nothing.
///
/// Leaf: `SHA-256(0x00 || leaf)`; node: `SHA-256(0x01 || left || right)`; the left subtree holds the largest power of
/// two of leaves that is smaller than their number.
#[must_use]
pub fn merkle_root<L: AsRef<[u8]>>(leaves: &[L]) -> [u8; 32] {
    if leaves.is_empty() {
        return Sha256::digest([]).into();
    }
    // Complete subtrees so far, sizes strictly falling, as a binary counter does it.
    let mut subtrees: Vec<(u32, [u8; 32])> = Vec::new();
    for leaf in leaves {
        let mut level = 0;
        let mut hash = hash_leaf(leaf.as_ref());
        while let Some((at, left)) = subtrees.last()
            && *at == level
        {
            hash = hash_node(left, &hash);
            level += 1;
            subtrees.pop();
        }
        subtrees.push((level, hash));
    }
    let mut rest = subtrees.into_iter().rev().map(|(_, hash)| hash);
    let last = rest.next().unwrap_or_default();
    rest.fold(last, |right, left| hash_node(&left, &right))
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
