//! Agreement: when a job's answers decide it, and when they can't any more.

use std::collections::BTreeMap;

use sandrun_types::ResultDigest;

use super::job::Open;
use super::{Action, FailReason, JobEnd, JobNumber, LeaseStep, Pool, Verification};

/// What follows from the answers so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tally {
    /// This one has won for certain.
    Won(ResultDigest),
    /// It depends on those who have not answered.
    Undecided,
    /// Nobody can win any more with the places that there are.
    Hopeless,
}

/// Counts: an answer wins with at least `quorum` and more than half of all, those who can still answer counted as
/// against it.
pub(super) fn tally(answers: impl IntoIterator<Item = ResultDigest>, to_come: usize, quorum: usize) -> Tally {
    let mut counts: BTreeMap<ResultDigest, usize> = BTreeMap::new();
    for digest in answers {
        *counts.entry(digest).or_default() += 1;
    }
    let total: usize = counts.values().sum::<usize>() + to_come;
    let Some((best, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
        return if to_come >= quorum {
            Tally::Undecided
        } else {
            Tally::Hopeless
        };
    };
    let wins = |count: usize| count >= quorum && 2 * count > total;
    if wins(count) {
        Tally::Won(best)
    } else if to_come > 0 && (wins(count + to_come) || wins(to_come)) {
        Tally::Undecided
    } else {
        Tally::Hopeless
    }
}

impl Open {
    pub(super) fn to_come(&self) -> usize {
        self.leases.len() + usize::from(self.waiting)
    }

    /// Whether this round's answers have begun: nobody may commit any more.
    pub(super) fn places_are_closed(&self) -> bool {
        !self.answers.is_empty()
            && self.waiting == 0
            && self.leases.iter().all(|it| it.step == LeaseStep::Committed)
    }
}

impl Pool {
    /// Ends the job or opens more places, if its answers say so.
    pub(super) fn settle(&mut self, job: JobNumber, out: &mut Vec<Action>) {
        let Some(known) = self.jobs.get_mut(job) else {
            return;
        };
        let client = known.client;
        let Some(open) = known.open_mut() else { return };
        let quorum = usize::from(open.quorum);
        let digests = || open.answers.iter().map(|it| it.digest);
        let extra = usize::from(open.extra_places);
        match tally(digests(), open.to_come(), quorum) {
            Tally::Won(digest) => self.end(job, JobEnd::Agreed(digest), out),
            Tally::Undecided => {}
            // in a market the extra round opens when all have acted
            Tally::Hopeless
                if self.settings.policy.verification == Verification::CommitReveal && open.to_come() > 0 => {}
            Tally::Hopeless
                if extra > 0 && tally(digests(), open.to_come() + extra, quorum) != Tally::Hopeless =>
            {
                let places = open.extra_places;
                open.waiting = open.waiting.saturating_add(places);
                open.extra_places = 0;
                self.queue.insert(open.entry(client, job), open.involved());
                self.touch(job);
                out.push(Action::ExtraPlaces { job, places });
            }
            Tally::Hopeless => {
                let reason = match open.last_failure {
                    Some(reason) if open.answers.is_empty() => reason,
                    Some(_) | None => FailReason::NoAgreement,
                };
                self.end(job, JobEnd::Failed(reason), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digests(bytes: &[u8]) -> Vec<ResultDigest> {
        bytes.iter().map(|byte| ResultDigest([*byte; 32])).collect()
    }

    #[test]
    fn two_of_three_and_three_of_five() {
        let won = |byte: u8| Tally::Won(ResultDigest([byte; 32]));
        let cases: [(&[u8], usize, usize, Tally); 12] = [
            (&[], 3, 2, Tally::Undecided),
            (&[1], 2, 2, Tally::Undecided),
            (&[1, 1], 1, 2, won(1)),
            (&[1, 2], 1, 2, Tally::Undecided),
            (&[1, 2, 1], 0, 2, won(1)),
            (&[1, 2, 3], 0, 2, Tally::Hopeless),
            (&[1, 2], 0, 2, Tally::Hopeless),
            // 2-of-2 with its extra round: two of four are not more than half
            (&[1, 2, 1, 2], 0, 2, Tally::Hopeless),
            (&[1, 2, 1], 1, 2, Tally::Undecided),
            (&[1, 1, 1], 2, 3, won(1)),
            (&[1, 2, 3], 2, 3, Tally::Undecided),
            (&[1], 0, 1, won(1)),
        ];
        for (answers, to_come, quorum, wanted) in cases {
            assert_eq!(
                tally(digests(answers), to_come, quorum),
                wanted,
                "{answers:?} + {to_come}, q = {quorum}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_has_won_is_won_whatever_the_others_say(
            answers in proptest::collection::vec(0u8..3, 0..6), later in proptest::collection::vec(0u8..3, 0..4), quorum in 1usize..4,
        ) {
            let before = tally(digests(&answers), later.len(), quorum);
            let all: Vec<u8> = answers.iter().chain(&later).copied().collect();
            let after = tally(digests(&all), 0, quorum);
            match before {
                Tally::Won(_) => prop_assert_eq!(after, before),
                Tally::Hopeless => prop_assert_eq!(after, Tally::Hopeless),
                Tally::Undecided => {}
            }
        }
    }
}
