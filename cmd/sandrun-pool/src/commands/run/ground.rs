//! Where a local run takes place: a copy of the job's files, a sandbox of its own, a directory for the outputs. Owns the
//! conditions that it is set up under; all of it goes when it is dropped.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use client_sdk::PreparedJob;
use sandrun_sandbox::{
    CancelHandle, Class, Limits, OutputSink, RunError, RunReport, RunRequest, Sandbox, SandboxConfig,
};
use sandrun_types::{BundlePath, ClassId, ClassRequest};
use tempfile::TempDir;

use super::Kept;
use super::environment::LocalEnvironment;
use crate::exit::{Failure, Status, WithStatus as _, words};
use crate::perturbation::{COMMAND, Change, Conditions, Kind, Load};

/// A job that runs here.
#[derive(Debug)]
pub(super) struct LocalJob {
    prepared: PreparedJob,
    /// The class that it runs under.
    pub(super) class: Class,
    /// The only id of it that will do, if there is one.
    exact: Option<ClassId>,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
    /// What its manifest's `environment` names.
    environment: Option<Arc<LocalEnvironment>>,
}

impl LocalJob {
    /// The manifest's job with the command line's own arguments and variables.
    pub(super) fn new(
        prepared: PreparedJob,
        class: Class,
        arguments: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Self {
        let arguments = if arguments.is_empty() {
            prepared.manifest.args.clone()
        } else {
            arguments
        };
        let mut variables = prepared.manifest.env.clone();
        variables.extend(env);
        Self {
            prepared,
            class,
            exact: None,
            arguments,
            env: variables,
            environment: None,
        }
    }

    /// The same job with an image.
    pub(super) fn with(mut self, environment: Option<Arc<LocalEnvironment>>) -> Self {
        self.environment = environment;
        self
    }

    /// The same job in the class that is asked for and no other by its name.
    pub(super) fn exactly(mut self, request: ClassRequest) -> Self {
        self.exact = match request {
            ClassRequest::Exact(id) => Some(id),
            ClassRequest::Native | ClassRequest::Det | ClassRequest::DetSoft => None,
        };
        self
    }

    /// The same job under another class.
    pub(super) fn under(&self, class: Class) -> Self {
        Self {
            prepared: self.prepared.clone(),
            class,
            exact: None,
            arguments: self.arguments.clone(),
            env: self.env.clone(),
            environment: self.environment.clone(),
        }
    }

    /// The bounds that an agent's executor runs it within: they are part of its trace.
    fn limits(&self) -> Limits {
        let executor = sandrun_executor::Limits::default();
        let wall = Duration::from_secs(self.prepared.wall_limit.into());
        Limits {
            wall,
            cpu: match self.prepared.manifest.cpu_seconds {
                Some(per_minute) => Duration::from_secs(
                    u64::from(per_minute) * u64::from(self.prepared.wall_limit.div_ceil(60)),
                ),
                None => wall.saturating_mul(executor.processes.max(1)),
            },
            memory_bytes: u64::from(self.prepared.requirements.memory_mib) << 20,
            processes: executor.processes,
            open_files: executor.open_files,
            tmpfs_bytes: executor.tmpfs_bytes,
            output_bytes: executor.captured_bytes,
            ..Limits::default()
        }
    }
}

/// A place for one run.
#[derive(Debug)]
pub(super) struct Ground {
    directory: TempDir,
    files: PathBuf,
    /// Where the images lie, if it has one.
    images: Option<PathBuf>,
    conditions: Option<Conditions>,
    changes: Vec<Change>,
    load: Option<Load>,
}

impl Ground {
    /// Copies the job's files, and begins with what its conditions ask for.
    ///
    /// # Errors
    /// A file that cannot be read, a directory that cannot be written.
    pub(super) fn new(job: &LocalJob, conditions: Option<Conditions>) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("a temporary directory")?;
        let name = conditions.as_ref().map_or("files", |it| it.directory.as_str());
        let files = directory.path().join(name);
        fs::create_dir(&files)?;
        fs::create_dir(directory.path().join(OUTPUTS))?;
        let mut changes = Vec::new();
        let is_reversed = conditions.as_ref().is_some_and(|it| it.is_reversed);
        copy(&job.prepared, &files, is_reversed)?;
        let mut load = None;
        if let Some(conditions) = &conditions {
            let order = if is_reversed { "the reverse" } else { "their" };
            changes.push(Change::new(
                Kind::Directory,
                format!("{}, its files made in {order} order", conditions.directory),
                Ok(()),
            ));
            let dated = date(&job.prepared, &files, conditions.file_days);
            changes.push(Change::new(
                Kind::FileDates,
                format!("{} days after 1970 began", conditions.file_days),
                dated.map_err(|error| error.to_string()),
            ));
            let started = Load::start(conditions.load);
            changes.push(Change::new(
                Kind::Load,
                format!("{} busy threads", conditions.load),
                started.as_ref().map(|_| ()).map_err(ToString::to_string),
            ));
            load = started.ok();
        }
        Ok(Self {
            directory,
            files,
            images: job.environment.as_ref().map(|it| it.images.clone()),
            conditions,
            changes,
            load,
        })
    }

    /// Starts a sandbox under the conditions.
    ///
    /// # Errors
    /// A machine that allows no isolation.
    pub(super) fn sandbox(&self) -> anyhow::Result<Sandbox> {
        let program = std::env::current_exe()
            .context("the path of this program can't be found")?
            .into_os_string();
        let plain: Vec<OsString> = vec![program.clone(), "__sandbox".into()];
        let launcher = match &self.conditions {
            None => plain,
            Some(conditions) => {
                let conditions = serde_json::to_string(conditions)?;
                let own = [program, COMMAND.into(), conditions.into(), self.report().into()];
                own.into_iter().chain(plain).collect()
            }
        };
        let config = SandboxConfig {
            environments_dir: self.images.clone(),
            ..SandboxConfig::new(launcher)
        };
        Sandbox::start(config).status(Status::Unreachable)
    }

    /// Whether this machine has a class.
    ///
    /// # Errors
    /// A machine that allows no isolation.
    pub(super) fn has(&self, class: Class) -> anyhow::Result<bool> {
        Ok(self.sandbox()?.class_of(class).is_some())
    }

    /// Runs the job.
    ///
    /// # Errors
    /// A class that this machine does not have; a run without a report.
    pub(super) fn run(
        &self,
        job: &LocalJob,
        sandbox: &Sandbox,
        sink: &dyn OutputSink,
        cancel: &CancelHandle,
    ) -> anyhow::Result<RunReport> {
        if let Some(wanted) = job.exact {
            let own = sandbox.class_of(job.class);
            if own != Some(wanted) {
                let own = own.map_or("cannot be run here".to_owned(), |id| format!("is {id} here"));
                let text = format!("class {wanted} is not this machine's: class {} {own}", job.class);
                return Err(Failure::new(Status::Unreachable, text));
            }
        }
        if sandbox.class_of(job.class).is_none() {
            let has_soft = sandbox.class_of(Class::DetSoft).is_some();
            return Err(Failure::new(Status::Unreachable, missing(job.class, has_soft)));
        }
        let request = RunRequest {
            workspace: self.files.clone(),
            outputs_dir: self.outputs(),
            entry: job.prepared.entry.clone(),
            args: job.arguments.clone(),
            env: job.env.clone(),
            limits: job.limits(),
            outputs: job.prepared.manifest.outputs.clone(),
            class: job.class,
            environment: job.environment.as_ref().map(|it| it.id()),
            trace: Some(self.trace()),
        };
        sandbox.run(&request, sink, cancel).map_err(|error| {
            let status = match &error {
                RunError::BadRequest(_) => Status::BadInput,
                RunError::NoInterpreter(..) | RunError::Refused(_) | RunError::Changed(_) => {
                    Status::Unreachable
                }
                RunError::Cancelled => Status::Interrupted,
                RunError::Files { .. } | RunError::Internal(_) => Status::Failure,
            };
            Failure::new(status, words(&error.into()))
        })
    }

    /// Ends the load.
    pub(super) fn calm(&mut self) {
        self.load = None;
    }

    /// What was changed for this run, once its sandbox has started.
    ///
    /// # Errors
    /// The launcher's report cannot be read.
    pub(super) fn changes(&self) -> anyhow::Result<Vec<Change>> {
        let mut changes = self.changes.clone();
        if self.conditions.is_some() {
            let report = fs::read(self.report()).context("the report of what was changed")?;
            changes.extend(serde_json::from_slice::<Vec<Change>>(&report)?);
        }
        changes.sort_by_key(|change| change.kind);
        Ok(changes)
    }

    /// Puts what is wanted of a run where it is wanted: the one also where the other cannot be written.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub(super) fn keep(&self, kept: &Kept) -> anyhow::Result<()> {
        let outputs = kept.out.as_deref().map_or(Ok(()), |out| self.keep_outputs(out));
        let trace = kept.trace.as_deref().map_or(Ok(()), |to| self.keep_trace(to));
        match (outputs, trace) {
            (Err(one), Err(other)) => anyhow::bail!("{}; {}", words(&one), words(&other)),
            (outputs, trace) => outputs.and(trace),
        }
    }

    /// Copies the outputs to where they are wanted.
    fn keep_outputs(&self, out: &Path) -> anyhow::Result<()> {
        copy_tree(&self.outputs(), out)
            .with_context(|| format!("the outputs can't be written to {}", out.display()))
    }

    /// Copies the trace to where it is wanted, whole or not at all.
    fn keep_trace(&self, to: &Path) -> anyhow::Result<()> {
        let unwritten = || format!("the trace can't be written to {}", to.display());
        let folder = to.parent().filter(|it| !it.as_os_str().is_empty());
        let mut file =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).with_context(unwritten)?;
        let mut trace = fs::File::open(self.trace()).context("the run has left no trace")?;
        std::io::copy(&mut trace, &mut file).with_context(unwritten)?;
        file.persist(to).with_context(unwritten)?;
        Ok(())
    }

    /// The file with the trace of the run.
    pub(super) fn trace(&self) -> PathBuf {
        self.directory.path().join("trace.bin")
    }

    fn outputs(&self) -> PathBuf {
        self.directory.path().join(OUTPUTS)
    }

    fn report(&self) -> PathBuf {
        self.directory.path().join("changes.json")
    }
}

/// What to do where a class cannot be run.
fn missing(class: Class, has_soft: bool) -> String {
    let instead = match class {
        Class::Det if has_soft => {
            "its processor does not let the kernel answer CPUID (`cpuid_fault` in /proc/cpuinfo): give --class det-soft, \
             which does without, or --class native"
        }
        Class::Native | Class::Det | Class::DetSoft => "give --class native",
    };
    format!("class {class} cannot be run on this machine: {instead}")
}

/// The outputs' directory; no directory of the conditions has its name, which ends in no lower-case letter.
const OUTPUTS: &str = "outputs_0";

/// Copies the job's files, readable for every user: the sandbox may be another.
fn copy(job: &PreparedJob, to: &Path, is_reversed: bool) -> anyhow::Result<()> {
    let mut files: Vec<&BundlePath> = job.files.iter().collect();
    if is_reversed {
        files.reverse();
    }
    for file in files {
        let (source, target) = (source(job, file), to.join(file.as_str()));
        let unreadable = || format!("{} can't be copied", source.display());
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&source, &target).with_context(unreadable)?;
        let mode = fs::metadata(&target)?.permissions().mode();
        fs::set_permissions(&target, fs::Permissions::from_mode(mode | 0o644))?;
    }
    open_directories(to)?;
    Ok(())
}

/// Where a file of the job is.
fn source(job: &PreparedJob, file: &BundlePath) -> PathBuf {
    if job.code.is_dir() {
        job.code.join(file.as_str())
    } else {
        job.code.clone()
    }
}

fn open_directories(directory: &Path) -> std::io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for item in fs::read_dir(directory)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            open_directories(&item.path())?;
        }
    }
    Ok(())
}

/// Dates every file.
fn date(job: &PreparedJob, files: &Path, days: u32) -> std::io::Result<()> {
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(days) * 86_400);
    job.files.iter().try_for_each(|file| {
        let opened = fs::File::options().append(true).open(files.join(file.as_str()))?;
        opened.set_modified(when)
    })
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_tree(&item.path(), &target)?;
        } else {
            fs::copy(item.path(), &target)?;
        }
    }
    Ok(())
}
