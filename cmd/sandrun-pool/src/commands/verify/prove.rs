//! `verify --prove`: the proof that one file is under the output root, made by whoever has the whole result.

use std::path::Path;

use client_sdk::output_files;
use sandrun_content::{STDERR_NAME, STDOUT_NAME};
use sandrun_types::{OutputLeaves, OutputName, OutputProof, Sha256Hex};
use serde::Serialize;

use super::super::trace::OfJob;
use super::{Arguments, hash_of, read, read_receipt, wrong};
use crate::exit::{Failure, Status, words};
use crate::output::{Output, Report};

/// The proof itself is the answer.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Proven(OutputProof);

impl Report for Proven {
    fn human(&self) -> String {
        // names and hashes alone: there is always a form
        serde_json::to_string(&self.0).unwrap_or_default() + "\n"
    }
}

/// The output root that the result should have, if one was given.
pub(super) async fn stated(arguments: &Arguments) -> anyhow::Result<Option<Sha256Hex>> {
    let Some(place) = &arguments.receipt else {
        return Ok(arguments.root);
    };
    let receipt = match OfJob::parse(place) {
        None => read_receipt(&read(Path::new(place), "receipt")?, place)?,
        Some(job) => {
            let job = job.map_err(|text| Failure::new(Status::BadInput, text))?;
            job.receipt(&job.client()?).await?.1
        }
    };
    let root = receipt.output_root;
    root.map(Some)
        .ok_or_else(|| wrong("the receipt has no output root: nothing was run"))
}

/// Prints the proof.
pub(super) async fn run(
    result: &Path,
    name: OutputName,
    wanted: Option<Sha256Hex>,
    output: &Output,
) -> anyhow::Result<Status> {
    let place = result.to_owned();
    let leaves = tokio::task::spawn_blocking(move || leaves(&place)).await??;
    let root = Sha256Hex(leaves.root().0);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != root) {
        let text = format!(
            "{} has the output root {root}, not {wanted}: it is not the whole result of that run",
            result.display()
        );
        return Err(wrong(text));
    }
    let proof = leaves.proof(&name).ok_or_else(|| {
        let text = format!("{} has no output {name}", result.display());
        Failure::new(Status::BadInput, text)
    })?;
    output.note(&format!("output root {root}"));
    output.result(&Proven(proof))?;
    Ok(Status::Success)
}

/// All that a run has handed out, as `submit` and `fetch` lay it down.
fn leaves(result: &Path) -> anyhow::Result<OutputLeaves> {
    let parts = || {
        let files = output_files(result)?;
        let stdout = hash_of(&result.join(STDOUT_NAME))?;
        anyhow::Ok((stdout, hash_of(&result.join(STDERR_NAME))?, files))
    };
    let (stdout, stderr, files) = parts().map_err(|error| {
        let text = format!(
            "{}; give the directory of a whole result, with stdout, stderr and outputs",
            words(&error)
        );
        Failure::new(Status::BadInput, text)
    })?;
    Ok(OutputLeaves::new(stdout, stderr, &files))
}
