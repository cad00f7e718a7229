//! What a signal does to a command that waits: it ends, and its exit code is the signal's.

mod support;

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::BIN;
use tokio::net::TcpListener;
use tokio::process::Command;

#[tokio::test]
async fn who_waits_for_an_executor_ends_with_the_signals_status() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let job = format!(
        "http://{}/job-0123456789abcdef0123456789abcdef",
        silent.local_addr()?
    );
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        for arguments in [&["show", &job][..], &["diff", &job, &job]] {
            let mut command = Command::new(BIN);
            command
                .arg("trace")
                .args(arguments)
                .env("SANDRUN_HOME", directory.path())
                .env("SANDRUN_CONFIG", "/dev/null")
                .env("TMPDIR", directory.path())
                .kill_on_drop(true);
            let mut running = command.spawn()?;
            let _asked = tokio::select! {
                accepted = silent.accept() => accepted?,
                ended = running.wait() => anyhow::bail!("{arguments:?} ended: {ended:?}"),
            };
            let id = running.id().context("a process")?;
            kill(Pid::from_raw(i32::try_from(id)?), signal)?;
            let ended = tokio::time::timeout(Duration::from_secs(10), running.wait()).await??;
            assert_eq!(ended.code(), Some(code), "{arguments:?}");
            assert_eq!(std::fs::read_dir(directory.path())?.count(), 0, "{arguments:?}");
        }
    }
    Ok(())
}

/// Nobody knows an id yet: what is known is said, and how to find the job.
#[tokio::test]
async fn a_submission_that_was_not_answered_may_be_a_job() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("a.py"), "")?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let to = format!("http://{}", silent.local_addr()?);
    for more in [&[][..], &["--quiet"], &["--json"]] {
        let mut command = Command::new(BIN);
        command
            .args(["submit", "--code", "a.py", "--to", &to])
            .args(more)
            .current_dir(directory.path())
            .env("SANDRUN_HOME", directory.path().join("home"))
            .env("SANDRUN_CONFIG", "/dev/null")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        let mut running = command.spawn()?;
        let _asked = tokio::select! {
            accepted = silent.accept() => accepted?,
            ended = running.wait() => anyhow::bail!("{more:?} ended: {ended:?}"),
        };
        let id = running.id().context("a process")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGINT)?;
        let ended = tokio::time::timeout(Duration::from_secs(10), running.wait_with_output()).await??;
        assert_eq!(ended.status.code(), Some(130), "{more:?}");
        let (stdout, stderr) = (ended.stdout, String::from_utf8(ended.stderr)?);
        assert!(stdout.is_empty(), "{more:?}");
        assert!(
            stderr.contains("may have taken the job: see `sandrun-pool jobs"),
            "{more:?}: {stderr}"
        );
    }
    Ok(())
}
