//! The name of a tree: a CIDv1, dag-pb, sha2-256 content id, and its 32-byte digest form as it stands on chain.
//!
//! Owns the two text and byte forms and the conversion to `cid::Cid`. A tree's root is always a dag-pb directory, so
//! the digest alone names it (protocol.md keeps 32 bytes per content id).

use std::fmt;
use std::str::FromStr;

use cid::Cid;
use cid::multihash::Multihash;
use sandrun_types::ContentDigest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Multicodec of raw bytes (<https://github.com/multiformats/multicodec>).
pub const RAW_CODEC: u64 = 0x55;
/// Multicodec of dag-pb nodes.
pub const DAG_PB_CODEC: u64 = 0x70;
/// Multihash code of sha2-256, the only hash that this crate makes or accepts.
pub const SHA2_256: u64 = 0x12;

/// Names one tree: CIDv1, dag-pb, sha2-256. Its text form is `bafy…`, its chain form the 32-byte digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId([u8; 32]);

/// Why a text or a CID is no [`ContentId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentIdError {
    /// The text is not a CID at all.
    #[error("`{text}` is not a content id: {reason}; expected CIDv1 text such as `bafybei…`")]
    Text {
        /// What was given.
        text: String,
        /// What the decoder said.
        reason: String,
    },
    /// The CID's codec is not dag-pb, so its digest alone would not name it.
    #[error(
        "content id {cid} has codec {codec:#x}, a tree's root has codec 0x70 (dag-pb): add the file within a directory"
    )]
    Codec {
        /// The CID.
        cid: Cid,
        /// Its codec.
        codec: u64,
    },
    /// The CID's hash is not sha2-256.
    #[error("content id {cid} uses hash {code:#x}, only sha2-256 (0x12) is supported")]
    Hash {
        /// The CID.
        cid: Cid,
        /// Its multihash code.
        code: u64,
    },
}

impl ContentId {
    /// The content id whose root block has this sha2-256 digest.
    #[must_use]
    pub const fn from_digest(digest: ContentDigest) -> Self {
        Self(digest.0)
    }

    /// The sha2-256 digest of the root block, as it stands on chain.
    #[must_use]
    pub const fn to_digest(self) -> ContentDigest {
        ContentDigest(self.0)
    }

    /// The same name as a CIDv1 (dag-pb, sha2-256).
    #[must_use]
    pub fn to_cid(self) -> Cid {
        cid_of(DAG_PB_CODEC, self.0)
    }
}

/// CIDv1 of a sha2-256 digest with `codec`.
pub(crate) fn cid_of(codec: u64, digest: [u8; 32]) -> Cid {
    // 32 bytes always fit the 64 bytes of the multihash, so the fallback (an empty hash) is never taken.
    let hash = Multihash::wrap(SHA2_256, &digest).unwrap_or_default();
    Cid::new_v1(codec, hash)
}

/// The sha2-256 digest in a CID, or none where it is hashed otherwise.
pub(crate) fn digest_of(cid: &Cid) -> Option<[u8; 32]> {
    if cid.hash().code() != SHA2_256 {
        return None;
    }
    cid.hash().digest().try_into().ok()
}

impl TryFrom<&Cid> for ContentId {
    type Error = ContentIdError;

    /// Accepts CIDv0 and CIDv1 of a dag-pb sha2-256 block.
    fn try_from(cid: &Cid) -> Result<Self, Self::Error> {
        if cid.codec() != DAG_PB_CODEC {
            return Err(ContentIdError::Codec {
                cid: *cid,
                codec: cid.codec(),
            });
        }
        match digest_of(cid) {
            Some(digest) => Ok(Self(digest)),
            None => Err(ContentIdError::Hash {
                cid: *cid,
                code: cid.hash().code(),
            }),
        }
    }
}

impl From<ContentDigest> for ContentId {
    fn from(digest: ContentDigest) -> Self {
        Self::from_digest(digest)
    }
}

impl From<ContentId> for ContentDigest {
    fn from(id: ContentId) -> Self {
        id.to_digest()
    }
}

impl From<ContentId> for Cid {
    fn from(id: ContentId) -> Self {
        id.to_cid()
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_cid().fmt(f)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    /// Reads CID text (any base, CIDv0 too, an `ipfs://` or `/ipfs/` prefix allowed).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text
            .strip_prefix("ipfs://")
            .or_else(|| text.strip_prefix("/ipfs/"))
            .unwrap_or(text);
        let cid = Cid::from_str(bare).map_err(|e| ContentIdError::Text {
            text: text.to_owned(),
            reason: e.to_string(),
        })?;
        Self::try_from(&cid)
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The empty UnixFS directory, a well-known name of the IPFS world.
    const EMPTY_DIR: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

    #[test]
    fn text_digest_and_json_are_one_name() {
        let id: ContentId = EMPTY_DIR.parse().unwrap();
        assert_eq!(id.to_string(), EMPTY_DIR);
        assert_eq!(ContentId::from_digest(id.to_digest()), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{EMPTY_DIR}\""));
        assert_eq!(serde_json::from_str::<ContentId>(&json).unwrap(), id);
    }

    #[test]
    fn version_zero_and_prefixes_name_the_same_tree() {
        let id: ContentId = EMPTY_DIR.parse().unwrap();
        for text in [
            "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
            &format!("ipfs://{EMPTY_DIR}"),
            &format!("/ipfs/{EMPTY_DIR}"),
        ] {
            assert_eq!(text.parse::<ContentId>().unwrap(), id, "{text}");
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let raw = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
        assert!(matches!(
            raw.parse::<ContentId>(),
            Err(ContentIdError::Codec { codec: 0x55, .. })
        ));
        assert!(matches!(
            "hello".parse::<ContentId>(),
            Err(ContentIdError::Text { .. })
        ));
        assert!(matches!(
            "".parse::<ContentId>(),
            Err(ContentIdError::Text { .. })
        ));
    }
}
