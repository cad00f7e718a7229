//! One attempt at a worker: send the job, follow its run, fetch what it left, and check all of it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sandrun_core::pool::SignatureCheck;
use sandrun_executor::wire::{JobState, JobStatus, Logs};
use sandrun_executor::{ClientError, SignedReceipt, decode_signature};
use sandrun_store::queue::{LogStream, OutputRef, QueueStoreError};
use sandrun_types::{BundlePath, OutputFile, Receipt, RunOutcome};
use serde_json::{Value, json};

use super::bundle::{Bundle, Unsendable, bundle};
use super::carry::Load;
use super::check::{Expected, Verdict, judge};
use super::ended::Ended;
use super::fleet::Fleet;
use super::pace::{before_question, is_long};
use super::worker::{Worker, words};
use crate::broker::StoredRequest;
use crate::queue::{Assignment, Begun, Completion, Printed};

/// How long a worker is asked to wait with its answer to a submission: what is over by then is told with it.
const SOON: Duration = Duration::from_millis(50);
/// Longest wait for new output of a running job.
const LIVE_WAIT: Duration = Duration::from_secs(1);
/// Shortest pause between two pieces of output of a running job.
const LIVE_PAUSE: Duration = Duration::from_millis(200);
/// How long an upload of the same attempt by another replica is waited for, which may hang or have died.
const SENT_ELSEWHERE: Duration = Duration::from_secs(60);
/// Pause before it is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Questions about a run that may fail in a row.
const MAX_SILENCE: u32 = 3;
/// Output files that are fetched at once.
const FETCHES: usize = 4;
/// Not found, and not a call here: what executors of old say to calls that they do not know.
const UNKNOWN_CALL: [u16; 2] = [404, 405];

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The worker's words; no other would take the job either.
    Refused(String),
    /// Another try may help; the worker may have said when.
    Again { words: String, wish: Option<Duration> },
    /// The worker does not answer.
    Unreachable(String),
    /// What it answered is not what was asked, or not what it says.
    Forged(String),
}

impl Trouble {
    fn again(words: impl Into<String>) -> Self {
        Self::Again {
            words: words.into(),
            wish: None,
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Busy { words, retry_after } => Self::Again {
                words,
                wish: retry_after,
            },
            ClientError::Unreachable { .. } | ClientError::Stalled { .. } => Self::Unreachable(words(&error)),
            ClientError::Failed { words, .. } | ClientError::Refused { words, .. } => Self::again(words),
            ClientError::Endpoint { .. }
            | ClientError::Setup(_)
            | ClientError::NotUnderstood { .. }
            | ClientError::TooLong { .. }
            | ClientError::Unproven { .. }
            | ClientError::BadReceipt { .. }
            | ClientError::LocalFile { .. } => Self::again(words(&error)),
        }
    }
}

impl From<Unsendable> for Trouble {
    fn from(error: Unsendable) -> Self {
        match error {
            Unsendable::Bad(words) => Self::Refused(words),
            Unsendable::Later(words) => Self::again(words),
        }
    }
}

/// One attempt on its way.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) fleet: Arc<Fleet>,
    pub(super) worker: Arc<Worker>,
    pub(super) assignment: Assignment,
    pub(super) load: Arc<Load>,
}

impl Trip {
    /// All of it.
    pub(super) async fn go(&self) -> Result<Completion, Trouble> {
        let request: StoredRequest = serde_json::from_slice(&self.assignment.request)
            .map_err(|error| Trouble::Refused(format!("the stored request is not readable: {error}")))?;
        let bundle = bundle(&self.fleet.app, &request).await?;
        let (job_hash, manifest) = (bundle.job_hash, bundle.manifest.clone());
        let is_known = self.assignment.run.is_some();
        if !is_known {
            let app = &self.fleet.app;
            let waited = request.waited(self.assignment.attempt, app.queue.clock().now());
            waited.into_iter().for_each(|it| app.meters.waited(it));
        }
        let (run, ended) = match self.assignment.run.clone() {
            Some(run) => (run, None),
            None => self.submit(bundle).await?,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                let status = self.follow(&run, is_known).await?;
                self.gather(&run, status).await?
            }
        };
        self.fetch(&run, ended, job_hash, &manifest).await
    }

    /// Sends the job. Under one key an executor runs it once: what another replica has sent before it died is found, and
    /// what it still sends is waited for. Gives back the run, and how it ended where that was soon.
    async fn submit(&self, bundle: Bundle) -> Result<(String, Option<Ended>), Trouble> {
        let Assignment { job, attempt, .. } = self.assignment;
        let ids = self.fleet.app.queue.ids();
        let submission = bundle.submission.clone();
        let submission = submission.idempotency_key(ids.attempt_key(job, attempt));
        let submission = submission.origin(ids.job_id(job), attempt, self.assignment.node.clone());
        let began = Instant::now();
        self.load.set_submitted();
        loop {
            let sent = self.worker.client.submit_and_follow(submission.clone(), SOON);
            match sent.await {
                Ok(begun) => {
                    self.load.set_run(&begun.id);
                    let worker = self.worker.key.as_str();
                    tracing::debug!(worker, run = begun.id, "sent to the worker");
                    let ended = begun.followed.and_then(|it| Ended::of(&begun.id, it));
                    return Ok((begun.id, ended));
                }
                Err(ClientError::Refused {
                    status: 400 | 413,
                    words,
                }) => return Err(Trouble::Refused(words)),
                Err(ClientError::Refused { status: 409, .. }) if began.elapsed() < SENT_ELSEWHERE => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks how the run stands until it is over. The run's id is kept before the first pause: a run that is over by
    /// then leaves nothing to be found again.
    async fn follow(&self, run: &str, is_kept: bool) -> Result<JobStatus, Trouble> {
        let mut is_kept = is_kept;
        let mut live = Some(Live::default());
        let mut silence = 0;
        for asked in 0.. {
            match self.worker.client.status(run).await {
                Ok(status) => {
                    silence = 0;
                    self.load.set_status(json!(status));
                    if status.status.has_ended() {
                        return Ok(status);
                    }
                }
                Err(ClientError::Refused { status: 404, .. }) => {
                    return Err(Trouble::again("the worker does not know the run any more"));
                }
                Err(error) => {
                    silence += 1;
                    if silence >= MAX_SILENCE || !error.is_transient() {
                        return Err(error.into());
                    }
                }
            }
            if !is_kept {
                is_kept = true;
                self.keep(run);
            }
            let began = Instant::now();
            let mut pause = before_question(asked);
            if is_long(asked)
                && silence == 0
                && let Some(so_far) = live.take()
            {
                live = self.print(run, so_far).await;
                if live.is_some() {
                    pause = LIVE_PAUSE.saturating_sub(began.elapsed());
                }
            }
            tokio::time::sleep(pause).await;
        }
        Err(Trouble::again("the run was not followed to its end"))
    }

    /// Keeps the run's id, beside everything else.
    fn keep(&self, run: &str) {
        let begun = Begun {
            node: self.assignment.node.clone(),
            job: self.assignment.job,
            attempt: self.assignment.attempt,
            run: run.to_owned(),
        };
        let queue = self.fleet.app.queue.clone();
        self.fleet.tasks.spawn(async move {
            // whether it is not needed any more, or is another replica's now, the carrier is told
            if let Err(error) = queue.begin(begun).await {
                tracing::debug!(%error, "the id of a run was not kept");
            }
        });
    }

    /// Hands on what the run has printed since the last time; `None` where the worker can't tell.
    async fn print(&self, run: &str, mut live: Live) -> Option<Live> {
        let followed = match self.worker.client.follow(run, live.next, LIVE_WAIT).await {
            Ok(followed) => followed,
            Err(ClientError::Refused { status, .. }) if UNKNOWN_CALL.contains(&status) => return None,
            Err(_) => return Some(live),
        };
        live.next = followed.next;
        let mut pieces = Vec::new();
        for (stream, at, bytes) in [
            (LogStream::Stdout, &mut live.stdout, followed.stdout),
            (LogStream::Stderr, &mut live.stderr, followed.stderr),
        ] {
            let from = *at;
            *at += bytes.len() as u64;
            if !bytes.is_empty() {
                pieces.push((stream, from, bytes));
            }
        }
        if !pieces.is_empty() {
            let printed = Printed {
                node: self.assignment.node.clone(),
                job: self.assignment.job,
                attempt: self.assignment.attempt,
                pieces,
            };
            if let Err(error) = self.fleet.app.queue.print(printed).await {
                tracing::debug!(%error, run, "output of a running job was not kept; the whole comes at its end");
            }
        }
        Some(live)
    }

    /// Fetches logs and receipt.
    async fn gather(&self, run: &str, status: JobStatus) -> Result<Ended, Trouble> {
        let (logs, receipt) = tokio::join!(self.logs(run), self.receipt(run, &status));
        let ((stdout, stderr), receipt) = (logs?, receipt?);
        Ok(Ended {
            status,
            stdout,
            stderr,
            receipt,
        })
    }

    /// Checks all of it, and fetches the files.
    async fn fetch(
        &self,
        run: &str,
        ended: Ended,
        job_hash: sandrun_types::Sha256Hex,
        manifest: &sandrun_types::Manifest,
    ) -> Result<Completion, Trouble> {
        let Ended {
            status,
            stdout,
            stderr,
            receipt: signed,
        } = ended;
        let expected = Expected {
            worker: self.worker.id,
            run,
            job_hash,
            manifest,
            streams: [&stdout, &stderr],
        };
        let verdict = judge(signed.as_ref(), expected);
        let check = verdict.signature();
        let receipt = match verdict {
            Verdict::Believed(receipt) => Some(*receipt),
            Verdict::Absent => None,
            Verdict::Forged(why) => return Err(Trouble::Forged(why)),
        };
        if let Some(receipt) = receipt.as_ref().filter(|it| it.outcome == RunOutcome::Internal) {
            return Err(Trouble::again(format!(
                "the worker failed: {}",
                receipt.explanation
            )));
        }
        let files = receipt
            .as_ref()
            .map_or(&status.output_files, |it| &it.output_files);
        // boxed: the compiler can't see that the futures outlive their borrows otherwise
        let fetch = |(path, file)| -> BoxFuture<'_, _> { Box::pin(self.output(run, path, file)) };
        let fetched: Vec<BoxFuture<'_, _>> = files.iter().map(fetch).collect();
        let outputs: Vec<OutputRef> = stream::iter(fetched).buffered(FETCHES).try_collect().await?;
        Ok(Completion {
            node: self.assignment.node.clone(),
            job: self.assignment.job,
            attempt: Some(self.assignment.attempt),
            exit_code: exit_code(receipt.as_ref(), &status),
            stdout,
            stderr,
            outputs,
            signature: signed.as_ref().and_then(|it| it.signature).map(|it| it.to_vec()),
            receipt: signed.map(|it| it.bytes),
            check,
            details: self.details(receipt.as_ref(), &status),
        })
    }

    fn details(&self, receipt: Option<&Receipt>, status: &JobStatus) -> Vec<u8> {
        let mut details = json!({"worker_id": self.worker.id, "worker_status": status});
        let root = receipt.map_or(status.output_root, |it| it.output_root);
        if let Some(root) = root {
            details["output_root"] = Value::from(root.to_string());
        }
        let explanation = receipt.map_or(&status.explanation, |it| &it.explanation);
        if !explanation.is_empty() {
            details["explanation"] = Value::from(explanation.as_str());
        }
        details.to_string().into_bytes()
    }

    /// Both outputs of the program, as they are: JSON has no place for bytes that are no text.
    async fn logs(&self, run: &str) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
        let Logs { stdout, stderr } = self.worker.client.logs(run).await?;
        if stdout.contains('\u{fffd}') || stderr.contains('\u{fffd}') {
            match self.worker.client.raw_logs(run).await {
                Ok(raw) => return Ok(raw),
                Err(ClientError::Refused { status, .. }) if UNKNOWN_CALL.contains(&status) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((stdout.into_bytes(), stderr.into_bytes()))
    }

    async fn receipt(&self, run: &str, status: &JobStatus) -> Result<Option<SignedReceipt>, Trouble> {
        match self.worker.client.receipt_bytes(run).await {
            Ok(bytes) => Ok(Some(SignedReceipt {
                bytes,
                signature: status
                    .worker_metadata
                    .signature
                    .as_deref()
                    .and_then(decode_signature),
            })),
            Err(ClientError::Refused { status, .. }) if UNKNOWN_CALL.contains(&status) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Streams a file into the store; what came is hashed there.
    async fn output(&self, run: &str, path: &BundlePath, file: &OutputFile) -> Result<OutputRef, Trouble> {
        let app = &self.fleet.app;
        let wrong = || Trouble::Forged(format!("its output {path} is not what the receipt says"));
        let body = self.worker.client.output_body(run, path, file.size_bytes).await?;
        let stored = app.reader.put_blob(body, app.queue.clock().now()).await;
        let (blob, size) = stored.map_err(|error| {
            let QueueStoreError::Body(cause) = &error else {
                return Trouble::again(words(&error));
            };
            if cause.kind() == io::ErrorKind::FileTooLarge {
                wrong()
            } else {
                Trouble::Unreachable(words(&error))
            }
        })?;
        if size != file.size_bytes || blob.0 != file.sha256.0 {
            return Err(wrong());
        }
        Ok(OutputRef {
            path: path.as_str().to_owned(),
            size,
            blob,
        })
    }

    /// An answer that is not believed, for the queue to count.
    pub(super) fn forged(&self) -> Completion {
        Completion {
            node: self.assignment.node.clone(),
            job: self.assignment.job,
            attempt: Some(self.assignment.attempt),
            exit_code: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            outputs: Vec::new(),
            receipt: None,
            signature: None,
            check: SignatureCheck::Invalid,
            details: b"{}".to_vec(),
        }
    }
}

/// How far a running job's output was handed on.
#[derive(Debug, Default)]
struct Live {
    next: u64,
    stdout: u64,
    stderr: u64,
}

/// The exit code; a run that failed by a limit and not by its program has none of its own.
fn exit_code(receipt: Option<&Receipt>, status: &JobStatus) -> i32 {
    let (has_failed, stated) = match receipt {
        Some(it) => (it.status != JobState::Completed.name(), Some(it.exit_code)),
        None => (
            status.status == JobState::Failed,
            status.execution_metadata.exit_code,
        ),
    };
    match (has_failed, stated) {
        (true, Some(0) | None) => 1,
        (_, Some(code)) => code,
        (false, None) => 0,
    }
}
