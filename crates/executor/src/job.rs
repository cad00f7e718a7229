//! One job as the service holds it: its inputs, its folder, its log, and what its run left behind.

use std::io;
use std::path::{Path, PathBuf};

use sandrun_sandbox::{CancelHandle, RunRequest};
use sandrun_types::Receipt;
use tokio::sync::watch;

use crate::id::RunId;
use crate::log::{self, LogReader, LogWriter};
use crate::upload::Assembled;
use crate::wire::JobState;

/// Where a job stands, as streams follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Queued,
    Running,
    /// Ended, with the words of the `[DONE]` line.
    Ended(String),
}

/// The folder of one job: `<data>/jobs/<id>`.
#[derive(Clone, Debug)]
pub(crate) struct JobFolder(PathBuf);

impl JobFolder {
    /// The folder of a job below the service's jobs folder.
    pub(crate) fn of(jobs: &Path, id: RunId) -> Self {
        Self(jobs.join(id.to_string()))
    }

    /// Makes it, with room for the upload. Blocking.
    pub(crate) fn create(&self) -> io::Result<()> {
        std::fs::create_dir(&self.0)?;
        std::fs::create_dir(self.spool())?;
        std::fs::create_dir(self.outputs())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where parts of the upload are spooled.
    pub(crate) fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    /// The job's input files.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// What was collected from the run.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.0.join("outputs")
    }

    /// What it printed.
    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// A name of its own for the packed outputs of one download.
    pub(crate) fn package(&self, download: RunId) -> PathBuf {
        self.0.join(format!("{download}.tar.gz"))
    }
}

/// A job's inputs and the ends of its channels.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: RunId,
    pub(crate) folder: JobFolder,
    pub(crate) inputs: Assembled,
    pub(crate) limits: sandrun_sandbox::Limits,
    pub(crate) cancel: CancelHandle,
    pub(crate) writer: LogWriter,
    pub(crate) log: LogReader,
    pub(crate) stage: watch::Sender<Stage>,
}

impl Job {
    /// A job that is ready to be queued. Blocking: makes its log file.
    pub(crate) fn new(
        id: RunId,
        folder: JobFolder,
        inputs: Assembled,
        limits: sandrun_sandbox::Limits,
    ) -> io::Result<Self> {
        let (writer, log) = log::create(&folder.log())?;
        let (stage, _) = watch::channel(Stage::Queued);
        Ok(Self {
            id,
            folder,
            inputs,
            limits,
            cancel: CancelHandle::new()?,
            writer,
            log,
            stage,
        })
    }

    /// What the sandbox is asked to run.
    pub(crate) fn request(&self) -> RunRequest {
        let manifest = &self.inputs.manifest;
        RunRequest {
            workspace: self.folder.bundle(),
            outputs_dir: self.folder.outputs(),
            entry: self.inputs.entry.clone(),
            args: manifest.args.clone(),
            env: manifest.env.clone(),
            limits: self.limits,
            outputs: manifest.outputs.clone(),
        }
    }
}

/// What is known of a run that is over.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// What the executor states about it.
    pub(crate) receipt: Receipt,
    /// The receipt's canonical bytes: what is signed, and what `GET /receipt` sends.
    pub(crate) receipt_bytes: Vec<u8>,
    /// The worker key's signature over them; an anonymous executor has none.
    pub(crate) signature: Option<[u8; 64]>,
    /// `Completed` or `Failed`.
    pub(crate) state: JobState,
}
