//! `kill -9` in the middle of a batch: what was acknowledged is there, and nothing is there by half.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_store::queue::{
    Answer, BlobBody, BlobHash, Body, ClientRow, JobState, JobWord, NewJob, OutputRef, QueueAddress,
    QueueReader, QueueStore, QueueStoreError, Writes, open_queue,
};
use sandrun_types::Attempt;
use tokio::runtime::Runtime;

const CHILD: &str = "SANDRUN_QUEUE_TEST_CHILD";

fn open(runtime: &Runtime, folder: &Path) -> Result<(Box<dyn QueueStore>, QueueReader), QueueStoreError> {
    runtime.block_on(open_queue(&QueueAddress::Sqlite(folder.join("queue.sqlite"))))
}

fn state(number: u64, open: bool) -> JobState {
    JobState {
        number: JobNumber(number),
        open,
        word: if open {
            JobWord::Running
        } else {
            JobWord::Completed
        },
        reason: None,
        node: None,
        attempt: None,
        started: None,
        ended: (!open).then_some(1),
        snapshot: number.to_be_bytes().to_vec(),
    }
}

fn body(number: u64) -> BlobBody {
    stream::iter([Ok(Bytes::from(format!("body of {number}")))]).boxed()
}

/// The name of the file that comes with a job.
fn own(number: u64) -> BlobHash {
    BlobHash(std::array::from_fn(|at| number.to_be_bytes()[at % 8]))
}

/// A new job with a file of its own, the end of the one before, and that one's answer with a file.
fn batch(number: u64, output: OutputRef) -> Writes {
    let mut writes = Writes {
        bodies: vec![Body {
            blob: own(number),
            put: 1,
            data: format!("comes with {number}").into(),
        }],
        new_jobs: vec![NewJob {
            number: JobNumber(number),
            client: ClientNumber(1),
            created: 1,
            priority: 4,
            request: vec![7; 3000],
            blobs: vec![own(number)],
            parents: Vec::new(),
            idempotency: None,
        }],
        jobs: vec![state(number, true)],
        ..Writes::default()
    };
    if number == 1 {
        writes.clients.push(ClientRow {
            number: ClientNumber(1),
            name: "ann".to_owned(),
        });
        return writes;
    }
    writes.jobs.push(state(number - 1, false));
    writes.answers.push(Answer {
        job: JobNumber(number - 1),
        attempt: Attempt(1),
        node: NodeNumber(1),
        exit_code: Some(0),
        stdout: Vec::new(),
        stderr: Vec::new(),
        outputs: vec![output],
        receipt: None,
        signature: None,
        details: Vec::new(),
        output_root: None,
    });
    writes
}

/// Not a test by itself: the process that the next one kills.
#[test]
fn writes_until_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let runtime = Runtime::new().unwrap();
    let (mut store, reader) = open(&runtime, Path::new(&folder)).unwrap();
    let mut out = std::io::stderr();
    let first = store.load().unwrap().last_job + 1;
    for number in first.. {
        let (blob, size) = runtime.block_on(reader.put_blob(body(number), 1)).unwrap();
        let output = OutputRef {
            path: "out".to_owned(),
            size,
            blob,
        };
        store.transact(&mut |_| batch(number, output.clone())).unwrap();
        writeln!(out, "written {number}").unwrap();
    }
}

fn file(runtime: &Runtime, reader: &QueueReader, blob: BlobHash) -> Vec<u8> {
    let (size, body) = runtime.block_on(reader.get_blob(blob)).unwrap().unwrap();
    let read = runtime.block_on(body.try_collect::<Vec<Bytes>>()).unwrap();
    let read = read.concat();
    assert_eq!(size, read.len() as u64);
    read
}

/// Lets a process write until it has told of so many batches, and kills it; the last of which it told.
fn write_and_kill(folder: &Path, batches: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_killed", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let told = |line: String| {
        line.strip_prefix("written ")
            .and_then(|number| number.parse::<u64>().ok())
    };
    let enough = usize::try_from(batches - 1).unwrap();
    let last = lines.by_ref().filter_map(told).nth(enough).unwrap();
    let runtime = Runtime::new().unwrap();
    assert!(matches!(open(&runtime, folder), Err(QueueStoreError::InUse(_))));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.filter_map(told).last().unwrap_or(last)
}

#[test]
fn what_was_acknowledged_survives_kill_9_whole() {
    let kills = std::env::var("SANDRUN_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok());
    let folder = tempfile::tempdir().unwrap();
    let (mut checked, mut last) = (0, 0);
    for kill in 0..kills.unwrap_or(4) {
        last = write_and_kill(folder.path(), 20 + kill * 37 % 90);
        // every other time the next process finds what the one before left
        if kill % 2 == 0 {
            check(folder.path(), checked + 1, last);
            checked = last;
        }
    }
    check(folder.path(), 1, last);
}

/// Everything up to `last` is there, and from `first` on it is whole.
fn check(folder: &Path, first: u64, last: u64) {
    let runtime = Runtime::new().unwrap();
    let (mut store, reader) = open(&runtime, folder).unwrap();
    let left = store.load().unwrap();
    assert!(left.last_job >= last, "{} jobs, {last} were told", left.last_job);
    assert_eq!(
        left.jobs,
        [state(left.last_job, true)],
        "each batch whole: one job is open"
    );
    for number in first..=left.last_job {
        let row = runtime.block_on(reader.job(JobNumber(number))).unwrap().unwrap();
        assert_eq!(row.state, state(number, number == left.last_job));
        assert_eq!(row.new.request.len(), 3000);
        let brought = file(&runtime, &reader, own(number));
        assert_eq!(brought, format!("comes with {number}").as_bytes());
        let answer = runtime.block_on(reader.answer(JobNumber(number))).unwrap();
        assert_eq!(answer.is_some(), number < left.last_job);
        let Some(answer) = answer else { continue };
        let output = file(&runtime, &reader, answer.outputs[0].blob);
        assert_eq!(output, format!("body of {}", number + 1).as_bytes());
    }
}
