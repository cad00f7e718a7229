//! Ending an image's making from another thread, so that whoever waits for it cleans up. Owns which package manager runs,
//! and whether what reads files goes on.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Ends what is done for one caller: the package manager that runs, the reading of files, and all that would follow. Clones
/// are the same.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    /// Leads a process group of its own; nobody has waited for it yet.
    running: Option<Pid>,
}

impl Interrupt {
    /// Ends the package manager that runs, with all its processes; none starts any more, and no file is read on.
    pub fn now(&self) {
        let mut state = self.lock();
        state.is_over = true;
        if let Some(leader) = state.running
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "a package manager was not ended");
        }
    }

    /// Whether nothing is to go on.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// What `content` has, until nothing is to go on.
    pub(crate) const fn reading<R>(&self, content: R) -> Reading<'_, R> {
        Reading {
            interrupt: self,
            content,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Command::output`], unless it is ended.
    pub(crate) fn output(&self, command: &mut Command) -> io::Result<Output> {
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = self.start(command)?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let errors = scope.spawn(|| all(pipes.1));
            (all(pipes.0), errors.join())
        });
        let mut state = self.lock();
        state.running = None;
        // its pipes are closed: it has ended, or does so now
        let status = child.wait()?;
        if state.is_over {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let stderr = stderr.unwrap_or_else(|_| Err(io::Error::other("a thread died")));
        Ok(Output {
            status,
            stdout: stdout?,
            stderr: stderr?,
        })
    }

    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.lock();
        if state.is_over {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = command.spawn()?;
        state.running = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(child)
    }
}

/// See [`Interrupt::reading`].
#[derive(Debug)]
pub(crate) struct Reading<'a, R> {
    interrupt: &'a Interrupt,
    content: R,
}

impl<R: io::Read> io::Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.is_over() {
            // not `Interrupted`, after which readers try again
            return Err(io::Error::other("it was told to end"));
        }
        self.content.read(buffer)
    }
}

fn all(pipe: Option<impl io::Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn what_runs_is_ended_with_its_children_and_nothing_starts_afterwards() {
        let interrupt = Interrupt::default();
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("began");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!("(sleep 600) & echo > {}; wait", fifo.display());
        let waits = std::thread::spawn({
            let interrupt = interrupt.clone();
            move || interrupt.output(&mut sh(&script)).unwrap_err().kind()
        });
        std::fs::read(&fifo).unwrap();
        interrupt.now();
        assert_eq!(waits.join().unwrap(), io::ErrorKind::Interrupted);
        let after = interrupt.output(&mut sh("true")).unwrap_err();
        assert_eq!(after.kind(), io::ErrorKind::Interrupted);
        io::copy(&mut interrupt.reading(&b"x"[..]), &mut io::sink()).unwrap_err();
    }

    #[test]
    fn undisturbed_both_pipes_are_read() {
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3";
        let done = Interrupt::default().output(&mut sh(script)).unwrap();
        assert_eq!(
            (done.status.code(), done.stdout.len(), done.stderr.len()),
            (Some(3), 300_000, 300_000)
        );
    }
}
