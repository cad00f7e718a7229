//! What the log says of a job's life: each line with its id, and with attempt and node where there is one. What is
//! ordinary is `debug`, what cost an attempt or a job is `info`. Never anything that a client or a program wrote. Ids are
//! made inside the macros: a line that nobody reads costs nothing.

use sandrun_core::pool::{FailReason, JobEnd, JobLife, JobNumber, NodeNumber};
use sandrun_types::Attempt;
use tracing::Level;

use super::digest::is_success;
use super::memory::Memory;

impl Memory {
    pub(super) fn say_accepted(&self, job: JobNumber) {
        tracing::debug!(job = self.ids.job_id(job), "accepted");
    }

    pub(super) fn say_leased(&self, job: JobNumber, attempt: Attempt, node: NodeNumber) {
        let ids = self.ids;
        tracing::debug!(
            job = ids.job_id(job),
            attempt = attempt.0,
            node = ids.node_id(node),
            "leased"
        );
    }

    pub(super) fn say_answered(&self, job: JobNumber, attempt: Attempt, node: NodeNumber, exit_code: i32) {
        let ids = self.ids;
        tracing::debug!(
            job = ids.job_id(job),
            attempt = attempt.0,
            node = ids.node_id(node),
            exit_code,
            "answered"
        );
    }

    pub(super) fn say_given_up(&self, job: JobNumber, attempt: Attempt, node: NodeNumber) {
        let ids = self.ids;
        tracing::debug!(
            job = ids.job_id(job),
            attempt = attempt.0,
            node = ids.node_id(node),
            "given up by its node"
        );
    }

    pub(super) fn say_retry(&self, job: JobNumber, attempt: Attempt, reason: FailReason) {
        let job = self.ids.job_id(job);
        tracing::info!(
            job,
            attempt = attempt.0,
            reason = reason.cause(),
            "the attempt is made again"
        );
    }

    pub(super) fn say_more_places(&self, job: JobNumber, places: u8) {
        let job = self.ids.job_id(job);
        tracing::info!(job, places, "answers differ, more nodes are asked");
    }

    pub(super) fn say_end(&self, job: JobNumber, end: JobEnd) {
        let is_ordinary = matches!(end, JobEnd::Agreed(digest) if is_success(digest));
        // most jobs: nothing is looked up for a line that nobody reads
        if is_ordinary && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let ids = self.ids;
        let id = ids.job_id(job);
        let last = self.deciding(job);
        let attempt = last.map(|(attempt, _)| attempt.0);
        let node = last.map(|(_, node)| ids.node_id(node));
        match end {
            JobEnd::Agreed(_) if is_ordinary => {
                tracing::debug!(job = id, attempt, node, "completed");
            }
            JobEnd::Agreed(_) => {
                tracing::info!(job = id, attempt, node, reason = "its program failed", "failed");
            }
            JobEnd::Failed(reason) => tracing::info!(job = id, attempt, node, %reason, "failed"),
            JobEnd::Cancelled => tracing::info!(job = id, "cancelled"),
        }
    }

    /// The last answer that counted.
    fn deciding(&self, job: JobNumber) -> Option<(Attempt, NodeNumber)> {
        match self.pool.job_snapshot(job)?.life {
            JobLife::Ended { accepted, .. } => accepted.last().map(|it| (it.attempt, it.node)),
            JobLife::Open(_) => None,
        }
    }
}
