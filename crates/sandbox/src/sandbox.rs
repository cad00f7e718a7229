//! The sandbox as its caller holds it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Instant;

use sandrun_types::{ClassId, Interpreter};

use crate::class::{Ground, Known, Reader};
use crate::launch::Launcher;
use crate::session::{self, Session};
use crate::trace_log::TraceLog;
use crate::wire::{Ready, Setup, Spec};
use crate::{CancelHandle, Layers, OutputSink, RunError, RunReport, RunRequest, SandboxConfig, StartError};
use crate::{Class, class, prepare, prove, verdict};

/// Runs jobs in isolation. Dropping it ends its launcher process.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    launcher: RwLock<Arc<Launcher>>,
    layers: Layers,
    native: ClassId,
    /// Who its jobs are to the system's files.
    jobs: Reader,
    /// The ids of all classes; made when somebody asks for another than `native`, since it looks at the whole system.
    classes: OnceLock<Known>,
    interpreters: Vec<(Interpreter, PathBuf)>,
}

impl Sandbox {
    /// Starts the launcher process and proves each layer by a probe job that tries to get past it.
    ///
    /// # Errors
    /// [`StartError`]; a required layer that does not hold is one.
    pub fn start(config: SandboxConfig) -> Result<Self, StartError> {
        let (launcher, ready) = launch(&config)?;
        let layers = prove::layers(&launcher, &ready)?;
        let interpreters = find_interpreters(&config.interpreter_dirs);
        let native = class::native(&interpreters);
        tracing::info!(layers = ?layers.names(), %native, "the sandbox holds");
        Ok(Self {
            config,
            launcher: RwLock::new(Arc::new(launcher)),
            layers,
            native,
            jobs: if ready.privileged {
                Reader::Anybody
            } else {
                Reader::Service
            },
            classes: OnceLock::new(),
            interpreters,
        })
    }

    /// What held at the start.
    #[must_use]
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The exact id of class `native` on this machine.
    #[must_use]
    pub fn class(&self) -> ClassId {
        self.native
    }

    /// The exact id of a class on this machine; `None` where it cannot be run. See [`Self::classes`] for what it costs.
    #[must_use]
    pub fn class_of(&self, class: Class) -> Option<ClassId> {
        if class == Class::Native {
            return Some(self.native);
        }
        let found = self.classes().iter().find(|(known, _)| *known == class);
        found.map(|(_, id)| *id)
    }

    /// The classes that can be run here, with their exact ids. Blocking: the first call reads all programs and
    /// libraries of the machine, some gigabytes; where the cache knows them it only asks after each.
    #[must_use]
    pub fn classes(&self) -> &[(Class, ClassId)] {
        self.known().ids()
    }

    /// Those of them whose ids held when the system's files were looked at last: before a job of a class with a tracer, or
    /// by [`Self::look_again`]. Never waits for such a look, but for the first one.
    #[must_use]
    pub fn offered(&self) -> Vec<(Class, ClassId)> {
        self.known().held()
    }

    /// Looks at the system's files again if the last look is older than [`SandboxConfig::system_check`], and says so in the
    /// log where the ids hold no more. Blocking.
    pub fn look_again(&self) {
        let older = self.config.system_check;
        self.on_ground(|ground| self.known().hold(ground, older));
    }

    fn known(&self) -> &Known {
        self.classes.get_or_init(|| {
            let started = Instant::now();
            let known = self.on_ground(|ground| Known::new(self.native, ground));
            tracing::info!(classes = ?known.ids(), elapsed = ?started.elapsed(), "looked at the system's files");
            known
        })
    }

    fn on_ground<T>(&self, act: impl FnOnce(&Ground<'_>) -> T) -> T {
        let cache = self.config.cache_dir.as_ref().map(|dir| dir.join("system-files"));
        act(&Ground {
            interpreters: &self.interpreters,
            dirs: &dirs(&self.config),
            jobs: self.jobs,
            cache: cache.as_deref(),
            images: self.config.environments_dir.as_deref(),
        })
    }

    /// The exact id that a job's class has, if that still holds. Looks at the system's files now and then.
    pub(crate) fn class_for_a_job(&self, class: Class) -> Result<ClassId, RunError> {
        let id = self
            .class_of(class)
            .ok_or_else(|| RunError::BadRequest(format!("class {class} cannot be run on this machine")))?;
        let older = self.config.system_check;
        if class == Class::Native || self.on_ground(|ground| self.known().hold(ground, older)) {
            Ok(id)
        } else {
            Err(RunError::Changed(class))
        }
    }

    /// Interpreters that are installed in the configured directories, with their places.
    #[must_use]
    pub fn interpreters(&self) -> &[(Interpreter, PathBuf)] {
        &self.interpreters
    }

    /// Process id of the launcher, for people who look at process lists; 0 while it is being replaced.
    #[must_use]
    pub fn launcher_id(&self) -> u32 {
        self.launcher.read().map_or(0, |launcher| launcher.id())
    }

    /// Runs one job to its end, blocking. May be called from many threads at once.
    ///
    /// # Errors
    /// [`RunError`] where there is no result; a job that fails, or hits a limit, has a report.
    pub fn run(
        &self,
        request: &RunRequest,
        sink: &dyn OutputSink,
        cancel: &CancelHandle,
    ) -> Result<RunReport, RunError> {
        let job = prepare::Job::new(self, request)?;
        let mut trace = TraceLog::new(request.trace.clone(), job.header.clone());
        let mut add = |batch: &[u8]| trace.add(batch);
        let session = self.session(&job.spec, &request.workspace, sink, &mut add, cancel)?;
        verdict::report(job.header.class, &job, request, session, trace)
    }

    /// Whether jobs can have images.
    pub(crate) fn has_environments(&self) -> bool {
        self.config.environments_dir.is_some()
    }

    /// Where an interpreter lies.
    pub(crate) fn interpreter(&self, wanted: Interpreter) -> Result<&Path, RunError> {
        let found = self.interpreters.iter().find(|(known, _)| *known == wanted);
        found.map(|(_, path)| path.as_path()).ok_or_else(|| {
            let dirs: Vec<_> = self
                .config
                .interpreter_dirs
                .iter()
                .map(|dir| dir.display().to_string())
                .collect();
            RunError::NoInterpreter(wanted, dirs.join(", "))
        })
    }

    /// One session, on a new launcher if the old one is dead.
    fn session(
        &self,
        spec: &Spec,
        workspace: &Path,
        sink: &dyn OutputSink,
        take_events: &mut dyn FnMut(&[u8]) -> Result<(), RunError>,
        cancel: &CancelHandle,
    ) -> Result<Session, RunError> {
        let grace = self.config.grace;
        let poisoned = |_| RunError::Internal("a thread panicked while it replaced the launcher".to_owned());
        let launcher = Arc::clone(&*self.launcher.read().map_err(|_| poisoned(()))?);
        if !launcher.is_dead() {
            return session::run(&launcher, spec, workspace, sink, take_events, cancel, grace);
        }
        let replacement = {
            let mut current = self.launcher.write().map_err(|_| poisoned(()))?;
            if current.is_dead() {
                tracing::warn!(
                    pid = current.id(),
                    "the sandbox launcher is dead; starting another"
                );
                let (fresh, ready) =
                    launch(&self.config).map_err(|error| RunError::Refused(error.to_string()))?;
                if prove::layers(&fresh, &ready).map_err(|error| RunError::Refused(error.to_string()))?
                    != self.layers
                {
                    return Err(RunError::Refused(
                        "the layers are others than at the start".to_owned(),
                    ));
                }
                *current = Arc::new(fresh);
            }
            Arc::clone(&*current)
        };
        session::run(&replacement, spec, workspace, sink, take_events, cancel, grace)
    }
}

fn launch(config: &SandboxConfig) -> Result<(Launcher, Ready), StartError> {
    Launcher::start(
        &config.launcher,
        &Setup {
            dirs: dirs(config),
            cgroups: config.cgroups,
            environments: config.environments_dir.clone(),
        },
    )
}

/// What jobs see besides the system's own directories.
fn dirs(config: &SandboxConfig) -> Vec<PathBuf> {
    let own = config
        .interpreter_dirs
        .iter()
        .filter(|dir| !dir.starts_with("/bin"));
    config.extra_dirs.iter().chain(own).cloned().collect()
}

/// The first directory that has a program by an interpreter's name wins.
fn find_interpreters(dirs: &[PathBuf]) -> Vec<(Interpreter, PathBuf)> {
    let place = |interpreter: Interpreter| {
        dirs.iter()
            .map(|dir| dir.join(interpreter.name()))
            .find(|path| path.is_file())
    };
    Interpreter::PROGRAMS
        .into_iter()
        .filter_map(|interpreter| Some((interpreter, place(interpreter)?)))
        .collect()
}
