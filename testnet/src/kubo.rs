//! Kubo as the content store of a local market: how its repository is made, and the lines by which it says that it is
//! ready. Never knows what is stored.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use tokio::process::Command;

/// Makes a repository in `directory` for a daemon on `port` of loopback (0: any free one).
///
/// # Errors
/// A program that is missing or refuses.
pub(crate) async fn prepare(program: &Path, directory: &Path, port: u16) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let api = format!("/ip4/127.0.0.1/tcp/{port}");
    for arguments in [
        // addresses on loopback, no bootstrap, no discovery
        &["init", "--profile=test"][..],
        &["config", "Addresses.API", &api],
    ] {
        let done = Command::new(program)
            .args(arguments)
            .envs([repository(directory)?])
            .output()
            .await
            .with_context(|| format!("{} does not start: is it Kubo's `ipfs`?", program.display()))?;
        anyhow::ensure!(
            done.status.success(),
            "{} {}: {}",
            program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(())
}

/// The variable that names a repository.
pub(crate) fn repository(directory: &Path) -> anyhow::Result<(String, String)> {
    let path = directory
        .to_str()
        .context("a directory for Kubo whose name is text")?;
    Ok(("IPFS_PATH".to_owned(), path.to_owned()))
}

/// What starts the daemon: nobody else's content, and no telemetry.
pub(crate) fn command(program: &Path) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![program.into()];
    command.extend(["daemon", "--offline"].map(Into::into));
    command
}

/// What a daemon has said up to now.
#[derive(Debug, Default)]
pub(crate) struct Said {
    api: Mutex<Option<String>>,
}

impl Said {
    /// Finds the address of the RPC, once the daemon is ready.
    pub(crate) fn reader(self) -> impl Fn(&str) -> Option<String> {
        move |line| {
            let mut api = self.api.lock().ok()?;
            if let Some(address) = line.strip_prefix("RPC API server listening on ") {
                *api = url(address.trim());
            }
            (line.trim() == "Daemon is ready").then(|| api.take()).flatten()
        }
    }
}

/// `/ip4/127.0.0.1/tcp/5001` as a URL.
fn url(address: &str) -> Option<String> {
    let mut parts = address.strip_prefix("/ip4/")?.split('/');
    let (host, tcp, port) = (parts.next()?, parts.next()?, parts.next()?);
    (tcp == "tcp").then(|| format!("http://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_where_it_says_once_it_is_ready() {
        let read = Said::default().reader();
        for line in [
            "Initializing daemon...",
            "RPC API server listening on /ip4/127.0.0.1/tcp/5001",
            "",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(read("Daemon is ready").as_deref(), Some("http://127.0.0.1:5001"));
        assert_eq!(url("/ip6/::1/tcp/1"), None);
    }
}
