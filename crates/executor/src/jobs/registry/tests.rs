use super::super::phase::STEPS;
use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn rules(parallel: u32) -> Rules {
    Rules {
        parallel: NonZeroU32::new(parallel).unwrap(),
        max_queued: 3,
        quota: None,
        retention: Retention::default(),
        kept_bytes: 50,
    }
}

fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 16])
}

fn submitted(n: u8) -> Event<(), u8> {
    Event::Submitted {
        id: id(n),
        client: HERE,
        job: (),
    }
}

fn finished(n: u8, verdict: Verdict) -> Event<(), u8> {
    Event::Finished {
        id: id(n),
        verdict,
        cpu: SECOND,
        bytes: 10,
        report: n,
    }
}

#[test]
fn jobs_start_in_order_as_slots_become_free() {
    let mut registry = Registry::new(rules(2));
    let mut apply = |event| registry.apply(Duration::ZERO, event).unwrap();
    assert_eq!(apply(submitted(1)), [Action::Start(id(1))]);
    assert_eq!(apply(submitted(2)), [Action::Start(id(2))]);
    assert_eq!(apply(submitted(3)), []);
    assert_eq!(apply(submitted(4)), []);
    assert_eq!(registry.job(id(4)).unwrap().2, 2);
    assert_eq!(registry.load(), (2, 2));
    let actions = registry.apply(SECOND, finished(1, Verdict::Completed)).unwrap();
    assert_eq!(actions, [Action::Start(id(3))]);
    assert_eq!(registry.job(id(4)).unwrap().2, 1);
    assert_eq!(registry.job(id(3)).unwrap().2, 0);
}

#[test]
fn a_full_queue_refuses_and_changes_nothing() {
    let mut registry = Registry::new(rules(1));
    for n in 1..=4 {
        registry.apply(Duration::ZERO, submitted(n)).unwrap();
    }
    assert_eq!(
        registry.apply(Duration::ZERO, submitted(5)),
        Err(RegistryError::QueueFull(3))
    );
    assert!(registry.job(id(5)).is_none());
    assert_eq!(
        registry.apply(Duration::ZERO, submitted(1)),
        Err(RegistryError::Known(id(1)))
    );
}

#[test]
fn data_goes_after_download_five_minutes_after_a_failure_or_an_hour_after_success() {
    let mut registry = Registry::new(rules(4));
    for n in 1..=3 {
        registry.apply(Duration::ZERO, submitted(n)).unwrap();
    }
    registry.apply(SECOND, finished(1, Verdict::Completed)).unwrap();
    registry.apply(SECOND, finished(2, Verdict::Failed)).unwrap();
    registry.apply(SECOND, finished(3, Verdict::Completed)).unwrap();
    assert_eq!(registry.next_deadline(), Some(SECOND * 301));
    assert_eq!(
        registry.apply(SECOND * 2, Event::Delivered { id: id(1) }),
        Ok(vec![Action::DeleteData(id(1))])
    );
    assert_eq!(registry.job(id(1)).unwrap().1.report(), Some(&1));
    assert_eq!(registry.apply(SECOND * 300, Event::Tick), Ok(vec![]));
    assert_eq!(
        registry.apply(SECOND * 301, Event::Tick),
        Ok(vec![Action::DeleteData(id(2))])
    );
    assert!(registry.job(id(2)).is_none());
    let actions = registry.apply(SECOND * 3601, Event::Tick).unwrap();
    assert_eq!(actions, [Action::DeleteData(id(1)), Action::DeleteData(id(3))]);
    assert_eq!(registry.next_deadline(), None);
}

#[test]
fn the_data_that_ended_jobs_keep_is_bounded_and_the_oldest_goes_first() {
    let mut registry = Registry::new(Rules {
        kept_bytes: 25,
        ..rules(4)
    });
    let mut deleted = Vec::new();
    for (at, n) in [(1, 4), (2, 3), (2, 2), (3, 1)] {
        registry.apply(SECOND * at, submitted(n)).unwrap();
        let actions = registry
            .apply(SECOND * at, finished(n, Verdict::Completed))
            .unwrap();
        deleted.push(actions);
        registry.sanity_check();
    }
    let gone = |n| vec![Action::DeleteData(id(n))];
    assert_eq!(deleted, [vec![], vec![], gone(4), gone(2)]);
    // what is known of the run stays, and its owner's own deletion makes room too
    assert_eq!(registry.job(id(4)).unwrap().1.name(), PhaseName::Delivered);
    registry
        .apply(SECOND * 4, Event::Delivered { id: id(3) })
        .unwrap();
    registry.apply(SECOND * 5, submitted(5)).unwrap();
    let last = registry.apply(SECOND * 5, finished(5, Verdict::Failed));
    assert_eq!(last, Ok(vec![]));
    // one that is too large alone stays for its client: nothing else does
    registry.apply(SECOND * 6, submitted(6)).unwrap();
    let large = Event::Finished {
        id: id(6),
        verdict: Verdict::Completed,
        cpu: SECOND,
        bytes: 1000,
        report: 6,
    };
    assert_eq!(registry.apply(SECOND * 6, large).unwrap().len(), 2);
    registry.sanity_check();
}

#[test]
fn a_client_over_quota_is_refused_others_are_not() {
    let quota = Some(QuotaRules::default());
    let mut registry: Registry<(), u8> = Registry::new(Rules { quota, ..rules(4) });
    registry.apply(Duration::ZERO, submitted(1)).unwrap();
    registry.apply(Duration::ZERO, submitted(2)).unwrap();
    assert!(matches!(
        registry.apply(SECOND, submitted(3)),
        Err(RegistryError::OverQuota(_))
    ));
    let other = "10.0.0.1".parse().unwrap();
    registry
        .apply(
            SECOND,
            Event::Submitted {
                id: id(3),
                client: other,
                job: (),
            },
        )
        .unwrap();
    assert_eq!(registry.quota_view(SECOND, HERE).active_jobs, 2);
    registry.apply(SECOND, finished(1, Verdict::Failed)).unwrap();
    assert_eq!(registry.quota_view(SECOND, HERE).used, SECOND);
    registry.sanity_check();
}

#[test]
fn what_the_table_does_not_list_is_illegal() {
    let phases = [
        PhaseName::Queued,
        PhaseName::Running,
        PhaseName::Ended,
        PhaseName::Delivered,
    ];
    let legal = phases
        .iter()
        .flat_map(|from| [Step::Start, Step::Finish, Step::Deliver].map(|step| (*from, step)))
        .filter(|(from, step)| from.after(*step).is_ok())
        .count();
    assert_eq!(legal, STEPS.len());
    assert_eq!(
        PhaseName::Delivered.after(Step::Deliver),
        Err(IllegalStep {
            from: PhaseName::Delivered,
            step: Step::Deliver
        })
    );
}

fn events() -> impl Strategy<Value = (u64, u8, u8)> {
    (0..400u64, 0..6u8, 0..12u8)
}

proptest! {
    #[test]
    fn any_history_keeps_the_state_sane(script in prop::collection::vec(events(), 0..80)) {
        let quota = Some(QuotaRules { jobs_at_once: 3, ..QuotaRules::default() });
        let mut registry = Registry::new(Rules { quota, ..rules(2) });
        let mut now = Duration::ZERO;
        for (pause, kind, n) in script {
            now += Duration::from_secs(pause);
            let running = registry.running;
            let event = match kind {
                0 | 1 => submitted(n),
                2 => finished(n, if n % 2 == 0 { Verdict::Completed } else { Verdict::Failed }),
                3 => Event::Delivered { id: id(n) },
                4 => Event::Discarded { id: id(n) },
                _ => Event::Tick,
            };
            let before = registry.jobs.len();
            match registry.apply(now, event) {
                Ok(actions) => {
                    for action in &actions {
                        if let Action::Start(id) = action {
                            prop_assert_eq!(registry.job(*id).map(|job| job.1.name()), Some(PhaseName::Running));
                        }
                    }
                }
                Err(_) => prop_assert_eq!((registry.running, registry.jobs.len()), (running, before)),
            }
            registry.sanity_check();
        }
    }
}
