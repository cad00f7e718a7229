//! Whether a worker's answer is believed. Pure.

use std::collections::BTreeMap;

use sandrun_core::pool::SignatureCheck;
use sandrun_executor::{SignedReceipt, is_environment};
use sandrun_types::{
    BundlePath, ClassId, ClassRequest, InputFile, Manifest, OutputRoot, Receipt, Sha256Hex, WorkerId,
    output_root,
};

/// What a receipt has to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// What the worker gave as standard output and standard error.
    pub(super) streams: [&'a [u8]; 2],
    /// Who made it.
    pub(super) worker: WorkerId,
    /// The executor's id of the run.
    pub(super) run: &'a str,
    /// The commitment to what was sent, by our own computation.
    pub(super) job_hash: Sha256Hex,
    /// What was sent, or lay among the files.
    pub(super) manifest: &'a Manifest,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Signed, and about this very job.
    Believed(Box<Receipt>),
    /// There is none.
    Absent,
    /// It is wrong, and why.
    Forged(String),
}

impl Verdict {
    pub(super) const fn signature(&self) -> SignatureCheck {
        match self {
            Self::Believed(_) => SignatureCheck::Valid,
            Self::Absent => SignatureCheck::Absent,
            Self::Forged(_) => SignatureCheck::Invalid,
        }
    }
}

/// Judges a receipt.
pub(super) fn judge(receipt: Option<&SignedReceipt>, expected: Expected<'_>) -> Verdict {
    let Some(receipt) = receipt else {
        return Verdict::Absent;
    };
    match receipt.check(expected.run, Some(expected.worker)) {
        Err(error) => Verdict::Forged(error.to_string()),
        Ok(receipt) if receipt.job_hash != expected.job_hash => Verdict::Forged(format!(
            "the receipt is about other files or another manifest than were sent ({}, not {})",
            receipt.job_hash, expected.job_hash
        )),
        Ok(receipt) => match other_way(&receipt, expected.manifest)
            .or_else(|| other_output(&receipt, expected.streams))
        {
            Some(why) => Verdict::Forged(why),
            None => Verdict::Believed(Box::new(receipt)),
        },
    }
}

/// Why a receipt is of a run in another class or environment than the manifest asks for, if it is.
fn other_way(receipt: &Receipt, manifest: &Manifest) -> Option<String> {
    let class = ClassId(receipt.class.0);
    let wanted = manifest.class.unwrap_or(ClassRequest::Native);
    if !wanted.accepts(class) {
        return Some(format!(
            "the receipt is about a run in class {class}, not in {wanted}"
        ));
    }
    let (asked, ran) = (manifest.environment.as_deref(), receipt.environment.as_str());
    (!is_environment(asked, ran)).then(|| {
        let wanted = asked.unwrap_or("none");
        format!("the receipt is about a run with environment {ran:?}, not with {wanted}")
    })
}

/// Why what came is not what the receipt states, if it is not. The files' own bytes are hashed where they are fetched.
fn other_output(receipt: &Receipt, [stdout, stderr]: [&[u8]; 2]) -> Option<String> {
    if !receipt.outcome.states_output() {
        return None;
    }
    let file = |(path, file): (&BundlePath, &sandrun_types::OutputFile)| {
        let fact = InputFile {
            sha256: file.sha256,
            size_bytes: file.size_bytes,
        };
        (path.clone(), fact)
    };
    let files: BTreeMap<BundlePath, InputFile> = receipt.output_files.iter().map(file).collect();
    let OutputRoot(came) = output_root(stdout, stderr, &files);
    let stated = receipt.output_root;
    (stated != Some(Sha256Hex(came))).then(|| {
        let stated = stated.map_or("none".to_owned(), |it| it.to_string());
        let came = Sha256Hex(came);
        format!("what the worker says was printed and left has the root {came}, its receipt states {stated}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_in_another_class_or_environment_is_another_run() {
        let class = |byte: &str| byte.repeat(32);
        let receipt = |class: &str, environment: &str| -> Receipt {
            let hash = class.to_owned();
            serde_json::from_value(json!({
                "class": hash, "cpu_time_us": 0, "environment": environment, "explanation": "", "exit_code": 0,
                "format": sandrun_types::RECEIPT_FORMAT, "interpreter": "bash", "isolation": [], "job_hash": hash,
                "job_id": "run-1", "manifest_sha256": hash, "memory_peak_bytes": 0, "outcome": "exited",
                "output_files": {}, "output_root": null, "status": "completed", "trace_root": null,
                "wall_time_ms": 0, "worker_id": null,
            }))
            .unwrap()
        };
        let image = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
        let manifest = |text: &str| Manifest::parse(text.as_bytes()).unwrap();
        let exact = manifest(&json!({"class": class("01"), "environment": image}).to_string());
        assert_eq!(other_way(&receipt(&class("01"), image), &exact), None);
        for (ran, with) in [(class("00"), image), (class("01"), "")] {
            assert!(other_way(&receipt(&ran, with), &exact).is_some(), "{ran} {with}");
        }
        assert!(other_way(&receipt(&class("00"), image), &manifest("{}")).is_some());
    }

    #[test]
    fn output_that_the_receipt_does_not_state_is_forged() {
        let zeros = Sha256Hex([0; 32]);
        let receipt = |outcome: &str, root: Option<Sha256Hex>| -> Receipt {
            serde_json::from_value(json!({
                "class": zeros, "cpu_time_us": 0, "environment": "", "explanation": "", "exit_code": 0,
                "format": sandrun_types::RECEIPT_FORMAT, "interpreter": "bash", "isolation": [], "job_hash": zeros,
                "job_id": "run-1", "manifest_sha256": zeros, "memory_peak_bytes": 0, "outcome": outcome,
                "output_files": {}, "output_root": root, "status": "completed", "trace_root": null,
                "wall_time_ms": 0, "worker_id": null,
            }))
            .unwrap()
        };
        let root = Some(Sha256Hex(output_root(b"out", b"err", &BTreeMap::new()).0));
        let exited = receipt("exited", root);
        assert_eq!(other_output(&exited, [b"out", b"err"]), None);
        for other in [[&b"lie"[..], b"err"], [b"out", b""], [b"err", b"out"]] {
            assert!(other_output(&exited, other).is_some(), "{other:?}");
        }
        assert!(other_output(&receipt("exited", None), [b"", b""]).is_some());
        // what was printed until it was cut off is no part of any result
        let nothing = Some(Sha256Hex(output_root(b"", b"", &BTreeMap::new()).0));
        assert_eq!(other_output(&receipt("timeout", nothing), [b"some", b""]), None);
        assert_eq!(other_output(&receipt("refused", None), [b"", b""]), None);
    }
}
