//! What clients submit: the fields, their checks, and what they become. Pure, but for the bodies of files, which were
//! stored before.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{Needs, Priority};
use sandrun_executor::is_archive;
use sandrun_store::queue::{OutputRef, UnixMillis};
use sandrun_types::{BundlePath, Interpreter, Manifest, OutputRoot, Requirements, Sha256Hex};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::body::{Object, given, make_whole, or_default};
use super::error::ApiError;
use super::names::file_and_folder;
use super::request::{After, Program, StoredRequest};
use crate::queue::{IdKey, QueueSettings, Submission};

/// Priority of a job that asks for none.
const PRIORITY: u8 = 4;
/// Highest priority.
const MAX_PRIORITY: u8 = 9;
/// Most nodes that run one job.
const MAX_REPLICAS: u8 = 15;
/// Longest idempotency key.
const MAX_KEY: usize = 200;
/// The name of a manifest among the files.
pub(super) const OWN_MANIFEST: &str = "job.json";
/// Characters of an unknown id that are told.
const MAX_SHOWN: usize = 80;
/// Most parents of one job.
const MAX_PARENTS: usize = 1_000;

/// A job as a client submits it; `null` counts as not given.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JobFields {
    code: Option<String>,
    interpreter: Option<String>,
    args: Option<Vec<String>>,
    timeout: Option<f64>,
    manifest: Option<Map<String, Value>>,
    /// Base64 by name.
    #[serde(deserialize_with = "or_default")]
    pub(super) files: BTreeMap<String, String>,
    outputs: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    memory_mb: Option<u32>,
    priority: Option<u8>,
    #[serde(deserialize_with = "or_default")]
    requirements: Object<RequirementFields>,
    replicas: Option<u8>,
    quorum: Option<u8>,
    #[serde(deserialize_with = "or_default")]
    after: Vec<Object<AfterFields>>,
    retries: Option<u32>,
    pub(super) idempotency_key: Option<String>,
    /// The manifest that lies among the files, or what is wrong with it: executors go by it where no other is sent.
    #[serde(skip)]
    own_manifest: Option<Result<Manifest, ApiError>>,
}

/// What a job needs of a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequirementFields {
    cpu_cores: u16,
    memory_mib: u32,
    gpu: bool,
    vram_mib: u32,
    compute_capability_x10: u16,
    region: Option<String>,
    labels: BTreeMap<String, String>,
    features: BTreeSet<String>,
}

/// A parent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterFields {
    #[serde(default, deserialize_with = "given")]
    job: Option<String>,
    /// An output root.
    #[serde(default, deserialize_with = "given")]
    content: Option<Sha256Hex>,
    #[serde(default)]
    into: Option<String>,
}

/// Who submits, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) client: &'a str,
    pub(super) settings: &'a QueueSettings,
    pub(super) ids: &'a IdKey,
    pub(super) now: UnixMillis,
}

impl JobFields {
    /// Sets the manifest that came as a part of its own.
    pub(super) fn set_manifest(&mut self, manifest: Map<String, Value>) -> Result<(), ApiError> {
        if self.manifest.is_some() {
            return Err(bad("`manifest` was sent twice; send it once"));
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    /// Whether nothing but a manifest among the files can say what is wanted.
    pub(super) const fn has_no_manifest(&self) -> bool {
        self.manifest.is_none()
    }

    /// Takes the file of a manifest's name; whether it has to be one turns out later.
    pub(super) fn set_own_manifest(&mut self, bytes: Result<Vec<u8>, ApiError>) {
        let parse =
            |bytes: Vec<u8>| Manifest::parse(&bytes).map_err(|error| bad(format!("{OWN_MANIFEST}: {error}")));
        self.own_manifest = Some(bytes.and_then(parse));
    }

    /// Output roots by which parents are named.
    pub(super) fn roots(&self) -> BTreeSet<OutputRoot> {
        let roots = self.after.iter().filter_map(|it| it.0.content.as_ref());
        roots.map(|root| OutputRoot(root.0)).collect()
    }

    /// Names parents by their jobs that were named by this output root, and by nothing else.
    pub(super) fn name_parents(&mut self, root: OutputRoot, job: &str) {
        for Object(parent) in &mut self.after {
            if parent.job.is_none() && parent.content.is_some_and(|it| it.0 == root.0) {
                parent.content = None;
                parent.job = Some(job.to_owned());
            }
        }
    }

    /// The program's text as a file of a bundle, if it has to be one: its name and itself.
    pub(super) fn code_file(&mut self) -> Option<(String, String)> {
        let is_bundle = self.manifest.is_some()
            || !self.files.is_empty()
            || self.outputs.is_some()
            || self.env.is_some()
            || self.memory_mb.is_some()
            || !self.after.is_empty();
        if !is_bundle {
            return None;
        }
        let code = self.code.take()?;
        let named = self
            .manifest
            .as_ref()
            .and_then(|it| it.get("entrypoint")?.as_str());
        let name = match (named, self.interpreter.as_deref()) {
            (Some(named), _) => named.to_owned(),
            (None, interpreter) => {
                let interpreter = interpreter
                    .and_then(Interpreter::parse)
                    .unwrap_or(Interpreter::Python3);
                self.interpreter
                    .get_or_insert_with(|| interpreter.name().to_owned());
                let name = main_file(interpreter).to_owned();
                let manifest = self.manifest.get_or_insert_default();
                manifest.insert("entrypoint".to_owned(), Value::from(name.clone()));
                name
            }
        };
        Some((name, code))
    }

    /// Checks everything; `files` are stored already.
    pub(super) fn check(self, files: Vec<OutputRef>, context: Context<'_>) -> Result<Submission, ApiError> {
        let replicas = self.replicas.unwrap_or(1);
        let quorum = self.quorum.unwrap_or(replicas / 2 + 1);
        if !(1..=MAX_REPLICAS).contains(&replicas) {
            return Err(bad(format!("`replicas` has to be 1 to {MAX_REPLICAS}")));
        }
        if quorum > replicas || u16::from(quorum) * 2 <= u16::from(replicas) {
            return Err(bad(
                "`quorum` has to be at most `replicas` and more than half of it",
            ));
        }
        let priority = self.priority.unwrap_or(PRIORITY);
        if priority > MAX_PRIORITY {
            return Err(bad(format!(
                "`priority` has to be 0 to {MAX_PRIORITY}, {MAX_PRIORITY} is the most urgent"
            )));
        }
        let most = context.settings.max_retries;
        let retries = self.retries.map(|it| u8::try_from(it).unwrap_or(u8::MAX));
        if retries.is_some_and(|it| it > most) {
            return Err(bad(format!(
                "`retries` has to be 0 to {most}, which this service allows at most (MAX_RETRIES)"
            )));
        }
        let idempotency = self.idempotency_key.clone();
        idempotency.as_deref().map(check_key).transpose()?;
        let (parents, after) = self.parents(context.ids)?;
        let timeout = self.timeout()?;
        let mut needs = self.needs();
        let blobs = files.iter().map(|it| it.blob).collect();
        let (program, timeout) = match self.code {
            Some(_) => (
                self.plain(&mut needs)?,
                timeout.unwrap_or(context.settings.default_timeout()),
            ),
            None => self.bundle(files, &after, timeout, context.settings, &mut needs)?,
        };
        let request = StoredRequest {
            submitted: Some(context.now),
            timeout,
            retries,
            replicas,
            quorum,
            program,
            after,
        };
        Ok(Submission {
            client: context.client.to_owned(),
            priority: Priority(priority),
            needs,
            replicas,
            quorum,
            timeout,
            retries,
            request: request.to_bytes(),
            blobs,
            bodies: Vec::new(),
            parents,
            idempotency,
        })
    }

    fn parents(&self, ids: &IdKey) -> Result<(Vec<sandrun_core::pool::JobNumber>, Vec<After>), ApiError> {
        if self.after.len() > MAX_PARENTS {
            return Err(bad(format!("`after` names more than {MAX_PARENTS} jobs")));
        }
        let mut numbers = BTreeSet::new();
        let mut after = Vec::new();
        for Object(parent) in &self.after {
            let (Some(job), None) = (&parent.job, &parent.content) else {
                let text = "each of `after` has to name either a `job` by its id or its `content` by its output root";
                return Err(bad(text));
            };
            let number = ids.job(job);
            numbers.insert(number.ok_or_else(|| {
                let shown: String = job.chars().take(MAX_SHOWN).collect();
                bad(format!("a job in `after` is not known here: {shown}"))
            })?);
            let into = parent.into.as_deref().filter(|it| !it.is_empty() && *it != ".");
            let into = into.map(BundlePath::parse).transpose();
            let into = into.map_err(|error| bad(format!("`into` in `after`: {error}")))?;
            after.push(After {
                job: job.clone(),
                into: into.map(|it| it.as_str().to_owned()),
            });
        }
        Ok((numbers.into_iter().collect(), after))
    }

    fn timeout(&self) -> Result<Option<u32>, ApiError> {
        let most = Manifest::MAX_TIMEOUT;
        let Some(seconds) = self.timeout else {
            return Ok(None);
        };
        let whole = (1..=most).find(|it| f64::from(*it) >= seconds);
        match whole.filter(|_| seconds > 0.0) {
            Some(whole) => Ok(Some(whole)),
            None => Err(bad(format!(
                "`timeout` has to be more than 0 and at most {most} seconds"
            ))),
        }
    }

    fn needs(&self) -> Needs {
        let Object(it) = &self.requirements;
        Needs {
            hardware: Requirements {
                cpu_cores: it.cpu_cores,
                memory_mib: it.memory_mib,
                gpu: it.gpu,
                vram_mib: it.vram_mib,
                compute_capability_x10: it.compute_capability_x10,
            },
            interpreter: None,
            region: it.region.clone(),
            labels: it.labels.clone(),
            features: it.features.clone(),
        }
    }

    fn plain(self, needs: &mut Needs) -> Result<Program, ApiError> {
        let interpreter = self.interpreter.as_deref().unwrap_or("python3");
        let known = Interpreter::parse(interpreter).ok_or_else(|| unknown_interpreter(interpreter))?;
        if self.code.as_ref().is_none_or(String::is_empty) {
            return Err(bad("`code` is empty; send the text of a program"));
        }
        needs.interpreter = Some(known);
        if let Some(args) = self.args.as_ref().filter(|it| !it.is_empty()) {
            // as long and as well-formed as a manifest's
            let manifest = Value::from_iter([("args", args.as_slice())]).to_string();
            Manifest::parse(manifest.as_bytes()).map_err(|error| bad(error.to_string()))?;
        }
        Ok(Program::Code {
            interpreter: known.name().to_owned(),
            code: self.code.unwrap_or_default(),
            args: self.args.unwrap_or_default(),
        })
    }

    fn bundle(
        mut self,
        files: Vec<OutputRef>,
        after: &[After],
        timeout: Option<u32>,
        settings: &QueueSettings,
        needs: &mut Needs,
    ) -> Result<(Program, u32), ApiError> {
        let has_parents = !after.is_empty();
        if files.is_empty() && !has_parents {
            return Err(bad("there is nothing to run: send `code`, or `files`"));
        }
        let names: Result<BTreeSet<BundlePath>, _> =
            files.iter().map(|it| BundlePath::parse(&it.path)).collect();
        let names = names.map_err(|error| bad(format!("`files`: {error}")))?;
        if names.len() < files.len() {
            return Err(bad("two of the files have one name; give each its own"));
        }
        if let Some(name) = file_and_folder(&names) {
            let text = format!("`files`: {name} is both a file and a folder; rename one");
            return Err(bad(text));
        }
        check_folders(&names, after)?;
        let has_manifest = self.manifest.is_some();
        let own = self.own_manifest.take();
        let manifest = self.merged(timeout)?;
        let is_sent = has_manifest || manifest != Manifest::default();
        let own = own.filter(|_| !is_sent).transpose()?;
        let has_own = own.is_some();
        let is_read = is_sent || has_own || !names.iter().any(|it| it.as_str() == OWN_MANIFEST);
        let manifest = own.unwrap_or(manifest);
        needs.features.extend(["bundle".to_owned(), "outputs".to_owned()]);
        needs.features.extend(manifest.features());
        if let Some(memory) = manifest.memory_mb {
            needs.hardware.memory_mib = needs.hardware.memory_mib.max(memory);
        }
        if let Some(gpu) = manifest.gpu.as_ref().filter(|it| it.required) {
            needs.hardware.gpu = true;
            let vram = gpu.min_vram_gb.unwrap_or(0).saturating_mul(1_024);
            needs.hardware.vram_mib = needs.hardware.vram_mib.max(vram);
        }
        // an archive's files, and what parents leave, are not known here: the executor checks these, and may find a
        // manifest among them
        let is_known = !has_parents && !names.iter().any(|it| is_archive(it.as_str()));
        let is_open = !(is_sent || has_own || is_known && is_read);
        needs.interpreter = manifest.interpreter;
        if is_known && is_read {
            let entry = manifest.entry(&names).map_err(|error| bad(error.to_string()))?;
            needs.interpreter = Some(entry.interpreter);
        }
        if is_open {
            return Ok((
                Program::Bundle {
                    manifest: None,
                    files,
                },
                Manifest::MAX_TIMEOUT,
            ));
        }
        // it is for the service to say how long a job runs that does not say, and not for whoever runs it
        let is_sent = is_sent || manifest.timeout.is_none();
        let timeout = manifest.timeout.unwrap_or(settings.default_timeout());
        let manifest = Manifest {
            timeout: Some(timeout),
            ..manifest
        };
        let manifest = is_sent
            .then(|| serde_json::from_slice(&manifest.canonical_bytes()).ok())
            .flatten();
        Ok((Program::Bundle { manifest, files }, timeout))
    }

    /// The manifest with the fields that were given beside it; its own win.
    fn merged(self, timeout: Option<u32>) -> Result<Manifest, ApiError> {
        let mut fields = self.manifest.unwrap_or_default();
        let beside = [
            ("interpreter", self.interpreter.map(Value::from)),
            ("args", self.args.map(Value::from)),
            ("outputs", self.outputs.map(Value::from)),
            ("memory_mb", self.memory_mb.map(Value::from)),
            (
                "env",
                self.env.map(|env| {
                    env.into_iter()
                        .map(|(key, value)| (key, Value::from(value)))
                        .collect()
                }),
            ),
            ("timeout", timeout.map(Value::from)),
        ];
        for (name, value) in beside {
            if let Some(value) = value {
                fields.entry(name).or_insert(value);
            }
        }
        let mut manifest = Value::Object(fields);
        make_whole(&mut manifest);
        let bytes = manifest.to_string();
        Manifest::parse(bytes.as_bytes()).map_err(|error| bad(error.to_string()))
    }
}

/// Refuses an idempotency key that is too short or too long, or holds what a batch's own keys are told apart by.
pub(super) fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(bad(format!(
            "the idempotency key has to be 1 to {MAX_KEY} bytes long"
        )));
    }
    if key.chars().any(char::is_control) {
        return Err(bad(
            "the idempotency key has to be without control characters, such as line breaks",
        ));
    }
    Ok(())
}

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::bad_request(text)
}

fn unknown_interpreter(name: &str) -> ApiError {
    let known: Vec<&str> = Interpreter::PROGRAMS.iter().map(|it| it.name()).collect();
    let name: String = name.chars().take(80).collect();
    bad(format!(
        "`interpreter` {name:?} is not known; choose one of {}",
        known.join(", ")
    ))
}

/// The file that a program's text becomes.
pub(crate) const fn main_file(interpreter: Interpreter) -> &'static str {
    match interpreter {
        Interpreter::Python3 => "main.py",
        Interpreter::Node => "index.js",
        Interpreter::Bash => "run.sh",
        Interpreter::Ruby => "main.rb",
        Interpreter::Rscript => "main.R",
        Interpreter::Itself => "main",
    }
}

/// Refuses folders for what parents leave that are files of the job, or lie below one: no disk can hold both.
fn check_folders(names: &BTreeSet<BundlePath>, after: &[After]) -> Result<(), ApiError> {
    for into in after.iter().filter_map(|it| it.into.as_deref()) {
        let parts = into.match_indices('/').map(|(end, _)| &into[..end]);
        for folder in parts.chain([into]) {
            // an archive is unpacked: no file of its name is there
            if names
                .iter()
                .any(|it| it.as_str() == folder && !is_archive(folder))
            {
                let text = format!(
                    "`into` in `after`: {folder} is a file of this job, and can't be a folder too; name another folder"
                );
                return Err(bad(text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
