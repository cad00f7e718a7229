//! Locks: exactly which packages an image is made of. Owns the file form and what may stand in it; a lock is other
//! people's words, of which some become arguments of package managers.

use std::collections::BTreeSet;

use sandrun_types::BundlePath;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash::PackageHash;

/// Most packages in one lock.
const MAX_PACKAGES: usize = 2000;
/// Longest name, version or file name, in bytes.
const MAX_TEXT: usize = 214;

/// A lock of either language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format")]
pub enum Lock {
    /// Wheels.
    #[serde(rename = "sandrun-python-lock-v1")]
    Python(PythonLock),
    /// npm packages.
    #[serde(rename = "sandrun-node-lock-v1")]
    Node(NodeLock),
}

/// Wheels for one version of Python on Linux, x86-64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonLock {
    /// The interpreter's version, such as `3.11`: packages go where it looks for them.
    pub python: String,
    /// The wheels, sorted by name.
    pub packages: Vec<Wheel>,
}

/// One wheel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// The distribution's name as its own metadata writes it.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// Where it was found; it may come from any index that has the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the file is held to.
    pub hash: PackageHash,
}

/// npm packages for Linux, x86-64, glibc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeLock {
    /// The packages, sorted by path.
    pub packages: Vec<NodePackage>,
}

/// One npm package at its place; the same package may stand at several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePackage {
    /// Where it goes: `node_modules/a` or `node_modules/a/node_modules/b`.
    pub path: BundlePath,
    /// Its name in the registry.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// Where it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the file is held to.
    pub hash: PackageHash,
}

/// What is wrong with a lock.
#[derive(Debug, Error)]
pub enum LockError {
    /// No JSON of this form.
    #[error("it is no lock ({0}); `sandrun-pool env lock` writes one")]
    Malformed(#[from] serde_json::Error),
    /// A text that no package manager may be handed.
    #[error("{text:?} is no {what} of a package")]
    Text {
        /// What it should be.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A place outside of `node_modules`.
    #[error("{0} is no place for a package: expected node_modules/NAME")]
    Path(BundlePath),
    /// Something stands there twice.
    #[error("{0} stands there twice")]
    Twice(String),
    /// More than anybody needs.
    #[error("it has {0} packages, more than {MAX_PACKAGES}")]
    TooMany(usize),
}

impl Lock {
    /// Reads and checks a lock.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        let lock: Self = serde_json::from_slice(bytes)?;
        lock.check()?;
        Ok(lock)
    }

    /// The file form: the same for the same packages.
    #[must_use]
    pub fn to_text(&self) -> String {
        // texts alone: there is always a form
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// How many packages it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Python(lock) => lock.packages.len(),
            Self::Node(lock) => lock.packages.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self) -> Result<(), LockError> {
        if self.len() > MAX_PACKAGES {
            return Err(LockError::TooMany(self.len()));
        }
        let mut seen = BTreeSet::new();
        match self {
            Self::Python(lock) => {
                version_of_python(&lock.python)?;
                for wheel in &lock.packages {
                    texts(&wheel.name, &wheel.version, wheel.url.as_deref())?;
                    let name = wheel.name.to_lowercase().replace(['_', '.'], "-");
                    unique(&mut seen, name)?;
                }
            }
            Self::Node(lock) => {
                for package in &lock.packages {
                    texts(&package.name, &package.version, package.url.as_deref())?;
                    place(&package.path)?;
                    unique(&mut seen, package.path.to_string())?;
                }
            }
        }
        Ok(())
    }
}

fn unique(seen: &mut BTreeSet<String>, name: String) -> Result<(), LockError> {
    if seen.insert(name.clone()) {
        return Ok(());
    }
    Err(LockError::Twice(name))
}

/// `3.11`: it becomes a part of a path.
fn version_of_python(text: &str) -> Result<(), LockError> {
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((major, minor)) if number(major) && number(minor) => Ok(()),
        Some(_) | None => Err(bad("version of Python", text)),
    }
}

fn bad(what: &'static str, text: &str) -> LockError {
    LockError::Text {
        what,
        text: text.chars().take(MAX_TEXT).collect(),
    }
}

/// Texts that stand on package managers' command lines and in their files.
fn texts(name: &str, version: &str, url: Option<&str>) -> Result<(), LockError> {
    let plain = |text: &str, more: &[u8]| {
        let first = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'@');
        let rest = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
        first && rest && text.len() <= MAX_TEXT && !text.contains("..")
    };
    if !plain(name, b"@/._-") {
        return Err(bad("name", name));
    }
    if !plain(version, b".+!-_") || version.starts_with('@') {
        return Err(bad("version", version));
    }
    match url {
        Some(url) if !url.starts_with("https://") || url.bytes().any(|byte| !byte.is_ascii_graphic()) => {
            Err(bad("address", url))
        }
        Some(_) | None => Ok(()),
    }
}

/// A package's folder lies in a `node_modules`, which lies in a package's folder or is the first.
fn place(path: &BundlePath) -> Result<(), LockError> {
    let mut parts = path.as_str().split('/');
    while let Some(folder) = parts.next() {
        let is_named = match parts.next() {
            Some(scope) if scope.starts_with('@') => parts.next().is_some(),
            Some(name) => !name.starts_with('.'),
            None => false,
        };
        if folder != "node_modules" || !is_named {
            return Err(LockError::Path(path.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
