//! Random scripts for the pool: steps, and the events that they mean after what was given out so far.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sandrun_core::pool::*;
use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

pub(crate) const SETTINGS: Settings = Settings {
    policy: Policy::BROKER,
    ageing_step: 10,
    node_timeout: Some(40),
    max_retries: 2,
};

/// The same scripts each time; `POOL_CASES=20000` at compile time draws as many others instead.
pub(crate) fn config() -> ProptestConfig {
    let more = option_env!("POOL_CASES").and_then(|it| it.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        rng_seed: more.map_or(RngSeed::Fixed(20_261_121), |_: u32| RngSeed::Random),
        ..ProptestConfig::with_cases(more.unwrap_or(256))
    }
}

/// One thing that may happen.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Submit {
        client: u8,
        priority: u8,
        kind: u8,
        region: bool,
        /// Which of the jobs submitted last it waits for, one bit each.
        after: u8,
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
    /// The answer to a numbered claim.
    Hand {
        which: u16,
        claim: u8,
    },
    /// The node has those of the leases given so far whose bits are set.
    Hold {
        node: u8,
        settled: u8,
        keeps: u16,
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

/// One random step.
pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3, 0u8..3, 0u8..4, any::<bool>(), prop_oneof![3 => Just(0u8), 2 => 0u8..32])
            .prop_map(|(client, priority, kind, region, after)| Step::Submit { client, priority, kind, region, after }),
        4 => (0u8..6, 0u8..4, any::<bool>())
            .prop_map(|(node, slots, announced)| Step::Register { node, slots, announced }),
        10 => (0u8..6, 0u8..12).prop_map(|(node, job)| Step::Claim { node, job }),
        3 => any::<u16>().prop_map(|which| Step::Start { which }),
        4 => (any::<u16>(), 0u8..20).prop_map(|(which, claim)| Step::Hand { which, claim }),
        2 => (0u8..6, 0u8..20, any::<u16>())
            .prop_map(|(node, settled, keeps)| Step::Hold { node, settled, keeps }),
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

/// What the steps refer to: the time, how many jobs there were, the leases given so far.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) now: u64,
    pub(crate) submitted: u64,
    pub(crate) given: Vec<(JobNumber, NodeNumber, Attempt)>,
    /// Whether all jobs are one client's: then it is nobody else's turn.
    pub(crate) one_client: bool,
}

impl Script {
    pub(crate) fn new(one_client: bool) -> Self {
        Self {
            now: 1_000,
            submitted: 0,
            given: vec![],
            one_client,
        }
    }

    pub(crate) fn time(&self) -> UnixSeconds {
        UnixSeconds(self.now)
    }

    pub(crate) fn note(&mut self, action: &Action) {
        if let Action::Lease {
            job, node, attempt, ..
        } = action
        {
            self.given.push((*job, *node, *attempt));
        }
    }

    fn lease(&self, which: u16) -> Option<(JobNumber, NodeNumber, Attempt)> {
        let count = self.given.len();
        // recent ones are more likely to be held still
        count
            .checked_sub(1 + usize::from(which) % count.clamp(1, 12))
            .and_then(|at| self.given.get(at))
            .copied()
    }

    /// The event that a step means now; `None` where it means none.
    pub(crate) fn event(&mut self, policy: Policy, step: &Step) -> Option<Event> {
        Some(match *step {
            Step::Submit {
                client,
                priority,
                kind,
                region,
                after,
            } => {
                let job = JobNumber(self.submitted);
                self.submitted += 1;
                let (replicas, quorum) = [(1, 1), (2, 2), (3, 2), (5, 3)][usize::from(kind)];
                let needs = Needs {
                    region: region.then(|| "eu".to_owned()),
                    ..Needs::default()
                };
                let client = if self.one_client { 0 } else { client };
                let (client, priority) = (ClientNumber(client.into()), Priority(priority));
                let parents = (0u8..8)
                    .filter(|bit| after >> bit & 1 == 1)
                    .filter_map(|bit| job.0.checked_sub(1 + u64::from(bit)))
                    .map(JobNumber)
                    .collect();
                Event::Submit {
                    job,
                    spec: JobSpec {
                        client,
                        priority,
                        needs,
                        replicas,
                        quorum,
                        lease_seconds: 30,
                        retries: None,
                        parents,
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
            Step::Hand { which, claim } => {
                let (job, node, attempt) = self.lease(which)?;
                let claim = ClaimNumber(claim.into());
                Event::Handed {
                    job,
                    node,
                    attempt,
                    claim,
                }
            }
            Step::Hold { node, settled, keeps } => {
                let node = NodeNumber(node.into());
                let latest = self.given.iter().rev().take(16).enumerate();
                let held = latest
                    .filter(|(at, it)| keeps >> at & 1 == 1 && it.1 == node)
                    .map(|(_, (job, _, attempt))| (*job, *attempt));
                Event::Holds {
                    node,
                    settled: ClaimNumber(settled.into()),
                    held: held.collect(),
                }
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
                        success: true,
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
}

pub(crate) fn announced_offer() -> Offer {
    let capabilities = sandrun_types::Capabilities {
        region: Some("eu".into()),
        ..Default::default()
    };
    Offer::Announced {
        capabilities: Box::new(capabilities),
        features: BTreeSet::new(),
    }
}
