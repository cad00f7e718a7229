//! `verify --prove`: the proof that one file is under the output root, made by whoever has the whole result.

use std::collections::BTreeMap;
use std::path::Path;

use sandrun_content::{OUTPUTS_NAME, STDERR_NAME, STDOUT_NAME};
use sandrun_types::{BundlePath, InputFile, OutputLeaves, OutputName, OutputProof, Sha256Hex};
use serde::Serialize;

use super::super::trace::{OfJob, of_client};
use super::{Arguments, hash_of, parse, read, wrong};
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
        None => parse(&read(Path::new(place), "receipt")?)?,
        Some(job) => {
            let job = job.map_err(|text| Failure::new(Status::BadInput, text))?;
            let bytes = job.client()?.receipt_bytes(&job.id.to_string()).await;
            let receipt = parse(&bytes.map_err(of_client)?)?;
            job.is_of(&receipt)?;
            receipt
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
    let mut files = BTreeMap::new();
    collect(&result.join(OUTPUTS_NAME), "", &mut files)?;
    let stdout = hash_of(&result.join(STDOUT_NAME))?;
    let stderr = hash_of(&result.join(STDERR_NAME))?;
    Ok(OutputLeaves::new(stdout, stderr, &files))
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<BundlePath, InputFile>) -> anyhow::Result<()> {
    let unreadable = |error: std::io::Error| {
        let text = format!(
            "{} can't be read: {}; give the directory of a whole result, with stdout, stderr and outputs",
            folder.display(),
            words(&error.into())
        );
        Failure::new(Status::BadInput, text)
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let odd = || {
            let text = format!("{} is no output of a run", path.display());
            Failure::new(Status::BadInput, text)
        };
        let name = entry.file_name().into_string().map_err(|_| odd())?;
        let name = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() {
            let content = hash_of(&path)?;
            let file = InputFile {
                sha256: content.sha256,
                size_bytes: content.length,
            };
            files.insert(BundlePath::parse(&name).map_err(|_| odd())?, file);
        } else {
            return Err(odd());
        }
    }
    Ok(())
}
