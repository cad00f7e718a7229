//! The order in which waiting jobs are given out, and that a long queue is as fast as a short one.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: clippy's exception covers test functions alone"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandrun_core::pool::*;
use sandrun_types::{Attempt, Requirements, ResultDigest, UnixSeconds};

const STEP: u32 = 60;

struct Broker {
    pool: Pool,
    now: u64,
    next: u64,
}

impl Broker {
    fn new() -> Self {
        let settings = Settings {
            policy: Policy::BROKER,
            ageing_step: STEP,
            node_timeout: None,
            max_retries: 3,
        };
        let mut it = Self {
            pool: Pool::new(settings),
            now: 6_000,
            next: 0,
        };
        it.register(1, u32::MAX, Offer::Unannounced);
        it
    }

    fn register(&mut self, node: u32, slots: u32, offer: Offer) {
        let spec = NodeSpec {
            offer,
            slots,
            admitted: true,
        };
        self.pool
            .apply(
                UnixSeconds(self.now),
                Event::Register {
                    node: NodeNumber(node),
                    spec,
                },
            )
            .unwrap();
    }

    fn submit(&mut self, client: u32, priority: u8, needs: Needs) -> u64 {
        self.submit_to(1, client, priority, needs)
    }

    /// A job that so many nodes have to agree on.
    fn submit_to(&mut self, nodes: u8, client: u32, priority: u8, needs: Needs) -> u64 {
        let job = JobNumber(self.next);
        self.next += 1;
        let spec = JobSpec {
            client: ClientNumber(client),
            priority: Priority(priority),
            needs,
            replicas: nodes,
            quorum: nodes,
            lease_seconds: 60,
            retries: None,
            parents: BTreeSet::new(),
        };
        self.pool
            .apply(UnixSeconds(self.now), Event::Submit { job, spec })
            .unwrap();
        job.0
    }

    fn plain(&mut self, client: u32, priority: u8) -> u64 {
        self.submit(client, priority, Needs::default())
    }

    fn claim_as(&mut self, node: u32) -> Option<(JobNumber, Attempt)> {
        let claim = Event::Claim {
            node: NodeNumber(node),
            job: None,
        };
        let actions = self.pool.apply(UnixSeconds(self.now), claim).unwrap();
        match actions.as_slice() {
            [Action::Lease { job, attempt, .. }] => Some((*job, *attempt)),
            [Action::NoWork { .. }] => None,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self) -> Option<u64> {
        self.claim_as(1).map(|(job, _)| job.0)
    }

    fn claims(&mut self, count: usize) -> Vec<u64> {
        (0..count).filter_map(|_| self.claim()).collect()
    }
}

#[test]
fn first_come_first_served_and_the_urgent_before_them() {
    let mut broker = Broker::new();
    let (a, b, urgent) = (broker.plain(1, 0), broker.plain(1, 0), broker.plain(1, 2));
    assert_eq!(broker.claims(4), [urgent, a, b]);
}

#[test]
fn a_job_that_has_waited_long_enough_comes_before_a_more_urgent_one() {
    let mut broker = Broker::new();
    let old = broker.plain(1, 0);
    // two steps of priority are worth two steps of time
    broker.now += u64::from(STEP);
    let urgent = broker.plain(1, 2);
    broker.now += 2 * u64::from(STEP);
    let late = broker.plain(1, 2);
    assert_eq!(broker.claims(3), [urgent, old, late]);
}

#[test]
fn clients_take_turns_whoever_submitted_more() {
    let mut broker = Broker::new();
    let many: Vec<u64> = (0..6).map(|_| broker.plain(1, 0)).collect();
    let few: Vec<u64> = (0..2).map(|_| broker.plain(2, 0)).collect();
    let order = broker.claims(8);
    assert_eq!(
        order,
        [
            many[0], few[0], many[1], few[1], many[2], many[3], many[4], many[5]
        ]
    );
}

#[test]
fn a_newcomer_saves_up_no_turns_and_waits_for_none() {
    let mut broker = Broker::new();
    (0..100).for_each(|_| {
        broker.plain(1, 0);
    });
    assert_eq!(broker.claims(50).len(), 50);
    (0..10).for_each(|_| {
        broker.plain(2, 0);
    });
    let order = broker.claims(20);
    let of_newcomer = order.iter().filter(|job| **job >= 100).count();
    assert_eq!(of_newcomer, 10, "{order:?}");
    // by turns, not all at once
    assert!(
        order.windows(3).all(|three| three.iter().any(|job| *job < 100)),
        "{order:?}"
    );
}

#[test]
fn a_client_that_comes_later_waits_for_no_backlog_however_old() {
    let mut broker = Broker::new();
    // of other needs, too: a backlog is none the better for those
    let old = |broker: &mut Broker, at: u64| broker.submit(1, 4, needs(at % 3));
    let backlog: Vec<u64> = (0..300).map(|at| old(&mut broker, at)).collect();
    let late_urgent = broker.plain(1, 9);
    broker.register(1, u32::MAX, full_offer());
    broker.now += 30 * u64::from(STEP);
    let (second, third) = (broker.plain(2, 4), broker.plain(3, 4));
    let order = broker.claims(5);
    assert_eq!(order[0], late_urgent);
    assert!(
        order[1..4].contains(&second) && order[1..4].contains(&third),
        "{order:?}"
    );
    assert!(order.contains(&backlog[0]), "{order:?}");
    broker.pool.sanity_check().unwrap();
}

#[test]
fn jobs_that_wait_for_another_node_are_not_looked_at_for_those_that_have_a_part() {
    let mut broker = Broker::new();
    let parted = 20_000;
    for _ in 0..parted {
        broker.submit_to(2, 1, 4, Needs::default());
    }
    assert_eq!(broker.claims(parted).len(), parted);
    let next: Vec<u64> = (0..parted).map(|_| broker.plain(1, 0)).collect();
    #[expect(clippy::disallowed_methods, reason = "a test measures the core from outside")]
    let begin = std::time::Instant::now();
    assert_eq!(broker.claims(parted), next);
    let passed = begin.elapsed();
    assert!(!broker.pool.has_work_for(NodeNumber(1)));
    // a look at each of them for each claim would take minutes
    assert!(passed < Duration::from_secs(20), "{passed:?}");
    broker.register(2, u32::MAX, Offer::Unannounced);
    assert_eq!(broker.claim_as(2).map(|(job, _)| job.0), Some(0));
    broker.pool.sanity_check().unwrap();
}

#[test]
fn a_job_that_comes_back_keeps_its_place() {
    let mut broker = Broker::new();
    let first = broker.plain(1, 0);
    broker.plain(1, 0);
    let (job, attempt) = broker.claim_as(1).unwrap();
    assert_eq!(job.0, first);
    broker
        .pool
        .apply(
            UnixSeconds(broker.now),
            Event::Failed {
                job,
                node: NodeNumber(1),
                attempt,
                retry: true,
            },
        )
        .unwrap();
    assert_eq!(broker.claim(), Some(first));
}

#[test]
fn a_node_gets_only_what_it_can_do_and_the_rest_waits() {
    let mut broker = Broker::new();
    let heavy = Needs {
        hardware: Requirements {
            memory_mib: 8_192,
            ..Requirements::default()
        },
        ..Needs::default()
    };
    let big = broker.submit(1, 4, heavy);
    let small = broker.plain(1, 0);
    assert_eq!(broker.claims(2), [small]);
    let capabilities = sandrun_types::Capabilities {
        memory_mib: 16_384,
        ..Default::default()
    };
    let features = Default::default();
    broker.register(
        2,
        1,
        Offer::Announced {
            capabilities: Box::new(capabilities),
            features,
        },
    );
    assert_eq!(broker.claim_as(2).map(|(job, _)| job.0), Some(big));
}

#[test]
fn a_node_that_has_a_part_in_the_first_job_gets_the_next() {
    let mut broker = Broker::new();
    let spec = JobSpec {
        client: ClientNumber(1),
        priority: Priority(3),
        needs: Needs::default(),
        replicas: 3,
        quorum: 2,
        lease_seconds: 60,
        retries: None,
        parents: BTreeSet::new(),
    };
    broker.next = 1;
    broker
        .pool
        .apply(
            UnixSeconds(broker.now),
            Event::Submit {
                job: JobNumber(0),
                spec,
            },
        )
        .unwrap();
    let next = broker.plain(1, 0);
    assert_eq!(broker.claims(3), [0, next]);
    broker.register(2, 9, Offer::Unannounced);
    assert_eq!(broker.claim_as(2).map(|(job, _)| job.0), Some(0));
}

fn full_offer() -> Offer {
    let capabilities = sandrun_types::Capabilities {
        memory_mib: 16_384,
        ..Default::default()
    };
    Offer::Announced {
        capabilities: Box::new(capabilities),
        features: Default::default(),
    }
}

fn needs(set: u64) -> Needs {
    let hardware = Requirements {
        memory_mib: u32::try_from(set).unwrap(),
        ..Requirements::default()
    };
    Needs {
        hardware,
        ..Needs::default()
    }
}

/// A claim and a complete with `pending` jobs of 100 clients, in 5 priorities and 10 sets of needs.
fn cycle(pending: u64) -> Duration {
    let mut broker = Broker::new();
    let capabilities = sandrun_types::Capabilities {
        memory_mib: 16_384,
        ..Default::default()
    };
    let features = Default::default();
    broker.register(
        2,
        4,
        Offer::Announced {
            capabilities: Box::new(capabilities),
            features,
        },
    );
    for job in 0..pending {
        let client = u32::try_from(job % 100).unwrap();
        broker.submit(client, u8::try_from(job / 100 % 5).unwrap(), needs(job / 7 % 10));
        broker.now = 6_000 + job / 5_000;
    }
    let rounds = 2_000u32;
    let mut served: BTreeMap<u64, u32> = BTreeMap::new();
    #[expect(clippy::disallowed_methods, reason = "a test measures the core from outside")]
    let begin = std::time::Instant::now();
    for _ in 0..rounds {
        let (job, attempt) = broker.claim_as(2).unwrap();
        *served.entry(job.0 % 100).or_default() += 1;
        let report = Report {
            digest: ResultDigest([1; 32]),
            signature: SignatureCheck::Absent,
            success: true,
        };
        let answered = Event::Answered {
            job,
            node: NodeNumber(2),
            attempt,
            report,
        };
        broker.pool.apply(UnixSeconds(broker.now), answered).unwrap();
    }
    let each = begin.elapsed() / rounds;
    assert_eq!(served.len(), 100, "some client was never served");
    assert!(
        served.values().all(|count| *count == rounds / 100),
        "turns were unfair: {served:?}"
    );
    broker.pool.sanity_check().unwrap();
    each
}

#[test]
fn a_long_queue_is_nearly_as_fast_as_a_short_one() {
    let (short, long) = (cycle(10_000), cycle(200_000));
    println!("claim and complete: {short:?} with 10,000 pending, {long:?} with 200,000");
    // twenty times as many: linear work would show, a logarithm does not
    assert!(
        long < short * 6 + Duration::from_micros(50),
        "{short:?} → {long:?}"
    );
}

#[test]
#[ignore = "a million jobs take a while in an unoptimised build"]
fn a_million_pending_jobs() {
    let (short, long) = (cycle(10_000), cycle(1_000_000));
    println!("claim and complete: {short:?} with 10,000 pending, {long:?} with 1,000,000");
    assert!(
        long < short * 6 + Duration::from_micros(50),
        "{short:?} → {long:?}"
    );
}
