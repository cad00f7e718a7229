//! Clients: submit under keys of their own until they are heard, name earlier jobs as parents, and take some back.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{ClientNumber, JobNumber, JobSpec, Needs, Priority};

use super::call::{Answer, Call, Key};
use super::rng::SplitMix64;

/// All clients.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// Submissions that nobody has answered yet.
    unheard: BTreeMap<Key, JobSpec>,
    /// Jobs that were acknowledged.
    pub(crate) jobs: BTreeSet<JobNumber>,
    cancels: BTreeSet<JobNumber>,
    count: u64,
}

impl Clients {
    /// One second: what they say.
    pub(crate) fn live(&mut self, faults: bool, rng: &mut SplitMix64) -> Vec<Call> {
        if faults && rng.chance(18) {
            let spec = self.spec(rng);
            self.count += 1;
            self.unheard.insert(Key(spec.client, self.count), spec);
        }
        if faults && rng.chance(2) && !self.jobs.is_empty() {
            let jobs: Vec<JobNumber> = self.jobs.iter().copied().collect();
            self.cancels.insert(*rng.pick(&jobs));
        }
        let mut said = vec![];
        for (key, spec) in &self.unheard {
            if rng.chance(40) {
                let (key, spec) = (*key, spec.clone());
                said.push(Call::Submit { key, spec });
            }
        }
        let cancels = self.cancels.iter().filter(|_| rng.chance(40));
        said.extend(cancels.map(|job| Call::Cancel { job: *job }));
        said
    }

    fn spec(&self, rng: &mut SplitMix64) -> JobSpec {
        let (replicas, quorum) = *rng.pick(&[(1, 1), (1, 1), (1, 1), (2, 2), (3, 2), (5, 3)]);
        let recent: Vec<JobNumber> = self.jobs.iter().rev().take(4).copied().collect();
        let parents = if rng.chance(35) {
            recent.into_iter().filter(|_| rng.chance(50)).collect()
        } else {
            BTreeSet::new()
        };
        let needs = Needs {
            region: rng.chance(25).then(|| "eu".to_owned()),
            ..Needs::default()
        };
        JobSpec {
            client: ClientNumber(1 + u32::try_from(rng.below(3)).unwrap()),
            priority: Priority(u8::try_from(rng.below(10)).unwrap()),
            needs,
            replicas,
            quorum,
            lease_seconds: 15 + u32::try_from(rng.below(30)).unwrap(),
            retries: None,
            parents,
        }
    }

    /// What they are told.
    pub(crate) fn hear(&mut self, answer: Answer) {
        match answer {
            Answer::Accepted { key, job } => {
                self.unheard.remove(&key);
                self.jobs.insert(job);
            }
            Answer::Cancelled { job } | Answer::Over { job } => {
                self.cancels.remove(&job);
            }
            Answer::Known { .. }
            | Answer::Unknown { .. }
            | Answer::Leased { .. }
            | Answer::NoWork { .. }
            | Answer::Stop(_)
            | Answer::Counted(_)
            | Answer::Stale(_) => {}
        }
    }

    pub(crate) fn are_done(&self) -> bool {
        self.unheard.is_empty() && self.cancels.is_empty()
    }
}
