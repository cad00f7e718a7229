//! The engine over a real SQLite file, with a clock and faults of the tests' own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use sandrun_core::pool::{
    ClientNumber, FailReason, Illegal, JobNumber, Needs, Offer, Priority, SignatureCheck,
};
use sandrun_store::queue::{
    BlobHash, Body, DatabaseError, Foreign, JobState, JobWord, LogStream, QueueAddress, QueueReader,
    QueueStore, QueueStoreError, Writes, open_queue,
};
use sandrun_types::Attempt;

use super::*;

mod batching;
mod forget;
mod life;

/// What a store is told to do.
#[derive(Default)]
struct Faults {
    /// Its batches fail.
    fails: AtomicBool,
    /// One of its threads has died.
    is_lame: AtomicBool,
}

/// A store that fails, or waits, when it is told to.
struct Faulty {
    inner: Box<dyn QueueStore>,
    faults: Arc<Faults>,
    /// Where the thread says that it is about to write, and waits until it may.
    gate: Option<(Sender<()>, Receiver<()>)>,
}

impl QueueStore for Faulty {
    fn load(&mut self) -> Result<Foreign, QueueStoreError> {
        self.inner.load()
    }

    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        if self.faults.fails.load(Ordering::SeqCst) {
            drop(work(Foreign::default()));
            let source = DatabaseError::Closed;
            return Err(QueueStoreError::Full {
                doing: "write a batch",
                source,
            });
        }
        let gate = &self.gate;
        self.inner.transact(&mut |foreign| {
            let writes = work(foreign);
            if let Some((arrived, go)) = gate {
                arrived.send(()).unwrap_or(());
                go.recv().unwrap_or(());
            }
            writes
        })
    }

    fn is_lame(&self) -> bool {
        self.faults.is_lame.load(Ordering::SeqCst)
    }

    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError> {
        self.inner.job(number)
    }

    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        self.inner.requests(numbers)
    }

    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError> {
        self.inner.by_idempotency(client, key)
    }

    fn client(&mut self, name: &str) -> Result<Option<ClientNumber>, QueueStoreError> {
        self.inner.client(name)
    }

    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError> {
        self.inner.keep(name, fresh)
    }
}

/// A queue in a folder, under a clock that stands until it is moved.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    faults: Arc<Faults>,
    queue: Queue,
    reader: QueueReader,
    thread: Option<QueueThread>,
}

impl World {
    async fn new() -> Self {
        Self::with(None).await
    }

    async fn with(gate: Option<(Sender<()>, Receiver<()>)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000_000_000));
        let faults = Arc::new(Faults::default());
        let (queue, reader, thread) = open(&folder, &clock, &faults, gate).await;
        Self {
            folder,
            clock,
            faults,
            queue,
            reader,
            thread: Some(thread),
        }
    }

    /// Ends the queue and starts it again on the same file.
    async fn restart(&mut self) {
        self.restart_after(0).await;
    }

    /// As [`Self::restart`], with a pause between.
    async fn restart_after(&mut self, seconds: u64) {
        self.queue.stop();
        self.thread.take().unwrap().join();
        self.clock.fetch_add(seconds * 1_000, Ordering::SeqCst);
        // the file is free when its readers are gone as well: the next one is opened before the last is dropped
        let other = tempfile::tempdir().unwrap();
        let (queue, reader, thread) = open(&other, &self.clock, &self.faults, None).await;
        drop(std::mem::replace(&mut self.queue, queue));
        drop(std::mem::replace(&mut self.reader, reader));
        self.queue.stop();
        thread.join();
        let (queue, reader, thread) = open(&self.folder, &self.clock, &self.faults, None).await;
        (self.queue, self.reader, self.thread) = (queue, reader, Some(thread));
    }

    /// Sets the clock back.
    fn set_back(&self, seconds: u64) {
        self.clock.fetch_sub(seconds * 1_000, Ordering::SeqCst);
        self.queue.look();
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds * 1_000, Ordering::SeqCst);
        self.queue.look();
    }

    async fn node(&self, endpoint: &str) -> String {
        let node = Registration {
            endpoint: endpoint.to_owned(),
            offer: Offer::Unannounced,
            announced: Announced {
                protocol: 2,
                ..Announced::default()
            },
        };
        self.queue.register(node).await.unwrap()
    }

    async fn submit(&self, job: Submission) -> JobNumber {
        self.queue
            .submit(vec![job])
            .await
            .unwrap()
            .pop()
            .unwrap()
            .unwrap()
            .job
    }

    async fn claim(&self, node: &str) -> Option<Work> {
        self.queue.claim(claim(node, 0)).await.unwrap().pop()
    }

    async fn row(&self, job: JobNumber) -> JobState {
        self.reader.job(job).await.unwrap().unwrap().state
    }

    async fn waiting(&self, claims: u64) {
        while self.queue.stats().waiters != claims {
            tokio::task::yield_now().await;
        }
    }
}

async fn open(
    folder: &tempfile::TempDir,
    clock: &Arc<AtomicU64>,
    faults: &Arc<Faults>,
    gate: Option<(Sender<()>, Receiver<()>)>,
) -> (Queue, QueueReader, QueueThread) {
    let address = QueueAddress::Sqlite(folder.path().join("queue.db"));
    let (inner, reader) = open_queue(&address).await.unwrap();
    let store = Box::new(Faulty {
        inner,
        faults: Arc::clone(faults),
        gate,
    });
    let time = Arc::clone(clock);
    let clock = Clock::new(move || time.load(Ordering::SeqCst));
    let start = move || Queue::start(store, QueueSettings::BROKER, clock);
    let (queue, thread) = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    (queue, reader, thread)
}

fn job() -> Submission {
    Submission {
        client: "c".to_owned(),
        priority: Priority(4),
        needs: Needs::default(),
        replicas: 1,
        quorum: 1,
        timeout: 10,
        retries: None,
        request: b"{}".to_vec(),
        blobs: Vec::new(),
        bodies: Vec::new(),
        parents: Vec::new(),
        idempotency: None,
    }
}

fn claim(node: &str, wait: u64) -> Claim {
    Claim {
        node: node.to_owned(),
        max: 1,
        wait,
        number: None,
    }
}

fn completion(node: &str, job: JobNumber, attempt: Option<u32>, exit_code: i32) -> Completion {
    Completion {
        node: node.to_owned(),
        job,
        attempt: attempt.map(Attempt),
        exit_code,
        stdout: b"out".to_vec(),
        stderr: Vec::new(),
        outputs: Vec::new(),
        receipt: None,
        signature: None,
        check: SignatureCheck::Absent,
        details: b"{}".to_vec(),
    }
}

fn is_stale(result: &Result<(), QueueError>) -> bool {
    matches!(result, Err(QueueError::Illegal(Illegal::StaleAttempt { .. })))
}
