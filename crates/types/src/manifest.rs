//! The manifest (`job.json`): what a client asks an executor to run, and within which bounds.
//!
//! Owns the fields, their strict parsing, their checks against the names of a bundle's files, and the canonical bytes
//! that a manifest digest commits to. Never reads a file and never fills in a service's own defaults: a field that
//! was not given stays ungiven, so that the digest does not depend on who runs the job.

mod class;
mod features;
mod fields;
mod gpu;
mod interpreter;
mod outputs;
mod path;

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::ManifestDigest;
use crate::canonical::canonical_json;

pub use class::{ClassRequest, NoClass};
pub use features::node_features;
pub use gpu::{DottedVersion, GpuRequirement};
pub use interpreter::Interpreter;
pub use outputs::OutputPatterns;
pub use path::{BundlePath, BundlePathError};

/// A manifest as its client wrote it, checked. `Default` is the manifest of a job that came with none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Arguments of the program, after the entrypoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Execution class; the service's default if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassRequest>,
    /// CPU seconds that the job may use in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u32>,
    /// The file to run; a default entrypoint if not given (see [`Manifest::entry`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<BundlePath>,
    /// Environment variables. The sandbox's own win over them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Named template of preinstalled packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What it asks of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuRequirement>,
    /// What runs the entrypoint; implied by its extension if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Interpreter>,
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Which files may leave the sandbox.
    #[serde(skip_serializing_if = "OutputPatterns::is_everything")]
    pub outputs: OutputPatterns,
    /// A dependency file in the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirements: Option<BundlePath>,
    /// Wall clock in seconds, at most [`Manifest::MAX_TIMEOUT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// What a job starts with: a file of its bundle and the program that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file.
    pub entrypoint: BundlePath,
    /// The program.
    pub interpreter: Interpreter,
}

/// What is wrong with a manifest, in words for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// The text is no JSON.
    #[error("the manifest is not JSON ({0}); send one JSON object such as {{\"entrypoint\":\"main.py\"}}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("the manifest is {0}; send one JSON object such as {{\"entrypoint\":\"main.py\"}}")]
    NotAnObject(&'static str),
    /// The text is too long to be read.
    #[error("the manifest has {0} bytes, more than {max}", max = Manifest::MAX_BYTES)]
    TooLong(usize),
    /// A field that there is none of.
    #[error("unknown manifest field {field:?}; remove it, the fields are: {known}", known = fields::KNOWN.join(", "))]
    UnknownField {
        /// Its name, a `gpu` field with the prefix `gpu.`.
        field: String,
    },
    /// A field's value does not fit.
    #[error("manifest field {field:?}: {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A file that the manifest names is not in the bundle.
    #[error("manifest field {field:?}: {path} is not among the files{}", hint(.candidates))]
    MissingFile {
        /// `entrypoint` or `requirements`.
        field: &'static str,
        /// The name that was looked for.
        path: BundlePath,
        /// Files of the same name in other folders.
        candidates: Vec<BundlePath>,
    },
    /// No entrypoint is named and none of the default ones is there.
    #[error(
        "there is no entrypoint: name one in the manifest's \"entrypoint\", or send main.py, index.js or run.sh"
    )]
    NoEntrypoint,
}

fn hint(candidates: &[BundlePath]) -> String {
    match candidates {
        [] => "; send it along or correct the name".to_owned(),
        [first, ..] => format!("; did you mean {first}?"),
    }
}

impl Manifest {
    /// Longest manifest in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;
    /// Longest wall clock in seconds.
    pub const MAX_TIMEOUT: u32 = 3600;
    /// Files that are run if the manifest names none, the first that is there.
    pub const DEFAULT_ENTRYPOINTS: [&str; 3] = ["main.py", "index.js", "run.sh"];

    /// Parses a manifest strictly: an unknown field, a wrong type or a value out of bounds is an error that names the
    /// field. A `null`, and an empty text where a name is expected, count as not given (existing clients send them).
    ///
    /// # Errors
    /// [`ManifestError`], one sentence for the client.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        fields::parse(bytes)
    }

    /// The one byte form of this manifest: canonical JSON with the fields that were given, sorted, defaults left out.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        // Strings and integers alone: there is always a canonical form.
        canonical_json(self).unwrap_or_default()
    }

    /// SHA-256 of [`Manifest::canonical_bytes`]: what orders and receipts commit to.
    #[must_use]
    pub fn digest(&self) -> ManifestDigest {
        ManifestDigest(Sha256::digest(self.canonical_bytes()).into())
    }

    /// Checks the manifest against the names of the bundle's files and finds what to run: the entrypoint named, else
    /// the first of [`Manifest::DEFAULT_ENTRYPOINTS`]; the interpreter named, else by the extension.
    ///
    /// # Errors
    /// [`ManifestError::MissingFile`] or [`ManifestError::NoEntrypoint`].
    pub fn entry<'a>(&self, files: impl IntoIterator<Item = &'a BundlePath>) -> Result<Entry, ManifestError> {
        let files: Vec<&BundlePath> = files.into_iter().collect();
        if let Some(requirements) = &self.requirements {
            require("requirements", requirements, &files)?;
        }
        let entrypoint = match &self.entrypoint {
            Some(named) => {
                require("entrypoint", named, &files)?;
                named.clone()
            }
            None => Self::DEFAULT_ENTRYPOINTS
                .iter()
                .find_map(|name| files.iter().find(|file| file.as_str() == *name))
                .map(|file| (*file).clone())
                .ok_or(ManifestError::NoEntrypoint)?,
        };
        let interpreter = self
            .interpreter
            .unwrap_or_else(|| Interpreter::of_extension(&entrypoint));
        Ok(Entry {
            entrypoint,
            interpreter,
        })
    }
}

fn require(field: &'static str, path: &BundlePath, files: &[&BundlePath]) -> Result<(), ManifestError> {
    if files.contains(&path) {
        return Ok(());
    }
    let namesake = |file: &&&BundlePath| file.file_name() == path.file_name();
    let candidates = files
        .iter()
        .filter(namesake)
        .map(|file| (*file).clone())
        .collect();
    Err(ManifestError::MissingFile {
        field,
        path: path.clone(),
        candidates,
    })
}

#[cfg(test)]
mod tests;
