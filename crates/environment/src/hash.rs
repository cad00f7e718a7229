//! The hash that a lock holds a package to. Owns its two kinds and their text forms.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// Hash of a package file: SHA-256 as Python's index has it, or SHA-512 as npm's has. Text form `sha256:HEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageHash {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// A text that is no package hash.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no hash of a package: expected sha256: and 64, or sha512: and 128 hexadecimal digits")]
pub struct PackageHashError(String);

impl PackageHash {
    /// Reads npm's form (Subresource Integrity: `sha512-BASE64`).
    ///
    /// # Errors
    /// [`PackageHashError`], also for hashes that are no longer strong.
    pub fn from_integrity(text: &str) -> Result<Self, PackageHashError> {
        let bad = || PackageHashError(shown(text));
        let digest = text.strip_prefix("sha512-").ok_or_else(bad)?;
        let bytes = STANDARD.decode(digest).map_err(|_| bad())?;
        Ok(Self::Sha512(bytes.try_into().map_err(|_| bad())?))
    }

    /// Whether these are the bytes.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn fits(&self, content: &mut dyn Read) -> std::io::Result<bool> {
        match self {
            Self::Sha256(expected) => {
                let mut hasher = Sha256::new();
                std::io::copy(content, &mut hasher)?;
                Ok(<[u8; 32]>::from(hasher.finalize()) == *expected)
            }
            Self::Sha512(expected) => {
                let mut hasher = Sha512::new();
                std::io::copy(content, &mut hasher)?;
                Ok(<[u8; 64]>::from(hasher.finalize()) == *expected)
            }
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(150).collect()
}

impl FromStr for PackageHash {
    type Err = PackageHashError;

    fn from_str(text: &str) -> Result<Self, PackageHashError> {
        let bad = || PackageHashError(shown(text));
        let (kind, digits) = text.split_once(':').ok_or_else(bad)?;
        let bytes = hex::decode(digits).map_err(|_| bad())?;
        match kind {
            "sha256" => bytes.try_into().map(Self::Sha256).map_err(|_| bad()),
            "sha512" => bytes.try_into().map(Self::Sha512).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for PackageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(bytes) => write!(f, "sha256:{}", hex::encode(bytes)),
            Self::Sha512(bytes) => write!(f, "sha512:{}", hex::encode(bytes)),
        }
    }
}

impl Serialize for PackageHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PackageHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_forms_are_strict_and_round_trip() {
        let hash: PackageHash = EMPTY.parse().unwrap();
        assert_eq!(hash.to_string(), EMPTY);
        let long = format!("sha512:{}", "ab".repeat(64));
        assert_eq!(long.parse::<PackageHash>().unwrap().to_string(), long);
        for bad in ["", "sha256", "sha256:00", "sha1:00", "md5:x"] {
            assert!(bad.parse::<PackageHash>().is_err(), "{bad}");
        }
        assert!(PackageHash::from_integrity("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=").is_err());
        let integrity = format!("sha512-{}", STANDARD.encode([0xab; 64]));
        assert_eq!(PackageHash::from_integrity(&integrity).unwrap().to_string(), long);
    }

    #[test]
    fn only_the_same_bytes_fit() {
        let hash: PackageHash = EMPTY.parse().unwrap();
        assert!(hash.fits(&mut &b""[..]).unwrap());
        assert!(!hash.fits(&mut &b"x"[..]).unwrap());
    }
}
