//! The launcher process as the library holds it: starting it, handing it jobs, noticing its death.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::time::Timespec;

use crate::StartError;
use crate::wire::{Ready, Setup, SetupReply, receive, send};

/// A running launcher. Dropping it ends the launcher, which waits for its jobs.
#[derive(Debug)]
pub(crate) struct Launcher {
    socket: OwnedFd,
    process: Child,
}

impl Launcher {
    /// Starts the command and waits until it is ready.
    pub(crate) fn start(command: &[OsString], setup: &Setup) -> Result<(Self, Ready), StartError> {
        let text = command
            .iter()
            .map(|part| part.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let failed = |source: io::Error| StartError::Launch {
            command: text.clone(),
            source,
        };
        let [program, arguments @ ..] = command else {
            return Err(failed(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let (mine, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| failed(error.into()))?;
        // jobs read this process's command line: it need not say where the program lies
        let process = Command::new(program)
            .arg0("sandrun-supervisor")
            .args(arguments)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let launcher = Self {
            socket: mine,
            process,
        };
        send(launcher.socket(), setup, &[]).map_err(failed)?;
        match receive::<SetupReply>(launcher.socket()).map_err(failed)? {
            Some((SetupReply::Ready(ready), _)) => Ok((launcher, ready)),
            Some((SetupReply::Failed(reason), _)) => Err(StartError::Prepare(reason)),
            None => Err(failed(io::Error::other("it ended without an answer"))),
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands over one job. Messages are whole or not at all, so threads need no lock.
    pub(crate) fn submit(&self, fds: &[BorrowedFd<'_>; 5]) -> io::Result<()> {
        send(self.socket(), &(), fds)
    }

    /// Whether it has ended: its end of the socket is closed.
    pub(crate) fn is_dead(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.socket(), PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_err() || fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// The launcher's process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // It ends when it reads the end of the stream; fails only if it is dead already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}
