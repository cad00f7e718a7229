//! One block: bytes and the CID that they hash to. Owns the check; a [`Block`] in hand has passed it.

use bytes::Bytes;
use cid::Cid;
use sha2::{Digest, Sha256};

use crate::id::{DAG_PB_CODEC, RAW_CODEC, cid_of, digest_of};

/// The largest block that is read from or written to any store, as bitswap allows: 2 MiB.
pub const MAX_BLOCK_BYTES: usize = 2 << 20;

/// Bytes that were checked against their CID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    bytes: Bytes,
}

/// Why bytes are not the block that a CID names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes hash to something else.
    #[error("block {cid} is corrupt: {len} bytes were read that hash to something else")]
    Corrupt {
        /// What was asked for.
        cid: Cid,
        /// How many bytes there are.
        len: usize,
    },
    /// More bytes than any store exchanges.
    #[error("block {cid} is larger than {MAX_BLOCK_BYTES} bytes")]
    TooLarge {
        /// What was asked for.
        cid: Cid,
    },
    /// The CID's hash or codec is one that this crate can't check or read.
    #[error(
        "block {cid} has codec {codec:#x} and hash {hash:#x}; only raw and dag-pb with sha2-256 are supported"
    )]
    Unsupported {
        /// The CID.
        cid: Cid,
        /// Its codec.
        codec: u64,
        /// Its multihash code.
        hash: u64,
    },
}

impl Block {
    /// Checks `bytes` against `cid`.
    ///
    /// # Errors
    /// [`BlockError`] where the CID is not sha2-256 of raw or dag-pb, the block is too large, or the hash differs.
    pub fn checked(cid: Cid, bytes: Bytes) -> Result<Self, BlockError> {
        let expected = supported(&cid)?;
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge { cid });
        }
        let actual: [u8; 32] = Sha256::digest(&bytes).into();
        if actual != expected {
            return Err(BlockError::Corrupt {
                cid,
                len: bytes.len(),
            });
        }
        Ok(Self { cid, bytes })
    }

    /// The block of `bytes` with `codec`: CIDv1, sha2-256.
    #[must_use]
    pub fn hashed(codec: u64, bytes: Bytes) -> Self {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        Self {
            cid: cid_of(codec, digest),
            bytes,
        }
    }

    /// What the bytes hash to.
    #[must_use]
    pub const fn cid(&self) -> Cid {
        self.cid
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// The digest of a CID that this crate can check, or why it can't.
pub(crate) fn supported(cid: &Cid) -> Result<[u8; 32], BlockError> {
    let known = matches!(cid.codec(), RAW_CODEC | DAG_PB_CODEC);
    match digest_of(cid) {
        Some(digest) if known => Ok(digest),
        Some(_) | None => Err(BlockError::Unsupported {
            cid: *cid,
            codec: cid.codec(),
            hash: cid.hash().code(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_corrupt() {
        let block = Block::hashed(RAW_CODEC, Bytes::from_static(b"hello"));
        assert_eq!(
            Block::checked(block.cid(), Bytes::from_static(b"hello")),
            Ok(block.clone())
        );
        assert!(matches!(
            Block::checked(block.cid(), Bytes::from_static(b"hellp")),
            Err(BlockError::Corrupt { len: 5, .. })
        ));
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        let digest = [7; 32];
        let cbor = cid_of(0x71, digest);
        assert!(matches!(
            Block::checked(cbor, Bytes::new()),
            Err(BlockError::Unsupported { codec: 0x71, .. })
        ));
        let big = Bytes::from(vec![0; MAX_BLOCK_BYTES + 1]);
        let cid = Block::hashed(RAW_CODEC, big.clone()).cid();
        assert!(matches!(
            Block::checked(cid, big),
            Err(BlockError::TooLarge { .. })
        ));
    }
}
