//! Answers that the broker does not have yet, on disk: they are sent again after a crash.
//!
//! Owns the node's folder: `answers/<name>.json`, one file (mode 0600, synced) for each answer; `attempts.jsonl`, the
//! attempts under way (`journal.rs`), so that the next process gives back what this one could not; and `work/<name>` for a
//! job's files. What touches answers and files blocks.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sandrun_store::LockFile;
use sandrun_types::{Sha256Hex, UnixSeconds};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::BrokerNodeError;
use super::journal::{Journal, Line};
use super::wire::{Completion, Held, NodeId, Protocol};

/// An answer as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spooled {
    /// Whose it is; answers for another broker stay where they are.
    pub(crate) broker: String,
    /// When the job had ended.
    pub(crate) ended: UnixSeconds,
    /// Whether the broker takes outputs, logs and failures.
    pub(crate) is_protocol_two: bool,
    /// What is to be said.
    pub(crate) completion: Completion,
}

impl Spooled {
    /// Which words its broker understands.
    pub(crate) const fn protocol(&self) -> Protocol {
        if self.is_protocol_two {
            Protocol::Two
        } else {
            Protocol::Plain
        }
    }
}

/// An attempt that is under way, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Whose it is.
    pub(crate) broker: String,
    /// Under which id it was claimed.
    pub(crate) node_id: NodeId,
    /// Which.
    pub(crate) held: Held,
    /// The executor's name of the run, once there is one.
    pub(crate) run: Option<String>,
}

/// What a former process of this node has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Answers that this broker does not have yet.
    pub(crate) answers: Vec<Spooled>,
    /// Attempts that nobody works on any more.
    pub(crate) orphans: Vec<Taken>,
}

/// The folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    broker: String,
    /// Attempts of which there may be more than a line in the journal.
    with_files: Mutex<BTreeSet<Held>>,
    journal: Journal,
    _lock: LockFile,
}

impl Spool {
    /// Takes the folder, removes the files of jobs that nobody answers for any more, and returns what is left to be done.
    pub(crate) fn open(folder: &Path, broker: &str) -> Result<(Self, Left), BrokerNodeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BrokerNodeError::Folder { path, source }
        };
        let folders = ["answers", "work"].map(|name| folder.join(name));
        for path in std::iter::once(folder.to_owned()).chain(folders) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(failed(&path))?;
        }
        let lock = LockFile::take(&folder.join("lock"))
            .map_err(failed(folder))?
            .ok_or_else(|| BrokerNodeError::Locked(folder.to_owned()))?;
        let mut answers: Vec<Spooled> = read_all(&folder.join("answers"))?;
        let (journal, mut orphans) = open_journal(folder)?;
        let spool = Self {
            folder: folder.to_owned(),
            broker: broker.to_owned(),
            with_files: Mutex::new(answers.iter().map(|it| it.completion.held()).collect()),
            journal,
            _lock: lock,
        };
        spool.sweep(&answers).map_err(failed(&folder.join("work")))?;
        answers.retain(|it| it.broker == broker);
        orphans.retain(|it| {
            let is_answered = answers.iter().any(|answer| answer.completion.held() == it.held);
            it.broker == broker && !is_answered
        });
        Ok((spool, Left { answers, orphans }))
    }

    /// Removes the work folders that no answer needs.
    fn sweep(&self, answers: &[Spooled]) -> io::Result<()> {
        let needed: Vec<String> = answers
            .iter()
            .map(|it| name(&it.broker, &it.completion.held()))
            .collect();
        for entry in fs::read_dir(self.folder.join("work"))? {
            let entry = entry?;
            if !needed.iter().any(|name| entry.file_name() == **name) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where a job's files may lie.
    pub(crate) fn work_folder(&self, held: &Held) -> PathBuf {
        self.expect_files(held);
        self.folder.join("work").join(name(&self.broker, held))
    }

    fn expect_files(&self, held: &Held) {
        let mut with_files = self.with_files.lock().unwrap_or_else(PoisonError::into_inner);
        if !with_files.contains(held) {
            with_files.insert(held.clone());
        }
    }

    /// Puts an answer down, so that it outlives this process and the power.
    pub(crate) fn put(&self, answer: &Spooled) -> io::Result<()> {
        self.expect_files(&answer.completion.held());
        let name = name(&self.broker, &answer.completion.held());
        self.write(&name, &serde_json::to_vec(answer)?)?;
        File::open(self.folder.join("answers"))?.sync_all()
    }

    /// Notes an attempt that is under way, so that it outlives this process. Does not block.
    pub(crate) fn take_on(&self, taken: Taken) {
        self.journal.note(Line::Taken(taken));
    }

    /// There is nothing to be given back of it; whether it has files that are to be removed. Does not block.
    pub(crate) fn let_go(&self, held: &Held) -> bool {
        let (broker, held) = (self.broker.clone(), held.clone());
        let mut with_files = self.with_files.lock().unwrap_or_else(PoisonError::into_inner);
        let has_files = with_files.remove(&held);
        drop(with_files);
        self.journal.note(Line::Over { broker, held });
        has_files
    }

    /// Writes an answer that is there whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder.join("answers");
        let unfinished = folder.join(format!("{name}.part"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, folder.join(format!("{name}.json")))
    }

    /// Removes answer and files of an attempt that was let go.
    pub(crate) fn remove(&self, held: &Held) -> io::Result<()> {
        let name = name(&self.broker, held);
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let answer = self.folder.join("answers").join(format!("{name}.json"));
        gone(fs::remove_file(answer))?;
        gone(fs::remove_dir_all(self.folder.join("work").join(name)))
    }
}

/// The journal, with what an earlier version of this program left as one file for each attempt.
fn open_journal(folder: &Path) -> Result<(Journal, Vec<Taken>), BrokerNodeError> {
    let former = folder.join("claims");
    let known = if former.exists() {
        read_all(&former)?
    } else {
        Vec::new()
    };
    let path = folder.join("attempts.jsonl");
    let opened = Journal::open(&path, known).map_err(|source| BrokerNodeError::Folder { path, source })?;
    match fs::remove_dir_all(&former) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            let path = former;
            Err(BrokerNodeError::Folder { path, source })
        }
        _ => Ok(opened),
    }
}

/// Every file of a folder that was completed.
fn read_all<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>, BrokerNodeError> {
    let failed = |source| BrokerNodeError::Folder {
        path: folder.to_owned(),
        source,
    };
    let mut answers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|it| it != "json") {
            // a file that was never completed
            fs::remove_file(&path).map_err(failed)?;
            continue;
        }
        match serde_json::from_slice(&fs::read(&path).map_err(failed)?) {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a file of this node cannot be read; it is left alone");
            }
        }
    }
    Ok(answers)
}

/// A file name for an attempt: whatever characters a broker's ids have.
fn name(broker: &str, held: &Held) -> String {
    let attempt = held.attempt.map_or(0, |attempt| attempt.0);
    let whole = Sha256Hex::of(format!("{broker}\n{attempt}\n{}", held.id).as_bytes());
    whole.to_string().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::broker::wire::BrokerJob;
    use sandrun_types::Attempt;

    const BROKER: &str = "http://broker";

    fn answer(job: &str, broker: &str) -> Spooled {
        Spooled {
            broker: broker.to_owned(),
            ended: UnixSeconds(7),
            is_protocol_two: true,
            completion: Completion {
                node_id: NodeId("n".to_owned()),
                job_id: BrokerJob(job.to_owned()),
                output: "out".to_owned(),
                error: String::new(),
                output_base64: None,
                error_base64: None,
                exit_code: 0,
                attempt: Some(Attempt::FIRST),
                outputs: Vec::new(),
                explanation: String::new(),
                receipt: None,
                signature: None,
                worker_id: None,
            },
        }
    }

    fn taken(held: &Held) -> Taken {
        Taken {
            broker: BROKER.to_owned(),
            node_id: NodeId("n".to_owned()),
            held: held.clone(),
            run: Some("job-1".to_owned()),
        }
    }

    #[test]
    fn answers_outlive_the_node_and_go_when_they_are_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, found) = Spool::open(folder.path(), BROKER).unwrap();
        assert_eq!(found, Left::default());
        let one = answer("../a", BROKER);
        spool.put(&one).unwrap();
        fs::create_dir_all(spool.work_folder(&one.completion.held()).join("outputs")).unwrap();
        let other = answer("unanswered", BROKER).completion.held();
        fs::create_dir_all(spool.work_folder(&other)).unwrap();
        spool.take_on(taken(&one.completion.held()));
        spool.take_on(taken(&other));
        let files: Vec<_> = fs::read_dir(folder.path().join("answers")).unwrap().collect();
        let mode = files[0]
            .as_ref()
            .unwrap()
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!((files.len(), mode & 0o777), (1, 0o600));
        assert!(matches!(
            Spool::open(folder.path(), BROKER),
            Err(BrokerNodeError::Locked(_))
        ));
        drop(spool);

        let (spool, found) = Spool::open(folder.path(), BROKER).unwrap();
        assert_eq!(found.answers, std::slice::from_ref(&one));
        // one is answered already
        assert_eq!(found.orphans, [taken(&other)]);
        assert!(spool.work_folder(&one.completion.held()).exists());
        assert!(!spool.work_folder(&other).exists());
        assert!(spool.let_go(&one.completion.held()));
        spool.remove(&one.completion.held()).unwrap();
        spool.remove(&one.completion.held()).unwrap();
        assert!(!spool.let_go(&answer("plain", BROKER).completion.held()));
        spool.let_go(&other);
        drop(spool);
        assert_eq!(Spool::open(folder.path(), BROKER).unwrap().1, Left::default());
    }

    #[test]
    fn attempts_that_an_earlier_version_noted_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("claims")).unwrap();
        let known = taken(&answer("a", BROKER).completion.held());
        let file = folder.path().join("claims/a.json");
        fs::write(file, serde_json::to_vec(&known).unwrap()).unwrap();
        for _ in 0..2 {
            let (_, found) = Spool::open(folder.path(), BROKER).unwrap();
            assert_eq!(found.orphans, std::slice::from_ref(&known));
        }
        assert!(!folder.path().join("claims").exists());
    }

    #[test]
    fn another_brokers_answers_and_half_written_ones_are_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(folder.path(), "http://other").unwrap();
        spool.put(&answer("a", "http://other")).unwrap();
        drop(spool);
        fs::write(folder.path().join("answers/half.part"), "{").unwrap();
        fs::write(folder.path().join("answers/broken.json"), "{").unwrap();
        let (spool, found) = Spool::open(folder.path(), BROKER).unwrap();
        assert_eq!(found, Left::default());
        drop(spool);
        assert!(!folder.path().join("answers/half.part").exists());
        assert_eq!(
            Spool::open(folder.path(), "http://other")
                .unwrap()
                .1
                .answers
                .len(),
            1
        );
    }
}
