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

const JOBS: u64 = 100_000;

/// Bytes for each of 100,000 jobs, which `client` owns and whose parents `parents` names.
fn each(client: impl Fn(u64) -> u64, parents: impl Fn(u64) -> BTreeSet<JobNumber>) -> u64 {
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
            client: ClientNumber(u32::try_from(client(job)).unwrap()),
            priority: Priority(u8::try_from(job / 100 % 5).unwrap()),
            needs: Needs {
                hardware,
                ..Needs::default()
            },
            replicas: 1,
            quorum: 1,
            lease_seconds: 60,
            retries: None,
            parents: parents(job),
        };
        let now = UnixSeconds(6_000 + job / 5_000);
        let job = JobNumber(job);
        pool.apply(now, Event::Submit { job, spec }).unwrap();
        pool.take_touched();
    }
    let each = (resident() - before) / JOBS;
    let counts = pool.counts();
    assert_eq!((counts.queued + counts.blocked) as u64, JOBS);
    // what is measured next must find no room that this leaves
    std::mem::forget(pool);
    each
}

#[test]
fn a_hundred_thousand_queued_jobs_take_at_most_400_bytes_each() {
    let plain = each(|job| job % 100, |_| BTreeSet::new());
    let clients = each(|job| job, |_| BTreeSet::new());
    let chained = each(
        |job| job % 100,
        |job| job.checked_sub(1).map(JobNumber).into_iter().collect(),
    );
    println!("bytes a job: {plain} of a hundred clients, {clients} of a client each, {chained} in a chain");
    for bytes in [plain, clients, chained] {
        assert!((50..=400).contains(&bytes), "{bytes} bytes");
    }
}
