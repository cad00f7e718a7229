//! A job's request as it is stored, and as nodes get it. Owns both JSON forms.

use std::time::Duration;

use sandrun_store::queue::{OutputRef, UnixMillis};
use sandrun_types::Attempt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A request. Plain code has `code` and no manifest; everything else is a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub(crate) struct StoredRequest {
    /// When it was submitted; `None` in requests of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) submitted: Option<UnixMillis>,
    /// Seconds that it may run.
    pub(crate) timeout: u32,
    /// How many attempts may be lost, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<u8>,
    /// How many nodes run it.
    pub(crate) replicas: u8,
    /// How many have to agree.
    pub(crate) quorum: u8,
    #[serde(flatten)]
    pub(crate) program: Program,
    /// Jobs whose outputs it gets as files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<After>,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Program {
    /// A program's text.
    Code {
        code: String,
        interpreter: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
    },
    /// Files with a manifest, as an executor takes them.
    Bundle {
        /// Canonical; `None` where the client sent none.
        #[serde(skip_serializing_if = "Option::is_none")]
        manifest: Option<Value>,
        files: Vec<OutputRef>,
    },
}

/// All that a request may have, side by side: read in one go, which an untagged choice is not.
#[derive(Deserialize)]
struct Fields {
    submitted: Option<UnixMillis>,
    timeout: u32,
    retries: Option<u8>,
    replicas: u8,
    quorum: u8,
    code: Option<String>,
    interpreter: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    manifest: Option<Value>,
    files: Option<Vec<OutputRef>>,
    #[serde(default)]
    after: Vec<After>,
}

impl TryFrom<Fields> for StoredRequest {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, &'static str> {
        let program = match (fields.code, fields.interpreter, fields.files) {
            (Some(code), Some(interpreter), _) => Program::Code {
                code,
                interpreter,
                args: fields.args,
            },
            (_, _, Some(files)) => Program::Bundle {
                manifest: fields.manifest,
                files,
            },
            (_, _, None) => return Err("there is neither a program's text nor a list of files"),
        };
        Ok(Self {
            submitted: fields.submitted,
            timeout: fields.timeout,
            retries: fields.retries,
            replicas: fields.replicas,
            quorum: fields.quorum,
            program,
            after: fields.after,
        })
    }
}

/// What a node gets of a stored request. Texts go out as they stand in the store, unread.
#[derive(Debug, Deserialize)]
pub(super) struct WorkRequest<'a> {
    submitted: Option<UnixMillis>,
    timeout: u32,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    interpreter: Option<&'a RawValue>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    manifest: Option<&'a RawValue>,
    #[serde(borrow)]
    files: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) after: Vec<After>,
}

/// A job as its node gets it.
#[derive(Debug, Serialize)]
pub(super) struct WorkView<'a> {
    id: String,
    attempt: Attempt,
    timeout: u32,
    #[serde(flatten)]
    program: ProgramView<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ProgramView<'a> {
    Code {
        code: &'a RawValue,
        interpreter: &'a RawValue,
        #[serde(serialize_with = "list")]
        args: Option<&'a RawValue>,
    },
    Bundle {
        manifest: Option<&'a RawValue>,
        files: &'a RawValue,
        parents: Vec<ParentFiles>,
    },
}

/// A list, which is left out in the store where it is empty.
fn list<S: serde::Serializer>(list: &Option<&RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    match list {
        Some(list) => list.serialize(serializer),
        None => serializer.collect_seq(std::iter::empty::<()>()),
    }
}

impl<'a> WorkRequest<'a> {
    /// How long it waited until `now`, where this is its first attempt.
    pub(super) fn waited(&self, attempt: Attempt, now: UnixMillis) -> Option<Duration> {
        waited(self.submitted, attempt, now)
    }

    /// As a node gets it; `None` where there is neither a program's text nor a list of files.
    pub(super) fn work(
        self,
        id: String,
        attempt: Attempt,
        parents: Vec<ParentFiles>,
    ) -> Option<WorkView<'a>> {
        let program = match (self.code, self.interpreter, self.files) {
            (Some(code), Some(interpreter), _) => ProgramView::Code {
                code,
                interpreter,
                args: self.args,
            },
            (_, _, Some(files)) => ProgramView::Bundle {
                manifest: self.manifest,
                files,
                parents,
            },
            (_, _, None) => return None,
        };
        Some(WorkView {
            id,
            attempt,
            timeout: self.timeout,
            program,
        })
    }
}

fn waited(submitted: Option<UnixMillis>, attempt: Attempt, now: UnixMillis) -> Option<Duration> {
    let submitted = submitted.filter(|_| attempt == Attempt::FIRST)?;
    Some(Duration::from_millis(now.saturating_sub(submitted)))
}

/// A parent of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct After {
    /// Its id.
    pub(crate) job: String,
    /// The folder that its outputs are put in; the bundle's root where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) into: Option<String>,
}

/// A parent's outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ParentFiles {
    pub(crate) into: String,
    pub(crate) files: Vec<OutputRef>,
}

impl StoredRequest {
    /// The bytes that are stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // plain data with texts as keys: there is always a JSON form
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// How long it waited until `now`, where this is its first attempt.
    pub(crate) fn waited(&self, attempt: Attempt, now: UnixMillis) -> Option<Duration> {
        waited(self.submitted, attempt, now)
    }

    /// Whether both run the same: what a service adds by itself may differ.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let sorted = |it: &Self| {
            let mut program = it.program.clone();
            if let Program::Bundle { files, .. } = &mut program {
                files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
            }
            program
        };
        // a parent that is named by its output root may be another job by now
        let folders = |it: &Self| {
            it.after
                .iter()
                .map(|after| after.into.clone())
                .collect::<Vec<_>>()
        };
        (self.replicas, self.quorum) == (other.replicas, other.quorum)
            && folders(self) == folders(other)
            && sorted(self) == sorted(other)
    }

    /// The files that came with it.
    pub(super) fn files(&self) -> &[OutputRef] {
        match &self.program {
            Program::Code { .. } => &[],
            Program::Bundle { files, .. } => files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_store::queue::BlobHash;
    use serde_json::json;

    #[test]
    fn both_forms_read_back() {
        let code = Program::Code {
            code: "print(1)".to_owned(),
            interpreter: "python3".to_owned(),
            args: vec!["a".to_owned()],
        };
        let bundle = Program::Bundle {
            manifest: Some(json!({"entrypoint": "main.py"})),
            files: vec![OutputRef {
                path: "main.py".to_owned(),
                size: 3,
                blob: BlobHash([7; 32]),
            }],
        };
        let bare = Program::Bundle {
            manifest: None,
            files: Vec::new(),
        };
        for program in [code, bundle, bare] {
            let request = StoredRequest {
                submitted: Some(1_700_000_000_123),
                timeout: 60,
                retries: Some(1),
                replicas: 1,
                quorum: 1,
                program,
                after: vec![After {
                    job: "0".repeat(16),
                    into: Some("in".to_owned()),
                }],
            };
            let read: StoredRequest = serde_json::from_slice(&request.to_bytes()).unwrap();
            assert_eq!(read, request);
        }
    }

    /// What a node gets of a request that was stored.
    fn given(program: Program, parents: Vec<ParentFiles>) -> Value {
        let request = StoredRequest {
            submitted: None,
            timeout: 60,
            retries: None,
            replicas: 1,
            quorum: 1,
            program,
            after: Vec::new(),
        };
        let bytes = request.to_bytes();
        let stored: WorkRequest<'_> = serde_json::from_slice(&bytes).unwrap();
        let work = stored.work("ab".to_owned(), Attempt(2), parents).unwrap();
        serde_json::from_slice(&serde_json::to_vec(&work).unwrap()).unwrap()
    }

    #[test]
    fn plain_code_is_given_out_as_existing_nodes_read_it() {
        let code = |args: &[&str]| Program::Code {
            code: "print(\"\u{e9}\n\")".to_owned(),
            interpreter: "python3".to_owned(),
            args: args.iter().map(|it| (*it).to_owned()).collect(),
        };
        for args in [[].as_slice(), &["a", "\\"]] {
            assert_eq!(
                given(code(args), Vec::new()),
                json!({
                    "id": "ab", "code": "print(\"\u{e9}\n\")", "interpreter": "python3", "args": args, "timeout": 60,
                    "attempt": 2,
                })
            );
        }
    }

    #[test]
    fn a_bundle_is_given_out_with_its_parents() {
        let file = OutputRef {
            path: "main.py".to_owned(),
            size: 3,
            blob: BlobHash([7; 32]),
        };
        let parents = vec![ParentFiles {
            into: "in".to_owned(),
            files: vec![file.clone()],
        }];
        for manifest in [None, Some(json!({"entrypoint": "main.py"}))] {
            let bundle = Program::Bundle {
                manifest: manifest.clone(),
                files: vec![file.clone()],
            };
            assert_eq!(
                given(bundle, parents.clone()),
                json!({
                    "id": "ab", "manifest": manifest, "files": [file], "parents": parents, "timeout": 60, "attempt": 2,
                })
            );
        }
    }
}
