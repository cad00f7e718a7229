//! Jobs that wait for other jobs.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: clippy's exception covers test functions alone"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sandrun_core::pool::*;
use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

mod pool_support;

use pool_support::SETTINGS;

const NOW: UnixSeconds = UnixSeconds(1_000);
const NODE: NodeNumber = NodeNumber(1);

fn spec(parents: &[u64]) -> JobSpec {
    JobSpec {
        client: ClientNumber(1),
        priority: Priority(0),
        needs: Needs::default(),
        replicas: 1,
        quorum: 1,
        lease_seconds: 60,
        retries: None,
        parents: parents.iter().copied().map(JobNumber).collect(),
    }
}

fn broker() -> Pool {
    let mut pool = Pool::new(SETTINGS);
    let spec = NodeSpec {
        offer: Offer::Unannounced,
        slots: u32::MAX,
        admitted: true,
    };
    pool.apply(NOW, Event::Register { node: NODE, spec }).unwrap();
    pool
}

fn submit(pool: &mut Pool, job: u64, parents: &[u64]) -> Vec<Action> {
    let (job, spec) = (JobNumber(job), spec(parents));
    let actions = pool.apply(NOW, Event::Submit { job, spec }).unwrap();
    pool.sanity_check().unwrap();
    actions
}

fn claim(pool: &mut Pool) -> Option<(u64, Attempt)> {
    let actions = pool
        .apply(
            NOW,
            Event::Claim {
                node: NODE,
                job: None,
            },
        )
        .unwrap();
    match actions.as_slice() {
        [Action::Lease { job, attempt, .. }] => Some((job.0, *attempt)),
        [Action::NoWork { .. }] => None,
        other => panic!("{other:?}"),
    }
}

fn answer(pool: &mut Pool, held: (u64, Attempt)) -> Vec<Action> {
    answer_with(pool, held, true)
}

fn answer_with(pool: &mut Pool, (job, attempt): (u64, Attempt), success: bool) -> Vec<Action> {
    let report = Report {
        digest: ResultDigest([1; 32]),
        signature: SignatureCheck::Absent,
        success,
    };
    let answered = Event::Answered {
        job: JobNumber(job),
        node: NODE,
        attempt,
        report,
    };
    let actions = pool.apply(NOW, answered).unwrap();
    pool.sanity_check().unwrap();
    actions
}

fn run_one(pool: &mut Pool) -> Option<u64> {
    let held = claim(pool)?;
    answer(pool, held);
    Some(held.0)
}

fn refuse(pool: &mut Pool, (job, attempt): (u64, Attempt)) -> Vec<Action> {
    let failed = Event::Failed {
        job: JobNumber(job),
        node: NODE,
        attempt,
        retry: false,
    };
    let actions = pool.apply(NOW, failed).unwrap();
    pool.sanity_check().unwrap();
    actions
}

fn ended(job: u64, reason: FailReason) -> Action {
    Action::End {
        job: JobNumber(job),
        end: JobEnd::Failed(reason),
    }
}

fn parent(job: u64) -> FailReason {
    FailReason::Parent(JobNumber(job))
}

#[test]
fn a_diamond_runs_from_the_top_and_its_last_job_waits_for_both_sides() {
    let mut pool = broker();
    submit(&mut pool, 1, &[]);
    submit(&mut pool, 2, &[1]);
    submit(&mut pool, 3, &[1]);
    submit(&mut pool, 4, &[2, 3]);
    assert_eq!(pool.job(JobNumber(4)), Some(JobStatus::Blocked));
    assert_eq!(
        (pool.counts().queued, pool.counts().blocked, pool.waiting()),
        (1, 3, 1)
    );
    let first = claim(&mut pool).unwrap();
    assert_eq!((first.0, claim(&mut pool)), (1, None));
    answer(&mut pool, first);
    pool.drop_job(JobNumber(1));
    let (left, right) = (claim(&mut pool).unwrap(), claim(&mut pool).unwrap());
    assert_eq!((left.0, right.0), (2, 3));
    answer(&mut pool, right);
    assert_eq!(
        (claim(&mut pool), pool.job(JobNumber(4))),
        (None, Some(JobStatus::Blocked))
    );
    answer(&mut pool, left);
    assert_eq!(run_one(&mut pool), Some(4));
}

#[test]
fn a_failure_fails_all_that_waited_and_each_says_for_whom() {
    let mut pool = broker();
    (1..=2).for_each(|job| {
        submit(&mut pool, job, &[]);
    });
    submit(&mut pool, 3, &[1]);
    submit(&mut pool, 4, &[2, 3]);
    submit(&mut pool, 5, &[2]);
    pool.take_touched();
    let held = claim(&mut pool).unwrap();
    assert_eq!(
        refuse(&mut pool, held),
        [
            ended(1, FailReason::Refused),
            ended(3, parent(1)),
            ended(4, parent(3))
        ]
    );
    assert_eq!(pool.take_touched().jobs, [1, 3, 4].map(JobNumber).into());
    // job 4 does not wait any more: job 2 is as it was, and so is job 5
    assert_eq!(run_one(&mut pool), Some(2));
    assert_eq!(run_one(&mut pool), Some(5));
}

#[test]
fn a_parent_that_agrees_on_a_failure_is_no_parent_wherever_its_children_are() {
    let mut pool = broker();
    submit(&mut pool, 1, &[]);
    submit(&mut pool, 2, &[1]);
    let mut replica = broker();
    for job in [1, 2].map(JobNumber) {
        replica.put_job(job, pool.job_snapshot(job).unwrap());
    }
    let held = claim(&mut pool).unwrap();
    let actions = answer_with(&mut pool, held, false);
    assert_eq!(actions.last(), Some(&ended(2, parent(1))), "{actions:?}");
    // who repeats it is heard, and who comes later fails as well
    assert_eq!(answer_with(&mut pool, held, false), []);
    assert_eq!(submit(&mut pool, 3, &[1]), [ended(3, parent(1))]);
    replica.put_job(JobNumber(1), pool.job_snapshot(JobNumber(1)).unwrap());
    assert_eq!(replica.apply(NOW, Event::Tick).unwrap(), [ended(2, parent(1))]);
    replica.sanity_check().unwrap();
}

#[test]
fn a_cancelled_parent_fails_its_children_and_a_cancelled_child_leaves_its_parent_alone() {
    let mut pool = broker();
    submit(&mut pool, 1, &[]);
    submit(&mut pool, 2, &[1]);
    submit(&mut pool, 3, &[1]);
    let cancel = |job| Event::Cancel { job: JobNumber(job) };
    let cancelled = |job| Action::End {
        job: JobNumber(job),
        end: JobEnd::Cancelled,
    };
    assert_eq!(pool.apply(NOW, cancel(2)), Ok(vec![cancelled(2)]));
    assert_eq!(
        pool.apply(NOW, cancel(1)),
        Ok(vec![cancelled(1), ended(3, parent(1))])
    );
    pool.sanity_check().unwrap();
}

#[test]
fn a_parent_that_has_ended_before_counts_and_one_that_is_not_here_is_refused() {
    let mut pool = broker();
    submit(&mut pool, 1, &[]);
    assert_eq!(run_one(&mut pool), Some(1));
    submit(&mut pool, 2, &[1]);
    assert_eq!(pool.job(JobNumber(2)), Some(JobStatus::Queued));
    pool.apply(NOW, Event::Cancel { job: JobNumber(2) }).unwrap();
    assert_eq!(submit(&mut pool, 3, &[1, 2]), [ended(3, parent(2))]);
    assert!(pool.take_touched().jobs.contains(&JobNumber(3)));
    pool.drop_job(JobNumber(1));
    let before = format!("{pool:?}");
    for missing in [1, 4, 9] {
        let submit = Event::Submit {
            job: JobNumber(4),
            spec: spec(&[missing]),
        };
        let refused = Illegal::UnknownParent {
            job: JobNumber(4),
            parent: JobNumber(missing),
        };
        assert_eq!(pool.apply(NOW, submit), Err(refused));
    }
    assert_eq!(format!("{pool:?}"), before);
}

#[test]
fn a_blocked_job_cannot_be_named_in_a_claim() {
    let mut pool = Pool::new(Settings {
        policy: Policy::MARKET,
        ..SETTINGS
    });
    let node = NodeSpec {
        offer: Offer::Unannounced,
        slots: 9,
        admitted: true,
    };
    pool.apply(
        NOW,
        Event::Register {
            node: NODE,
            spec: node,
        },
    )
    .unwrap();
    submit(&mut pool, 1, &[]);
    submit(&mut pool, 2, &[1]);
    let job = JobNumber(2);
    let claim = Event::Claim {
        node: NODE,
        job: Some(job),
    };
    assert_eq!(pool.apply(NOW, claim), Err(Illegal::NoPlace { job, node: NODE }));
}

#[test]
fn a_long_chain_ends_without_a_deep_stack() {
    let mut pool = broker();
    let length = 100_000u64;
    let chain = |pool: &mut Pool| {
        for job in 0..length {
            let parents = BTreeSet::from_iter(job.checked_sub(1).map(JobNumber));
            let spec = JobSpec { parents, ..spec(&[]) };
            pool.apply(
                NOW,
                Event::Submit {
                    job: JobNumber(job),
                    spec,
                },
            )
            .unwrap();
        }
    };
    chain(&mut pool);
    let actions = pool.apply(NOW, Event::Cancel { job: JobNumber(0) }).unwrap();
    assert_eq!(actions.len() as u64, length);
    assert_eq!(actions.last(), Some(&ended(length - 1, parent(length - 2))));
    assert_eq!(pool.counts().ended as u64, length);
    pool.sanity_check().unwrap();
}

#[test]
fn an_end_told_by_another_replica_is_heeded_at_the_next_tick() {
    for is_dropped in [false, true] {
        let mut pool = broker();
        submit(&mut pool, 1, &[]);
        submit(&mut pool, 2, &[]);
        submit(&mut pool, 3, &[1]);
        submit(&mut pool, 4, &[2]);
        let snapshot = |end| JobSnapshot {
            client: ClientNumber(1),
            life: JobLife::Ended {
                end,
                accepted: vec![],
            },
        };
        pool.put_job(JobNumber(1), snapshot(JobEnd::Agreed(ResultDigest([1; 32]))));
        pool.put_job(JobNumber(2), snapshot(JobEnd::Cancelled));
        if is_dropped {
            (1..=2).for_each(|job| pool.drop_job(JobNumber(job)));
        }
        pool.sanity_check().unwrap();
        assert_eq!(pool.missing_parents(), BTreeSet::new());
        assert_eq!(pool.next_timeout(), Some(UnixSeconds(0)));
        assert_eq!(pool.apply(NOW, Event::Tick), Ok(vec![ended(4, parent(2))]));
        pool.sanity_check().unwrap();
        assert_eq!(run_one(&mut pool), Some(3));
    }
}

#[test]
fn a_job_told_by_another_replica_heeds_what_has_ended_here() {
    let mut first = broker();
    submit(&mut first, 1, &[]);
    submit(&mut first, 2, &[1]);
    let waiting = first.job_snapshot(JobNumber(2)).unwrap();
    let mut second = broker();
    submit(&mut second, 1, &[]);
    assert_eq!(run_one(&mut second), Some(1));
    second.put_job(JobNumber(2), waiting);
    second.sanity_check().unwrap();
    assert_eq!(claim(&mut second), None);
    assert_eq!(second.apply(NOW, Event::Tick), Ok(vec![]));
    assert_eq!(run_one(&mut second), Some(2));
}

#[test]
fn an_end_that_a_later_snapshot_takes_back_is_not_heeded() {
    let mut pool = broker();
    submit(&mut pool, 1, &[]);
    let open = pool.job_snapshot(JobNumber(1)).unwrap();
    submit(&mut pool, 2, &[1]);
    let life = JobLife::Ended {
        end: JobEnd::Cancelled,
        accepted: vec![],
    };
    let client = ClientNumber(1);
    pool.put_job(JobNumber(1), JobSnapshot { client, life });
    pool.put_job(JobNumber(1), open);
    assert_eq!(pool.apply(NOW, Event::Tick), Ok(vec![]));
    assert_eq!(pool.job(JobNumber(2)), Some(JobStatus::Blocked));
    assert_eq!((run_one(&mut pool), run_one(&mut pool)), (Some(1), Some(2)));
}

#[test]
fn a_parent_that_was_not_loaded_is_named() {
    let mut first = broker();
    submit(&mut first, 1, &[]);
    submit(&mut first, 2, &[1]);
    let mut second = broker();
    second.put_job(JobNumber(2), first.job_snapshot(JobNumber(2)).unwrap());
    assert_eq!(second.missing_parents(), BTreeSet::from([JobNumber(1)]));
    assert_eq!(second.sanity_check(), Err(Inconsistency::Parents(JobNumber(2))));
    second.put_job(JobNumber(1), first.job_snapshot(JobNumber(1)).unwrap());
    second.sanity_check().unwrap();
    assert_eq!((run_one(&mut second), run_one(&mut second)), (Some(1), Some(2)));
}

/// What becomes of a job when it is its turn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Agree,
    Refuse,
    Cancel,
    /// Its first lease ends by itself.
    Silent,
}

proptest! {
    #![proptest_config(pool_support::config())]

    #[test]
    fn a_job_runs_after_its_parents_and_every_job_ends_as_its_ancestors_let_it(
        shape in proptest::collection::vec(
            (any::<u16>(), prop_oneof![
                8 => Just(Fate::Agree), 1 => Just(Fate::Refuse), 1 => Just(Fate::Cancel), 2 => Just(Fate::Silent),
            ]),
            1..40,
        ),
        drops in any::<bool>(),
    ) {
        let mut pool = broker();
        let parents: Vec<Vec<u64>> = (0u64..).zip(&shape).map(|(job, (bits, _))| {
            (0..16).filter(|bit| bits >> bit & 0x1001 == 0x1001 || (bits >> bit & 1 == 1 && bit % 5 == 0))
                .filter_map(|bit| job.checked_sub(1 + bit)).collect()
        }).collect();
        for (job, parents) in (0u64..).zip(&parents) {
            submit(&mut pool, job, parents);
        }
        let mut ends: BTreeMap<u64, JobEnd> = BTreeMap::new();
        let mut now = NOW;
        let mut silent = BTreeSet::new();
        // each round ends a job or lets a silent one's lease end
        for _ in 0..=2 * shape.len() {
            let Some((job, attempt)) = claim(&mut pool) else { break };
            for parent in &parents[usize::try_from(job).unwrap()] {
                prop_assert!(matches!(ends.get(parent), Some(JobEnd::Agreed(_))), "{} before {}", job, parent);
            }
            let actions = match shape[usize::try_from(job).unwrap()].1 {
                Fate::Refuse => refuse(&mut pool, (job, attempt)),
                Fate::Cancel => pool.apply(now, Event::Cancel { job: JobNumber(job) }).unwrap(),
                Fate::Silent if silent.insert(job) => {
                    now = now.plus(1_000);
                    pool.apply(now, Event::Tick).unwrap()
                }
                Fate::Agree | Fate::Silent => answer(&mut pool, (job, attempt)),
            };
            for action in actions {
                if let Action::End { job, end } = action {
                    prop_assert!(ends.insert(job.0, end).is_none());
                    if drops {
                        pool.drop_job(job);
                    }
                }
            }
            prop_assert_eq!(pool.sanity_check(), Ok(()));
        }
        let mut agrees: Vec<bool> = vec![];
        for (parents, (_, fate)) in parents.iter().zip(&shape) {
            let may_start = parents.iter().all(|it| agrees[usize::try_from(*it).unwrap()]);
            let job = agrees.len() as u64;
            let wanted = match fate {
                _ if !may_start => "Failed(Parent(",
                Fate::Agree | Fate::Silent => "Agreed",
                Fate::Refuse => "Failed(Refused)",
                Fate::Cancel => "Cancelled",
            };
            let end = format!("{:?}", ends.get(&job));
            prop_assert!(end.starts_with(&format!("Some({wanted}")), "job {}: {} instead of {}", job, end, wanted);
            agrees.push(wanted == "Agreed");
        }
    }
}
