//! What the library and its launcher process say to each other, over a SOCK_SEQPACKET socket.
//!
//! Owns the messages and their transport, file descriptors included. Both ends are the same executable, so there is
//! no version to negotiate.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use sandrun_types::ContentDigest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::events;
use crate::sys::WaitStatus;
use crate::{CgroupPolicy, Layers, Limits, MemoryControl, ProcessControl};

/// Longest message; larger things travel in a memory file.
const MAX_MESSAGE: usize = 64 * 1024;
/// Most file descriptors in one message.
const MAX_FDS: usize = 8;

/// First message to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Host directories to bind read-only besides the system's own.
    pub(crate) dirs: Vec<PathBuf>,
    /// Control groups.
    pub(crate) cgroups: CgroupPolicy,
    /// Where images lie.
    pub(crate) environments: Option<PathBuf>,
}

/// The launcher's answer to [`Setup`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SetupReply {
    /// It waits for jobs.
    Ready(Ready),
    /// It ended; why.
    Failed(String),
}

/// What the launcher found on this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// What will bound memory.
    pub(crate) memory: MemoryControl,
    /// What will bound processes.
    pub(crate) processes: ProcessControl,
    /// Whether a service user is another user than the jobs' on the host.
    pub(crate) privileged: bool,
}

/// One job, as its supervisor gets it. With it travel, in this order: its own socket, the memory file that holds this,
/// the workspace directory, the write ends of stdout and stderr.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// What runs.
    pub(crate) program: Program,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// Bytes of the input files, each rounded up to whole pages.
    pub(crate) input_bytes: u64,
    /// Input files and directories.
    pub(crate) input_entries: u64,
    /// The image to mount, by its content id.
    pub(crate) environment: Option<ContentDigest>,
    /// How it is made deterministic; `None` for class `native`.
    pub(crate) det: Option<Det>,
}

/// How a job is made deterministic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Det {
    /// What all its chance comes from.
    pub(crate) seed: [u8; 32],
    /// Whether CPUID is answered by the tracer (`det`) or the CPU (`det-soft`).
    pub(crate) cpuid: bool,
    /// Virtual time at which it ends, in nanoseconds since its boot.
    pub(crate) budget_nanos: u64,
    /// The memory that it is told the machine has, in bytes.
    pub(crate) memory_bytes: u64,
}

/// What runs inside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Program {
    /// A program file.
    Exec {
        /// Its path inside.
        path: String,
        /// Its arguments, itself included.
        argv: Vec<String>,
    },
    /// The probe of the layers, which reports on stdout.
    Probe(ProbePlan),
}

/// What the probe looks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ProbePlan {
    /// Tries to get past every layer.
    Layers {
        /// A file of the host that must not be reachable.
        canary: String,
        /// Name of an abstract socket of the host that must not be reachable.
        abstract_socket: String,
        /// Namespaces of the host: name and identity.
        namespaces: Vec<(String, String)>,
        /// The limits that should be on.
        limits: Limits,
    },
    /// Takes more memory than it may.
    Memory,
    /// Starts more processes than it may, and prints how many it got.
    Processes,
}

/// Last message of a supervisor; the job's work directory travels with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// How.
    pub(crate) end: End,
    /// CPU time of all processes.
    pub(crate) cpu_micros: u64,
    /// Most memory.
    pub(crate) memory_peak_bytes: u64,
    /// From the supervisor's start to the last process's death.
    pub(crate) wall_micros: u64,
    /// What was on.
    pub(crate) layers: Layers,
}

/// How a job ended. In each case all its processes are dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// By itself.
    Exit(WaitStatus),
    /// The program could not be executed, with this error number.
    NotExecutable(i32),
    /// Wall clock.
    WallClock,
    /// CPU time.
    CpuTime,
    /// Memory.
    Memory,
    /// The library asked for it.
    Stopped,
    /// Isolation could not be set up; it never ran.
    Refused(String),
    /// The kernel has no more of this for the job's user on the host, whom other jobs have as well.
    UsedUp(String),
    /// Virtual time or the number of its traced calls.
    Budget,
    /// It computed on and on without a call while another of its tasks waited for its turn.
    Spin,
    /// Its first process vanished.
    Lost,
}

/// What a job's own first processes tell their supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// The namespaces are made; the job's `/proc` travels with it.
    Inside,
    /// Everything is on.
    Ready {
        /// Whether Landlock is.
        landlock: bool,
    },
    /// A step failed.
    Failed(String),
    /// The program could not be executed.
    NotExecutable(i32),
    /// The main process ended.
    Exit(WaitStatus),
}

/// Sends one message.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(message)?, fds)
}

/// Sends one message of these bytes, [`MAX_MESSAGE`] at most.
pub(crate) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// A message of a job's supervisor.
#[derive(Debug)]
pub(crate) enum FromSupervisor {
    /// A batch of events, see [`crate::events::leaves`].
    Events(Vec<u8>),
    /// The last message, and the job's work directory.
    Ended(Box<Ended>, Option<OwnedFd>),
}

/// Receives one message of a supervisor; `None` when the other end is closed.
pub(crate) fn receive_from_supervisor(socket: BorrowedFd<'_>) -> io::Result<Option<FromSupervisor>> {
    let Some((bytes, mut fds)) = receive_bytes(socket)? else {
        return Ok(None);
    };
    if bytes.first() == Some(&events::BATCH) {
        return Ok(Some(FromSupervisor::Events(bytes)));
    }
    let ended = serde_json::from_slice(&bytes)?;
    Ok(Some(FromSupervisor::Ended(Box::new(ended), fds.pop())))
}

/// Receives one message; `None` when the other end is closed.
pub(crate) fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    receive_bytes(socket)?
        .map(|(bytes, fds)| Ok((serde_json::from_slice(&bytes)?, fds)))
        .transpose()
}

fn receive_bytes(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            // The other end closed before it had read all that we sent; its own last message comes next.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            fds.extend(list);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, fds)))
}
