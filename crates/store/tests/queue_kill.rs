//! `kill -9` in the middle of a batch: what was acknowledged is there, and nothing is there by half.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_store::queue::{
    Answer, BlobBody, ClientRow, JobState, JobWord, NewJob, OutputRef, QueueAddress, QueueReader, QueueStore,
    QueueStoreError, Writes, open_queue,
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

/// A new job, the end of the one before, and that one's answer with a file.
fn batch(number: u64, output: OutputRef) -> Writes {
    let mut writes = Writes {
        new_jobs: vec![NewJob {
            number: JobNumber(number),
            client: ClientNumber(1),
            created: 1,
            priority: 4,
            request: vec![7; 3000],
            blobs: Vec::new(),
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
    for number in 1u64.. {
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

#[test]
fn what_was_acknowledged_survives_kill_9_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_killed", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let told = |line: &str| {
        line.strip_prefix("written ")
            .and_then(|number| number.parse::<u64>().ok())
    };
    let mut last = lines
        .by_ref()
        .find_map(|line| told(&line).filter(|number| *number >= 20))
        .unwrap();
    let runtime = Runtime::new().unwrap();
    assert!(matches!(
        open(&runtime, folder.path()),
        Err(QueueStoreError::InUse(_))
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    last = lines.filter_map(|line| told(&line)).last().unwrap_or(last);

    let (mut store, reader) = open(&runtime, folder.path()).unwrap();
    let left = store.load().unwrap();
    assert!(left.last_job >= last, "{} jobs, {last} were told", left.last_job);
    assert_eq!(
        left.jobs,
        [state(left.last_job, true)],
        "each batch whole: one job is open"
    );
    for number in 1..=left.last_job {
        let row = runtime.block_on(reader.job(JobNumber(number))).unwrap().unwrap();
        assert_eq!(row.state, state(number, number == left.last_job));
        assert_eq!(row.new.request.len(), 3000);
        let answer = runtime.block_on(reader.answer(JobNumber(number))).unwrap();
        assert_eq!(answer.is_some(), number < left.last_job);
        let Some(answer) = answer else { continue };
        let (size, body) = runtime
            .block_on(reader.get_blob(answer.outputs[0].blob))
            .unwrap()
            .unwrap();
        let read = runtime
            .block_on(body.try_collect::<Vec<Bytes>>())
            .unwrap()
            .concat();
        assert_eq!(size, read.len() as u64);
        assert_eq!(read, format!("body of {}", number + 1).as_bytes());
    }
}
