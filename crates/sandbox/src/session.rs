//! One run as its caller's thread sees it: hands the job over, reads its output while it lives, gets its end.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::launch::Launcher;
use crate::wire::{End, Ended, FromSupervisor, Spec, receive_from_supervisor, send};
use crate::{CancelHandle, OutputSink, RunError};

/// Bytes read from a pipe at once.
const PIECE: usize = 64 * 1024;

/// Longer than any job: so that a point in time can be told.
const LONGEST: Duration = Duration::from_secs(1 << 30);

/// An ended job.
#[derive(Debug)]
pub(crate) struct Session {
    /// The supervisor's last message.
    pub(crate) ended: Ended,
    /// The job's work directory, if it ran.
    pub(crate) work: Option<OwnedFd>,
    /// Standard output, up to the limit.
    pub(crate) stdout: Vec<u8>,
    /// Standard error, up to the limit.
    pub(crate) stderr: Vec<u8>,
    /// Whether there was more of both together than the limit allows.
    pub(crate) too_much: bool,
}

/// Runs one job. Batches of its events go to `take_events`, whose error ends the job. A supervisor that has not told its
/// end within `grace` after its limit is given up.
pub(crate) fn run(
    launcher: &Launcher,
    spec: &Spec,
    workspace: &Path,
    sink: &dyn OutputSink,
    take_events: &mut dyn FnMut(&[u8]) -> Result<(), RunError>,
    cancel: &CancelHandle,
    grace: Duration,
) -> Result<Session, RunError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let workspace = openat(CWD, workspace, flags, Mode::empty()).map_err(|error| RunError::Files {
        what: format!("open {}", workspace.display()),
        source: error.into(),
    })?;
    let internal =
        |what: &'static str| move |error: io::Error| RunError::Internal(format!("{what}: {error}"));
    let mut streams = submit(launcher, spec, &workspace).map_err(internal("hand over the job"))?;
    drop(workspace);
    let mut capture = Capture {
        limit: spec.limits.output_bytes,
        stdout: Vec::new(),
        stderr: Vec::new(),
        over: false,
    };
    let mut stopped = Stopped::No;
    let mut end = None;
    let deadline = Instant::now() + spec.limits.wall.saturating_add(grace).min(LONGEST);
    while end.is_none() || streams.stdout.is_some() || streams.stderr.is_some() {
        let ready = streams
            .wait(cancel.as_fd(), end.is_none(), stopped.is_no(), deadline)
            .map_err(internal("wait for the job"))?;
        if ready.stdout && !drain(&mut streams.stdout, |piece| capture.stdout(piece, sink)) {
            streams.stdout = None;
        }
        if ready.stderr && !drain(&mut streams.stderr, |piece| capture.stderr(piece, sink)) {
            streams.stderr = None;
        }
        let mut reason = ready.cancelled.then_some(Stopped::Cancelled);
        if ready.socket {
            let message = receive_from_supervisor(streams.socket.as_fd());
            match message.map_err(internal("read what the supervisor says"))? {
                Some(FromSupervisor::Events(batch)) if stopped.is_no() => {
                    let failed = |error| Stopped::Failed(Box::new(error));
                    reason = take_events(&batch).err().map(failed).or(reason);
                }
                // what a stopped job does is no part of its trace
                Some(FromSupervisor::Events(_)) => {}
                Some(FromSupervisor::Ended(ended, work)) => end = Some(Some((*ended, work))),
                None => end = Some(None),
            }
        }
        if capture.over {
            reason = reason.or(Some(Stopped::TooMuch));
        }
        if let (Stopped::No, Some(reason)) = (&stopped, reason) {
            stopped = reason;
            // Fails only if the supervisor has ended, whose last message is still to be read.
            let _ = send(streams.socket.as_fd(), &(), &[]);
        }
    }
    match (end.flatten(), stopped) {
        (_, Stopped::Failed(error)) => Err(*error),
        (Some((ended, _)), Stopped::Cancelled) if ended.end == End::Stopped => Err(RunError::Cancelled),
        (Some((ended, work)), _) => Ok(capture.into_session(ended, work)),
        (None, _) => Err(RunError::Internal("the job's supervisor died".to_owned())),
    }
}

/// Why we ended it, if we did.
#[derive(Debug)]
enum Stopped {
    No,
    TooMuch,
    Cancelled,
    Failed(Box<RunError>),
}

impl Stopped {
    const fn is_no(&self) -> bool {
        match self {
            Self::No => true,
            Self::TooMuch | Self::Cancelled | Self::Failed(_) => false,
        }
    }
}

/// Our ends of what connects us with a job.
struct Streams {
    socket: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ReadyStreams {
    socket: bool,
    stdout: bool,
    stderr: bool,
    cancelled: bool,
}

fn submit(launcher: &Launcher, spec: &Spec, workspace: &OwnedFd) -> io::Result<Streams> {
    let memory = memfd_create("job", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&serde_json::to_vec(spec)?)?;
    io::Seek::rewind(&mut file)?;
    let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (socket, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    launcher.submit(&[
        theirs.as_fd(),
        file.as_fd(),
        workspace.as_fd(),
        stdout_end.as_fd(),
        stderr_end.as_fd(),
    ])?;
    Ok(Streams {
        socket,
        stdout: Some(stdout),
        stderr: Some(stderr),
    })
}

impl Streams {
    /// Waits for something to read. An error where nothing comes until the deadline.
    fn wait(
        &self,
        cancel: BorrowedFd<'_>,
        is_open: bool,
        cancellable: bool,
        deadline: Instant,
    ) -> io::Result<ReadyStreams> {
        let mut fds = Vec::with_capacity(4);
        if is_open {
            fds.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        let streams = [&self.stdout, &self.stderr];
        fds.extend(
            streams
                .into_iter()
                .flatten()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        if cancellable {
            fds.push(PollFd::from_borrowed_fd(cancel, PollFlags::IN));
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut fds, Some(&left)) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "its supervisor does not answer",
                    ));
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |there: bool| there && ready.next().unwrap_or(false);
        Ok(ReadyStreams {
            socket: next(is_open),
            stdout: next(self.stdout.is_some()),
            stderr: next(self.stderr.is_some()),
            cancelled: next(cancellable),
        })
    }
}

/// Reads one piece; `false` at the end of the stream.
fn drain(stream: &mut Option<OwnedFd>, mut take: impl FnMut(&[u8])) -> bool {
    let Some(fd) = stream else { return true };
    let mut piece = vec![0; PIECE];
    match rustix::io::retry_on_intr(|| rustix::io::read(&*fd, &mut piece)) {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            take(&piece[..length]);
            true
        }
    }
}

/// What is kept of both streams: so much together, and no more.
struct Capture {
    limit: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    over: bool,
}

impl Capture {
    fn into_session(self, ended: Ended, work: Option<OwnedFd>) -> Session {
        Session {
            ended,
            work,
            stdout: self.stdout,
            stderr: self.stderr,
            too_much: self.over,
        }
    }

    fn room(&mut self, wanted: usize) -> usize {
        let used = u64::try_from(self.stdout.len() + self.stderr.len()).unwrap_or(u64::MAX);
        let room = usize::try_from(self.limit.saturating_sub(used)).unwrap_or(usize::MAX);
        self.over |= wanted > room;
        room.min(wanted)
    }

    fn stdout(&mut self, piece: &[u8], sink: &dyn OutputSink) {
        let kept = self.room(piece.len());
        self.stdout.extend_from_slice(&piece[..kept]);
        if kept > 0 {
            sink.stdout(&piece[..kept]);
        }
    }

    fn stderr(&mut self, piece: &[u8], sink: &dyn OutputSink) {
        let kept = self.room(piece.len());
        self.stderr.extend_from_slice(&piece[..kept]);
        if kept > 0 {
            sink.stderr(&piece[..kept]);
        }
    }
}
