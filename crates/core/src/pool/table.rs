//! Jobs by number. Numbers are given out one after the other, so neighbours lie together: in blocks of their own, which
//! are full where all of them are open. A tree of single jobs is half empty when its keys come in order, and looks for
//! each job in places that no cache holds. Decides nothing.

use std::collections::BTreeMap;

use super::JobNumber;
use super::job::Job;

/// Jobs of a block: few, as one of them that stays open for long keeps the whole block.
const BLOCK: usize = 16;

/// A block's jobs, by the rest of their numbers. Never without any.
type Block = Box<[Option<Job>; BLOCK]>;

/// Jobs by number.
#[derive(Debug, Clone, Default)]
pub(super) struct JobTable {
    blocks: BTreeMap<u64, Block>,
}

/// Which block a job is in, and where.
fn place(job: JobNumber) -> (u64, usize) {
    let [rest, ..] = (job.0 % BLOCK as u64).to_le_bytes();
    (job.0 / BLOCK as u64, usize::from(rest))
}

impl JobTable {
    pub(super) fn get(&self, job: JobNumber) -> Option<&Job> {
        let (block, at) = place(job);
        self.blocks.get(&block)?.get(at)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, job: JobNumber) -> Option<&mut Job> {
        let (block, at) = place(job);
        self.blocks.get_mut(&block)?.get_mut(at)?.as_mut()
    }

    pub(super) fn contains(&self, job: JobNumber) -> bool {
        self.get(job).is_some()
    }

    /// Puts a job in, in place of what is there.
    pub(super) fn insert(&mut self, job: JobNumber, known: Job) {
        let (block, at) = place(job);
        let block = self
            .blocks
            .entry(block)
            .or_insert_with(|| Box::new([const { None }; BLOCK]));
        if let Some(slot) = block.get_mut(at) {
            *slot = Some(known);
        }
    }

    /// Takes a job out; the last one takes its block with it.
    pub(super) fn remove(&mut self, job: JobNumber) -> Option<Job> {
        let (number, at) = place(job);
        let block = self.blocks.get_mut(&number)?;
        let known = block.get_mut(at)?.take();
        if block.iter().all(Option::is_none) {
            self.blocks.remove(&number);
        }
        known
    }

    /// All of them, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobNumber, &Job)> {
        self.blocks.iter().flat_map(|(block, jobs)| {
            let numbers = (0..BLOCK as u64).map(move |at| JobNumber(block * BLOCK as u64 + at));
            numbers
                .zip(jobs.iter())
                .filter_map(|(number, job)| Some((number, job.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::job::{Class, Life};
    use super::super::{ClientNumber, JobEnd};
    use super::*;

    fn job(client: u32) -> Job {
        Job {
            client: ClientNumber(client),
            counted: Class::Ended,
            life: Life::Ended {
                end: JobEnd::Cancelled,
                accepted: Vec::new(),
            },
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_the_order_of_numbers(steps in prop::collection::vec(
            (any::<bool>(), prop_oneof![0..40u64, u64::MAX - 40..=u64::MAX], any::<u32>()), 0..200,
        )) {
            let (mut table, mut model) = (JobTable::default(), BTreeMap::new());
            for (puts, number, client) in steps {
                let number = JobNumber(number);
                if puts {
                    table.insert(number, job(client));
                    model.insert(number, job(client));
                } else {
                    prop_assert_eq!(table.remove(number), model.remove(&number));
                }
                prop_assert_eq!(table.get(number), model.get(&number));
                prop_assert_eq!(table.get_mut(number), model.get_mut(&number));
                prop_assert_eq!(table.contains(number), model.contains_key(&number));
            }
            let all: Vec<_> = table.iter().map(|(number, job)| (number, job.clone())).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
            prop_assert!(table.blocks.values().all(|block| block.iter().any(Option::is_some)));
        }
    }
}
