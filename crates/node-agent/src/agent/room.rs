//! How much is fetched for jobs in which the node holds no seat: anyone can post such jobs, and take them back for
//! nothing. What they leave on the disk must never be the room that a run needs, whose bond hangs on it.

use sandrun_core::seat::State;
use sandrun_types::JobId;
use thiserror::Error;

use super::tracked::Tracked;
use super::{Agent, holding::free_disk, work};

/// Bundles that are had or on their way without a seat, for each job that may be under way.
const AHEAD: usize = 4;

/// Why the bundle of a job without a seat waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum NoRoom {
    /// So many are had or on their way.
    #[error("{most} bundles of jobs without a seat are here already")]
    Many {
        /// How many may be.
        most: usize,
    },
    /// The disk is nearly full, or will be when what is on its way has come.
    #[error("too little is free in the data folder for another bundle")]
    Disk,
}

/// What is here of jobs without a seat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stock {
    /// Bundles on their way, of jobs with a seat too.
    coming: usize,
    /// Bundles without a seat, those on their way included.
    seatless: usize,
}

impl Agent {
    /// Why no bundle is fetched for this job now, which has no seat; what is of no use at the moment goes then.
    pub(super) fn make_room(&mut self, job: JobId) -> Option<NoRoom> {
        let others = self.jobs.iter().filter(|(id, _)| **id != job);
        let stock = stock(others.map(|(_, tracked)| tracked));
        let config = &self.node.config;
        let free = free_disk(&config.data_dir);
        let has_failed = self.jobs.get(&job).is_some_and(|it| it.fetch_failed);
        let most = most(config.max_jobs, has_failed);
        let no_room = refusal(stock, most, free, config.min_free_disk, config.max_bundle_bytes);
        if no_room.is_some() {
            self.let_go_of_useless();
        }
        no_room
    }

    /// Lets go of bundles whose jobs have no seat for this node; an extra round fetches them anew.
    fn let_go_of_useless(&mut self) {
        for (job, tracked) in &mut self.jobs {
            if matches!(tracked.seat.state(), State::Lost(_)) && tracked.bundle.take().is_some() {
                let clear = work::clear(self.node.clone(), *job, tracked.order.bundle);
                self.tasks.spawn(clear);
            }
        }
    }
}

/// How many bundles may be here without a seat. One that could not be had leaves half of the places to those that were
/// not tried yet: jobs whose bundle nobody has cost their client nothing.
fn most(max_jobs: u32, has_failed: bool) -> usize {
    let all = usize::try_from(max_jobs)
        .unwrap_or(usize::MAX)
        .max(1)
        .saturating_mul(AHEAD);
    if has_failed { all / 2 } else { all }
}

fn stock<'a>(jobs: impl Iterator<Item = &'a Tracked>) -> Stock {
    jobs.fold(Stock::default(), |sum, tracked| {
        let seatless = !tracked.seat.state().has_bond() && (tracked.fetching || tracked.bundle.is_some());
        Stock {
            coming: sum.coming + usize::from(tracked.fetching),
            seatless: sum.seatless + usize::from(seatless),
        }
    })
}

/// `free` is unknown where the folder can't be asked.
fn refusal(stock: Stock, most: usize, free: Option<u64>, least: u64, largest: u64) -> Option<NoRoom> {
    let coming = u64::try_from(stock.coming)
        .unwrap_or(u64::MAX)
        .saturating_mul(largest);
    if free.is_some_and(|free| free < least.saturating_add(coming)) {
        return Some(NoRoom::Disk);
    }
    (stock.seatless >= most).then_some(NoRoom::Many { most })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn asked(coming: usize, seatless: usize, free: Option<u64>) -> Option<NoRoom> {
        let stock = Stock { coming, seatless };
        refusal(stock, most(4, false), free, 256 * MIB, 100 * MIB)
    }

    #[test]
    fn no_more_bundles_come_than_the_node_could_use() {
        assert_eq!(asked(0, 15, None), None);
        assert_eq!(asked(0, 16, None), Some(NoRoom::Many { most: 16 }));
        assert_eq!(most(4, true), 8, "a second try leaves room for first ones");
        assert_eq!(most(0, false), 4);
    }

    #[test]
    fn what_runs_need_of_the_disk_is_not_given_to_bundles() {
        assert_eq!(asked(0, 0, Some(256 * MIB)), None);
        assert_eq!(asked(0, 0, Some(255 * MIB)), Some(NoRoom::Disk));
        assert_eq!(asked(2, 2, Some(455 * MIB)), Some(NoRoom::Disk));
        assert_eq!(asked(2, 2, Some(456 * MIB)), None);
        assert_eq!(
            asked(2, 2, None),
            None,
            "a folder that says nothing holds nothing up"
        );
    }
}
