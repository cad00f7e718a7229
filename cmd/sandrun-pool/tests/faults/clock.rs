//! Machines whose clocks are wrong: an hour ahead, an hour behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use tokio::process::Command;

use crate::scene::Frail;

/// What takes the clock's place in every program that loads it.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
    const char *text = getenv("FAULTS_CLOCK_SHIFT");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
"#;

/// Compiles it.
async fn library(folder: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE)?;
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .await
        .context("starting cc: the README names a C compiler among what is needed")?;
    anyhow::ensure!(
        compiled.status.success(),
        "cc: {}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    Ok(library)
}

/// The time so many seconds from now, as logs write it.
async fn stamp(seconds: i64) -> anyhow::Result<String> {
    let output = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%S", "-d", &format!("{seconds} seconds")])
        .output()
        .await?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// By its log a program's clock is off by about an hour: the fault is there.
async fn is_off(log: &Path, seconds: i64) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(log)?;
    let last = text.lines().rev().find(|line| line.starts_with("20"));
    let last = last.with_context(|| format!("no time in {}", log.display()))?;
    let half = stamp(seconds / 2).await?;
    let is_so = if seconds > 0 {
        last > half.as_str()
    } else {
        last < half.as_str()
    };
    anyhow::ensure!(is_so, "{} is not {seconds} s off: {last}", log.display());
    Ok(())
}

/// How far whose clock is off, seconds.
const CLOCKS: [(&str, i64); 7] = [
    ("pool", 3_600),
    ("content", -3_600),
    ("sandrun1", 3_600),
    ("agent1", 3_600),
    ("sandrun2", -3_600),
    ("agent2", -3_600),
    // a node whose parts disagree
    ("agent3", 3_600),
];

/// The chain's time is what counts: nodes, a manager and a content store with wrong clocks work, and nobody loses anything.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn clocks_that_are_an_hour_off_change_nothing() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let folder = frail.scene.directory.path().to_owned();
    let library = library(&folder).await?.to_string_lossy().into_owned();
    let key = frail.scene.market.client_key.clone();
    // one under way when the clocks jump, one afterwards
    let mut jobs = BTreeMap::from([(frail.post(&key, "jump").await?, "jump".to_owned())]);
    for (name, seconds) in CLOCKS {
        let service = frail.service(name)?;
        service.kill().await?;
        let shift = seconds.to_string();
        service.also(&[], &[("LD_PRELOAD", &library), ("FAULTS_CLOCK_SHIFT", &shift)]);
        service.restart().await.with_context(|| name.to_owned())?;
    }
    jobs.insert(frail.post(&key, "after").await?, "after".to_owned());
    for job in jobs.keys() {
        frail.over(job).await?;
    }
    frail.check(&jobs).await?;
    for (name, seconds) in CLOCKS {
        // the others say nothing while all is well
        if name.starts_with("agent") {
            is_off(&folder.join(format!("market/logs/{name}.log")), seconds).await?;
        }
    }
    // and a client's
    for seconds in ["3600", "-3600"] {
        let name = format!("client{seconds}");
        let code = frail.scene.code(
            &name,
            &[("main.py", "print('late')\n"), ("job.json", r#"{"timeout": 20}"#)],
        )?;
        let code = code.to_string_lossy().into_owned();
        let mut command = frail.scene.command(&["submit", "--json", "--code", &code]);
        command
            .args(["--payment", "0.3", "--redundancy", "3"])
            .envs([("LD_PRELOAD", library.as_str()), ("FAULTS_CLOCK_SHIFT", seconds)]);
        let said = crate::support::said(command).await?;
        anyhow::ensure!(said.code == 0, "{said:?}");
    }
    frail.scene.market.stop().await;
    Ok(())
}
