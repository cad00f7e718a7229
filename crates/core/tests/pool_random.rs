//! Random scripts on all four rows: after each step the whole state agrees with itself, refused events change
//! nothing, attempts are never given out twice, jobs end once, and at last every job ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sandrun_core::pool::*;
use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

#[derive(Debug, Clone)]
enum Step {
    Submit {
        client: u8,
        priority: u8,
        kind: u8,
        region: bool,
    },
    Register {
        node: u8,
        slots: u8,
        announced: bool,
    },
    Claim {
        node: u8,
        job: u8,
    },
    /// Of the leases given so far, whether still held or not.
    Start {
        which: u16,
    },
    Commit {
        which: u16,
    },
    Answer {
        which: u16,
        digest: u8,
        signature: u8,
    },
    Fail {
        which: u16,
        retry: bool,
    },
    Lose {
        node: u8,
    },
    Drain {
        node: u8,
    },
    Resume {
        node: u8,
    },
    Heartbeat {
        node: u8,
    },
    Cancel {
        job: u8,
    },
    Forget {
        job: u8,
    },
    Pass {
        seconds: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3, 0u8..3, 0u8..4, any::<bool>())
            .prop_map(|(client, priority, kind, region)| Step::Submit { client, priority, kind, region }),
        4 => (0u8..6, 0u8..4, any::<bool>())
            .prop_map(|(node, slots, announced)| Step::Register { node, slots, announced }),
        10 => (0u8..6, 0u8..12).prop_map(|(node, job)| Step::Claim { node, job }),
        3 => any::<u16>().prop_map(|which| Step::Start { which }),
        10 => any::<u16>().prop_map(|which| Step::Commit { which }),
        12 => (any::<u16>(), 0u8..3, 0u8..6)
            .prop_map(|(which, digest, signature)| Step::Answer { which, digest, signature }),
        3 => (any::<u16>(), any::<bool>()).prop_map(|(which, retry)| Step::Fail { which, retry }),
        1 => (0u8..6).prop_map(|node| Step::Lose { node }),
        1 => (0u8..6).prop_map(|node| Step::Drain { node }),
        2 => (0u8..6).prop_map(|node| Step::Resume { node }),
        3 => (0u8..6).prop_map(|node| Step::Heartbeat { node }),
        1 => (0u8..12).prop_map(|job| Step::Cancel { job }),
        1 => (0u8..12).prop_map(|job| Step::Forget { job }),
        3 => (0u8..50).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// A model beside the machine: what it has given out and taken back.
struct World {
    pool: Pool,
    now: u64,
    submitted: u64,
    given: Vec<(JobNumber, NodeNumber, Attempt)>,
    seen: BTreeSet<(JobNumber, Attempt)>,
    ended: BTreeMap<JobNumber, JobEnd>,
    /// Too many events to compare states around each.
    is_settling: bool,
}

impl World {
    fn new(policy: Policy) -> Self {
        let settings = Settings {
            policy,
            ageing_step: 10,
            node_timeout: Some(40),
            max_retries: 2,
        };
        let (given, seen, ended) = (vec![], BTreeSet::new(), BTreeMap::new());
        Self {
            pool: Pool::new(settings),
            now: 1_000,
            submitted: 0,
            given,
            seen,
            ended,
            is_settling: false,
        }
    }

    fn feed(&mut self, event: Event) -> Result<(), TestCaseError> {
        let before = self.pool.clone();
        let actions = match self.pool.apply(UnixSeconds(self.now), event.clone()) {
            Ok(actions) => actions,
            Err(refused) => {
                let same = self.is_settling || format!("{before:?}") == format!("{:?}", self.pool);
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
        for action in actions {
            self.look_at(action)?;
        }
        Ok(())
    }

    fn look_at(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Lease {
                job,
                node,
                attempt,
                until,
                ..
            } => {
                prop_assert!(
                    self.seen.insert((job, attempt)),
                    "attempt {} of job {} given out twice",
                    attempt,
                    job
                );
                prop_assert!(!self.ended.contains_key(&job), "ended job {} given out", job);
                prop_assert!(until.0 > self.now);
                self.given.push((job, node, attempt));
            }
            Action::Stop { job, .. } | Action::Retry { job, .. } | Action::ExtraPlaces { job, .. } => {
                prop_assert!(!self.ended.contains_key(&job), "{:?} after the end", action);
            }
            Action::End { job, end } => {
                prop_assert!(self.ended.insert(job, end).is_none(), "job {} ended twice", job);
            }
            Action::NoWork { .. } | Action::NodeLost { .. } => {}
        }
        Ok(())
    }

    fn lease(&self, which: u16) -> Option<(JobNumber, NodeNumber, Attempt)> {
        let count = self.given.len();
        // recent ones are more likely to be held still
        count
            .checked_sub(1 + usize::from(which) % count.clamp(1, 12))
            .and_then(|at| self.given.get(at))
            .copied()
    }

    fn event(&mut self, policy: Policy, step: &Step) -> Option<Event> {
        Some(match *step {
            Step::Submit {
                client,
                priority,
                kind,
                region,
            } => {
                let job = JobNumber(self.submitted);
                self.submitted += 1;
                let (replicas, quorum) = [(1, 1), (2, 2), (3, 2), (5, 3)][usize::from(kind)];
                let needs = Needs {
                    region: region.then(|| "eu".to_owned()),
                    ..Needs::default()
                };
                let (client, priority) = (ClientNumber(client.into()), Priority(priority));
                Event::Submit {
                    job,
                    spec: JobSpec {
                        client,
                        priority,
                        needs,
                        replicas,
                        quorum,
                        lease_seconds: 30,
                        parents: BTreeSet::new(),
                    },
                }
            }
            Step::Register {
                node,
                slots,
                announced,
            } => {
                let offer = if announced {
                    announced_offer()
                } else {
                    Offer::Unannounced
                };
                let spec = NodeSpec {
                    offer,
                    slots: slots.into(),
                    admitted: true,
                };
                Event::Register {
                    node: NodeNumber(node.into()),
                    spec,
                }
            }
            Step::Claim { node, job } => {
                let job = (policy.assignment == Assignment::Tickets)
                    .then(|| JobNumber(self.submitted.saturating_sub(1 + u64::from(job))));
                Event::Claim {
                    node: NodeNumber(node.into()),
                    job,
                }
            }
            Step::Start { which } => {
                let (job, node, attempt) = self.lease(which)?;
                Event::Started { job, node, attempt }
            }
            Step::Commit { which } => {
                let (job, node, attempt) = self.lease(which)?;
                Event::Committed { job, node, attempt }
            }
            Step::Answer {
                which,
                digest,
                signature,
            } => {
                let (job, node, attempt) = self.lease(which)?;
                let signature = match signature {
                    0 => SignatureCheck::Invalid,
                    1 => SignatureCheck::Absent,
                    _ => SignatureCheck::Valid,
                };
                Event::Answered {
                    job,
                    node,
                    attempt,
                    report: Report {
                        digest: ResultDigest([digest; 32]),
                        signature,
                    },
                }
            }
            Step::Fail { which, retry } => {
                let (job, node, attempt) = self.lease(which)?;
                Event::Failed {
                    job,
                    node,
                    attempt,
                    retry,
                }
            }
            Step::Lose { node } => Event::Lost {
                node: NodeNumber(node.into()),
            },
            Step::Drain { node } => Event::Drain {
                node: NodeNumber(node.into()),
            },
            Step::Resume { node } => Event::Resume {
                node: NodeNumber(node.into()),
            },
            Step::Heartbeat { node } => Event::Heartbeat {
                node: NodeNumber(node.into()),
            },
            Step::Cancel { job } => Event::Cancel {
                job: JobNumber(job.into()),
            },
            Step::Forget { job } => Event::Forget {
                job: JobNumber(job.into()),
            },
            Step::Pass { seconds } => {
                self.now += u64::from(seconds);
                Event::Tick
            }
        })
    }

    /// Good nodes for everything, and time: every job ends.
    fn settle(&mut self, policy: Policy) -> Result<(), TestCaseError> {
        self.is_settling = true;
        for _ in 0..12 {
            if self.ended.len() as u64 == self.submitted {
                break;
            }
            for node in 100..110 {
                let spec = NodeSpec {
                    offer: announced_offer(),
                    slots: 1_000,
                    admitted: true,
                };
                self.feed(Event::Register {
                    node: NodeNumber(node),
                    spec,
                })?;
                match policy.assignment {
                    Assignment::Claimed => {
                        for _ in 0..=self.submitted {
                            self.feed(Event::Claim {
                                node: NodeNumber(node),
                                job: None,
                            })?;
                        }
                    }
                    Assignment::Tickets => {
                        for job in 0..self.submitted {
                            self.feed(Event::Claim {
                                node: NodeNumber(node),
                                job: Some(JobNumber(job)),
                            })?;
                        }
                    }
                    Assignment::Pushed(_) => {}
                }
            }
            let given: Vec<_> = self
                .given
                .iter()
                .copied()
                .filter(|(job, ..)| !self.ended.contains_key(job))
                .collect();
            for (job, node, attempt) in &given {
                self.feed(Event::Committed {
                    job: *job,
                    node: *node,
                    attempt: *attempt,
                })?;
            }
            for (job, node, attempt) in given {
                let report = Report {
                    digest: ResultDigest([9; 32]),
                    signature: SignatureCheck::Valid,
                };
                self.feed(Event::Answered {
                    job,
                    node,
                    attempt,
                    report,
                })?;
            }
            self.now += 100;
            self.feed(Event::Tick)?;
        }
        Ok(())
    }
}

fn announced_offer() -> Offer {
    let capabilities = sandrun_types::Capabilities {
        region: Some("eu".into()),
        ..Default::default()
    };
    Offer::Announced {
        capabilities: Box::new(capabilities),
        features: BTreeSet::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn random_scripts_keep_every_promise(steps in proptest::collection::vec(step(), 0..120), row in 0usize..4) {
        let policy = Policy::ALL[row];
        let mut world = World::new(policy);
        for step in &steps {
            if let Some(event) = world.event(policy, step) {
                world.feed(event)?;
            }
        }
        world.settle(policy)?;
        prop_assert_eq!(world.ended.len() as u64, world.submitted, "{} jobs did not end", policy.name);
        prop_assert_eq!(world.pool.waiting(), 0);
    }

    #[test]
    fn the_same_events_lead_to_the_same_state(steps in proptest::collection::vec(step(), 0..60), row in 0usize..4) {
        let policy = Policy::ALL[row];
        let (mut first, mut second) = (World::new(policy), World::new(policy));
        for step in &steps {
            if let Some(event) = first.event(policy, step) {
                first.feed(event)?;
            }
        }
        for step in &steps {
            if let Some(event) = second.event(policy, step) {
                second.feed(event)?;
            }
        }
        prop_assert_eq!(format!("{:?}", first.pool), format!("{:?}", second.pool));
    }
}
