//! What batches on their way to the tables say of a job that is there: a read takes its row and brings it up to date,
//! instead of waiting for the tables. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use sandrun_core::pool::JobNumber;

use crate::queue::codec::clean;
use crate::queue::{Answer, JobState, Writes};

/// Batches that the tables did not have when they were asked for, in their order. Tables that are read after that may
/// have some of them: to take those in twice changes nothing.
pub(super) type Later = Vec<Arc<Writes>>;

/// A job's state as the last of the batches with one leaves it; whether there is one.
pub(super) fn renew_state(state: &mut JobState, later: &Later) -> bool {
    let newer = later
        .iter()
        .rev()
        .find_map(|writes| writes.jobs.iter().find(|row| row.number == state.number));
    let Some(newer) = newer else { return false };
    state.clone_from(newer);
    // as the tables will have it
    if let Some(reason) = &mut state.reason
        && let Cow::Owned(cleaned) = clean(reason)
    {
        *reason = cleaned;
    }
    true
}

/// A job's answers in the order of attempts: the first of each stays.
pub(super) fn renew_answers(job: JobNumber, answers: &mut Vec<Answer>, later: &Later) {
    for answer in later.iter().flat_map(|writes| &writes.answers) {
        if answer.job == job
            && let Err(place) = answers.binary_search_by_key(&answer.attempt, |it| it.attempt)
        {
            answers.insert(place, answer.clone());
        }
    }
}
