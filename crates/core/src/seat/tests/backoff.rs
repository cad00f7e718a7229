//! How a failing executor is left in peace.

use super::*;

#[test]
fn an_executor_that_keeps_failing_is_asked_less_and_less_often() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_running();
    let (mut attempt, mut starts) = (Attempt::FIRST, vec![rig.now]);
    let mut is_running = true;
    while rig.now < START + 40 {
        if is_running {
            rig.feed(Event::Ran {
                attempt,
                end: RunEnd::ExecutorFailed,
            });
            is_running = false;
        }
        rig.nothing();
        rig.mine([]);
        if !rig.out.is_empty() {
            attempt = attempt.next();
            rig.journal(Record::Running { attempt });
            rig.out.clear();
            is_running = true;
            starts.push(rig.now);
        }
    }
    let pauses: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // doubled, up to a tenth of the run window
    assert_eq!(pauses, [1, 2, 4, 8, 9, 9], "{starts:?}");
}

#[test]
fn a_bundle_that_gets_lost_again_and_again_is_not_run_in_a_circle() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_running();
    let (mut attempt, mut starts) = (Attempt::FIRST, vec![rig.now]);
    let mut is_running = true;
    while rig.now < START + 40 {
        if is_running {
            rig.feed(Event::Ran {
                attempt,
                end: RunEnd::BundleLost,
            });
            // to be had at once, each time
            rig.expect(&[Action::FetchBundle]);
            rig.feed(Event::Fetched(Ok(())));
            is_running = false;
        }
        rig.nothing();
        rig.mine([]);
        if !rig.out.is_empty() {
            attempt = attempt.next();
            rig.journal(Record::Running { attempt });
            rig.out.clear();
            is_running = true;
            starts.push(rig.now);
        }
    }
    let pauses: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 9, 9], "{starts:?}");
}
