//! Roots over files and over what a run hands out, and the proof that one thing is under such a root. Owns their leaves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::Encoder;
use super::event::Stream;
use super::merkle::{InclusionProof, ProofError, merkle_root};
use super::task::FileHash;
use crate::{BundlePath, InputFile, OutputRoot};

/// Root over a set of files: one leaf each, sorted by the name's bytes.
#[must_use]
pub fn tree_root(files: &BTreeMap<BundlePath, InputFile>) -> [u8; 32] {
    let leaves: Vec<Vec<u8>> = files.iter().map(|(path, file)| file_leaf(path, file)).collect();
    merkle_root(&leaves)
}

/// Root over what a run hands out: a leaf for stdout, one for stderr, then one for each file as in [`tree_root`].
#[must_use]
pub fn output_root(stdout: &[u8], stderr: &[u8], files: &BTreeMap<BundlePath, InputFile>) -> OutputRoot {
    OutputLeaves::new(FileHash::of(stdout), FileHash::of(stderr), files).root()
}

/// One thing that a run hands out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The file of this name.
    File(BundlePath),
}

impl OutputName {
    /// The leaf under the output root for these bytes.
    #[must_use]
    pub fn leaf(&self, content: FileHash) -> Vec<u8> {
        let file = InputFile {
            sha256: content.sha256,
            size_bytes: content.length,
        };
        match self {
            Self::Stdout => stream_leaf(Stream::Stdout, content),
            Self::Stderr => stream_leaf(Stream::Stderr, content),
            Self::File(path) => file_leaf(path, &file),
        }
    }
}

impl std::fmt::Display for OutputName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => write!(f, "{path}"),
        }
    }
}

/// The leaves of an output root, in their order.
#[derive(Debug, Clone)]
pub struct OutputLeaves {
    names: Vec<OutputName>,
    leaves: Vec<Vec<u8>>,
}

impl OutputLeaves {
    /// Of a run that hands out these two streams and these files.
    #[must_use]
    pub fn new(stdout: FileHash, stderr: FileHash, files: &BTreeMap<BundlePath, InputFile>) -> Self {
        let mut names = vec![OutputName::Stdout, OutputName::Stderr];
        let mut leaves = vec![
            stream_leaf(Stream::Stdout, stdout),
            stream_leaf(Stream::Stderr, stderr),
        ];
        for (path, file) in files {
            names.push(OutputName::File(path.clone()));
            leaves.push(file_leaf(path, file));
        }
        Self { names, leaves }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> OutputRoot {
        OutputRoot(merkle_root(&self.leaves))
    }

    /// The proof for one of them; `None` if it is not handed out.
    #[must_use]
    pub fn proof(&self, name: &OutputName) -> Option<OutputProof> {
        let index = self.names.iter().position(|known| known == name)?;
        Some(OutputProof {
            name: name.clone(),
            proof: InclusionProof::of(&self.leaves, index)?,
        })
    }
}

/// The proof that an output of this name and of certain bytes is under an output root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputProof {
    /// What it is for.
    pub name: OutputName,
    /// The audit path.
    pub proof: InclusionProof,
}

impl OutputProof {
    /// Checks that these bytes are the output of the proof's name under `root`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, content: FileHash, root: OutputRoot) -> Result<(), ProofError> {
        self.proof.check(&self.name.leaf(content), root.0)
    }
}

fn stream_leaf(stream: Stream, content: FileHash) -> Vec<u8> {
    let mut out = Encoder::new(match stream {
        Stream::Stdout => 0x40,
        Stream::Stderr => 0x41,
    });
    out.u64(content.length);
    out.hash(content.sha256);
    out.done()
}

fn file_leaf(path: &BundlePath, file: &InputFile) -> Vec<u8> {
    let mut out = Encoder::new(0x42);
    out.u64(file.size_bytes);
    out.hash(file.sha256);
    out.text(path.as_str());
    out.done()
}
