//! Other programs that do the same thing. Owns how they are called; never installs them (`tools/setup.sh bench` does).

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// The name of the peer that isolates.
pub(crate) const BUBBLEWRAP: &str = "bubblewrap";

/// A bubblewrap that runs `program` in the namespaces that a job gets (user, pid, mount, net, ipc, uts, cgroup), with a
/// read-only system, no capabilities, and /proc, /dev and /tmp of its own.
pub(crate) fn bubblewrap(program: &str) -> Command {
    let mut command = Command::new("bwrap");
    command.args([
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
    ]);
    command.args([
        "--unshare-cgroup",
        "--die-with-parent",
        "--cap-drop",
        "ALL",
        "--ro-bind",
        "/usr",
        "/usr",
    ]);
    for name in ["/bin", "/sbin", "/lib", "/lib64"] {
        let path = Path::new(name);
        match std::fs::read_link(path) {
            Ok(target) => command.arg("--symlink").arg(target).arg(name),
            Err(_) if path.is_dir() => command.args(["--ro-bind", name, name]),
            Err(_) => continue,
        };
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", program]);
    command
}

/// What runs the program that is added to it in a file system in memory, mounted at `place`, which goes when the program
/// ends, as part of its end.
pub(crate) fn in_own_memory(place: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--", "/bin/sh", "-c"])
        .arg(r#"mount -t tmpfs work "$0" && cd "$0" && exec "$@""#)
        .arg(place);
    command
}

/// Runs a command that should end well, and waits for its end.
///
/// # Errors
/// A program that is missing or fails; what it said is in the message.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("starting {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{name} ended with {}: {}",
        output.status,
        said.trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_memory_of_its_own_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let mut command = in_own_memory(place.path());
        command.args(["/bin/sh", "-c", "echo text > file && test -s \"$0\"/file"]);
        run({
            command.arg(place.path());
            command
        })
        .unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failure_is_no_figure() {
        assert!(run(Command::new("/bin/true")).is_ok());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = run(command).unwrap_err().to_string();
        assert!(
            error.contains("/bin/sh") && error.contains('3') && error.ends_with("why"),
            "{error}"
        );
        assert!(run(Command::new("/no/such/program")).is_err());
    }
}
