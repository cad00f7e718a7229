//! One script of events on all four rows of policy: what differs is how a node comes to a job, who is believed, and
//! whether a lost attempt is made again. Everything else is the same.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: clippy's exception covers test functions alone"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sandrun_core::pool::*;
use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

const LEASE: u32 = 60;
const TIMEOUT: u32 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    job: JobNumber,
    node: NodeNumber,
    attempt: Attempt,
}

/// Plays the service around the pool, records what it asks for, and lets a test say that nothing else was asked.
struct Service {
    pool: Pool,
    now: u64,
    out: VecDeque<Action>,
    leases: Vec<Held>,
}

impl Service {
    fn new(policy: Policy) -> Self {
        let settings = Settings {
            policy,
            ageing_step: 60,
            node_timeout: Some(TIMEOUT),
            max_retries: 2,
        };
        Self {
            pool: Pool::new(settings),
            now: 1_000,
            out: VecDeque::new(),
            leases: vec![],
        }
    }

    fn try_feed(&mut self, event: Event) -> Result<(), Illegal> {
        let actions = self.pool.apply(UnixSeconds(self.now), event)?;
        for action in actions {
            if let Action::Lease {
                job, node, attempt, ..
            } = action
            {
                self.leases.push(Held { job, node, attempt });
            } else if !matches!(action, Action::NoWork { .. }) {
                self.out.push_back(action);
            }
        }
        self.pool.sanity_check().unwrap();
        Ok(())
    }

    fn feed(&mut self, event: Event) {
        self.try_feed(event.clone())
            .unwrap_or_else(|refused| panic!("{event:?}: {refused}"));
    }

    #[track_caller]
    fn expect(&mut self, wanted: &[Action]) {
        let out: Vec<Action> = self.out.drain(..).collect();
        assert_eq!(out, wanted);
    }

    fn register(&mut self, node: u32, slots: u32) {
        let spec = NodeSpec {
            offer: Offer::Unannounced,
            slots,
            admitted: true,
        };
        self.feed(Event::Register {
            node: NodeNumber(node),
            spec,
        });
    }

    fn submit(&mut self, job: u64, replicas: u8, quorum: u8, needs: Needs) {
        let spec = JobSpec {
            client: ClientNumber(1),
            priority: Priority(0),
            needs,
            replicas,
            quorum,
            lease_seconds: LEASE,
            retries: None,
            parents: BTreeSet::new(),
        };
        self.feed(Event::Submit {
            job: JobNumber(job),
            spec,
        });
    }

    /// Every node takes what it can, in the policy's own way; in a market it commits at once.
    fn work(&mut self, policy: Policy, nodes: &[u32]) {
        for node in nodes.iter().map(|node| NodeNumber(*node)) {
            match policy.assignment {
                Assignment::Claimed => {
                    let before = self.leases.len();
                    self.feed(Event::Claim { node, job: None });
                    while self.leases.len() > before && self.leases.len() < before + 8 {
                        let count = self.leases.len();
                        self.feed(Event::Claim { node, job: None });
                        if self.leases.len() == count {
                            break;
                        }
                    }
                }
                Assignment::Tickets => {
                    for job in 0..20 {
                        let _ = self.try_feed(Event::Claim {
                            node,
                            job: Some(JobNumber(job)),
                        });
                    }
                }
                Assignment::Pushed(_) => {}
            }
        }
        if policy.verification == Verification::CommitReveal {
            for Held { job, node, attempt } in self.leases.clone() {
                let _ = self.try_feed(Event::Committed { job, node, attempt });
            }
        }
    }

    fn of(&self, job: u64) -> Vec<Held> {
        self.leases
            .iter()
            .copied()
            .filter(|held| held.job == JobNumber(job))
            .collect()
    }

    fn answer(&mut self, held: Held, byte: u8) -> Result<(), Illegal> {
        let Held { job, node, attempt } = held;
        let report = Report {
            digest: ResultDigest([byte; 32]),
            signature: SignatureCheck::Valid,
            success: true,
        };
        self.try_feed(Event::Answered {
            job,
            node,
            attempt,
            report,
        })
    }

    fn agreed(job: u64, byte: u8) -> Action {
        Action::End {
            job: JobNumber(job),
            end: JobEnd::Agreed(ResultDigest([byte; 32])),
        }
    }

    fn ended(job: u64, reason: FailReason) -> Action {
        Action::End {
            job: JobNumber(job),
            end: JobEnd::Failed(reason),
        }
    }

    fn stop(held: Held) -> Action {
        Action::Stop {
            job: held.job,
            node: held.node,
            attempt: held.attempt,
        }
    }
}

fn each_policy(script: impl Fn(Policy, &mut Service)) {
    for policy in Policy::ALL {
        let mut service = Service::new(policy);
        script(policy, &mut service);
    }
}

#[test]
fn one_script_runs_on_all_four_rows() {
    each_policy(|policy, service| {
        let name = policy.name;
        (1..=3).for_each(|node| service.register(node, 4));

        // one replica: one lease, one answer, once
        service.submit(1, 1, 1, Needs::default());
        service.work(policy, &[1, 2, 3]);
        let held = service.of(1);
        assert_eq!(held.len(), 1, "{name}");
        let early = Held {
            attempt: held[0].attempt.next(),
            ..held[0]
        };
        assert!(
            matches!(service.answer(early, 9), Err(Illegal::StaleAttempt { .. })),
            "{name}"
        );
        service.answer(held[0], 9).unwrap();
        service.expect(&[Service::agreed(1, 9)]);
        // the same again is no news, another one is refused
        service.answer(held[0], 9).unwrap();
        service.expect(&[]);
        assert!(
            matches!(service.answer(held[0], 8), Err(Illegal::StaleAttempt { .. })),
            "{name}"
        );

        // two of three, by three different nodes
        service.submit(2, 3, 2, Needs::default());
        service.work(policy, &[1, 2, 3]);
        let held = service.of(2);
        let mut nodes: Vec<u32> = held.iter().map(|it| it.node.0).collect();
        nodes.sort_unstable();
        assert_eq!(nodes, [1, 2, 3], "{name}");
        service.answer(held[0], 7).unwrap();
        service.expect(&[]);
        service.answer(held[2], 7).unwrap();
        if policy.settlement == Settlement::Escrow {
            // the third seat may still reveal to the escrow
            service.expect(&[Service::agreed(2, 7)]);
        } else {
            service.expect(&[Service::stop(held[1]), Service::agreed(2, 7)]);
        }

        // a job that no node can do waits, and is cancelled
        let needs = Needs {
            region: Some("moon".into()),
            ..Needs::default()
        };
        service.submit(3, 1, 1, needs);
        service.work(policy, &[1, 2, 3]);
        assert_eq!((service.of(3).len(), service.pool.waiting()), (0, 1), "{name}");
        service.feed(Event::Cancel { job: JobNumber(3) });
        service.expect(&[Action::End {
            job: JobNumber(3),
            end: JobEnd::Cancelled,
        }]);
        assert_eq!(
            service.try_feed(Event::Cancel { job: JobNumber(3) }),
            Err(Illegal::Ended(JobNumber(3)))
        );

        // a running one is cancelled: its node is told
        service.submit(4, 1, 1, Needs::default());
        service.work(policy, &[1, 2, 3]);
        let held = service.of(4);
        service.feed(Event::Cancel { job: JobNumber(4) });
        service.expect(&[
            Service::stop(held[0]),
            Action::End {
                job: JobNumber(4),
                end: JobEnd::Cancelled,
            },
        ]);
        assert!(
            matches!(service.answer(held[0], 1), Err(Illegal::StaleAttempt { .. })),
            "{name}"
        );

        // drained nodes get nothing, resumed ones do
        (1..=3).for_each(|node| {
            service.feed(Event::Drain {
                node: NodeNumber(node),
            })
        });
        service.submit(5, 1, 1, Needs::default());
        service.work(policy, &[1, 2, 3]);
        assert_eq!(service.of(5), [], "{name}");
        service.feed(Event::Resume { node: NodeNumber(2) });
        service.work(policy, &[2]);
        let held = service.of(5);
        assert_eq!(held.iter().map(|it| it.node.0).collect::<Vec<_>>(), [2], "{name}");
        service.answer(held[0], 5).unwrap();
        service.expect(&[Service::agreed(5, 5)]);
        service.feed(Event::Forget { job: JobNumber(5) });
        assert_eq!(service.pool.job(JobNumber(5)), None);
    });
}

#[test]
fn a_lost_node_costs_an_attempt_and_its_late_answer_is_refused() {
    each_policy(|policy, service| {
        (1..=2).for_each(|node| service.register(node, 1));
        service.submit(1, 1, 1, Needs::default());
        service.work(policy, &[1, 2]);
        let first = service.of(1)[0];
        service.feed(Event::Lost { node: first.node });
        if !policy.retries {
            service.expect(&[Service::ended(1, FailReason::NodeLost)]);
            return;
        }
        let (job, attempt) = (JobNumber(1), Attempt::FIRST);
        service.expect(&[Action::Retry {
            job,
            attempt,
            reason: FailReason::NodeLost,
        }]);
        service.work(policy, &[1, 2]);
        let second = *service.of(1).last().unwrap();
        assert_eq!(second.attempt, Attempt(2), "{}", policy.name);
        assert!(matches!(
            service.answer(first, 1),
            Err(Illegal::StaleAttempt { .. })
        ));
        service.answer(second, 2).unwrap();
        service.expect(&[Service::agreed(1, 2)]);
    });
}

#[test]
fn retries_end_and_the_job_fails_with_the_last_reason() {
    each_policy(|policy, service| {
        service.register(1, 1);
        service.submit(1, 1, 1, Needs::default());
        let attempts = if policy.retries { 3 } else { 1 };
        for attempt in 1..=attempts {
            service.work(policy, &[1]);
            let held = *service.of(1).last().unwrap();
            assert_eq!(held.attempt, Attempt(attempt));
            let (job, node, attempt) = (held.job, held.node, held.attempt);
            service.feed(Event::Failed {
                job,
                node,
                attempt,
                retry: true,
            });
        }
        let last = service.out.pop_back();
        assert_eq!(
            last,
            Some(Service::ended(1, FailReason::Attempt)),
            "{}",
            policy.name
        );
        assert!(service.out.iter().all(|it| matches!(it, Action::Retry { .. })));
        assert_eq!(service.out.len(), usize::try_from(attempts - 1).unwrap());
    });
}

#[test]
fn a_refusal_that_no_other_node_would_take_back_is_not_retried() {
    each_policy(|policy, service| {
        service.register(1, 1);
        service.submit(1, 1, 1, Needs::default());
        service.work(policy, &[1]);
        let Held { job, node, attempt } = service.of(1)[0];
        service.feed(Event::Failed {
            job,
            node,
            attempt,
            retry: false,
        });
        service.expect(&[Service::ended(1, FailReason::Refused)]);
    });
}

#[test]
fn leases_and_silent_nodes_time_out_after_their_last_second() {
    each_policy(|policy, service| {
        (1..=2).for_each(|node| service.register(node, 1));
        service.submit(1, 1, 1, Needs::default());
        service.work(policy, &[1, 2]);
        let held = service.of(1)[0];
        let other = NodeNumber(3 - held.node.0);
        assert_eq!(
            service.pool.next_timeout(),
            Some(UnixSeconds(1_000 + u64::from(TIMEOUT) + 1))
        );
        // the node is alive, its work takes too long
        service.now += u64::from(TIMEOUT);
        service.feed(Event::Heartbeat { node: held.node });
        service.feed(Event::Tick);
        service.expect(&[]);
        service.now += 1;
        service.feed(Event::Tick);
        service.expect(&[Action::NodeLost { node: other }]);
        service.feed(Event::Heartbeat { node: held.node });
        service.now = 1_000 + u64::from(LEASE);
        service.feed(Event::Heartbeat { node: held.node });
        service.feed(Event::Tick);
        service.expect(&[]);
        service.now += 1;
        service.feed(Event::Tick);
        let (job, attempt) = (JobNumber(1), Attempt::FIRST);
        if policy.retries {
            service.expect(&[Action::Retry {
                job,
                attempt,
                reason: FailReason::LeaseOver,
            }]);
        } else {
            service.expect(&[Service::ended(1, FailReason::LeaseOver)]);
        }
    });
}

#[test]
fn answers_that_differ_open_extra_places_once_where_the_policy_has_them() {
    each_policy(|policy, service| {
        (1..=5).for_each(|node| service.register(node, 1));
        service.submit(1, 3, 2, Needs::default());
        service.work(policy, &[1, 2, 3, 4, 5]);
        let held = service.of(1);
        assert_eq!(held.len(), 3);
        for (held, byte) in held.iter().zip(1..) {
            service.answer(*held, byte).unwrap();
        }
        if policy.extra_places == 0 {
            service.expect(&[Service::ended(1, FailReason::NoAgreement)]);
            return;
        }
        let first = service.out.pop_front();
        assert_eq!(
            first,
            Some(Action::ExtraPlaces {
                job: JobNumber(1),
                places: 2
            }),
            "{}",
            policy.name
        );
        service.expect(&[]);
        service.work(policy, &[1, 2, 3, 4, 5]);
        let extra = &service.of(1)[3..];
        assert_eq!(
            extra.len(),
            2,
            "{}: nodes that answered get no second place",
            policy.name
        );
        let extra = extra.to_vec();
        service.answer(extra[0], 1).unwrap();
        service.expect(&[]);
        // three of five
        service.answer(extra[1], 1).unwrap();
        service.expect(&[Service::agreed(1, 1)]);
    });
}

#[test]
fn a_signature_that_is_wrong_counts_nowhere_and_a_missing_one_not_among_the_trusted() {
    each_policy(|policy, service| {
        for (job, signature) in [(1, SignatureCheck::Invalid), (2, SignatureCheck::Absent)] {
            service.register(1, 1);
            service.submit(job, 1, 1, Needs::default());
            service.work(policy, &[1]);
            let held = *service.of(job).last().unwrap();
            let report = Report {
                digest: ResultDigest([1; 32]),
                signature,
                success: true,
            };
            let Held {
                job: number,
                node,
                attempt,
            } = held;
            service.feed(Event::Answered {
                job: number,
                node,
                attempt,
                report,
            });
            let believed =
                signature == SignatureCheck::Absent && policy.verification != Verification::Signature;
            let first = service.out.pop_front().unwrap();
            match (believed, policy.retries) {
                (true, _) => assert_eq!(first, Service::agreed(job, 1)),
                (false, true) => {
                    assert_eq!(
                        first,
                        Action::Retry {
                            job: number,
                            attempt,
                            reason: FailReason::BadSignature
                        }
                    );
                    service.feed(Event::Cancel { job: number });
                    service.out.clear();
                }
                (false, false) => assert_eq!(first, Service::ended(job, FailReason::BadSignature)),
            }
        }
    });
}

#[test]
fn a_market_reveals_only_after_all_commits_and_nobody_else_commits() {
    for policy in Policy::ALL {
        let mut service = Service::new(policy);
        (1..=2).for_each(|node| service.register(node, 1));
        service.submit(1, 2, 2, Needs::default());
        let is_market = policy.verification == Verification::CommitReveal;
        if is_market {
            for node in [1, 2] {
                service.feed(Event::Claim {
                    node: NodeNumber(node),
                    job: Some(JobNumber(1)),
                });
            }
        } else {
            service.work(policy, &[1, 2]);
        }
        let held = service.of(1);
        let commit = |held: Held| Event::Committed {
            job: held.job,
            node: held.node,
            attempt: held.attempt,
        };
        let out_of_turn = |event| {
            Err(Illegal::OutOfTurn {
                job: JobNumber(1),
                attempt: held[0].attempt,
                event,
            })
        };
        if !is_market {
            assert_eq!(service.try_feed(commit(held[0])), out_of_turn("committed"));
            continue;
        }
        assert_eq!(service.answer(held[0], 1), out_of_turn("answered"));
        service.feed(commit(held[0]));
        assert_eq!(service.try_feed(commit(held[0])), out_of_turn("committed"));
        assert_eq!(service.answer(held[0], 1), out_of_turn("answered"));
        service.feed(commit(held[1]));
        service.answer(held[0], 1).unwrap();
        service.expect(&[]);
        service.answer(held[1], 1).unwrap();
        service.expect(&[Service::agreed(1, 1)]);
    }
}

#[test]
fn work_is_asked_for_in_the_policys_own_way_alone() {
    each_policy(|policy, service| {
        service.register(1, 1);
        let plain = service.try_feed(Event::Claim {
            node: NodeNumber(1),
            job: None,
        });
        let named = service.try_feed(Event::Claim {
            node: NodeNumber(1),
            job: Some(JobNumber(1)),
        });
        let wrong = Err(Illegal::WrongAssignment(NodeNumber(1)));
        match policy.assignment {
            Assignment::Claimed => assert_eq!((plain, named), (Ok(()), wrong)),
            Assignment::Tickets => {
                assert_eq!((plain, named), (wrong, Err(Illegal::UnknownJob(JobNumber(1)))))
            }
            Assignment::Pushed(_) => assert_eq!((plain, named), (wrong, wrong)),
        }
        let stranger = NodeSpec {
            offer: Offer::Unannounced,
            slots: 1,
            admitted: false,
        };
        let refused = service.try_feed(Event::Register {
            node: NodeNumber(9),
            spec: stranger,
        });
        assert_eq!(refused, Err(Illegal::NotAdmitted(NodeNumber(9))));
        assert_eq!(service.pool.node(NodeNumber(9)), None);
    });
}

#[test]
fn pushed_jobs_go_to_the_least_busy_node() {
    for policy in [Policy::TRUSTED, Policy::MESH] {
        let mut service = Service::new(policy);
        (1..=4).for_each(|node| service.register(node, 3));
        (0..10).for_each(|job| service.submit(job, 1, 1, Needs::default()));
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        service
            .leases
            .iter()
            .for_each(|held| *counts.entry(held.node.0).or_default() += 1);
        assert!(
            counts.values().all(|count| (2..=3).contains(count)),
            "{}: {counts:?}",
            policy.name
        );
        if policy == Policy::TRUSTED {
            let first: Vec<u32> = service.leases.iter().take(4).map(|held| held.node.0).collect();
            assert_eq!(first, [1, 2, 3, 4]);
        }
    }
}

#[test]
fn quorums_that_are_no_majority_are_refused() {
    for (replicas, quorum) in [(0, 0), (1, 0), (1, 2), (3, 1), (4, 2)] {
        let mut service = Service::new(Policy::BROKER);
        let spec = JobSpec {
            client: ClientNumber(1),
            priority: Priority(0),
            needs: Needs::default(),
            replicas,
            quorum,
            lease_seconds: LEASE,
            retries: None,
            parents: BTreeSet::new(),
        };
        let refused = service.try_feed(Event::Submit {
            job: JobNumber(1),
            spec,
        });
        assert_eq!(
            refused,
            Err(Illegal::BadQuorum {
                job: JobNumber(1),
                replicas,
                quorum
            })
        );
        assert_eq!(service.pool.job(JobNumber(1)), None);
    }
}

#[test]
fn extra_places_are_opened_once() {
    each_policy(|policy, service| {
        (1..=9).for_each(|node| service.register(node, 1));
        service.submit(1, 3, 2, Needs::default());
        for round in 0..2 {
            service.work(policy, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
            for held in service.of(1) {
                // each node says something else; repeats of what was accepted are no news
                let byte = u8::try_from(held.node.0).unwrap();
                let _ = service.answer(held, byte);
            }
            assert!(round == 1 || !service.out.is_empty());
        }
        let ends = service
            .out
            .iter()
            .filter(|it| matches!(it, Action::ExtraPlaces { .. }))
            .count();
        assert_eq!(ends, usize::from(policy.extra_places > 0), "{}", policy.name);
        assert_eq!(
            service.out.pop_back(),
            Some(Service::ended(1, FailReason::NoAgreement)),
            "{}",
            policy.name
        );
    });
}

#[test]
fn a_drained_node_that_restarts_or_was_lost_is_still_drained() {
    each_policy(|policy, service| {
        service.register(1, 1);
        service.feed(Event::Drain { node: NodeNumber(1) });
        service.register(1, 2);
        assert_eq!(
            service.pool.node(NodeNumber(1)),
            Some((NodeStatus::Draining, 0)),
            "{}",
            policy.name
        );
        let status = |service: &Service| service.pool.node(NodeNumber(1)).map(|(status, _)| status);
        let lost = Event::Lost { node: NodeNumber(1) };
        service.feed(lost.clone());
        service.register(1, 2);
        assert_eq!(status(service), Some(NodeStatus::Draining));
        service.feed(lost.clone());
        // nobody brings a lost node back by saying so
        service.feed(Event::Resume { node: NodeNumber(1) });
        assert_eq!(status(service), Some(NodeStatus::Lost));
        service.register(1, 2);
        assert_eq!(status(service), Some(NodeStatus::Up));
        // what a lost one is told holds when it is back
        service.feed(lost);
        service.feed(Event::Drain { node: NodeNumber(1) });
        assert_eq!(status(service), Some(NodeStatus::Lost));
        assert!(service.pool.take_touched().nodes.contains(&NodeNumber(1)));
        service.register(1, 2);
        assert_eq!(status(service), Some(NodeStatus::Draining));
    });
}

#[test]
fn a_snapshot_of_a_node_keeps_what_it_was_told_and_one_of_old_is_read() {
    each_policy(|_, service| {
        let node = NodeNumber(1);
        service.register(1, 1);
        service.feed(Event::Drain { node });
        service.feed(Event::Lost { node });
        let kept = serde_json::to_string(&service.pool.node_snapshot(node)).unwrap();
        service.pool.put_node(node, serde_json::from_str(&kept).unwrap());
        service.register(1, 1);
        assert_eq!(service.pool.node(node), Some((NodeStatus::Draining, 0)));
        // of old: nothing but the status
        let mut old = serde_json::to_value(service.pool.node_snapshot(node)).unwrap();
        old.as_object_mut().unwrap().remove("drained").unwrap();
        service.pool.put_node(node, serde_json::from_value(old).unwrap());
        service.feed(Event::Lost { node });
        service.register(1, 1);
        assert_eq!(service.pool.node(node), Some((NodeStatus::Draining, 0)));
    });
}

#[test]
fn a_silent_node_is_missed_also_where_the_clock_was_set_back() {
    let mut pool = Pool::new(Settings {
        policy: Policy::BROKER,
        ageing_step: 10,
        node_timeout: Some(40),
        max_retries: 2,
    });
    let spec = NodeSpec {
        offer: Offer::Unannounced,
        slots: 1,
        admitted: true,
    };
    let node = NodeNumber(1);
    let at = |seconds: u64| UnixSeconds(1_000_000 + seconds);
    pool.apply(at(100_000), Event::Register { node, spec }).unwrap();
    // back by more than a day
    pool.apply(at(0), Event::Tick).unwrap();
    assert_eq!(pool.node(node).unwrap().0, NodeStatus::Up);
    assert_eq!(pool.nodes().next().unwrap().heard, at(0));
    pool.apply(at(40), Event::Tick).unwrap();
    assert_eq!(pool.node(node).unwrap().0, NodeStatus::Up);
    let out = pool.apply(at(41), Event::Tick).unwrap();
    assert_eq!(out, [Action::NodeLost { node }]);
    assert_eq!(pool.sanity_check(), Ok(()));
}
