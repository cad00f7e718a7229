//! What several nodes have to agree on: a digest of exit code, output and files.

use std::collections::BTreeMap;

use sandrun_store::queue::OutputRef;
use sandrun_types::{BundlePath, InputFile, OutputRoot, Receipt, ResultDigest, Sha256Hex};
use sha2::{Digest as _, Sha256};

use super::words::Completion;

/// The digest of an answer. Its last bit says whether the program ended with 0, so that nobody has to remember it; the
/// other 255 are those of a SHA-256 over the class and the environment that its receipt states, exit code, both outputs
/// and all files, sorted by name; of a run that was cut off, what it printed until then is chance and no part of it. Two
/// that ran in different ones never count as one answer, whatever came out.
pub(super) fn digest(answer: &Completion) -> ResultDigest {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    part(b"sandrun-pool-answer-v2");
    // an executor of old has no receipt, and no class
    let receipt = answer
        .receipt
        .as_deref()
        .and_then(|bytes| Receipt::parse(bytes).ok());
    if let Some(receipt) = &receipt {
        part(&receipt.class.0);
        part(receipt.environment.as_bytes());
    }
    part(&answer.exit_code.to_be_bytes());
    if receipt.is_none_or(|it| it.outcome.states_output()) {
        part(&answer.stdout);
        part(&answer.stderr);
    }
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

/// Why a program did not end by itself, in its executor's words, as far as its receipt says so.
pub(super) fn explanation(answer: &Completion) -> Option<String> {
    const LONGEST: usize = 300;
    let receipt = answer.receipt.as_deref().filter(|_| answer.exit_code != 0)?;
    let Receipt { explanation, .. } = Receipt::parse(receipt).ok()?;
    let words: String = explanation.chars().take(LONGEST).collect();
    Some(words).filter(|words| !words.is_empty())
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

#[cfg(test)]
mod tests {
    use sandrun_core::pool::{JobNumber, SignatureCheck};
    use serde_json::json;

    use super::*;

    fn answer(class: &str, environment: &str) -> Completion {
        let hash = "00".repeat(32);
        let receipt = json!({
            "class": class.repeat(32), "cpu_time_us": 1, "environment": environment, "explanation": "", "exit_code": 0,
            "format": sandrun_types::RECEIPT_FORMAT, "interpreter": "python3", "isolation": [], "job_hash": hash,
            "job_id": "1", "manifest_sha256": hash, "memory_peak_bytes": 1, "outcome": "exited", "output_files": {},
            "output_root": hash, "status": "completed", "trace_root": hash, "wall_time_ms": 1, "worker_id": null,
        });
        let receipt = serde_json::to_vec(&receipt).unwrap();
        Receipt::parse(&receipt).unwrap();
        Completion {
            node: "n".to_owned(),
            job: JobNumber(1),
            attempt: None,
            exit_code: 0,
            stdout: b"out".to_vec(),
            stderr: Vec::new(),
            outputs: Vec::new(),
            receipt: Some(receipt),
            signature: None,
            check: SignatureCheck::Absent,
            details: Vec::new(),
        }
    }

    #[test]
    fn one_output_of_two_classes_or_environments_is_two_answers() {
        let old = Completion {
            receipt: None,
            ..answer("00", "")
        };
        let all = [
            answer("00", ""),
            answer("01", ""),
            answer("00", "a"),
            answer("01", "a"),
            old,
        ];
        let digests: std::collections::BTreeSet<_> = all.iter().map(|it| digest(it).0).collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(digest(&all[1]), digest(&answer("01", "")));
        assert!(all.iter().all(|it| is_success(digest(it))));
    }

    #[test]
    fn what_a_run_printed_until_it_was_cut_off_makes_no_other_answer() {
        let cut = |stdout: &[u8]| {
            let mut answer = answer("00", "");
            let text = String::from_utf8(answer.receipt.take().unwrap()).unwrap();
            answer.receipt = Some(text.replace("\"exited\"", "\"timeout\"").into_bytes());
            answer.exit_code = -1;
            answer.stdout = stdout.to_vec();
            answer
        };
        assert_eq!(digest(&cut(b"1 2")), digest(&cut(b"1 2 3")));
        assert_ne!(digest(&cut(b"1 2")), digest(&answer("00", "")));
        assert!(!is_success(digest(&cut(b""))));
    }

    #[test]
    fn a_receipt_tells_why_a_program_did_not_end_by_itself() {
        let mut cut = answer("00", "");
        let text = String::from_utf8(cut.receipt.take().unwrap()).unwrap();
        let said = text.replace(
            "\"explanation\":\"\"",
            "\"explanation\":\"it ran longer than 2 s\"",
        );
        cut.receipt = Some(said.into_bytes());
        cut.exit_code = 137;
        assert_eq!(explanation(&cut).as_deref(), Some("it ran longer than 2 s"));
        cut.receipt = Some(text.into_bytes());
        assert_eq!(explanation(&cut), None);
    }
}
