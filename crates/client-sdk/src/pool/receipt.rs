//! A job's receipt: what its executor stated and signed. Owns the check that what was fetched is what was stated.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use sandrun_types::{
    BundlePath, InputFile, OutputRoot, Receipt, RunOutcome, Sha256Hex, WorkerId, output_root,
};
use serde::Serialize;

use super::http::ANSWER;
use super::{Job, PoolClient, PoolClientError, Printed};

/// A receipt that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedReceipt {
    /// Whose key has signed it; `None` from an anonymous executor: then it is the service's word alone.
    pub worker: Option<WorkerId>,
    /// Commitment to the inputs that were run.
    pub job_hash: Sha256Hex,
    /// Root over what was printed and left, where the run came so far.
    pub output_root: Option<Sha256Hex>,
    /// Whether output and files make that root. Not where a run was cut off, nor where output that is no UTF-8 comes as a
    /// text alone, as from older services.
    pub covers_result: bool,
}

impl PoolClient {
    /// Fetches the receipt of an ended job and checks it against its result; `None` where there is none, as from executors
    /// and nodes of old.
    ///
    /// # Errors
    /// [`PoolClientError::BadReceipt`] where it does not hold, and others.
    pub async fn receipt(
        &self,
        job: &Job,
        printed: &Printed,
    ) -> Result<Option<CheckedReceipt>, PoolClientError> {
        if !self.service().is_common {
            return Ok(None);
        }
        let request = self.http.get(&["v1", "jobs", job.id.as_str(), "receipt"]);
        let response = match self.http.send(request.timeout(ANSWER)).await {
            Ok(response) => response,
            Err(PoolClientError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let headers = response.headers().clone();
        let bytes = self.http.read(response).await?;
        check(job, printed, &bytes, &headers)
            .map(Some)
            .map_err(|why| PoolClientError::BadReceipt {
                job: job.id.clone(),
                why,
            })
    }
}

/// Checks a receipt; the error says why it does not hold.
fn check(job: &Job, printed: &Printed, bytes: &[u8], headers: &HeaderMap) -> Result<CheckedReceipt, String> {
    let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    let receipt = match (header("x-worker-id"), header("x-signature")) {
        (Some(worker), Some(signature)) => {
            let worker: WorkerId = worker.parse().map_err(|_| "its worker id is none")?;
            let signature = STANDARD.decode(signature).ok();
            let signature = signature.and_then(|it| <[u8; 64]>::try_from(it).ok());
            let signature = signature.ok_or("its signature is none")?;
            Receipt::verify(bytes, &signature, worker)
        }
        (Some(_), None) => return Err("it is not signed".to_owned()),
        (None, _) => Receipt::parse(bytes),
    };
    let receipt = receipt.map_err(|error| error.to_string())?;
    if job.exit_code != Some(receipt.exit_code) {
        return Err("it states another exit code than the service".to_owned());
    }
    let is_whole = matches!(receipt.outcome, RunOutcome::Exited | RunOutcome::Signalled);
    let found = root(job, printed).map(|it| it.0);
    let covers_result = is_whole && found.is_some() && receipt.output_root.map(|it| it.0) == found;
    // where bytes became other characters the text says nothing about them
    if is_whole && !printed.may_be_altered() && !covers_result {
        return Err("output and files are not those that it states".to_owned());
    }
    Ok(CheckedReceipt {
        worker: header("x-signature").and(receipt.worker_id),
        job_hash: receipt.job_hash,
        output_root: receipt.output_root,
        covers_result,
    })
}

/// The root that a job's result makes; `None` for names that no result may hold.
fn root(job: &Job, printed: &Printed) -> Option<OutputRoot> {
    let mut files = BTreeMap::new();
    for output in &job.outputs {
        let file = InputFile {
            sha256: output.sha256,
            size_bytes: output.size,
        };
        files.insert(BundlePath::parse(&output.path).ok()?, file);
    }
    Some(output_root(
        &printed.stdout_bytes(),
        &printed.stderr_bytes(),
        &files,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::RECEIPT_FORMAT;
    use serde_json::json;

    fn printed() -> Printed {
        Printed {
            stdout: "hello\n".to_owned(),
            ..Printed::default()
        }
    }

    fn job() -> Job {
        serde_json::from_value(json!({
            "job_id": "7", "status": "completed", "exit_code": 0,
            "outputs": [{"path": "a.txt", "size": 2, "sha256": "ab".repeat(32)}]
        }))
        .unwrap()
    }

    fn receipt(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let hash = "00".repeat(32);
        let root = root(&job(), &printed()).unwrap();
        let mut value = json!({
            "class": hash, "cpu_time_us": 1, "environment": "", "explanation": "", "exit_code": 0,
            "format": RECEIPT_FORMAT, "interpreter": "bash", "isolation": [], "job_hash": hash, "job_id": "e",
            "manifest_sha256": hash, "memory_peak_bytes": 1, "outcome": "exited", "output_files": {},
            "output_root": Sha256Hex(root.0), "status": "completed", "trace_root": null, "wall_time_ms": 1,
            "worker_id": null
        });
        change(&mut value);
        let receipt: Receipt = serde_json::from_value(value).unwrap();
        receipt.canonical_bytes()
    }

    #[test]
    fn a_receipt_covers_the_very_result() {
        let none = HeaderMap::new();
        let bytes = receipt(|_| ());
        let checked = check(&job(), &printed(), &bytes, &none).unwrap();
        assert!(checked.covers_result && checked.worker.is_none(), "{checked:?}");
        let mut other = printed();
        other.stdout.push('x');
        assert!(
            check(&job(), &other, &bytes, &none)
                .unwrap_err()
                .contains("output and files")
        );
        other.stdout = "\u{fffd}".to_owned();
        assert!(!check(&job(), &other, &bytes, &none).unwrap().covers_result);
        let mut less = job();
        less.outputs.clear();
        assert!(check(&less, &printed(), &bytes, &none).is_err());
        less.exit_code = Some(1);
        assert!(
            check(&less, &printed(), &bytes, &none)
                .unwrap_err()
                .contains("exit code")
        );
        // a run that was cut off has left nothing
        let cut = receipt(|it| it["outcome"] = json!("timeout"));
        assert!(!check(&job(), &printed(), &cut, &none).unwrap().covers_result);
    }

    #[test]
    fn bytes_that_are_no_text_are_covered_where_they_come_whole() {
        let bytes_of = |encoded: &str| Printed {
            stdout: "\u{fffd}\n".to_owned(),
            stdout_base64: Some(encoded.to_owned()),
            ..Printed::default()
        };
        let whole = bytes_of("/wo=");
        assert_eq!(*whole.stdout_bytes(), *b"\xff\n");
        let stated = root(&job(), &whole).unwrap();
        let bytes = receipt(|it| it["output_root"] = json!(Sha256Hex(stated.0)));
        let none = HeaderMap::new();
        assert!(check(&job(), &whole, &bytes, &none).unwrap().covers_result);
        for other in ["/wp=", "/go=", "?"] {
            let refused = check(&job(), &bytes_of(other), &bytes, &none).unwrap_err();
            assert!(refused.contains("output and files"), "{other}: {refused}");
        }
        // as older services tell it: a text that says nothing about the bytes
        let text = Printed {
            stdout_base64: None,
            ..whole
        };
        assert!(!check(&job(), &text, &bytes, &none).unwrap().covers_result);
    }

    #[test]
    fn who_names_a_worker_has_to_have_its_signature() {
        let bytes = receipt(|_| ());
        let mut headers = HeaderMap::new();
        headers.insert("x-worker-id", STANDARD.encode([7; 32]).parse().unwrap());
        assert!(
            check(&job(), &printed(), &bytes, &headers)
                .unwrap_err()
                .contains("not signed")
        );
        headers.insert("x-signature", STANDARD.encode([7; 64]).parse().unwrap());
        assert!(check(&job(), &printed(), &bytes, &headers).is_err());
        headers.insert("x-signature", "?".parse().unwrap());
        assert!(
            check(&job(), &printed(), &bytes, &headers)
                .unwrap_err()
                .contains("signature is none")
        );
    }
}
