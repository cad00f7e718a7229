//! A second pool that knows the first by its snapshots alone stands where it stands and goes on as it would.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: clippy's exception covers test functions alone"
)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use sandrun_core::pool::*;
use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

mod pool_support;

use pool_support::{SETTINGS, Script, Step, announced_offer, step};

/// All that can be read of a node: its view, snapshot and leases, and whether there is work for it.
type NodeReadings = (String, Option<NodeSnapshot>, Vec<(JobNumber, Lease)>, bool);

/// All that can be read of a pool.
#[derive(Debug, PartialEq)]
struct Readings {
    jobs: Vec<(JobNumber, String, Option<JobSnapshot>)>,
    nodes: Vec<NodeReadings>,
    counts: Counts,
    waiting: usize,
    next_timeout: Option<UnixSeconds>,
    missing: BTreeSet<JobNumber>,
}

fn read(pool: &Pool) -> Readings {
    let job = |it: JobNumber| (it, format!("{:?}", pool.job(it)), pool.job_snapshot(it));
    let node = |it: NodeView<'_>| {
        let number = it.number;
        assert_eq!(pool.node(number), Some((it.status, it.active)));
        (
            format!("{it:?}"),
            pool.node_snapshot(number),
            pool.leases_of(number).collect(),
            pool.has_work_for(number),
        )
    };
    Readings {
        jobs: pool.jobs().map(job).collect(),
        nodes: pool.nodes().map(node).collect(),
        counts: pool.counts(),
        waiting: pool.waiting(),
        next_timeout: pool.next_timeout(),
        missing: pool.missing_parents(),
    }
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

/// Puts what `from` has touched into `to`, through a store's bytes, in one of four orders.
fn hand_over(from: &mut Pool, to: &mut Pool, order: u8) {
    let Touched { jobs, nodes } = from.take_touched();
    let mut jobs: Vec<JobNumber> = jobs.into_iter().collect();
    if order & 1 == 1 {
        jobs.reverse();
    }
    let put_nodes = |to: &mut Pool| {
        for node in &nodes {
            to.put_node(*node, through_json(&from.node_snapshot(*node).unwrap()));
        }
    };
    if order & 2 == 2 {
        put_nodes(to);
    }
    for job in jobs {
        to.put_job(job, through_json(&from.job_snapshot(job).unwrap()));
    }
    if order & 2 == 0 {
        put_nodes(to);
    }
    assert_eq!(to.take_touched(), Touched::default());
}

fn assert_same(first: &Pool, second: &Pool) -> Result<(), TestCaseError> {
    prop_assert_eq!(first.sanity_check(), Ok(()));
    prop_assert_eq!(second.sanity_check(), Ok(()));
    prop_assert_eq!(read(first), read(second));
    Ok(())
}

fn run(pool: &mut Pool, script: &mut Script, policy: Policy, steps: &[Step]) {
    for step in steps {
        if let Some(event) = script.event(policy, step) {
            let actions = pool.apply(script.time(), event).unwrap_or_default();
            actions.iter().for_each(|action| script.note(action));
        }
    }
}

fn settings(policy: Policy) -> Settings {
    Settings { policy, ..SETTINGS }
}

proptest! {
    #![proptest_config(pool_support::config())]

    #[test]
    fn a_pool_fed_by_snapshots_stands_where_the_other_stands_and_goes_on_as_it_does(
        steps in proptest::collection::vec((step(), 0u8..4), 0..100),
        later in proptest::collection::vec(step(), 0..60),
        row in 0usize..4,
    ) {
        let policy = Policy::ALL[row];
        let (mut first, mut second) = (Pool::new(settings(policy)), Pool::new(settings(policy)));
        let mut script = Script::new(true);
        for (step, order) in &steps {
            let Some(event) = script.event(policy, step) else { continue };
            match first.apply(script.time(), event.clone()) {
                Ok(actions) => actions.iter().for_each(|action| script.note(action)),
                Err(_) => {
                    prop_assert_eq!(first.take_touched(), Touched::default(), "{:?} was refused", event);
                    continue;
                }
            }
            if let Event::Forget { job } = event {
                second.drop_job(job);
            }
            hand_over(&mut first, &mut second, *order);
            assert_same(&first, &second)?;
        }
        // one is killed, the other goes on
        for step in &later {
            let Some(event) = script.event(policy, step) else { continue };
            let outcome = first.apply(script.time(), event.clone());
            prop_assert_eq!(&outcome, &second.apply(script.time(), event));
            outcome.unwrap_or_default().iter().for_each(|action| script.note(action));
            prop_assert_eq!(first.take_touched(), second.take_touched());
            assert_same(&first, &second)?;
        }
    }

    #[test]
    fn a_pool_loaded_at_once_stands_there_too(
        steps in proptest::collection::vec(step(), 0..120), order in 0u8..4, row in 0usize..4,
    ) {
        let policy = Policy::ALL[row];
        let mut first = Pool::new(settings(policy));
        run(&mut first, &mut Script::new(true), policy, &steps);
        // as a service does: open jobs alone are loaded
        let ended: Vec<JobNumber> =
            first.jobs().filter(|job| matches!(first.job(*job), Some(JobStatus::Ended(_)))).collect();
        ended.into_iter().for_each(|job| first.drop_job(job));
        let mut second = Pool::new(settings(policy));
        hand_over(&mut first, &mut second, order);
        assert_same(&first, &second)?;
        prop_assert_eq!(second.missing_parents(), BTreeSet::new());
    }

    #[test]
    fn snapshots_that_contradict_what_is_here_leave_the_indexes_whole_and_every_job_ends(
        here in proptest::collection::vec(step(), 0..80),
        there in proptest::collection::vec(step(), 0..80),
        order in 0u8..4,
        row in 0usize..4,
    ) {
        let policy = Policy::ALL[row];
        let (mut first, mut second) = (Pool::new(settings(policy)), Pool::new(settings(policy)));
        let (mut script, mut other) = (Script::new(false), Script::new(false));
        run(&mut first, &mut script, policy, &here);
        run(&mut second, &mut other, policy, &there);
        second.take_touched();
        let touched: Vec<JobNumber> = first.jobs().collect();
        hand_over(&mut first, &mut second, order);
        for job in touched {
            prop_assert_eq!(first.job_snapshot(job), second.job_snapshot(job));
        }
        let found = second.sanity_check();
        prop_assert!(matches!(found, Ok(()) | Err(Inconsistency::Holder(_))), "{:?}", found);
        let mut now = script.now.max(other.now);
        for _ in 0..12 + second.jobs().count() {
            now += 100;
            end_what_can_end(&mut second, policy, UnixSeconds(now));
        }
        prop_assert_eq!(second.sanity_check(), Ok(()));
        let counts = second.counts();
        prop_assert_eq!((counts.blocked, counts.queued, counts.running), (0, 0, 0));
    }
}

/// Time passes, ten good nodes take what there is, and all leases are answered.
fn end_what_can_end(pool: &mut Pool, policy: Policy, now: UnixSeconds) {
    pool.apply(now, Event::Tick).unwrap();
    let nodes = (100..110).map(NodeNumber);
    for node in nodes.clone() {
        let spec = NodeSpec {
            offer: announced_offer(),
            slots: 1_000,
            admitted: true,
        };
        pool.apply(now, Event::Register { node, spec }).unwrap();
        let jobs: Vec<Option<JobNumber>> = match policy.assignment {
            Assignment::Claimed => vec![None; pool.waiting()],
            Assignment::Tickets => pool.jobs().map(Some).collect(),
            Assignment::Pushed(_) => vec![],
        };
        for job in jobs {
            let _ = pool.apply(now, Event::Claim { node, job });
        }
    }
    let held = |pool: &Pool| -> Vec<(JobNumber, NodeNumber, Attempt)> {
        let of = |node| {
            pool.leases_of(node)
                .map(move |(job, lease)| (job, node, lease.attempt))
        };
        nodes.clone().flat_map(of).collect()
    };
    for (job, node, attempt) in held(pool) {
        let _ = pool.apply(now, Event::Committed { job, node, attempt });
    }
    for (job, node, attempt) in held(pool) {
        let report = Report {
            digest: ResultDigest([9; 32]),
            signature: SignatureCheck::Valid,
            success: true,
        };
        let _ = pool.apply(
            now,
            Event::Answered {
                job,
                node,
                attempt,
                report,
            },
        );
    }
}

#[test]
fn words_that_come_often_are_written_a_few_times_within_a_timeout() {
    let mut pool = Pool::new(SETTINGS);
    let node = NodeNumber(1);
    let spec = NodeSpec {
        offer: Offer::Unannounced,
        slots: 1,
        admitted: true,
    };
    pool.apply(UnixSeconds(0), Event::Register { node, spec })
        .unwrap();
    pool.take_touched();
    let mut written = vec![];
    for now in 0..=40 {
        let event = if now % 2 == 0 {
            Event::Heartbeat { node }
        } else {
            Event::Claim { node, job: None }
        };
        pool.apply(UnixSeconds(now), event).unwrap();
        if pool.take_touched().nodes.contains(&node) {
            written.push(now);
        }
    }
    // a quarter of 40 seconds, and the second after
    assert_eq!(written, [11, 22, 33]);
    assert_eq!(pool.next_timeout(), Some(UnixSeconds(33 + 40 + 1)));
}

#[test]
fn what_is_put_or_dropped_is_not_to_be_written_again() {
    let mut pool = Pool::new(SETTINGS);
    let (mut script, policy) = (Script::new(true), Policy::BROKER);
    let submit = Step::Submit {
        client: 0,
        priority: 0,
        kind: 0,
        region: false,
        after: 0,
    };
    let register = Step::Register {
        node: 1,
        slots: 1,
        announced: true,
    };
    let cancel = Step::Cancel { job: 1 };
    run(
        &mut pool,
        &mut script,
        policy,
        &[submit.clone(), submit, register, cancel],
    );
    let copy = pool.clone();
    pool.put_job(JobNumber(0), copy.job_snapshot(JobNumber(0)).unwrap());
    pool.put_node(NodeNumber(1), copy.node_snapshot(NodeNumber(1)).unwrap());
    // an open job stays
    pool.drop_job(JobNumber(0));
    pool.drop_job(JobNumber(1));
    assert_eq!(pool.take_touched(), Touched::default());
    assert_eq!(pool.jobs().collect::<Vec<_>>(), [JobNumber(0)]);
}

#[test]
fn a_snapshot_is_short_json_and_reads_back() {
    let mut pool = Pool::new(SETTINGS);
    let spec = JobSpec {
        client: ClientNumber(7),
        priority: Priority(4),
        needs: Needs {
            interpreter: Some(sandrun_types::Interpreter::Python3),
            hardware: sandrun_types::Requirements {
                memory_mib: 512,
                ..Default::default()
            },
            ..Needs::default()
        },
        replicas: 1,
        quorum: 1,
        lease_seconds: 60,
        retries: None,
        parents: BTreeSet::new(),
    };
    let job = JobNumber(1);
    pool.apply(UnixSeconds(1_000), Event::Submit { job, spec })
        .unwrap();
    let snapshot = pool.job_snapshot(job).unwrap();
    assert_eq!(
        serde_json::to_string(&snapshot).unwrap(),
        r#"{"c":7,"is":{"open":{"n":{"h":"0x2000000","i":"python3"},"l":96,"s":60,"t":2}}}"#
    );
    assert_eq!(through_json(&snapshot), snapshot);
    let former = concat!(
        r#"{"client":7,"life":{"open":{"needs":{"hardware":{"cpu_cores":0,"memory_mib":512,"gpu":false,"vram_mib":0,"#,
        r#""compute_capability_x10":0},"interpreter":"python3"},"level":96,"quorum":1,"lease_seconds":60,"#,
        r#""waiting":1,"retries_left":2,"extra_places":0}}}"#
    );
    assert_eq!(serde_json::from_str::<JobSnapshot>(former).unwrap(), snapshot);
}

#[test]
fn an_ended_job_is_written_with_one_digest_and_read_as_it_was_written_before() {
    let digest = ResultDigest([0xab; 32]);
    let answer = |node, digest, success| Answered {
        node: NodeNumber(node),
        attempt: Attempt(node),
        digest,
        success,
    };
    let ended = |end, accepted| JobSnapshot {
        client: ClientNumber(7),
        life: JobLife::Ended { end, accepted },
    };
    let snapshot = ended(JobEnd::Agreed(digest), vec![answer(3, digest, true)]);
    assert_eq!(
        serde_json::to_string(&snapshot).unwrap(),
        r#"{"c":7,"is":{"ended":{"agreed":"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s","by":[[3,3]]}}}"#
    );
    let hex = "ab".repeat(32);
    let former = format!(
        r#"{{"client":7,"life":{{"ended":{{"end":{{"agreed":"0x{hex}"}},"accepted":[{{"node":3,"attempt":3,"digest":"0x{hex}"}}]}}}}}}"#
    );
    assert_eq!(serde_json::from_str::<JobSnapshot>(&former).unwrap(), snapshot);
    let other = ResultDigest([1; 32]);
    for snapshot in [
        snapshot,
        ended(
            JobEnd::Agreed(digest),
            vec![answer(1, digest, false), answer(2, other, true)],
        ),
        ended(
            JobEnd::Failed(FailReason::NoAgreement),
            vec![answer(1, digest, true), answer(2, other, false)],
        ),
        ended(JobEnd::Cancelled, Vec::new()),
    ] {
        assert_eq!(through_json(&snapshot), snapshot);
    }
    for nothing in [r"{}", r#"{"agreed":"q6ur"}"#, r#"{"agreed":"?"}"#] {
        let nothing = format!(r#"{{"c":7,"is":{{"ended":{nothing}}}}}"#);
        assert!(
            serde_json::from_str::<JobSnapshot>(&nothing).is_err(),
            "{nothing}"
        );
    }
}
