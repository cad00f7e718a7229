//! `__tether`: runs a command that ends when standard input closes, so that no service outlives a testnet that was
//! killed.

use std::ffi::OsString;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Status;

/// How long a service may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Arguments of `__tether`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the command until it ends, standard input closes, or SIGTERM or SIGINT comes.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let (program, rest) = arguments.command.split_first().context("a command is needed")?;
    let mut child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} did not start", program.to_string_lossy()))?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        status = child.wait() => return Ok(if status?.success() { Status::Success } else { Status::Failure }),
        () = closed() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop(&mut child).await
}

/// Returns when standard input has closed. A plain thread reads: the runtime would wait for a blocked task at its end.
async fn closed() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0u8; 256];
        while matches!(std::io::stdin().read(&mut buffer), Ok(read) if read > 0) {}
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

async fn stop(child: &mut Child) -> anyhow::Result<Status> {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(Status::Success)
}
