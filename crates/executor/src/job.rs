//! One job as the service holds it: its inputs, its folder, its log, and what its run left behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sandrun_content::ContentId;
use sandrun_sandbox::{CancelHandle, Class, RunRequest};
use sandrun_types::{ClassId, FileHash, Receipt};
use tokio::sync::watch;

use crate::id::RunId;
use crate::image::Image;
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

/// The folder of one job: `<data>/jobs/<id>`. Dropping it removes the folder, so that an upload that is refused, or
/// whose client goes away, leaves nothing behind.
#[derive(Debug)]
pub(crate) struct JobFolder {
    path: PathBuf,
    is_gone: AtomicBool,
}

impl JobFolder {
    /// The folder of a new job, not made yet.
    pub(crate) fn new(jobs: &Path, id: RunId) -> Self {
        Self {
            path: Self::path_of(jobs, id),
            is_gone: AtomicBool::new(false),
        }
    }

    /// Makes the folder of a job that its client has named, below the service's jobs folder; fails where it is there.
    /// Blocking.
    pub(crate) fn create(jobs: &Path, id: RunId) -> io::Result<Self> {
        std::fs::create_dir(Self::path_of(jobs, id))?;
        Ok(Self::new(jobs, id))
    }

    /// Makes it, where it is not there. Blocking.
    pub(crate) fn make(&self) -> io::Result<()> {
        match std::fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// Removes it now. Blocking.
    pub(crate) fn remove(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        delete(&self.path);
    }

    /// Where the folder of a job lies.
    pub(crate) fn path_of(jobs: &Path, id: RunId) -> PathBuf {
        jobs.join(id.to_string())
    }

    /// Where large parts of the upload are spooled; made when there is one.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// The job's input files.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.path.join("bundle")
    }

    /// What was collected from the run; made when there is something.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }

    /// The run's trace; a discarded run has none.
    pub(crate) fn trace(&self) -> PathBuf {
        self.path.join("trace")
    }

    /// What it printed.
    fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// A name of its own for the packed outputs of one download.
    pub(crate) fn package(&self, download: RunId) -> PathBuf {
        self.path.join(format!("{download}.tar.gz"))
    }
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        if *self.is_gone.get_mut() {
            return;
        }
        let path = std::mem::take(&mut self.path);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || delete(&path))),
            Err(_) => delete(&path),
        }
    }
}

/// Removes a job's folder; does nothing if it is gone, or going. Blocking.
pub(crate) fn delete(path: &Path) {
    // One rename decides who deletes: the end of a download and the job's own end may come at once.
    let going = path.with_extension("deleting");
    let deleted = match std::fs::rename(path, &going) {
        Ok(()) => std::fs::remove_dir_all(&going),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = deleted {
        tracing::warn!(folder = %path.display(), %error, "cannot delete a job's data");
    }
}

/// A job's inputs and the ends of its channels.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: RunId,
    pub(crate) folder: Arc<JobFolder>,
    pub(crate) inputs: Assembled,
    pub(crate) limits: sandrun_sandbox::Limits,
    /// How it runs, and the exact id of that.
    pub(crate) class: (Class, ClassId),
    pub(crate) image: Image,
    pub(crate) cancel: Cancel,
    /// Nobody will ask for it again once it has ended without a trace.
    pub(crate) is_discarded: bool,
    pub(crate) writer: LogWriter,
    pub(crate) log: LogReader,
    pub(crate) stage: watch::Sender<Stage>,
    /// What each line of the log about it says.
    pub(crate) span: tracing::Span,
}

impl Job {
    /// A job that is ready to be queued.
    pub(crate) fn new(
        id: RunId,
        folder: Arc<JobFolder>,
        inputs: Assembled,
        limits: sandrun_sandbox::Limits,
        class: (Class, ClassId),
    ) -> io::Result<Self> {
        let (writer, log) = log::new(&folder.log());
        let (stage, _) = watch::channel(Stage::Queued);
        Ok(Self {
            id,
            folder,
            inputs,
            limits,
            class,
            image: Image::default(),
            cancel: Cancel(Mutex::new(Some(CancelHandle::new()?))),
            is_discarded: false,
            writer,
            log,
            stage,
            span: tracing::Span::none(),
        })
    }

    /// The run is over: what only a run needs is let go, as the job itself is remembered for long.
    pub(crate) fn close(&self) {
        self.cancel.close();
        self.image.release();
        self.writer.close();
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
            class: self.class.0,
            environment: self.image.id().map(ContentId::to_digest),
            trace: (!self.is_discarded).then(|| self.folder.trace()),
        }
    }
}

/// How a run is stopped, for as long as it may run.
#[derive(Debug)]
pub(crate) struct Cancel(Mutex<Option<CancelHandle>>);

impl Cancel {
    /// The handle for the run; `None` when it is over.
    pub(crate) fn handle(&self) -> Option<CancelHandle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the run, if it runs or waits.
    pub(crate) fn cancel(&self) {
        if let Some(handle) = self.handle() {
            handle.cancel();
        }
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
    /// What of stdout and stderr is under the output root; `None` if it was not run.
    pub(crate) streams: Option<[FileHash; 2]>,
    /// Bytes of its trace on disk; 0 where there is none.
    pub(crate) trace_bytes: u64,
}
