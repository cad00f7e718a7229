//! One claimed job on the executor: files fetched, submitted, followed to its end, and the receipt believed only as far
//! as it can be checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_executor::wire::JobState;
use sandrun_executor::{
    BegunRun, ClientError, FileContent, FollowedRun, SignedReceipt, Submission, is_environment,
};
use sandrun_types::{
    Attempt, BundlePath, ClassId, ClassKind, ClassRequest, InputFile, Manifest, Receipt, RunOutcome,
    Sha256Hex, output_root,
};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::error::Meaning;
use super::feed::LogFeed;
use super::pace::Backoff;
use super::patience::{PATIENCE, patiently};
use super::program::{Inputs, Program};
use super::report::Answer;
use super::state::ExecutorFacts;
use super::task::{End, Task};
use super::trouble::{RUNS, Trouble};
use super::wire::{Completion, FileRef, Protocol};
use crate::bundle::{Bundle, hash};
use crate::execute::{self, RunError};

/// The name under which files travel: as one archive, so that archives among them stay what they are.
const ARCHIVE: &str = "bundle.tar.gz";
/// How long the executor may take to answer a submission with the run's end; a line that was printed meanwhile has half a
/// second more to be with the client within one.
const SOON: Duration = Duration::from_millis(400);
/// How long the executor is asked to wait for something new.
const FOLLOW: Duration = Duration::from_secs(20);
/// Exit code of a program that was ended: 128 + SIGKILL.
const KILLED: i32 = 137;

/// How following a run ended.
enum Followed {
    /// It is over.
    Over(SignedReceipt),
    /// The executor does not know it any more.
    Lost,
    /// It should have been ended long ago.
    Late,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    task: &'a Task,
    program: Program,
    feed: LogFeed,
    /// The executor's name of it, once it has one.
    pub(crate) id: Option<String>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(task: &'a Task, program: Program) -> Self {
        let takes_logs = task.protocol == Protocol::Two;
        Self {
            task,
            program,
            feed: LogFeed::new(Instant::now(), takes_logs),
            id: None,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn go(&mut self) -> End {
        match self.work().await {
            Ok(answer) => End::Answer(Box::new(answer)),
            Err(trouble) => trouble.end(),
        }
    }

    async fn work(&mut self) -> Result<Answer, Trouble> {
        let bundle = self.bundle().await?;
        for _ in 0..RUNS {
            let begun = self.submit(&bundle).await?;
            let run = begun.id;
            self.id = (!begun.is_forgotten).then(|| run.clone());
            debug!(run, "submitted to the executor");
            match self.follow(&run, begun.followed).await? {
                Followed::Over(signed) => return self.conclude(&bundle, &run, &signed).await,
                Followed::Late => return Ok(self.late()),
                Followed::Lost => {
                    warn!(run, "the executor has lost the job; it is run again");
                    self.feed.restart();
                }
            }
        }
        Err(Trouble::Lost)
    }

    fn folder(&self) -> PathBuf {
        self.task.node.spool.work_folder(&self.task.held)
    }

    /// The job's files: fetched and checked, where they come from the broker.
    async fn bundle(&self) -> Result<Bundle, Trouble> {
        let mut folder = PathBuf::new();
        let mut known = BTreeMap::new();
        match &self.program.inputs {
            Inputs::Code { name, text } => {
                let file = InputFile {
                    sha256: Sha256Hex::of(text.as_bytes()),
                    size_bytes: text.len() as u64,
                };
                known.insert(name.clone(), file);
            }
            Inputs::Files { files, archives } => {
                folder = self.folder().join("in");
                let packed = self.folder().join("archives");
                for (file, folder) in files
                    .values()
                    .map(|file| (file, &folder))
                    .chain(archives.values().map(|file| (file, &packed)))
                {
                    let path = folder.join(file.path.as_str());
                    make_parent(&path).await?;
                    self.fetch(file, &path).await?;
                }
                known.extend(files.values().map(|file| {
                    let content = InputFile {
                        sha256: file.sha256,
                        size_bytes: file.size,
                    };
                    (file.path.clone(), content)
                }));
                debug!(files = files.len(), archives = archives.len(), "fetched");
            }
        }
        Ok(Bundle {
            folder,
            manifest: self.program.manifest.clone().unwrap_or_default(),
            files: known,
        })
    }

    async fn fetch(&self, file: &FileRef, to: &Path) -> Result<(), Trouble> {
        let task = self.task;
        let fetch = || async {
            // what an earlier try has left
            drop(tokio::fs::remove_file(to).await);
            task.node.broker.fetch(&task.held, &task.node_id, file, to).await
        };
        Ok(patiently(|error| error.meaning() == Meaning::Later, fetch).await?)
    }

    async fn submission(&self, bundle: &Bundle) -> Result<Submission, Trouble> {
        let Task { held, node_id, .. } = self.task;
        let attempt = held.attempt.unwrap_or(Attempt::FIRST);
        let mut submission = Submission::new().origin(held.id.to_string(), attempt, node_id.to_string());
        if let Some(manifest) = &self.program.manifest {
            submission = submission.manifest(manifest);
        }
        let (files, archives) = match &self.program.inputs {
            Inputs::Code { name, text } => {
                let content = FileContent::Bytes(text.clone().into_bytes());
                return Ok(submission.file(name.clone(), content));
            }
            Inputs::Files { files, archives } => (files, archives),
        };
        for name in archives.keys() {
            let path = self.folder().join("archives").join(name.as_str());
            submission = submission.file(name.clone(), FileContent::Path(path));
        }
        if !files.is_empty() {
            let archive = self.folder().join(ARCHIVE);
            drop(tokio::fs::remove_file(&archive).await);
            let (from, to) = (bundle.clone(), archive.clone());
            tokio::task::spawn_blocking(move || execute::pack(&from, &to))
                .await?
                .map_err(RunError::Bundle)?;
            submission = submission.file(BundlePath::parse(ARCHIVE)?, FileContent::Path(archive));
        }
        Ok(submission)
    }

    /// Hands the job to the executor; returns its name there, and its end if that comes soon.
    async fn submit(&self, bundle: &Bundle) -> Result<BegunRun, Trouble> {
        let (submission, node) = (self.submission(bundle).await?, &self.task.node);
        let submit = || async {
            let submitted = node.executor.submit_and_follow(submission.clone(), SOON).await;
            if let Err(error @ ClientError::Unreachable { .. }) = &submitted {
                node.suspect_executor(error);
            }
            submitted
        };
        Ok(patiently(ClientError::is_transient, submit).await?)
    }

    /// Follows the run to its end, and passes on what it prints.
    async fn follow(&mut self, run: &str, begun: Option<FollowedRun>) -> Result<Followed, Trouble> {
        let mut next = 0;
        if let Some(news) = begun {
            self.feed.push(Instant::now(), &news.stdout, &news.stderr);
            if let Some(receipt) = news.receipt {
                return Ok(Followed::Over(receipt));
            }
            next = news.next;
        }
        self.task.note(Some(run));
        let executor = self.task.node.executor.clone();
        let limit = self.program.time + self.task.node.config.timeout_buffer;
        let mut running_since: Option<Instant> = None;
        let mut trouble: Option<(Instant, u32)> = None;
        let mut asked = Box::pin(executor.follow(run, next, FOLLOW));
        loop {
            let late = running_since.map(|since| since + limit);
            let answer = tokio::select! {
                answer = &mut asked => answer,
                () = sleep_until(self.feed.due().unwrap_or_else(Instant::now)), if self.feed.due().is_some() => {
                    self.send_logs().await?;
                    continue;
                }
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => return Ok(Followed::Late),
            };
            match answer {
                Ok(news) => {
                    trouble = None;
                    if news.state != JobState::Queued {
                        running_since = running_since.or_else(|| Some(Instant::now()));
                    }
                    self.feed.push(Instant::now(), &news.stdout, &news.stderr);
                    if let Some(receipt) = news.receipt {
                        return Ok(Followed::Over(receipt));
                    }
                    next = news.next;
                }
                Err(ClientError::Refused { status: 404, .. }) => return Ok(Followed::Lost),
                Err(error) => {
                    let (since, failures) = trouble.unwrap_or((Instant::now(), 0));
                    if !error.is_transient() || since.elapsed() > PATIENCE {
                        return Err(error.into());
                    }
                    self.task.node.suspect_executor(&error);
                    trouble = Some((since, failures + 1));
                    sleep(Backoff::USUAL.pause(failures + 1, rand::random())).await;
                }
            }
            asked.set(executor.follow(run, next, FOLLOW));
        }
    }

    /// Tells the broker what was printed since.
    async fn send_logs(&mut self) -> Result<(), Trouble> {
        let task = self.task;
        let update = self.feed.update(&task.node_id);
        let told = task.node.broker.logs(&task.held, &update).await;
        let now = Instant::now();
        match told {
            Ok(()) => self.feed.sent(now),
            Err(error) if error.status() == Some(409) => return Err(Trouble::Unwanted),
            Err(error) if error.meaning() == Meaning::Later => self.feed.failed(now),
            Err(error) => {
                debug!(%error, "the broker takes no logs");
                self.feed.close();
            }
        }
        Ok(())
    }

    async fn facts(&self) -> Result<ExecutorFacts, Trouble> {
        let node = &self.task.node;
        loop {
            if let Some(facts) = node.state().executor.clone() {
                return Ok(facts);
            }
            patiently(ClientError::is_transient, || node.ask_executor()).await?;
        }
    }

    /// Believes the receipt as far as it can be checked, and makes the answer of it.
    async fn conclude(
        &mut self,
        bundle: &Bundle,
        run: &str,
        signed: &SignedReceipt,
    ) -> Result<Answer, Trouble> {
        let facts = self.facts().await?;
        let receipt = signed.check(run, facts.worker_id)?;
        let known = self.program.inputs.known_manifest(self.program.manifest.as_ref());
        let class = ClassId(receipt.class.0);
        let is_asked = |request: ClassRequest| request.accepts(class);
        // what is in an archive is the executor's word, but for a manifest that was sent or lies beside it
        let asked = match &self.program.manifest {
            Some(given) => Some(given.clone()),
            None => self.own_manifest(bundle).await,
        };
        let is_accepted = asked.as_ref().and_then(|asked| asked.class).is_none_or(is_asked);
        if !facts.classes.contains(&class) || !is_accepted {
            return Err(RunError::OtherJob("class").into());
        }
        if let Some(asked) = &asked
            && !is_environment(asked.environment.as_deref(), &receipt.environment)
        {
            return Err(RunError::OtherJob("environment").into());
        }
        if known.is_some() {
            execute::check_subject(&receipt, bundle, class)?;
        }
        let has_outputs = match receipt.outcome {
            RunOutcome::Exited | RunOutcome::Signalled => true,
            // virtual time and events are the same everywhere
            RunOutcome::Budget => class.kind() == Some(ClassKind::Det),
            RunOutcome::Timeout | RunOutcome::Memory | RunOutcome::OutputLimit => false,
            RunOutcome::Refused | RunOutcome::Internal => return Err(Trouble::NotRun(receipt.explanation)),
        };
        let mut outputs = Vec::new();
        if has_outputs {
            self.check_root(&receipt)?;
            if self.task.protocol == Protocol::Two {
                outputs = self.fetch_outputs(&receipt).await?;
            }
        }
        debug!(
            run,
            outcome = %receipt.outcome,
            exit_code = receipt.exit_code,
            outputs = outputs.len(),
            wall_ms = receipt.wall_time_ms,
            "ran"
        );
        let mut completion = self.completion(receipt.exit_code, &receipt.explanation);
        if self.task.protocol == Protocol::Two {
            completion.outputs = outputs;
            completion.receipt = Some(STANDARD.encode(&signed.bytes));
            completion.signature = signed.signature.map(|signature| STANDARD.encode(signature));
            completion.worker_id = receipt.worker_id;
        }
        Ok(Answer::new(self.task.protocol, completion))
    }

    /// The manifest among the job's plain files, which its executor goes by where none was sent; one that cannot be read
    /// it refuses.
    async fn own_manifest(&self, bundle: &Bundle) -> Option<Manifest> {
        let name = self.program.inputs.own_manifest()?;
        let bytes = tokio::fs::read(bundle.folder.join(name.as_str())).await.ok()?;
        Manifest::parse(&bytes).ok()
    }

    /// Whether what was printed and what the files are said to be make up the root that was signed.
    fn check_root(&self, receipt: &Receipt) -> Result<(), Trouble> {
        let files = receipt.output_files.iter().map(|(name, file)| {
            let file = InputFile {
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            };
            (name.clone(), file)
        });
        let (stdout, stderr) = self.feed.bytes();
        let found = output_root(stdout, stderr, &files.collect());
        if receipt.output_root.map(|root| root.0) == Some(found.0) {
            Ok(())
        } else {
            Err(Trouble::OtherOutput("the output root".to_owned()))
        }
    }

    /// Fetches what the job left, each file checked against the receipt.
    async fn fetch_outputs(&self, receipt: &Receipt) -> Result<Vec<FileRef>, Trouble> {
        let mut outputs = Vec::new();
        for (name, stated) in &receipt.output_files {
            let path = self.folder().join("outputs").join(name.as_str());
            make_parent(&path).await?;
            let (executor, run) = (&self.task.node.executor, &receipt.job_id);
            let save = || executor.save_output(run, name, &path, stated.size_bytes);
            patiently(ClientError::is_transient, save).await?;
            let place = path.clone();
            let found = tokio::task::spawn_blocking(move || hash(&place)).await?;
            let found = found.map_err(|source| Trouble::Disk { path, source })?;
            if (found.sha256, found.size_bytes) != (stated.sha256, stated.size_bytes) {
                return Err(Trouble::OtherOutput(format!("the output {name}")));
            }
            outputs.push(FileRef {
                path: name.clone(),
                size: stated.size_bytes,
                sha256: stated.sha256,
            });
        }
        Ok(outputs)
    }

    /// The answer for a program that the executor has not ended in its time.
    fn late(&mut self) -> Answer {
        let words = format!("it ran longer than {} s", self.program.time.as_secs());
        warn!(limit = self.program.time.as_secs(), "the program's time is over");
        let completion = self.completion(KILLED, &words);
        Answer::new(self.task.protocol, completion)
    }

    fn completion(&mut self, exit_code: i32, explanation: &str) -> Completion {
        let feed = std::mem::replace(&mut self.feed, LogFeed::new(Instant::now(), false));
        let (stdout, stderr) = feed.bytes();
        let (output_base64, error_base64) = match self.task.protocol {
            Protocol::Two => (no_text(stdout), no_text(stderr)),
            Protocol::Plain => (None, None),
        };
        let (output, mut error) = feed.finish();
        let explanation = match self.task.protocol {
            Protocol::Two => explanation.to_owned(),
            Protocol::Plain => {
                if !explanation.is_empty() {
                    if !error.is_empty() && !error.ends_with('\n') {
                        error.push('\n');
                    }
                    error.push_str(explanation);
                }
                String::new()
            }
        };
        Completion {
            node_id: self.task.node_id.clone(),
            job_id: self.task.held.id.clone(),
            output,
            error,
            output_base64,
            error_base64,
            exit_code,
            attempt: self.task.held.attempt,
            outputs: Vec::new(),
            explanation,
            receipt: None,
            signature: None,
            worker_id: None,
        }
    }
}

/// Base64 of what was printed, where it is no UTF-8.
fn no_text(printed: &[u8]) -> Option<String> {
    let is_text = std::str::from_utf8(printed).is_ok();
    (!is_text).then(|| STANDARD.encode(printed))
}

async fn make_parent(path: &Path) -> Result<(), Trouble> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    tokio::fs::create_dir_all(parent)
        .await
        .map_err(|source| Trouble::Disk {
            path: parent.to_owned(),
            source,
        })
}
