//! Random scripts on all four rows: after each step the whole state agrees with itself, refused events change
//! nothing, attempts are never given out twice, jobs end once and never start before their parents, and at last every
//! job ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sandrun_core::pool::*;
use sandrun_types::{Attempt, ResultDigest};

mod pool_support;

use pool_support::{SETTINGS, Script, Step, announced_offer, step};

/// A model beside the machine: what it has taken in, given out and taken back.
struct World {
    pool: Pool,
    script: Script,
    parents: BTreeMap<JobNumber, BTreeSet<JobNumber>>,
    seen: BTreeSet<(JobNumber, Attempt)>,
    ended: BTreeMap<JobNumber, JobEnd>,
    /// Too many events to compare states around each.
    is_settling: bool,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self {
            pool: Pool::new(Settings { policy, ..SETTINGS }),
            script: Script::new(false),
            parents: BTreeMap::new(),
            seen: BTreeSet::new(),
            ended: BTreeMap::new(),
            is_settling: false,
        }
    }

    fn step(&mut self, policy: Policy, step: &Step) -> Result<(), TestCaseError> {
        match self.script.event(policy, step) {
            Some(event) => self.feed(event),
            None => Ok(()),
        }
    }

    fn feed(&mut self, event: Event) -> Result<(), TestCaseError> {
        let before = (!self.is_settling).then(|| format!("{:?}", self.pool));
        let promised = if let Event::Claim { node, job: None } = &event {
            Some(self.pool.has_work_for(*node))
        } else {
            None
        };
        let actions = match self.pool.apply(self.script.time(), event.clone()) {
            Ok(actions) => actions,
            Err(refused) => {
                let same = before.is_none_or(|before| before == format!("{:?}", self.pool));
                prop_assert!(
                    same,
                    "{:?} was refused ({}) and changed something",
                    event,
                    refused
                );
                return Ok(());
            }
        };
        if let Err(defect) = self.pool.sanity_check() {
            return Err(TestCaseError::fail(format!("after {event:?}: {defect}")));
        }
        if let Event::Submit { job, spec } = &event {
            self.parents.insert(*job, spec.parents.clone());
        }
        let has_lease = actions.iter().any(|it| matches!(it, Action::Lease { .. }));
        prop_assert!(
            promised.is_none_or(|promised| promised == has_lease),
            "{:?}: promised {:?}, got {:?}",
            event,
            promised,
            actions
        );
        for action in actions {
            self.look_at(action)?;
        }
        Ok(())
    }

    fn has_agreed(&self, job: JobNumber) -> bool {
        matches!(self.ended.get(&job), Some(JobEnd::Agreed(_)))
    }

    fn look_at(&mut self, action: Action) -> Result<(), TestCaseError> {
        self.script.note(&action);
        match action {
            Action::Lease {
                job, attempt, until, ..
            } => {
                prop_assert!(
                    self.seen.insert((job, attempt)),
                    "attempt {} of job {} given out twice",
                    attempt,
                    job
                );
                prop_assert!(!self.ended.contains_key(&job), "ended job {} given out", job);
                let may_start = self.parents[&job].iter().all(|it| self.has_agreed(*it));
                prop_assert!(may_start, "job {} was given out before its parents agreed", job);
                prop_assert!(until.0 > self.script.now);
            }
            Action::Stop { job, .. } | Action::Retry { job, .. } | Action::ExtraPlaces { job, .. } => {
                prop_assert!(!self.ended.contains_key(&job), "{:?} after the end", action);
            }
            Action::End { job, end } => {
                if let JobEnd::Failed(FailReason::Parent(parent)) = end {
                    prop_assert!(self.parents[&job].contains(&parent));
                    prop_assert!(self.ended.contains_key(&parent) && !self.has_agreed(parent));
                }
                prop_assert!(self.ended.insert(job, end).is_none(), "job {} ended twice", job);
            }
            Action::NoWork { .. } | Action::NodeLost { .. } => {}
        }
        Ok(())
    }

    fn all_ended(&self) -> bool {
        self.ended.len() == self.parents.len()
    }

    /// Good nodes for everything, and time: every job ends, after as many rounds as a chain of them is long.
    fn settle(&mut self, policy: Policy) -> Result<(), TestCaseError> {
        self.is_settling = true;
        for _ in 0..12 + self.parents.len() {
            if self.all_ended() {
                break;
            }
            let open: Vec<JobNumber> = self
                .parents
                .keys()
                .copied()
                .filter(|job| !self.ended.contains_key(job))
                .collect();
            for node in (100..110).map(NodeNumber) {
                let spec = NodeSpec {
                    offer: announced_offer(),
                    slots: 1_000,
                    admitted: true,
                };
                self.feed(Event::Register { node, spec })?;
                match policy.assignment {
                    Assignment::Claimed => {
                        for _ in 0..=open.len() {
                            self.feed(Event::Claim { node, job: None })?;
                        }
                    }
                    Assignment::Tickets => {
                        for job in open.iter().copied().map(Some) {
                            self.feed(Event::Claim { node, job })?;
                        }
                    }
                    Assignment::Pushed(_) => {}
                }
            }
            self.answer_all()?;
            self.script.now += 100;
            self.feed(Event::Tick)?;
        }
        Ok(())
    }

    fn answer_all(&mut self) -> Result<(), TestCaseError> {
        let mut given = self.script.given.clone();
        given.retain(|(job, ..)| !self.ended.contains_key(job));
        for (job, node, attempt) in given.iter().copied() {
            self.feed(Event::Committed { job, node, attempt })?;
        }
        for (job, node, attempt) in given {
            let report = Report {
                digest: ResultDigest([9; 32]),
                signature: SignatureCheck::Valid,
                success: true,
            };
            self.feed(Event::Answered {
                job,
                node,
                attempt,
                report,
            })?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(pool_support::config())]

    #[test]
    fn random_scripts_keep_every_promise(steps in proptest::collection::vec(step(), 0..120), row in 0usize..4) {
        let policy = Policy::ALL[row];
        let mut world = World::new(policy);
        for step in &steps {
            world.step(policy, step)?;
        }
        world.settle(policy)?;
        prop_assert!(world.all_ended(), "{} jobs did not end", policy.name);
        let counts = world.pool.counts();
        prop_assert_eq!((world.pool.waiting(), counts.blocked, counts.queued, counts.running), (0, 0, 0, 0));
    }

    #[test]
    fn the_same_events_lead_to_the_same_state(steps in proptest::collection::vec(step(), 0..60), row in 0usize..4) {
        let policy = Policy::ALL[row];
        let (mut first, mut second) = (World::new(policy), World::new(policy));
        for step in &steps {
            first.step(policy, step)?;
        }
        for step in &steps {
            second.step(policy, step)?;
        }
        prop_assert_eq!(format!("{:?}", first.pool), format!("{:?}", second.pool));
    }
}
