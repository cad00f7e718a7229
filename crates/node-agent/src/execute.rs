//! One run of a job: bundle to the executor, receipt verified, outputs fetched and hashed again, result packed and
//! stored. Trusts the executor for what the program did and for nothing that can be checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sandrun_content::{ContentError, ContentId, Data, Limits, PackError, PackedTree, pack_result};
use sandrun_core::seat::RunEnd;
use sandrun_executor::{ClientError, ExecutorClient, FileContent, Submission, is_environment, wire};
use sandrun_types::{
    Attempt, BundlePath, ClassId, ContentDigest, InputFile, JobId, OutputRoot, Receipt, ResultParts,
    job_hash, output_root,
};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::bundle::{Bundle, BundleError, clear, hash};
use crate::crash;
use crate::error::Report as _;
use crate::node::Node;
use crate::verdict::{Contradiction, Ended, Verdict, verdict};

/// The name under which a bundle travels: as one archive, so that archives among its files stay what they are.
const ARCHIVE: &str = "bundle.tar.gz";
/// Pause between two questions whether a run is over: short at first, as most programs are.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often a question is asked again when the executor does not answer.
const PATIENCE: u32 = 20;

/// Pause before a content store is asked once more to take a result, and the longest one.
const STORING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// How often a run is asked away: once ends it where it still runs, once more deletes what it left.
const REMOVALS: usize = 2;

/// A run on the executor, held as long as anybody wants something of it. Dropping it, by whoever gives the run up,
/// ends it and deletes its data: a client's jobs may not fill the node's disk.
struct Held {
    executor: ExecutorClient,
    run: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (executor, run) = (self.executor.clone(), std::mem::take(&mut self.run));
        runtime.spawn(async move {
            for _ in 0..REMOVALS {
                if let Err(error) = executor.cancel(&run).await {
                    // gone already, or an executor that has no such call and deletes it in its own time
                    tracing::debug!(run, %error, "nothing left to remove");
                    break;
                }
            }
        });
    }
}

/// Which run it is: for the log, here and at the executor.
#[derive(Debug, Clone)]
pub(crate) struct RunName {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    /// Node and round.
    pub(crate) seat: Option<String>,
}

/// Within what a run has to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunBounds {
    /// The class of the order.
    pub(crate) class: ClassId,
    /// Real time that the order pays for, from the start of the program on.
    pub(crate) wall_limit: Duration,
    /// From now on; a run that has not ended by then has no use.
    pub(crate) patience: Duration,
}

/// Why a run gave nothing that can be said.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The bundle's files are not what they were.
    #[error("the bundle's files have changed or are gone: {0}")]
    Bundle(#[source] std::io::Error),
    /// The executor failed or refused.
    #[error(transparent)]
    Executor(#[from] ClientError),
    /// Its receipt is about something else.
    #[error("the receipt is about another {0} than was sent")]
    OtherJob(&'static str),
    /// Its receipt contradicts itself.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The executor failed, by its own words.
    #[error("the executor did not run it: {0}")]
    NotRun(String),
    /// What was fetched is not what the receipt says.
    #[error("{0} is not what the receipt says")]
    Output(String),
    /// The result could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The result could not be stored.
    #[error("the result cannot be stored")]
    Store(#[from] ContentError),
    /// Our own disk.
    #[error("cannot use {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Work on a thread of its own did not end.
    #[error("work on the result did not end")]
    Worker(#[from] tokio::task::JoinError),
    /// Our own folders.
    #[error(transparent)]
    Folder(#[from] BundleError),
}

impl RunError {
    /// What the seat's machine is told.
    pub(crate) const fn end(&self) -> RunEnd {
        match self {
            Self::Bundle(_) => RunEnd::BundleLost,
            Self::Executor(_)
            | Self::OtherJob(_)
            | Self::Contradiction(_)
            | Self::NotRun(_)
            | Self::Output(_)
            | Self::Pack(_)
            | Self::Store(_)
            | Self::Disk { .. }
            | Self::Worker(_)
            | Self::Folder(_) => RunEnd::ExecutorFailed,
        }
    }
}

/// Runs the job and stores its result.
pub(crate) async fn run(
    node: &Node,
    name: &RunName,
    bundle: &Bundle,
    bounds: RunBounds,
) -> Result<RunEnd, RunError> {
    let until = Instant::now() + bounds.patience;
    let folder = node.result_folder(name.job);
    clear(&folder).await?;
    let disk = |source| RunError::Disk {
        path: folder.clone(),
        source,
    };
    tokio::fs::create_dir_all(folder.join("outputs"))
        .await
        .map_err(disk)?;

    let held = submit(node, name, bundle, bounds.class, &folder.join(ARCHIVE)).await?;
    let Some(receipt) = receipt(node, &held, bounds.wall_limit).await? else {
        info!(
            wall_limit = bounds.wall_limit.as_secs(),
            "the program's time is over"
        );
        return Ok(RunEnd::Limit);
    };
    crash::point("run-ended");
    check_subject(&receipt, bundle, bounds.class)?;
    let ended = match verdict(&receipt, bounds.class)? {
        Verdict::Result(ended) => ended,
        Verdict::Limit => return Ok(RunEnd::Limit),
        Verdict::Failed => return Err(RunError::NotRun(receipt.explanation)),
    };
    let content = store(node, &receipt, ended, &folder, until).await?;
    drop(held);
    crash::point("result-stored");
    info!(exit = %ended.exit, outputs = receipt.output_files.len(), wall_ms = receipt.wall_time_ms, "ran");
    clear(&folder).await?;
    Ok(RunEnd::Result(ResultParts {
        class: bounds.class,
        exit: ended.exit,
        output_root: ended.output_root,
        trace_root: ended.trace_root,
        content,
    }))
}

/// Submits the bundle.
async fn submit(
    node: &Node,
    name: &RunName,
    bundle: &Bundle,
    class: ClassId,
    archive: &Path,
) -> Result<Held, RunError> {
    let (from, to) = (bundle.clone(), archive.to_owned());
    let packed = blocking(move || pack(&from, &to)).await?;
    packed.map_err(|source| {
        // the bundle is whole then: it is the archive that has no place
        let has_no_room = matches!(
            source.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
        );
        if has_no_room {
            let path = archive.to_owned();
            RunError::Disk { path, source }
        } else {
            RunError::Bundle(source)
        }
    })?;
    let archive_name =
        BundlePath::parse(ARCHIVE).map_err(|error| RunError::Bundle(std::io::Error::other(error)))?;
    let submission = Submission::new()
        .file(archive_name, FileContent::Path(archive.to_owned()))
        .manifest(&bundle.manifest)
        .class(class)
        .origin(name.job.to_string(), name.attempt, node.index.to_string());
    let submission = match &name.seat {
        Some(seat) => submission.seat(seat.clone()),
        None => submission,
    };
    let run = node.executor.submit(submission).await?.job_id;
    info!(run, "submitted to the executor");
    Ok(Held {
        executor: node.executor.clone(),
        run,
    })
}

/// Waits for the receipt; `None` when the program has run for longer than `wall_limit`.
async fn receipt(node: &Node, held: &Held, wall_limit: Duration) -> Result<Option<Receipt>, RunError> {
    if wait(node, &held.run, wall_limit).await? {
        let receipt = node.executor.verified_receipt(&held.run, node.worker_id).await?;
        Ok(Some(receipt))
    } else {
        Ok(None)
    }
}

/// Waits until a run is over; `false` when it has been running for longer than `wall_limit`.
async fn wait(node: &Node, run: &str, wall_limit: Duration) -> Result<bool, RunError> {
    let mut running_since: Option<Instant> = None;
    let (mut pause, mut failures) = (PAUSES.0, 0);
    loop {
        match node.executor.status(run).await {
            Ok(status) => {
                failures = 0;
                match status.status {
                    wire::JobState::Completed | wire::JobState::Failed => return Ok(true),
                    wire::JobState::Running => {
                        // a little more than the limit: a program that ends in its last second has a result
                        let since = *running_since.get_or_insert_with(Instant::now);
                        if since.elapsed() > wall_limit + Duration::from_secs(2) {
                            return Ok(false);
                        }
                    }
                    wire::JobState::Queued => {}
                }
            }
            Err(error) if error.is_transient() && failures < PATIENCE => {
                failures += 1;
                warn!(run, %error, "asking again");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(PAUSES.1);
    }
}

/// Whether the receipt is about what was sent.
pub(crate) fn check_subject(receipt: &Receipt, bundle: &Bundle, class: ClassId) -> Result<(), RunError> {
    let manifest = bundle.manifest.digest();
    if receipt.class.0 != class.0 {
        return Err(RunError::OtherJob("class"));
    }
    if receipt.manifest_sha256.0 != manifest.0 {
        return Err(RunError::OtherJob("manifest"));
    }
    if receipt.job_hash != job_hash(manifest, &bundle.files) {
        return Err(RunError::OtherJob("set of files"));
    }
    if !is_environment(bundle.manifest.environment.as_deref(), &receipt.environment) {
        return Err(RunError::OtherJob("environment"));
    }
    Ok(())
}

/// Fetches what the run left, checks it against the receipt, packs and stores it.
async fn store(
    node: &Node,
    receipt: &Receipt,
    ended: Ended,
    folder: &Path,
    until: Instant,
) -> Result<ContentDigest, RunError> {
    let run = &receipt.job_id;
    let (stdout, stderr, files) = if ended.has_outputs {
        let (stdout, stderr) = node.executor.raw_logs(run).await?;
        (
            stdout,
            stderr,
            fetch_outputs(node, receipt, &folder.join("outputs")).await?,
        )
    } else {
        (Vec::new(), Vec::new(), BTreeMap::new())
    };
    let found: OutputRoot = output_root(&stdout, &stderr, &files);
    if found != ended.output_root {
        return Err(RunError::Output(format!("the output root {found}")));
    }
    let outputs = folder.join("outputs");
    let tree = blocking(move || {
        pack_result(
            Data::from(stdout),
            Data::from(stderr),
            Some(&outputs),
            &Limits::default(),
        )
    })
    .await??;
    Ok(add(node, &tree, until).await?.to_digest())
}

/// Stores a result, as often as it takes: else the program would have to run anew.
async fn add(node: &Node, tree: &PackedTree, until: Instant) -> Result<ContentId, ContentError> {
    let mut pause = STORING.0;
    loop {
        match node.store.add(tree).await {
            Err(error) if Instant::now() + pause < until => {
                warn!(error = error.report(), "the result is not stored yet");
            }
            end => return end,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(STORING.1);
    }
}

async fn fetch_outputs(
    node: &Node,
    receipt: &Receipt,
    folder: &Path,
) -> Result<BTreeMap<BundlePath, InputFile>, RunError> {
    let mut files = BTreeMap::new();
    for (name, stated) in &receipt.output_files {
        let path = folder.join(name.as_str());
        let disk = |source| RunError::Disk {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(disk)?;
        }
        node.executor
            .save_output(&receipt.job_id, name, &path, stated.size_bytes)
            .await?;
        let place = path.clone();
        let found = blocking(move || hash(&place)).await?.map_err(disk)?;
        if found
            != (InputFile {
                sha256: stated.sha256,
                size_bytes: stated.size_bytes,
            })
        {
            return Err(RunError::Output(format!("the output {name}")));
        }
        files.insert(name.clone(), found);
    }
    Ok(files)
}

/// Packs a bundle's files for the way to the executor; fails when one is not what it was when it was checked.
pub(crate) fn pack(bundle: &Bundle, to: &Path) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(File::create_new(to)?, Compression::fast()));
    for (name, known) in &bundle.files {
        let path = bundle.folder.join(name.as_str());
        if hash(&path)? != *known {
            return Err(std::io::Error::other(format!("{name} has changed")));
        }
        archive.append_path_with_name(&path, name.as_str())?;
    }
    archive.into_inner()?.finish()?.sync_all()
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
