//! Roots over files and over what a run hands out. Owns their leaves.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::codec::Encoder;
use super::event::Stream;
use super::merkle::merkle_root;
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
    let mut leaves = vec![
        stream_leaf(Stream::Stdout, stdout),
        stream_leaf(Stream::Stderr, stderr),
    ];
    leaves.extend(files.iter().map(|(path, file)| file_leaf(path, file)));
    OutputRoot(merkle_root(&leaves))
}

fn stream_leaf(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new(match stream {
        Stream::Stdout => 0x40,
        Stream::Stderr => 0x41,
    });
    out.u64(bytes.len() as u64);
    out.raw(&Sha256::digest(bytes));
    out.done()
}

fn file_leaf(path: &BundlePath, file: &InputFile) -> Vec<u8> {
    let mut out = Encoder::new(0x42);
    out.u64(file.size_bytes);
    out.hash(file.sha256);
    out.text(path.as_str());
    out.done()
}
