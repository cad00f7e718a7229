//! The one place where a job becomes a charge. Nothing is charged: the broker's jobs are free.

use super::caller::Caller;
use super::error::ApiError;
use crate::queue::Submission;

/// Lets a caller submit, or refuses.
///
/// # Errors
/// None as long as nothing costs anything.
pub(super) fn charge(caller: &Caller, jobs: &[Submission]) -> Result<(), ApiError> {
    tracing::trace!(client = caller.0, jobs = jobs.len(), "charged nothing");
    Ok(())
}
