//! The name of a file inside a bundle: relative, normal, printable.
//!
//! Owns the rule of what a name may look like. Never looks at a file system.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name in bytes (Linux' PATH_MAX is 4096; room is left for the folder that the bundle is put in).
const MAX_BYTES: usize = 1024;
/// Longest component in bytes (NAME_MAX).
const MAX_COMPONENT_BYTES: usize = 255;
/// Most components.
const MAX_DEPTH: usize = 64;

/// A file's name inside a bundle or among a job's outputs, such as `src/main.py`: at most 1024 bytes of UTF-8 in at
/// most 64 components, none of them empty, `.` or `..`, without control characters and without a leading `/`.
///
/// A leading `./` and doubled slashes are normalised away when parsing, so equal files have equal names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundlePath(String);

/// Why a text is no [`BundlePath`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BundlePathError {
    /// Nothing is left after normalising.
    #[error("the file name is empty")]
    Empty,
    /// It begins with `/`.
    #[error("{0:?} is absolute; name files relative to the bundle")]
    Absolute(String),
    /// A component is `..`.
    #[error("{0:?} leaves the bundle; remove the `..`")]
    Escapes(String),
    /// A control character, a backslash or NUL.
    #[error("{0:?} holds a control character or a backslash; use printable names with `/`")]
    Unprintable(String),
    /// Over the length, component or depth limit.
    #[error("the file name that begins with {0:?} is too long (1024 bytes, 255 a component, 64 folders)")]
    TooLong(String),
}

impl BundlePath {
    /// Parses and normalises a name.
    ///
    /// # Errors
    /// [`BundlePathError`] names the text and the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, BundlePathError> {
        if text.starts_with('/') {
            return Err(BundlePathError::Absolute(shorten(text)));
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(BundlePathError::Unprintable(shorten(text)));
        }
        let mut components = Vec::new();
        for component in text.split('/') {
            match component {
                "" | "." => {}
                ".." => return Err(BundlePathError::Escapes(shorten(text))),
                name if name.len() > MAX_COMPONENT_BYTES => {
                    return Err(BundlePathError::TooLong(shorten(text)));
                }
                name => components.push(name),
            }
        }
        if components.is_empty() {
            return Err(BundlePathError::Empty);
        }
        let path = components.join("/");
        if path.len() > MAX_BYTES || components.len() > MAX_DEPTH {
            return Err(BundlePathError::TooLong(shorten(text)));
        }
        Ok(Self(path))
    }

    /// The normal form, components separated by `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What follows the last dot of the file name, if there is one that does not begin the name.
    #[must_use]
    pub fn extension(&self) -> Option<&str> {
        self.file_name()
            .rsplit_once('.')
            .filter(|(stem, _)| !stem.is_empty())
            .map(|(_, extension)| extension)
    }

    /// Every folder above the file, outermost first: `a` and `a/b` for `a/b/c`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

/// The beginning of a text, for a message: never more than 80 characters of what a stranger sent.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BundlePath {
    type Error = BundlePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<BundlePath> for String {
    fn from(path: BundlePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normalises_what_is_harmless_and_refuses_the_rest() {
        let path = |text: &str| BundlePath::parse(text).map(String::from);
        assert_eq!(path("./src//main.py"), Ok("src/main.py".to_owned()));
        assert_eq!(path("a b/ü.txt"), Ok("a b/ü.txt".to_owned()));
        assert_eq!(path("..."), Ok("...".to_owned()));
        assert_eq!(path("./"), Err(BundlePathError::Empty));
        assert!(matches!(path("/etc/passwd"), Err(BundlePathError::Absolute(_))));
        assert!(matches!(path("a/../../b"), Err(BundlePathError::Escapes(_))));
        assert!(matches!(path("a\0b"), Err(BundlePathError::Unprintable(_))));
        assert!(matches!(path("..\\b"), Err(BundlePathError::Unprintable(_))));
        assert!(matches!(path(&"a/".repeat(65)), Err(BundlePathError::TooLong(_))));
        assert!(matches!(path(&"a".repeat(256)), Err(BundlePathError::TooLong(_))));
    }

    #[test]
    fn knows_its_parts() {
        let path = BundlePath::parse("a/b/c.tar.gz").unwrap();
        assert_eq!(path.file_name(), "c.tar.gz");
        assert_eq!(path.extension(), Some("gz"));
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(BundlePath::parse(".bashrc").unwrap().extension(), None);
    }

    proptest! {
        #[test]
        fn what_parses_stays_inside_and_parses_to_itself(text in "[a-z./ü\\\\]{0,40}") {
            if let Ok(path) = BundlePath::parse(&text) {
                prop_assert!(!path.as_str().starts_with('/'));
                prop_assert!(path.as_str().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                prop_assert_eq!(BundlePath::parse(path.as_str()), Ok(path));
            }
        }
    }
}
