//! What a claimed job runs: its manifest and where its files come from. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use sandrun_types::{BundlePath, Interpreter, Manifest};
use serde_json::json;

use super::pace::run_time;
use super::wire::{ClaimedJob, FileRef};

/// A job in the words of an executor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    pub(crate) manifest: Manifest,
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
    Files(BTreeMap<BundlePath, FileRef>),
}

impl Program {
    /// Reads a job; `configured` is how long it may run if it does not say so.
    ///
    /// # Errors
    /// One sentence: why no node can run it.
    pub(crate) fn read(job: &ClaimedJob, configured: Duration) -> Result<Self, String> {
        let files = files(job)?;
        match &job.code {
            Some(code) if job.manifest.is_none() && files.is_empty() => Self::of_code(job, code, configured),
            _ => Self::of_files(job, files, configured),
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
            manifest,
            inputs: Inputs::Code {
                name,
                text: code.to_owned(),
            },
            time,
        })
    }

    fn of_files(
        job: &ClaimedJob,
        files: BTreeMap<BundlePath, FileRef>,
        configured: Duration,
    ) -> Result<Self, String> {
        let manifest = match &job.manifest {
            Some(value) => {
                Manifest::parse(value.to_string().as_bytes()).map_err(|error| error.to_string())?
            }
            None => Manifest::default(),
        };
        manifest.entry(files.keys()).map_err(|error| error.to_string())?;
        Ok(Self {
            time: bounded(run_time(job.timeout, manifest.timeout, configured)),
            manifest,
            inputs: Inputs::Files(files),
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

/// The job's own files, and those of its parents below the folders that it wants them in.
fn files(job: &ClaimedJob) -> Result<BTreeMap<BundlePath, FileRef>, String> {
    let mut all = BTreeMap::new();
    let own = job.files.iter().flatten().cloned();
    let inherited = job.parents.iter().flatten().flat_map(|parent| {
        let into = parent.into.as_deref().filter(|folder| !folder.is_empty());
        parent.files.iter().map(move |file| {
            let path = match into {
                Some(folder) => BundlePath::parse(&format!("{folder}/{}", file.path)),
                None => Ok(file.path.clone()),
            };
            path.map(|path| FileRef { path, ..file.clone() })
                .map_err(|error| error.to_string())
        })
    });
    for file in own.map(Ok).chain(inherited) {
        let file = file?;
        if let Some(other) = all.insert(file.path.clone(), file) {
            return Err(format!("there are two files {}", other.path));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::Sha256Hex;
    use serde_json::Value;

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
            assert_eq!(
                read.manifest.entrypoint.as_ref().map(BundlePath::as_str),
                Some(name)
            );
            assert_eq!(read.manifest.interpreter, Some(program));
            assert_eq!(
                (read.manifest.args.as_slice(), read.manifest.timeout),
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
            Manifest::parse(br#"{"entrypoint":"a.py"}"#).unwrap()
        );
        let Inputs::Files(files) = program.inputs else {
            panic!("a bundle has files")
        };
        let names: Vec<&str> = files.keys().map(BundlePath::as_str).collect();
        assert_eq!(names, ["a.py", "in/first/x.csv", "y.csv"]);
    }

    #[test]
    fn what_no_node_can_run_is_said_in_words() {
        let twice = json!({"id": "1", "files": [file("main.py")], "parents": [{"files": [file("main.py")]}]});
        assert!(read(twice).unwrap_err().contains("two files main.py"));
        let outside = json!({"id": "1", "files": [file("main.py")], "parents": [{"into": "../x", "files": [file("a")]}]});
        assert!(read(outside).is_err());
        assert!(read(json!({"id": "1"})).unwrap_err().contains("entrypoint"));
        assert!(read(json!({"id": "1", "manifest": {"colour": 1}, "files": [file("main.py")]})).is_err());
    }
}
