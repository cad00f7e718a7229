//! What a claimed job runs: its manifest and where its files come from. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandrun_executor::is_archive;
use sandrun_types::{BundlePath, Interpreter, Manifest};
use serde_json::{Value, json};

use super::pace::run_time;
use super::wire::{ClaimedJob, FileRef};

/// The name of a manifest among the files.
const MANIFEST_FILE: &str = "job.json";

/// A job in the words of an executor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    /// `None` where the client sent none: the executor finds one among the files, or takes the defaults.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) inputs: Inputs,
    /// How long it may run.
    pub(crate) time: Duration,
}

/// Where its files come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inputs {
    /// From the claim itself: one file.
    Code { name: BundlePath, text: String },
    /// From the broker, by hash.
    Files {
        /// What is a file of the job as it is.
        files: BTreeMap<BundlePath, FileRef>,
        /// What the executor unpacks: archives that the client has sent.
        archives: BTreeMap<BundlePath, FileRef>,
    },
}

impl Inputs {
    /// The manifest among the files, where it is one of them and in no archive.
    pub(crate) fn own_manifest(&self) -> Option<&BundlePath> {
        match self {
            Self::Code { .. } => None,
            Self::Files { files, .. } => files.keys().find(|path| path.as_str() == MANIFEST_FILE),
        }
    }

    /// The manifest and the files that the executor will have, where both are known before it has unpacked anything.
    pub(crate) fn known_manifest(&self, given: Option<&Manifest>) -> Option<Manifest> {
        match self {
            Self::Code { .. } => given.cloned(),
            Self::Files { archives, .. } if !archives.is_empty() => None,
            Self::Files { files, .. } => match given {
                Some(manifest) => Some(manifest.clone()),
                None if files.keys().any(|path| path.as_str() == MANIFEST_FILE) => None,
                None => Some(Manifest::default()),
            },
        }
    }
}

impl Program {
    /// Reads a job; `configured` is how long it may run if it does not say so.
    ///
    /// # Errors
    /// One sentence: why no node can run it.
    pub(crate) fn read(job: &ClaimedJob, configured: Duration) -> Result<Self, String> {
        let is_bundle = job.manifest.is_some() || job.files.is_some() || job.parents.is_some();
        match &job.code {
            Some(code) if !is_bundle => Self::of_code(job, code, configured),
            Some(_) | None => Self::of_files(job, configured),
        }
    }

    fn of_code(job: &ClaimedJob, code: &str, configured: Duration) -> Result<Self, String> {
        let wanted = job.interpreter.as_deref().filter(|name| !name.is_empty());
        let interpreter = match wanted {
            Some(name) => {
                Interpreter::parse(name).ok_or_else(|| format!("there is no interpreter {name:?}"))?
            }
            None => Interpreter::Python3,
        };
        let time = bounded(run_time(job.timeout, None, configured));
        let name = file_name(interpreter);
        let manifest = json!({
            "entrypoint": name,
            "interpreter": interpreter.name(),
            "args": job.args.clone().unwrap_or_default(),
            "timeout": time.as_secs(),
        });
        let manifest = Manifest::parse(manifest.to_string().as_bytes()).map_err(|error| error.to_string())?;
        let name = BundlePath::parse(name).map_err(|error| error.to_string())?;
        Ok(Self {
            manifest: Some(manifest),
            inputs: Inputs::Code {
                name,
                text: code.to_owned(),
            },
            time,
        })
    }

    fn of_files(job: &ClaimedJob, configured: Duration) -> Result<Self, String> {
        let parse = |value: &Value| Manifest::parse(value.to_string().as_bytes());
        let manifest = job.manifest.as_ref().filter(|value| !value.is_null()).map(parse);
        let manifest = manifest.transpose().map_err(|error| error.to_string())?;
        let inputs = files(job)?;
        let known = inputs.known_manifest(manifest.as_ref());
        if let (Some(known), Inputs::Files { files, .. }) = (&known, &inputs) {
            known.entry(files.keys()).map_err(|error| error.to_string())?;
        }
        let time = match &known {
            Some(known) => run_time(job.timeout, known.timeout, configured),
            // whatever it says, the executor ends it in that time
            None => Duration::from_secs(Manifest::MAX_TIMEOUT.into()),
        };
        Ok(Self {
            time: bounded(time),
            manifest,
            inputs,
        })
    }
}

/// Whole seconds within what a manifest may ask for.
fn bounded(time: Duration) -> Duration {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(seconds.clamp(1, Manifest::MAX_TIMEOUT.into()))
}

/// The file that plain code becomes: the interpreter's default entrypoint, where it has one.
const fn file_name(interpreter: Interpreter) -> &'static str {
    match interpreter {
        Interpreter::Python3 => "main.py",
        Interpreter::Node => "index.js",
        Interpreter::Bash => "run.sh",
        Interpreter::Ruby => "main.rb",
        Interpreter::Rscript => "main.R",
        Interpreter::Itself => "main",
    }
}

/// The job's own files, and those of its parents below the folders that it wants them in. What parents leave stays as it
/// is; the client's own archives are unpacked, as on any executor.
fn files(job: &ClaimedJob) -> Result<Inputs, String> {
    let (mut files, mut archives) = (BTreeMap::new(), BTreeMap::new());
    for file in job.files.iter().flatten().cloned() {
        let place = if is_archive(file.path.as_str()) {
            &mut archives
        } else {
            &mut files
        };
        add(place, file)?;
    }
    for parent in job.parents.iter().flatten() {
        let into = parent.into.as_deref().filter(|folder| !folder.is_empty());
        for file in &parent.files {
            let path = match into {
                Some(folder) => BundlePath::parse(&format!("{folder}/{}", file.path)),
                None => Ok(file.path.clone()),
            };
            let path = path.map_err(|error| error.to_string())?;
            add(&mut files, FileRef { path, ..file.clone() })?;
        }
    }
    if let Some(name) = file_and_folder(&files) {
        return Err(format!(
            "{name} is a file of the job or of a job that it comes after, and a folder of another file; name another \
             folder for what that job leaves (`into` in `after`)"
        ));
    }
    Ok(Inputs::Files { files, archives })
}

/// The first name that is a file, and a folder of another one: no disk can hold both.
fn file_and_folder(files: &BTreeMap<BundlePath, FileRef>) -> Option<&str> {
    let names: BTreeSet<&str> = files.keys().map(BundlePath::as_str).collect();
    let mut folders = files.keys().flat_map(BundlePath::folders);
    folders.find(|folder| names.contains(folder))
}

fn add(files: &mut BTreeMap<BundlePath, FileRef>, file: FileRef) -> Result<(), String> {
    match files.insert(file.path.clone(), file) {
        Some(other) => Err(format!("there are two files {}", other.path)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::Sha256Hex;

    const CONFIGURED: Duration = Duration::from_secs(300);

    fn job(value: Value) -> ClaimedJob {
        serde_json::from_value(value).unwrap()
    }

    fn read(value: Value) -> Result<Program, String> {
        Program::read(&job(value), CONFIGURED)
    }

    fn file(path: &str) -> Value {
        json!({"path": path, "size": 3, "sha256": Sha256Hex([7; 32])})
    }

    #[test]
    fn plain_code_becomes_the_interpreters_entrypoint() {
        for (interpreter, name, program) in [
            (json!("python3"), "main.py", Interpreter::Python3),
            (Value::Null, "main.py", Interpreter::Python3),
            (json!("node"), "index.js", Interpreter::Node),
            (json!("bash"), "run.sh", Interpreter::Bash),
            (json!("sh"), "run.sh", Interpreter::Bash),
        ] {
            let claimed = json!({"id": "1", "code": "x", "interpreter": interpreter, "args": ["a"]});
            let read = read(claimed).unwrap();
            let manifest = read.manifest.unwrap();
            assert_eq!(manifest.entrypoint.as_ref().map(BundlePath::as_str), Some(name));
            assert_eq!(manifest.interpreter, Some(program));
            assert_eq!(
                (manifest.args.as_slice(), manifest.timeout),
                (["a".to_owned()].as_slice(), Some(300))
            );
            assert!(matches!(read.inputs, Inputs::Code { name: found, .. } if found.as_str() == name));
        }
        let words = read(json!({"id": "1", "code": "x", "interpreter": "cobol"})).unwrap_err();
        assert!(words.contains("cobol"), "{words}");
    }

    #[test]
    fn time_is_the_jobs_own_in_whole_seconds_and_bounded() {
        let time = |value: Value| read(value).unwrap().time.as_secs();
        assert_eq!(time(json!({"id": "1", "code": "x", "timeout": 1.2})), 2);
        assert_eq!(time(json!({"id": "1", "code": "x", "timeout": 1e9})), 3600);
        let bundle =
            json!({"id": "1", "manifest": {"timeout": 7}, "timeout": 60, "files": [file("main.py")]});
        assert_eq!(time(bundle), 7);
    }

    #[test]
    fn a_bundle_keeps_its_manifest_and_finds_its_parents_files_where_it_wants_them() {
        let claimed = json!({
            "id": "1", "attempt": 1, "manifest": {"entrypoint": "a.py"},
            "files": [file("a.py")],
            "parents": [{"into": "in/first", "files": [file("x.csv")]}, {"files": [file("y.csv")]}],
        });
        let program = read(claimed).unwrap();
        assert_eq!(
            program.manifest,
            Some(Manifest::parse(br#"{"entrypoint":"a.py"}"#).unwrap())
        );
        let Inputs::Files { files, archives } = program.inputs else {
            panic!("a bundle has files")
        };
        assert!(archives.is_empty());
        let names: Vec<&str> = files.keys().map(BundlePath::as_str).collect();
        assert_eq!(names, ["a.py", "in/first/x.csv", "y.csv"]);
    }

    #[test]
    fn the_clients_archives_are_unpacked_and_parents_are_not() {
        let program = read(json!({
            "id": "1", "attempt": 1, "manifest": null, "timeout": 5,
            "files": [file("Job.TAR.GZ"), file("main.py")],
            "parents": [{"into": "", "files": [file("data.zip")]}],
        }))
        .unwrap();
        assert_eq!(program.inputs.known_manifest(None), None);
        // nobody knows what the archive's manifest allows
        assert_eq!(program.time.as_secs(), 3600);
        let Inputs::Files { files, archives } = program.inputs else {
            panic!("a bundle has files")
        };
        let names: Vec<&str> = files.keys().map(BundlePath::as_str).collect();
        assert_eq!((names, archives.len()), (vec!["data.zip", "main.py"], 1));

        let own = read(json!({"id": "1", "files": [file("job.json")]})).unwrap();
        assert_eq!(own.inputs.known_manifest(None), None);
        let default = read(json!({"id": "1", "files": [file("main.py")]})).unwrap();
        assert_eq!(default.inputs.known_manifest(None), Some(Manifest::default()));
    }

    #[test]
    fn what_no_node_can_run_is_said_in_words() {
        let twice = json!({"id": "1", "files": [file("main.py")], "parents": [{"files": [file("main.py")]}]});
        assert!(read(twice).unwrap_err().contains("two files main.py"));
        for parents in [
            json!([{"into": "main.py", "files": [file("a.txt")]}]),
            json!([{"into": "in", "files": [file("x")]}, {"into": "in/x", "files": [file("y")]}]),
            json!([{"files": [file("data/a")]}, {"files": [file("data")]}]),
        ] {
            let both = json!({"id": "1", "files": [file("main.py")], "parents": parents});
            let words = read(both).unwrap_err();
            assert!(words.contains("a folder of another file"), "{words}");
        }
        let outside = json!({"id": "1", "files": [file("main.py")], "parents": [{"into": "../x", "files": [file("a")]}]});
        assert!(read(outside).is_err());
        assert!(
            read(json!({"id": "1", "files": []}))
                .unwrap_err()
                .contains("entrypoint")
        );
        assert!(read(json!({"id": "1", "manifest": {"colour": 1}, "files": [file("main.py")]})).is_err());
    }
}
