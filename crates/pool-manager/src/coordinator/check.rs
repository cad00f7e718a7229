//! Whether a worker's answer is believed. Pure.

use sandrun_core::pool::SignatureCheck;
use sandrun_executor::{SignedReceipt, is_environment};
use sandrun_types::{ClassId, ClassRequest, Manifest, Receipt, Sha256Hex, WorkerId};

/// What a receipt has to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
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
        Ok(receipt) => match other_way(&receipt, expected.manifest) {
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
}
