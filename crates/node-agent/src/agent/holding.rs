//! Why no seat is taken at the moment, whatever the job: an executor or a disk that would lose the bond.

use std::path::Path;

use thiserror::Error;
use tracing::{info, warn};

use super::{Agent, Done, survey::Survey};
use crate::error::Report as _;
use crate::probe::probe;

const MIB: u64 = 1024 * 1024;

/// Why no seat is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum HeldBack {
    /// No executor, or another one.
    #[error("the executor does not answer as the one that was registered")]
    NoExecutor,
    /// An executor whose runs fail.
    #[error("runs keep failing; the executor has to run a trivial program first")]
    RunsFail,
    /// The journal was deleted or replaced.
    #[error(
        "the journal in the data folder was deleted or moved while the agent runs; when no seat is held any more, restart it"
    )]
    JournalGone,
    /// The disk is full.
    #[error("less than {} MiB are free in the data folder", .needed / MIB)]
    Disk {
        /// Bytes that have to be free.
        needed: u64,
    },
}

impl Agent {
    /// Whether anything keeps the node from taking seats now; says so when that changes.
    pub(super) fn look_at_itself(&mut self, survey: &Survey) {
        let needed = self.node.config.min_free_disk;
        let reason = if !self.journal.is_in_place() {
            Some(HeldBack::JournalGone)
        } else if !survey.executor_lives {
            Some(HeldBack::NoExecutor)
        } else if !self.health.is_good() {
            Some(HeldBack::RunsFail)
        } else if survey.free_disk.is_some_and(|free| free < needed) {
            Some(HeldBack::Disk { needed })
        } else {
            None
        };
        if reason != self.held_back {
            match &reason {
                Some(reason) => warn!(%reason, "no more seats are taken"),
                None => info!("seats are taken again"),
            }
        }
        self.held_back = reason;
        self.probe_if_due(survey);
    }

    /// Has the executor run a trivial program, if it lives and that is due.
    fn probe_if_due(&mut self, survey: &Survey) {
        let now = self.now();
        if survey.executor_lives && self.health.start_probe(now) {
            let node = self.node.clone();
            self.tasks.spawn(async move {
                let outcome = probe(&node).await;
                if let Err(error) = &outcome {
                    warn!(
                        error = error.report(),
                        "the executor does not run a trivial program"
                    );
                }
                Done::Probed(outcome.is_ok())
            });
        }
    }
}

/// Bytes that are free to this process where `folder` lies; `None` where that cannot be found out.
pub(super) fn free_disk(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_disk_is_found_where_the_folder_is() {
        assert!(free_disk(Path::new("/")).is_some());
        assert_eq!(free_disk(Path::new("/does/not/exist")), None);
    }
}
