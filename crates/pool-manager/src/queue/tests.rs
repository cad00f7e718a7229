//! The engine over a real SQLite file, with a clock and faults of the tests' own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use sandrun_core::pool::{FailReason, Illegal, JobNumber, Needs, Offer, Priority, SignatureCheck};
use sandrun_store::queue::{
    DatabaseError, Foreign, JobState, JobWord, LogStream, QueueAddress, QueueReader, QueueStore,
    QueueStoreError, Writes, open_queue,
};
use sandrun_types::Attempt;

use super::*;

/// A store that fails, or waits, when it is told to.
struct Faulty {
    inner: Box<dyn QueueStore>,
    fails: Arc<AtomicBool>,
    /// Where the thread says that it is about to write, and waits until it may.
    gate: Option<(Sender<()>, Receiver<()>)>,
}

impl QueueStore for Faulty {
    fn load(&mut self) -> Result<Foreign, QueueStoreError> {
        self.inner.load()
    }

    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        if self.fails.load(Ordering::SeqCst) {
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

    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError> {
        self.inner.job(number)
    }

    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        self.inner.requests(numbers)
    }

    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError> {
        self.inner.by_idempotency(client, key)
    }

    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError> {
        self.inner.keep(name, fresh)
    }
}

/// A queue in a folder, under a clock that stands until it is moved.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
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
        let fails = Arc::new(AtomicBool::new(false));
        let (queue, reader, thread) = open(&folder, &clock, &fails, gate).await;
        Self {
            folder,
            clock,
            fails,
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
        let (queue, reader, thread) = open(&other, &self.clock, &self.fails, None).await;
        drop(std::mem::replace(&mut self.queue, queue));
        drop(std::mem::replace(&mut self.reader, reader));
        self.queue.stop();
        thread.join();
        let (queue, reader, thread) = open(&self.folder, &self.clock, &self.fails, None).await;
        (self.queue, self.reader, self.thread) = (queue, reader, Some(thread));
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
    fails: &Arc<AtomicBool>,
    gate: Option<(Sender<()>, Receiver<()>)>,
) -> (Queue, QueueReader, QueueThread) {
    let address = QueueAddress::Sqlite(folder.path().join("queue.db"));
    let (inner, reader) = open_queue(&address).await.unwrap();
    let store = Box::new(Faulty {
        inner,
        fails: Arc::clone(fails),
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
        request: b"{}".to_vec(),
        blobs: Vec::new(),
        parents: Vec::new(),
        idempotency: None,
    }
}

fn claim(node: &str, wait: u64) -> Claim {
    Claim {
        node: node.to_owned(),
        max: 1,
        wait,
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

#[tokio::test]
async fn a_job_lives_through_restarts_and_a_repeated_answer_is_accepted_once() {
    let mut world = World::new().await;
    let node = world.node("http://a").await;
    let number = world.submit(job()).await;
    let id = world.queue.ids().job_id(number);
    world.restart().await;
    assert_eq!(world.queue.ids().job_id(number), id);
    assert_eq!(world.node("http://a").await, node);
    let work = world.claim(&node).await.unwrap();
    assert_eq!(
        (work.job, work.attempt, &*work.request),
        (number, Attempt(1), &b"{}"[..])
    );
    assert_eq!(world.row(number).await.word, JobWord::Assigned);
    world.restart().await;
    let done = completion(&node, number, None, 0);
    world.queue.complete(done.clone()).await.unwrap();
    world.queue.complete(done.clone()).await.unwrap();
    world.restart().await;
    world.queue.complete(done.clone()).await.unwrap();
    let row = world.row(number).await;
    assert_eq!(
        (row.word, row.attempt, row.open),
        (JobWord::Completed, Some(Attempt(1)), false)
    );
    assert_eq!(world.reader.answers(number).await.unwrap().len(), 1);
    // another answer under the same number is none
    let other = completion(&node, number, None, 1);
    assert!(is_stale(&world.queue.complete(other).await));
    let nodes = world.queue.nodes().await.unwrap();
    assert_eq!((nodes[0].completed, nodes[0].failed, nodes[0].active), (1, 0, 0));
}

#[tokio::test]
async fn who_comes_while_the_disk_is_busy_shares_the_next_commit() {
    let ((arrived, at_gate), (open, go)) = (channel(), channel());
    let world = World::with(Some((arrived, go))).await;
    let submit = |queue: Queue| tokio::spawn(async move { queue.submit(vec![job()]).await });
    let first = submit(world.queue.clone());
    tokio::task::spawn_blocking(move || at_gate.recv().map(|()| at_gate))
        .await
        .unwrap()
        .unwrap();
    let others: Vec<_> = (0..100).map(|_| submit(world.queue.clone())).collect();
    // every one of them has sent its command when its task has been polled once
    tokio::task::yield_now().await;
    drop(open);
    first.await.unwrap().unwrap();
    let mut numbers = Vec::new();
    for other in others {
        numbers.extend(other.await.unwrap().unwrap().into_iter().map(Result::unwrap));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=101).map(JobNumber).collect::<Vec<_>>());
    assert_eq!(world.queue.stats().commits, 2);
}

#[tokio::test]
async fn a_failed_commit_is_told_to_everybody_and_leaves_nothing() {
    let world = World::new().await;
    let node = world.node("http://a").await;
    let kept = world.submit(job()).await;
    let waiter = {
        let (queue, node) = (world.queue.clone(), node.clone());
        assert!(world.claim(&node).await.is_some());
        tokio::spawn(async move { queue.claim(claim(&node, 60_000)).await })
    };
    world.waiting(1).await;
    world.fails.store(true, Ordering::SeqCst);
    let lost = world.queue.submit(vec![job()]).await;
    assert_eq!(lost, Err(QueueError::Full));
    // whoever would have got the lost job hears of it as well
    assert_eq!(waiter.await.unwrap(), Err(QueueError::Full));
    let done = completion(&node, kept, None, 0);
    assert_eq!(world.queue.complete(done.clone()).await, Err(QueueError::Full));
    world.fails.store(false, Ordering::SeqCst);
    assert_eq!(world.claim(&node).await, None);
    assert_eq!(world.row(kept).await.word, JobWord::Assigned);
    world.queue.complete(done).await.unwrap();
    assert_eq!(world.submit(job()).await, JobNumber(2));
    assert!(world.queue.stats().failed_commits >= 2);
}

#[tokio::test]
async fn waiting_claims_are_served_in_their_order_and_end_at_their_time() {
    let world = World::new().await;
    let mut claims = Vec::new();
    for (at, endpoint) in ["http://a", "http://b", "http://c"].into_iter().enumerate() {
        let (queue, node) = (world.queue.clone(), world.node(endpoint).await);
        claims.push(tokio::spawn(
            async move { queue.claim(claim(&node, 5_000)).await },
        ));
        world.waiting(at as u64 + 1).await;
    }
    // the first one has gone: what comes is the second one's
    let [gone, second, third]: [_; 3] = claims.try_into().unwrap();
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let number = world.submit(job()).await;
    assert_eq!(second.await.unwrap().unwrap()[0].job, number);
    world.waiting(1).await;
    world.pass(5);
    assert_eq!(third.await.unwrap().unwrap(), []);
    assert_eq!(world.queue.stats().empty_claims, 1);
}

#[tokio::test]
async fn a_lost_claim_comes_back_after_its_lease_and_its_late_answer_is_refused() {
    let world = World::new().await;
    let (slow, quick) = (world.node("http://a").await, world.node("http://b").await);
    let number = world.submit(job()).await;
    assert_eq!(world.claim(&slow).await.unwrap().attempt, Attempt(1));
    let lease = u64::from(QueueSettings::BROKER.lease_seconds(10));
    // both go on living, so that only the lease can end
    for _ in 0..lease / 30 {
        world.pass(30);
        for node in [&slow, &quick] {
            world.queue.heartbeat(node.clone(), Vec::new()).await.unwrap();
        }
    }
    assert_eq!(world.claim(&quick).await, None);
    world.pass(1);
    assert_eq!(world.claim(&quick).await.unwrap().attempt, Attempt(2));
    assert!(is_stale(
        &world.queue.complete(completion(&slow, number, Some(1), 0)).await
    ));
    let unnumbered = world.queue.complete(completion(&slow, number, None, 0)).await;
    assert_eq!(unnumbered, Err(QueueError::HoldsNone));
    let printed = Printed {
        node: slow.clone(),
        job: number,
        attempt: Attempt(1),
        pieces: vec![(LogStream::Stdout, 0, b"late".to_vec())],
    };
    assert!(is_stale(&world.queue.print(printed).await));
    world
        .queue
        .complete(completion(&quick, number, Some(2), 0))
        .await
        .unwrap();
    assert_eq!(world.row(number).await.attempt, Some(Attempt(2)));
}

#[tokio::test]
async fn a_job_whose_nodes_die_fails_with_that_reason_after_its_retries() {
    let world = World::new().await;
    let number = world.submit(job()).await;
    for attempt in 1..=4 {
        let node = world.node(&format!("http://{attempt}")).await;
        assert_eq!(world.claim(&node).await.unwrap().attempt, Attempt(attempt));
        world.pass(u64::from(QueueSettings::BROKER.node_timeout) + 1);
    }
    // the last loss is written when the queue answers what was asked after it
    assert_eq!(world.queue.nodes().await.unwrap().len(), 4);
    let row = world.row(number).await;
    assert_eq!(
        (row.word, row.reason),
        (JobWord::Failed, Some(FailReason::NodeLost.to_string()))
    );
    let stats = world.queue.stats();
    assert_eq!((stats.retries, stats.nodes_lost, stats.failed), (3, 4, 1));
}

#[tokio::test]
async fn a_restart_ends_no_lease_and_loses_no_node() {
    let mut world = World::new().await;
    let node = world.node("http://a").await;
    let (number, silent) = (world.submit(job()).await, world.submit(job()).await);
    assert!(world.claim(&node).await.is_some() && world.claim(&node).await.is_some());
    world.restart_after(3_600).await;
    world.pass(1);
    world
        .queue
        .complete(completion(&node, number, Some(1), 0))
        .await
        .unwrap();
    assert_eq!(world.row(number).await.word, JobWord::Completed);
    // who is still silent after a while has lost what it had
    world.pass(u64::from(QueueSettings::BROKER.node_timeout));
    let work = world.claim(&node).await.unwrap();
    assert_eq!((work.job, work.attempt), (silent, Attempt(2)));
}

#[tokio::test]
async fn one_key_is_one_job() {
    let mut world = World::new().await;
    let keyed = |client: &str| Submission {
        client: client.to_owned(),
        idempotency: Some("k".to_owned()),
        ..job()
    };
    let both = world
        .queue
        .submit(vec![keyed("a"), keyed("a"), keyed("b")])
        .await
        .unwrap();
    assert_eq!(both, [Ok(JobNumber(1)), Ok(JobNumber(1)), Ok(JobNumber(2))]);
    assert_eq!(world.submit(keyed("a")).await, JobNumber(1));
    world.restart().await;
    assert_eq!(world.submit(keyed("b")).await, JobNumber(2));
    assert_eq!(world.submit(job()).await, JobNumber(3));
}

#[tokio::test]
async fn a_cancelled_job_is_taken_from_its_node_and_a_drained_node_gets_none() {
    let world = World::new().await;
    let node = world.node("http://a").await;
    let number = world.submit(job()).await;
    let work = world.claim(&node).await.unwrap();
    let held = vec![(number, work.attempt)];
    let orders = world.queue.heartbeat(node.clone(), held.clone()).await.unwrap();
    assert_eq!((orders.cancel, orders.drain), (Vec::new(), false));
    assert_eq!(world.row(number).await.word, JobWord::Running);
    world.queue.cancel(number).await.unwrap();
    let again = world.queue.cancel(number).await;
    assert_eq!(again, Err(QueueError::Illegal(Illegal::Ended(number))));
    world.queue.set_draining(node.clone(), true).await.unwrap();
    let orders = world.queue.heartbeat(node.clone(), Vec::new()).await.unwrap();
    assert_eq!((orders.cancel, orders.drain), (held.clone(), true));
    let orders = world.queue.heartbeat(node.clone(), held.clone()).await.unwrap();
    assert_eq!(orders.cancel, held);
    world.submit(job()).await;
    assert_eq!(world.claim(&node).await, None);
    world.queue.set_draining(node.clone(), false).await.unwrap();
    assert!(world.claim(&node).await.is_some());
    let nobody = world.queue.cancel(JobNumber(77)).await;
    assert_eq!(
        nobody,
        Err(QueueError::Illegal(Illegal::UnknownJob(JobNumber(77))))
    );
}

#[tokio::test]
async fn dependants_wait_for_their_parents_and_fail_with_them_by_name() {
    let mut world = World::new().await;
    let node = world.node("http://a").await;
    let parent = world.submit(job()).await;
    let after = |parent| Submission {
        parents: vec![parent],
        ..job()
    };
    let child = world.submit(after(parent)).await;
    assert_eq!(world.claim(&node).await.unwrap().job, parent);
    assert_eq!(world.claim(&node).await, None);
    world.restart().await;
    world
        .queue
        .complete(completion(&node, parent, None, 0))
        .await
        .unwrap();
    assert_eq!(world.claim(&node).await.unwrap().job, child);
    // one whose parent has ended long ago starts at once
    let late = world.submit(after(parent)).await;
    assert_eq!(world.claim(&node).await.unwrap().job, late);
    let lost = world.submit(after(child)).await;
    world.queue.cancel(child).await.unwrap();
    let row = world.row(lost).await;
    let name = world.queue.ids().job_id(child);
    assert_eq!(
        (row.word, row.reason.unwrap().contains(&name)),
        (JobWord::Failed, true)
    );
    let nobody = world.queue.submit(vec![after(JobNumber(99))]).await.unwrap();
    assert!(matches!(
        nobody[0],
        Err(QueueError::Illegal(Illegal::UnknownParent { .. }))
    ));
}

#[tokio::test]
async fn a_program_that_fails_ends_its_job_and_those_that_wait_for_it() {
    let mut world = World::new().await;
    let node = world.node("http://a").await;
    let parent = world.submit(job()).await;
    let child = world
        .submit(Submission {
            parents: vec![parent],
            ..job()
        })
        .await;
    assert!(world.claim(&node).await.is_some());
    let done = completion(&node, parent, None, 3);
    world.queue.complete(done.clone()).await.unwrap();
    world.queue.complete(done.clone()).await.unwrap();
    world.restart().await;
    world.queue.complete(done).await.unwrap();
    let row = world.row(parent).await;
    assert_eq!((row.word, row.attempt), (JobWord::Failed, Some(Attempt(1))));
    assert!(row.reason.unwrap().contains("exit code"));
    let answers = world.reader.answers(parent).await.unwrap();
    assert_eq!((answers.len(), answers[0].exit_code), (1, Some(3)));
    let row = world.row(child).await;
    let name = world.queue.ids().job_id(parent);
    assert_eq!(
        (row.word, row.reason.unwrap().contains(&name)),
        (JobWord::Failed, true)
    );
    assert_eq!(world.claim(&node).await, None);
    assert_eq!(world.queue.nodes().await.unwrap()[0].failed, 1);
}

#[tokio::test]
async fn several_nodes_agree_on_what_the_job_is_worth() {
    let world = World::new().await;
    let mut nodes = Vec::new();
    for endpoint in ["http://a", "http://b", "http://c"] {
        nodes.push(world.node(endpoint).await);
    }
    let number = world
        .submit(Submission {
            replicas: 3,
            quorum: 2,
            ..job()
        })
        .await;
    for node in &nodes {
        assert_eq!(world.claim(node).await.unwrap().job, number);
        assert_eq!(world.claim(node).await, None);
    }
    world
        .queue
        .complete(completion(&nodes[0], number, None, 3))
        .await
        .unwrap();
    world
        .queue
        .complete(completion(&nodes[1], number, None, 0))
        .await
        .unwrap();
    assert_eq!(world.row(number).await.word, JobWord::Running);
    world
        .queue
        .complete(completion(&nodes[2], number, None, 0))
        .await
        .unwrap();
    let row = world.row(number).await;
    assert_eq!((row.word, row.attempt), (JobWord::Completed, Some(Attempt(2))));
    assert_eq!(world.reader.answers(number).await.unwrap().len(), 3);
}
