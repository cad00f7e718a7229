//! What is submitted, and the two forms that it takes: JSON with a program's text, or a multipart upload of files.

use std::path::PathBuf;
use std::str::FromStr;

use sandrun_types::{BundlePath, BundlePathError, Interpreter, Manifest, Sha256Hex};
use serde::Serialize;
use serde_json::{Value, json};

use super::{BadId, NodeRequirements, PoolJobId};
use crate::PreparedJob;

/// Which job another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parent {
    /// The one with this id.
    Job(PoolJobId),
    /// One that has ended well with this output root.
    Content(Sha256Hex),
}

/// A job whose outputs another one finds among its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct After {
    /// The job.
    #[serde(flatten)]
    pub parent: Parent,
    /// The folder that its outputs are put in; the job's own folder where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
}

/// A text that names no parent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AfterError {
    /// Not a job's id.
    #[error(transparent)]
    Job(#[from] BadId),
    /// Not a folder of a job.
    #[error("the folder for its outputs: {0}")]
    Into(#[from] BundlePathError),
}

impl FromStr for After {
    type Err = AfterError;

    /// `JOB` or `JOB=FOLDER`, with an output root's 64 hexadecimal digits in place of a job's id where the job is not known.
    fn from_str(text: &str) -> Result<Self, AfterError> {
        let (parent, into) = match text.split_once('=') {
            Some((job, into)) => (job, Some(BundlePath::parse(into)?)),
            None => (text, None),
        };
        let parent = match serde_json::from_value(Value::from(parent)) {
            Ok(root) => Parent::Content(root),
            // shorter than any root
            Err(_) => Parent::Job(parent.parse()?),
        };
        Ok(Self {
            parent,
            into: into.map(|it| it.as_str().to_owned()),
        })
    }
}

/// How a job is to be run, beside what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many nodes run it.
    pub replicas: u8,
    /// How many have to agree.
    pub quorum: u8,
    /// How urgent it is, 0 to 9; the service's default when not given.
    pub priority: Option<u8>,
    /// How many of its attempts may be lost before it fails; as many as the service allows when not given.
    pub retries: Option<u8>,
    /// What its nodes have to have.
    pub requirements: NodeRequirements,
    /// Jobs whose outputs it needs.
    pub after: Vec<After>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 1,
            quorum: 1,
            priority: None,
            retries: None,
            requirements: NodeRequirements::default(),
            after: Vec::new(),
        }
    }
}

impl Options {
    /// The fields that are not as the service has them anyway.
    fn fields(&self) -> serde_json::Map<String, Value> {
        let mut fields = serde_json::Map::new();
        if self.replicas > 1 {
            fields.insert("replicas".to_owned(), self.replicas.into());
            fields.insert("quorum".to_owned(), self.quorum.into());
        }
        if let Some(priority) = self.priority {
            fields.insert("priority".to_owned(), priority.into());
        }
        if let Some(retries) = self.retries {
            fields.insert("retries".to_owned(), retries.into());
        }
        if !self.requirements.is_empty() {
            fields.insert("requirements".to_owned(), json!(self.requirements));
        }
        if !self.after.is_empty() {
            fields.insert("after".to_owned(), json!(self.after));
        }
        fields
    }
}

/// A job that can be submitted.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Each file's name and where it lies.
    pub(super) files: Vec<(BundlePath, PathBuf)>,
    /// The manifest.
    pub(super) manifest: Manifest,
    /// The text, where the job is nothing but one script.
    plain: Option<Plain>,
    options: Options,
    /// The client's own name for it: a repeat gets the same job.
    pub(super) idempotency_key: Option<String>,
}

#[derive(Debug, Clone)]
struct Plain {
    code: String,
    interpreter: Interpreter,
}

impl Submission {
    /// What is submitted for a job that was prepared. Where `leaves_files`, its files are wanted: it is no mere script.
    pub fn new(job: &PreparedJob, options: Options, leaves_files: bool) -> Self {
        let is_file = job.code.is_file();
        let place = |name: &BundlePath| {
            let path = if is_file {
                job.code.clone()
            } else {
                job.code.join(name.as_str())
            };
            (name.clone(), path)
        };
        let plain = (is_file && !leaves_files && options.after.is_empty())
            .then(|| plain(job))
            .flatten();
        Self {
            files: job.files.iter().map(place).collect(),
            manifest: job.manifest.clone(),
            plain,
            options,
            idempotency_key: None,
        }
    }

    /// Names it, so that a repeat gets the same job.
    #[must_use]
    pub fn with_key(mut self, key: Option<String>) -> Self {
        self.idempotency_key = key;
        self
    }

    /// As JSON, where it is nothing but one script.
    pub(super) fn json(&self) -> Option<Value> {
        let plain = self.plain.as_ref()?;
        let mut body = self.options.fields();
        body.insert("code".to_owned(), plain.code.clone().into());
        body.insert("interpreter".to_owned(), plain.interpreter.name().into());
        if !self.manifest.args.is_empty() {
            body.insert("args".to_owned(), json!(self.manifest.args));
        }
        if let Some(timeout) = self.manifest.timeout {
            body.insert("timeout".to_owned(), timeout.into());
        }
        Some(Value::Object(body))
    }

    /// What goes beside files and manifest; `None` where there is nothing.
    pub(super) fn options(&self) -> Option<Value> {
        let fields = self.options.fields();
        (!fields.is_empty()).then_some(Value::Object(fields))
    }

    /// What of it an older service would not understand.
    pub(super) fn beyond_older(&self) -> Option<&'static str> {
        let has = |name: &str| self.options.fields().contains_key(name);
        if has("replicas") {
            Some("it knows no redundancy but 1")
        } else if has("priority") {
            Some("it knows no priorities; leave --priority out")
        } else if has("retries") {
            Some("it sets the number of retries itself; leave --retries out")
        } else if has("requirements") {
            Some("it knows no requirements; leave --require out")
        } else if has("after") {
            Some("it knows no jobs that wait for others; leave --after out")
        } else if self.idempotency_key.is_some() {
            Some("it knows no idempotency keys; leave --idempotency-key out")
        } else {
            None
        }
    }
}

/// The text of a job that is one script with nothing around it.
fn plain(job: &PreparedJob) -> Option<Plain> {
    let manifest = &job.manifest;
    let bare = Manifest {
        args: manifest.args.clone(),
        entrypoint: manifest.entrypoint.clone(),
        interpreter: manifest.interpreter,
        timeout: manifest.timeout,
        ..Manifest::default()
    };
    let is_program = Interpreter::PROGRAMS.contains(&job.entry.interpreter);
    if bare != *manifest || !is_program {
        return None;
    }
    let code = std::fs::read_to_string(&job.code).ok()?;
    Some(Plain {
        code,
        interpreter: job.entry.interpreter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare;

    fn job(files: &[(&str, &str)], code: &str, manifest: Option<&str>) -> (tempfile::TempDir, PreparedJob) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let manifest = manifest.map(|it| directory.path().join(it));
        let job = prepare(&directory.path().join(code), manifest.as_deref()).unwrap();
        (directory, job)
    }

    #[test]
    fn a_single_script_is_code_and_all_else_is_files() {
        let bare = [
            ("a.sh", "echo $1"),
            ("m.json", r#"{"args": ["x"], "timeout": 9}"#),
        ];
        let (_directory, script) = job(&bare, "a.sh", Some("m.json"));
        let plain = Submission::new(&script, Options::default(), false);
        assert_eq!(
            plain.json(),
            Some(json!({"code": "echo $1", "interpreter": "bash", "args": ["x"], "timeout": 9}))
        );
        assert_eq!((plain.beyond_older(), plain.options()), (None, None));
        assert_eq!(Submission::new(&script, Options::default(), true).json(), None);

        let more = [("a.py", ""), ("m.json", r#"{"memory_mb": 64}"#)];
        let (_directory, script) = job(&more, "a.py", Some("m.json"));
        assert_eq!(Submission::new(&script, Options::default(), false).json(), None);

        let (directory, folder) = job(&[("main.py", ""), ("b.txt", "")], "", None);
        let submission = Submission::new(&folder, Options::default(), false);
        assert_eq!(submission.json(), None);
        let names: Vec<&str> = submission.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b.txt", "main.py"]);
        assert_eq!(submission.files[0].1, directory.path().join("b.txt"));
    }

    #[test]
    fn what_older_services_lack_is_named() {
        let (_directory, script) = job(&[("a.py", "")], "a.py", None);
        let mut options = Options {
            replicas: 5,
            quorum: 3,
            ..Options::default()
        };
        let submission = Submission::new(&script, options.clone(), false);
        assert_eq!(submission.json().unwrap()["quorum"], 3);
        assert!(submission.beyond_older().unwrap().contains("redundancy"));
        options = Options {
            priority: Some(9),
            retries: Some(0),
            after: vec!["ab=in".parse().unwrap()],
            ..Options::default()
        };
        let submission = Submission::new(&script, options, false);
        // what parents leave are files
        assert_eq!(submission.json(), None);
        assert_eq!(
            submission.options(),
            Some(json!({"priority": 9, "retries": 0, "after": [{"job": "ab", "into": "in"}]}))
        );
    }

    #[test]
    fn parents_are_ids_with_a_folder() {
        let after = |text: &str| text.parse::<After>();
        assert_eq!(after("ab").unwrap().into, None);
        assert_eq!(after("ab=in/x").unwrap().into.as_deref(), Some("in/x"));
        let root = "0f".repeat(32);
        assert_eq!(
            json!([after("ab").unwrap(), after(&format!("{root}=in")).unwrap()]),
            json!([{"job": "ab"}, {"content": root, "into": "in"}])
        );
        for bad in ["", "=in", "a/b", "ab=../x", "ab=/x"] {
            assert!(after(bad).is_err(), "{bad}");
        }
    }
}
