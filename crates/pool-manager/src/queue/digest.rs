//! What several nodes have to agree on: a digest of exit code, output and files.

use std::collections::BTreeMap;

use sandrun_store::queue::OutputRef;
use sandrun_types::{BundlePath, InputFile, OutputRoot, ResultDigest, Sha256Hex};
use sha2::{Digest as _, Sha256};

use super::words::Completion;

/// The digest of an answer. Its last bit says whether the program ended with 0, so that nobody has to remember it; the
/// other 255 are those of a SHA-256 over exit code, both outputs and all files, sorted by name.
pub(super) fn digest(answer: &Completion) -> ResultDigest {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    part(b"sandrun-pool-answer-v1");
    part(&answer.exit_code.to_be_bytes());
    part(&answer.stdout);
    part(&answer.stderr);
    let mut outputs: Vec<&OutputRef> = answer.outputs.iter().collect();
    outputs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    for output in outputs {
        part(output.path.as_bytes());
        part(&output.blob.0);
    }
    let mut hash: [u8; 32] = hasher.finalize().into();
    hash[31] = hash[31] & 0xfe | u8::from(answer.exit_code == 0);
    ResultDigest(hash)
}

/// What an answer's files are found by: the root over what it printed and left, as in its receipt. `None` where it left
/// nothing, or the program failed: nobody can go on from there.
pub(super) fn output_root(answer: &Completion) -> Option<OutputRoot> {
    if answer.outputs.is_empty() || answer.exit_code != 0 {
        return None;
    }
    let file = |output: &OutputRef| {
        let file = InputFile {
            sha256: Sha256Hex(output.blob.0),
            size_bytes: output.size,
        };
        Some((BundlePath::parse(&output.path).ok()?, file))
    };
    let files: Option<BTreeMap<BundlePath, InputFile>> = answer.outputs.iter().map(file).collect();
    Some(sandrun_types::output_root(
        &answer.stdout,
        &answer.stderr,
        &files?,
    ))
}

/// Whether a digest is of a program that ended with 0.
pub(super) const fn is_success(digest: ResultDigest) -> bool {
    digest.0[31] & 1 == 1
}
