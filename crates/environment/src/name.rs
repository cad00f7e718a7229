//! What a manifest's `environment` may say: a name, or the id of an image's content. Owns the rule; never looks either
//! up.

use std::fmt;
use std::str::FromStr;

use sandrun_content::ContentId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Longest name in bytes.
const MAX_NAME: usize = 64;

/// A name such as `ml-basic`: a small letter or digit, then those, `-`, `_` and `.`, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentName(String);

/// A text that is neither a name nor a content id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} names no environment: use a name such as `ml-basic` (small letters, digits, `-`, `_`, `.`), or a content id \
     such as `bafybei…`"
)]
pub struct NameError(String);

/// What a manifest's `environment` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A name, which somebody's list maps to an image.
    Name(EnvironmentName),
    /// An image.
    Content(ContentId),
}

impl EnvironmentName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvironmentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = text.bytes().next().is_some_and(plain)
            && text.len() <= MAX_NAME
            && text.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(MAX_NAME).collect()))
        }
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(id) => Ok(Self::Content(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EnvironmentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EnvironmentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

    #[test]
    fn names_and_ids_are_told_apart() {
        assert!(matches!("ml-basic".parse(), Ok(Reference::Name(_))));
        assert!(matches!(ID.parse(), Ok(Reference::Content(_))));
        assert!(matches!(
            format!("ipfs://{ID}").parse(),
            Ok(Reference::Content(_))
        ));
        for bad in ["", "../etc", "ML", "-x", "a b", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sandbox_names_an_image_as_the_content_store_does() {
        let id: ContentId = ID.parse().unwrap();
        assert_eq!(id.to_digest().cid(), ID);
    }
}
