//! What the log says of a job's life: each line with its id, and with attempt and node where there is one. What is
//! ordinary is `debug`, what cost an attempt or a job is `info`. Never anything that a client or a program wrote.

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
        let (job, node) = (self.ids.job_id(job), self.node_id(node));
        tracing::debug!(job, attempt = attempt.0, node, "leased");
    }

    pub(super) fn say_answered(&self, job: JobNumber, attempt: Attempt, node: NodeNumber, exit_code: i32) {
        let (job, node) = (self.ids.job_id(job), self.node_id(node));
        tracing::debug!(job, attempt = attempt.0, node, exit_code, "answered");
    }

    pub(super) fn say_given_up(&self, job: JobNumber, attempt: Attempt, node: NodeNumber) {
        let (job, node) = (self.ids.job_id(job), self.node_id(node));
        tracing::debug!(job, attempt = attempt.0, node, "given up by its node");
    }

    pub(super) fn say_retry(&self, job: JobNumber, attempt: Attempt, reason: FailReason) {
        let job = self.ids.job_id(job);
        tracing::info!(job, attempt = attempt.0, %reason, "the attempt is made again");
    }

    pub(super) fn say_more_places(&self, job: JobNumber, places: u8) {
        let job = self.ids.job_id(job);
        tracing::info!(job, places, "answers differ, more nodes are asked");
    }

    pub(super) fn say_end(&self, job: JobNumber, end: JobEnd) {
        if !tracing::enabled!(Level::INFO) {
            return;
        }
        let id = self.ids.job_id(job);
        let last = self.deciding(job);
        let attempt = last.map(|(attempt, _)| attempt.0);
        let node = last.map(|(_, node)| self.node_id(node));
        match end {
            JobEnd::Agreed(digest) if is_success(digest) => {
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
