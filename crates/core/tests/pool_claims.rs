//! Answers to claims that got lost: which leases end when a node says what it has; retries that a job asks for; nodes that
//! are forgotten.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use sandrun_core::pool::*;
use sandrun_types::{Attempt, UnixSeconds};

const NOW: UnixSeconds = UnixSeconds(1_000);
const NODE: NodeNumber = NodeNumber(1);
const JOB: JobNumber = JobNumber(1);
const MAX_RETRIES: u8 = 2;

/// A broker with one node and one job.
fn broker(retries: Option<u8>) -> Pool {
    let mut pool = Pool::new(Settings {
        policy: Policy::BROKER,
        ageing_step: 60,
        node_timeout: Some(60),
        max_retries: MAX_RETRIES,
    });
    let spec = NodeSpec {
        offer: Offer::Unannounced,
        slots: 4,
        admitted: true,
    };
    pool.apply(NOW, Event::Register { node: NODE, spec }).unwrap();
    let spec = JobSpec {
        client: ClientNumber(1),
        priority: Priority(4),
        needs: Needs::default(),
        replicas: 1,
        quorum: 1,
        lease_seconds: 600,
        retries,
        parents: BTreeSet::new(),
    };
    pool.apply(NOW, Event::Submit { job: JOB, spec }).unwrap();
    pool
}

/// The node claims the job; the answer goes to its claim of this number.
fn claim(pool: &mut Pool, number: Option<u64>) -> Attempt {
    let actions = pool
        .apply(
            NOW,
            Event::Claim {
                node: NODE,
                job: None,
            },
        )
        .unwrap();
    let [Action::Lease { attempt, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    if let Some(number) = number {
        let handed = Event::Handed {
            job: JOB,
            node: NODE,
            attempt,
            claim: ClaimNumber(number),
        };
        pool.apply(NOW, handed).unwrap();
    }
    attempt
}

fn says(pool: &mut Pool, settled: u64, held: &[Attempt]) -> Vec<Action> {
    let holds = Event::Holds {
        node: NODE,
        settled: ClaimNumber(settled),
        held: held.iter().map(|attempt| (JOB, *attempt)).collect(),
    };
    let actions = pool.apply(NOW, holds).unwrap();
    pool.sanity_check().unwrap();
    actions
}

fn again(attempt: Attempt) -> Vec<Action> {
    vec![Action::Retry {
        job: JOB,
        attempt,
        reason: FailReason::NotHeld,
    }]
}

fn retries_left(pool: &Pool) -> u8 {
    match pool.job_snapshot(JOB).unwrap().life {
        JobLife::Open(open) => open.retries_left,
        JobLife::Ended { .. } => panic!("it has ended"),
    }
}

#[test]
fn what_a_settled_claim_gave_and_the_node_does_not_have_is_given_again_for_nothing() {
    let mut pool = broker(None);
    let attempt = claim(&mut pool, Some(7));
    // its answer may be on the way
    assert_eq!(says(&mut pool, 6, &[]), []);
    // the node has it
    assert_eq!(says(&mut pool, 7, &[attempt]), []);
    assert_eq!(says(&mut pool, 7, &[]), again(attempt));
    assert_eq!(retries_left(&pool), MAX_RETRIES);
    let late = Event::Started {
        job: JOB,
        node: NODE,
        attempt,
    };
    assert!(pool.apply(NOW, late).is_err());
    // it is given out at once, under the next number, and through a snapshot the claim is not forgotten
    let next = claim(&mut pool, Some(8));
    assert_eq!(next, Attempt(2));
    let text = serde_json::to_string(&pool.job_snapshot(JOB).unwrap()).unwrap();
    pool.put_job(JOB, serde_json::from_str(&text).unwrap());
    assert_eq!(says(&mut pool, 7, &[]), []);
    assert_eq!(says(&mut pool, 8, &[]), again(next));
}

#[test]
fn leases_of_claims_without_a_number_stay() {
    let mut pool = broker(None);
    claim(&mut pool, None);
    assert_eq!(says(&mut pool, u64::MAX, &[]), []);
}

#[test]
fn rows_of_earlier_versions_have_no_claim() {
    let lease: Lease = serde_json::from_str(r#"{"node":1,"attempt":1,"until":5,"step":"given"}"#).unwrap();
    assert_eq!(lease.claim, None);
}

#[test]
fn an_attempt_that_had_begun_is_a_lost_one() {
    let mut pool = broker(None);
    let attempt = claim(&mut pool, Some(1));
    let started = Event::Started {
        job: JOB,
        node: NODE,
        attempt,
    };
    pool.apply(NOW, started).unwrap();
    assert_eq!(says(&mut pool, 1, &[]), again(attempt));
    assert_eq!(retries_left(&pool), MAX_RETRIES - 1);
}

#[test]
fn a_job_that_nobody_ever_has_ends_at_last() {
    let mut pool = broker(None);
    for number in 1..=40 {
        let attempt = claim(&mut pool, Some(number));
        if let [.., Action::End { end, .. }] = says(&mut pool, number, &[])[..] {
            assert_eq!(end, JobEnd::Failed(FailReason::NotHeld));
            assert!(attempt > Attempt(10), "{attempt}");
            return;
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn a_node_that_is_not_there_says_nothing() {
    let mut pool = broker(None);
    let holds = Event::Holds {
        node: NodeNumber(9),
        settled: ClaimNumber(1),
        held: BTreeSet::new(),
    };
    assert_eq!(pool.apply(NOW, holds), Err(Illegal::UnknownNode(NodeNumber(9))));
}

#[test]
fn a_job_gets_as_many_retries_as_it_asks_for_and_the_service_allows() {
    for (asked, attempts) in [
        (None, 3),
        (Some(0), 1),
        (Some(1), 2),
        (Some(2), 3),
        (Some(200), 3),
    ] {
        let mut pool = broker(asked);
        for number in 1..=attempts {
            let attempt = claim(&mut pool, None);
            let failed = Event::Failed {
                job: JOB,
                node: NODE,
                attempt,
                retry: true,
            };
            let actions = pool.apply(NOW, failed).unwrap();
            let has_ended = matches!(actions[..], [.., Action::End { .. }]);
            assert_eq!(has_ended, number == attempts, "{asked:?}: {number}");
        }
    }
}

fn give_back(pool: &mut Pool, node: NodeNumber, attempt: u32) {
    let failed = Event::Failed {
        job: JOB,
        node,
        attempt: Attempt(attempt),
        retry: true,
    };
    pool.apply(NOW, failed).unwrap();
}

/// Whether a node gets the job when it asks; it is told so before.
fn gets_it(pool: &mut Pool, node: NodeNumber) -> bool {
    let has_work = pool.has_work_for(node);
    let actions = pool.apply(NOW, Event::Claim { node, job: None }).unwrap();
    let is_leased = matches!(actions[..], [Action::Lease { .. }]);
    assert_eq!(is_leased, has_work, "{actions:?}");
    is_leased
}

#[test]
fn who_gave_a_job_back_gets_it_again_when_nobody_else_can_have_it() {
    let other = NodeNumber(2);
    let with_other = || {
        let mut pool = broker(None);
        let spec = NodeSpec {
            offer: Offer::Unannounced,
            slots: 1,
            admitted: true,
        };
        pool.apply(NOW, Event::Register { node: other, spec }).unwrap();
        assert!(gets_it(&mut pool, NODE));
        give_back(&mut pool, NODE, 1);
        assert!(!gets_it(&mut pool, NODE), "the other one comes first");
        pool
    };
    let mut pool = with_other();
    let snapshot = pool.job_snapshot(JOB).unwrap();
    pool.put_job(JOB, snapshot);
    assert!(!gets_it(&mut pool, NODE), "a replica knows it too");
    assert!(gets_it(&mut pool, other));
    give_back(&mut pool, other, 2);
    assert!(gets_it(&mut pool, NODE), "both gave it back");

    for event in [Event::Lost { node: other }, Event::Drain { node: other }] {
        let mut pool = with_other();
        pool.apply(NOW, event).unwrap();
        assert!(gets_it(&mut pool, NODE), "the other one takes nothing");
    }
}

#[test]
fn only_lost_nodes_are_forgotten_and_come_back_as_new_ones() {
    let mut pool = broker(None);
    claim(&mut pool, None);
    assert!(!pool.drop_node(NODE));
    pool.apply(NOW, Event::Lost { node: NODE }).unwrap();
    assert!(pool.drop_node(NODE));
    pool.sanity_check().unwrap();
    assert_eq!(pool.node_snapshot(NODE), None);
    assert_eq!(
        pool.apply(NOW, Event::Heartbeat { node: NODE }),
        Err(Illegal::UnknownNode(NODE))
    );
    let spec = NodeSpec {
        offer: Offer::Unannounced,
        slots: 1,
        admitted: true,
    };
    let node = NodeNumber(2);
    pool.apply(NOW, Event::Register { node, spec }).unwrap();
    let actions = pool.apply(NOW, Event::Claim { node, job: None }).unwrap();
    assert!(matches!(
        actions[..],
        [Action::Lease {
            attempt: Attempt(2),
            ..
        }]
    ));
}
