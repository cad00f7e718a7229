//! Clients: submit under keys of their own until they are heard, name earlier jobs as parents, and take some back.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{ClientNumber, JobNumber, JobSpec, Needs, Priority};

use super::call::{Answer, Call, Key};
use crate::rng::Rng;

/// All clients.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// Submissions that nobody has answered yet.
    unheard: BTreeMap<Key, JobSpec>,
    /// Jobs that were acknowledged.
    pub(crate) jobs: BTreeSet<JobNumber>,
    cancels: BTreeSet<JobNumber>,
    count: u64,
    /// How many they submit.
    most: u64,
}

impl Clients {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// How many jobs they have wanted so far.
    pub(crate) const fn submitted(&self) -> u64 {
        self.count
    }

    /// One second: what they say.
    pub(crate) fn live(&mut self, faults: bool, rng: &mut Rng) -> Vec<Call> {
        if self.count < self.most && rng.chance(if faults { 18 } else { 100 }) {
            let spec = self.spec(rng);
            self.count += 1;
            self.unheard.insert(Key(spec.client, self.count), spec);
        }
        if faults && rng.chance(2) && !self.jobs.is_empty() {
            let jobs: Vec<JobNumber> = self.jobs.iter().copied().collect();
            self.cancels.extend(jobs.get(rng.index(jobs.len())));
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

    fn spec(&self, rng: &mut Rng) -> JobSpec {
        let (replicas, quorum) = rng.pick(&[(1, 1), (1, 1), (1, 1), (2, 2), (3, 2), (5, 3)], (1, 1));
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
            client: ClientNumber(1 + rng.small(3)),
            priority: Priority(u8::try_from(rng.below(10)).unwrap_or(0)),
            needs,
            replicas,
            quorum,
            lease_seconds: 15 + rng.small(30),
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
        self.count >= self.most && self.unheard.is_empty() && self.cancels.is_empty()
    }
}
