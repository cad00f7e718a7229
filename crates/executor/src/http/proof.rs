//! `/proof/{id}/…`: that an output is under the receipt's output root. There for as long as the receipt is, also when
//! the outputs themselves have gone.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use sandrun_types::{BundlePath, InputFile, OutputLeaves, OutputName, OutputProof};

use super::outputs::ended;
use super::path::Path;
use super::status::find;
use super::{ApiError, Shared};
use crate::job::Ended;

pub(super) async fn file(
    State(app): State<Shared>,
    Path((id, path)): Path<(String, String)>,
) -> Result<Json<OutputProof>, ApiError> {
    let path = BundlePath::parse(&path).map_err(|_| no_output())?;
    prove(&app, &id, &OutputName::File(path)).await
}

pub(super) async fn stream(
    State(app): State<Shared>,
    Path((id, stream)): Path<(String, String)>,
) -> Result<Json<OutputProof>, ApiError> {
    let name = match stream.as_str() {
        "stdout" => OutputName::Stdout,
        "stderr" => OutputName::Stderr,
        _ => return Err(no_output()),
    };
    prove(&app, &id, &name).await
}

fn no_output() -> ApiError {
    ApiError::not_found(
        "there is no such output: /proof/JOB/stdout, /proof/JOB/stderr, or /proof/JOB/outputs/PATH",
    )
}

async fn prove(app: &Shared, id: &str, name: &OutputName) -> Result<Json<OutputProof>, ApiError> {
    let ended = ended(&find(app, id).await?)?;
    leaves(&ended)
        .ok_or_else(|| ApiError::not_found("the job was not run, so it has no output root"))?
        .proof(name)
        .map(Json)
        .ok_or_else(no_output)
}

/// What the output root was made of.
fn leaves(ended: &Ended) -> Option<OutputLeaves> {
    let [stdout, stderr] = ended.streams?;
    let files: BTreeMap<BundlePath, InputFile> = ended
        .receipt
        .output_files
        .iter()
        .map(|(path, file)| {
            let content = InputFile {
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            };
            (path.clone(), content)
        })
        .collect();
    Some(OutputLeaves::new(stdout, stderr, &files))
}
