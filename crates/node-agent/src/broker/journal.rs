//! The attempts that are under way, on disk: the next process gives back what this one could not.
//!
//! Owns one file of JSON lines, one for each attempt that begins, that has a run, and that is over; written by a thread
//! of its own, as many lines at once as there are, and anew when most of it is over. Lines are not synced: what they
//! outlive is the process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::spool::Taken;
use super::wire::Held;

/// Lines that are over before the file is written anew.
const STALE: usize = 10_000;

/// What happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// It is under way; a later line of the same attempt knows more.
    Taken(Taken),
    /// There is nothing to be given back any more.
    Over {
        /// Whose it was.
        broker: String,
        /// Which.
        held: Held,
    },
}

/// Those that are under way.
type Open = BTreeMap<(String, Held), Taken>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    lines: Option<Sender<Line>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Reads the file, where there is one; what is under way by it, with `more` that is known from elsewhere.
    pub(crate) fn open(path: &Path, more: Vec<Taken>) -> io::Result<(Self, Vec<Taken>)> {
        let mut open = read(path)?;
        for taken in more {
            open.insert((taken.broker.clone(), taken.held.clone()), taken);
        }
        let left = open.values().cloned().collect();
        let mut book = Book {
            path: path.to_owned(),
            file: rewrite(path, &open)?,
            open,
            stale: 0,
        };
        let (lines, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("attempts".to_owned())
            .spawn(move || book.keep(&receiver))?;
        let journal = Self {
            lines: Some(lines),
            thread: Some(thread),
        };
        Ok((journal, left))
    }

    /// Notes what happened; it is written in a moment.
    pub(crate) fn note(&self, line: Line) {
        if let Some(lines) = &self.lines {
            // the thread has ended only if it panicked
            drop(lines.send(line));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The file as the thread knows it.
struct Book {
    path: PathBuf,
    file: File,
    open: Open,
    stale: usize,
}

impl Book {
    fn keep(&mut self, lines: &Receiver<Line>) {
        while let Ok(first) = lines.recv() {
            let mut bytes = Vec::new();
            for line in std::iter::once(first).chain(lines.try_iter().take(1_000)) {
                // plain data: there is always a JSON form
                bytes.extend(serde_json::to_vec(&line).unwrap_or_default());
                bytes.push(b'\n');
                self.stale += apply(&mut self.open, line);
            }
            let written = if self.stale > STALE.max(self.open.len()) {
                self.stale = 0;
                rewrite(&self.path, &self.open).map(|file| self.file = file)
            } else {
                self.file.write_all(&bytes)
            };
            if let Err(error) = written {
                tracing::warn!(%error, "cannot note attempts; if this node dies their leases end them");
            }
        }
    }
}

/// How many lines are of no more use then.
fn apply(open: &mut Open, line: Line) -> usize {
    match line {
        Line::Taken(taken) => {
            let before = open.insert((taken.broker.clone(), taken.held.clone()), taken);
            usize::from(before.is_some())
        }
        Line::Over { broker, held } => 1 + usize::from(open.remove(&(broker, held)).is_some()),
    }
}

fn read(path: &Path) -> io::Result<Open> {
    let mut open = Open::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(open),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        match serde_json::from_slice(&line?) {
            Ok(line) => {
                apply(&mut open, line);
            }
            // the last one may be cut off; the lease ends an attempt that nobody knows of
            Err(error) => tracing::warn!(%error, "a line about an attempt cannot be read"),
        }
    }
    Ok(open)
}

/// Writes what is open into a new file in the place of the old one.
fn rewrite(path: &Path, open: &Open) -> io::Result<File> {
    let unfinished = path.with_extension("part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    let mut bytes = Vec::new();
    for taken in open.values() {
        bytes.extend(serde_json::to_vec(&Line::Taken(taken.clone()))?);
        bytes.push(b'\n');
    }
    file.write_all(&bytes)?;
    fs::rename(&unfinished, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::wire::{BrokerJob, NodeId};
    use sandrun_types::Attempt;

    fn taken(job: &str, run: Option<&str>) -> Taken {
        Taken {
            broker: "http://broker".to_owned(),
            node_id: NodeId("n".to_owned()),
            held: Held {
                id: BrokerJob(job.to_owned()),
                attempt: Some(Attempt::FIRST),
            },
            run: run.map(str::to_owned),
        }
    }

    fn over(job: &str) -> Line {
        let Taken { broker, held, .. } = taken(job, None);
        Line::Over { broker, held }
    }

    #[test]
    fn what_is_not_over_is_found_again_also_behind_a_line_that_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attempts.jsonl");
        let (journal, left) = Journal::open(&path, vec![taken("old", None)]).unwrap();
        assert_eq!(left, [taken("old", None)]);
        for line in [
            Line::Taken(taken("a", None)),
            Line::Taken(taken("b", None)),
            Line::Taken(taken("b", Some("run"))),
            over("a"),
        ] {
            journal.note(line);
        }
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"over\":{\"bro").unwrap();
        let (journal, left) = Journal::open(&path, Vec::new()).unwrap();
        assert_eq!(left, [taken("b", Some("run")), taken("old", None)]);
        journal.note(over("b"));
        journal.note(over("old"));
        drop(journal);
        assert_eq!(Journal::open(&path, Vec::new()).unwrap().1, []);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn the_file_does_not_grow_with_what_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attempts.jsonl");
        let (journal, _) = Journal::open(&path, Vec::new()).unwrap();
        for number in 0..3 * STALE {
            let job = number.to_string();
            journal.note(Line::Taken(taken(&job, None)));
            journal.note(over(&job));
        }
        journal.note(Line::Taken(taken("last", None)));
        drop(journal);
        assert!(fs::read_to_string(&path).unwrap().lines().count() < 3 * STALE);
        assert_eq!(Journal::open(&path, Vec::new()).unwrap().1, [taken("last", None)]);
    }
}
