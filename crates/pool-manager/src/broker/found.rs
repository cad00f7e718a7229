//! Jobs as readers find them.

use sandrun_core::pool::JobNumber;
use sandrun_store::queue::{Answer, BlobHash, JobRow, JobWord};
use serde::Deserialize;

use super::error::ApiError;
use super::http::App;
use super::request::{After, ParentFiles, StoredRequest};

/// The job that an id means.
pub(crate) async fn find(app: &App, id: &str) -> Result<JobRow, ApiError> {
    let number = number(app, id)?;
    app.reader.job(number).await?.ok_or_else(ApiError::unknown_job)
}

/// The job that an id means, with the answer that it ended with.
pub(crate) async fn find_ended(app: &App, id: &str) -> Result<(JobRow, Option<Answer>), ApiError> {
    let number = number(app, id)?;
    let found = app.reader.job_with_answer(number).await?;
    found.ok_or_else(ApiError::unknown_job)
}

/// The number that an id means, whether there is such a job or not.
pub(super) fn number(app: &App, id: &str) -> Result<JobNumber, ApiError> {
    app.queue.ids().job(id).ok_or_else(ApiError::unknown_job)
}

/// A job's request, or what is wanted of it; `None` where it can't be read, which is a defect.
pub(super) fn request<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let request = serde_json::from_slice(bytes);
    request
        .map_err(|error| tracing::error!(%error, "a stored request is not readable"))
        .ok()
}

/// What the parents left that a job names.
pub(crate) async fn parents(app: &App, wanted: &[After]) -> Result<Vec<ParentFiles>, ApiError> {
    let mut parents = Vec::new();
    for after in wanted {
        let (_, answer) = find_ended(app, &after.job).await?;
        let files = answer.map(|it| it.outputs).unwrap_or_default();
        let into = after.into.clone().unwrap_or_default();
        parents.push(ParentFiles { into, files });
    }
    Ok(parents)
}

/// Whether a job's node needs this body.
pub(super) async fn needs(app: &App, row: &JobRow, blob: BlobHash) -> Result<bool, ApiError> {
    let Some(request) = request::<StoredRequest>(&row.new.request) else {
        return Ok(false);
    };
    if request.files().iter().any(|it| it.blob == blob) {
        return Ok(true);
    }
    let parents = parents(app, &request.after).await?;
    Ok(parents.iter().flat_map(|it| &it.files).any(|it| it.blob == blob))
}

/// How a job stands, as clients read it.
pub(super) const fn word(word: JobWord) -> &'static str {
    match word {
        JobWord::Pending => "pending",
        JobWord::Assigned => "assigned",
        JobWord::Running => "running",
        JobWord::Completed => "completed",
        JobWord::Failed => "failed",
    }
}

/// The reverse of [`word`].
pub(super) fn parse_word(text: &str) -> Option<JobWord> {
    [
        JobWord::Pending,
        JobWord::Assigned,
        JobWord::Running,
        JobWord::Completed,
        JobWord::Failed,
    ]
    .into_iter()
    .find(|it| word(*it) == text)
}
