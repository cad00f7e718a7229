//! What a queued job costs. Alone in its file: it looks at the whole process.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: clippy's exception covers test functions alone"
)]
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use sandrun_core::pool::*;
use sandrun_types::{Requirements, UnixSeconds};

/// Bytes of main memory that the process has in use: the second number of `/proc/self/statm`, in pages (proc(5)).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[test]
fn a_hundred_thousand_queued_jobs_take_at_most_400_bytes_each() {
    const JOBS: u64 = 100_000;
    let mut pool = Pool::new(Settings {
        policy: Policy::BROKER,
        ageing_step: 60,
        node_timeout: Some(60),
        max_retries: 3,
    });
    let before = resident();
    for job in 0..JOBS {
        let hardware = Requirements {
            memory_mib: u32::try_from(job / 7 % 10).unwrap(),
            ..Requirements::default()
        };
        let spec = JobSpec {
            client: ClientNumber(u32::try_from(job % 100).unwrap()),
            priority: Priority(u8::try_from(job / 100 % 5).unwrap()),
            needs: Needs {
                hardware,
                ..Needs::default()
            },
            replicas: 1,
            quorum: 1,
            lease_seconds: 60,
            parents: BTreeSet::new(),
        };
        let now = UnixSeconds(6_000 + job / 5_000);
        let job = JobNumber(job);
        pool.apply(now, Event::Submit { job, spec }).unwrap();
        pool.take_touched();
    }
    let each = (resident() - before) / JOBS;
    println!("{each} bytes for each of {JOBS} queued jobs");
    assert_eq!(pool.waiting() as u64, JOBS);
    assert!((50..=400).contains(&each), "{each} bytes");
}
