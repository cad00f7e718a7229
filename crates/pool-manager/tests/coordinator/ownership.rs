//! Two queues at one PostgreSQL: each run has one owner, and only its word counts.

use std::collections::BTreeSet;

use pool_manager::{
    Announced, Assignment, Begun, Clock, Completion, Failure, Printed, Push, Queue, QueueError,
    QueueSettings, QueueThread, Registration, Submission,
};
use sandrun_core::pool::{Illegal, JobNumber, Needs, NodeStatus, Offer, Priority, SignatureCheck};
use sandrun_store::queue::{Living, LogStream, QueueAddress, QueueReader, ReplicaId, open_queue};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::postgres::PostgresServer;
use crate::support::PATIENCE;

struct Replica {
    queue: Queue,
    pushes: UnboundedReceiver<Push>,
    thread: QueueThread,
    _reader: QueueReader,
}

impl Replica {
    async fn start(address: &QueueAddress, me: u32) -> Self {
        let (store, reader) = open_queue(address).await.unwrap();
        let start = move || {
            let me = Some(ReplicaId(me));
            Queue::start_replica(store, QueueSettings::COORDINATOR, Clock::system(), me)
        };
        let (queue, thread) = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
        let pushes = queue.assignments().unwrap();
        Self {
            queue,
            pushes,
            thread,
            _reader: reader,
        }
    }

    /// The look of this number sees these.
    fn living(&self, replicas: &[u32], look: u64) {
        let replicas = replicas.iter().map(|it| ReplicaId(*it)).collect();
        self.queue.living(Living { replicas, look });
    }

    async fn next(&mut self) -> Push {
        tokio::time::timeout(PATIENCE, self.pushes.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn given(&mut self) -> Assignment {
        let push = self.next().await;
        let Push::Give(assignment) = push else {
            panic!("{push:?}");
        };
        *assignment
    }

    /// Takes in what the others have written; nothing is told to the carrier but `expected`.
    async fn looks(&mut self, expected: &[Push]) {
        self.queue.nodes().await.unwrap();
        let mut told = Vec::new();
        // what a batch has for the carrier is sent before its answers
        while let Ok(push) = self.pushes.try_recv() {
            told.push(push);
        }
        assert_eq!(told, expected);
    }

    async fn node(&self, endpoint: &str) -> String {
        let registration = Registration {
            endpoint: endpoint.to_owned(),
            offer: Offer::Unannounced,
            announced: Announced {
                protocol: 1,
                slots: Some(1),
                ..Announced::default()
            },
        };
        self.queue.register(registration).await.unwrap()
    }

    async fn submit(&self) -> JobNumber {
        let job = Submission {
            client: "c".to_owned(),
            priority: Priority(4),
            needs: Needs::default(),
            replicas: 1,
            quorum: 1,
            timeout: 60,
            request: b"{}".to_vec(),
            blobs: Vec::new(),
            bodies: Vec::new(),
            parents: Vec::new(),
            idempotency: None,
            retries: None,
        };
        let submitted = self.queue.submit(vec![job]).await.unwrap();
        submitted.into_iter().next().unwrap().unwrap().job
    }

    async fn status(&self, node: &str) -> NodeStatus {
        let nodes = self.queue.nodes().await.unwrap();
        nodes.into_iter().find(|it| it.id == node).unwrap().status
    }

    async fn stop(self) {
        self.queue.stop();
        let thread = self.thread;
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
    }
}

fn begun(of: &Assignment, run: &str) -> Begun {
    Begun {
        node: of.node.clone(),
        job: of.job,
        attempt: of.attempt,
        run: run.to_owned(),
    }
}

fn completion(of: &Assignment) -> Completion {
    Completion {
        node: of.node.clone(),
        job: of.job,
        attempt: Some(of.attempt),
        exit_code: 0,
        stdout: b"out".to_vec(),
        stderr: Vec::new(),
        outputs: Vec::new(),
        receipt: None,
        signature: None,
        check: SignatureCheck::Valid,
        details: b"{}".to_vec(),
    }
}

fn printed(of: &Assignment) -> Printed {
    Printed {
        node: of.node.clone(),
        job: of.job,
        attempt: of.attempt,
        pieces: vec![(LogStream::Stdout, 0, b"o".to_vec())],
    }
}

fn failure(of: &Assignment) -> Failure {
    Failure {
        node: of.node.clone(),
        job: of.job,
        attempt: Some(of.attempt),
        retry: true,
        words: "no".to_owned(),
    }
}

fn left(of: &Assignment) -> Push {
    let (job, attempt) = (of.job, of.attempt);
    Push::Leave { job, attempt }
}

fn stop(of: &Assignment) -> Push {
    let (job, attempt) = (of.job, of.attempt);
    Push::Stop { job, attempt }
}

fn is_stale(answer: Result<(), QueueError>) -> bool {
    matches!(answer, Err(QueueError::Illegal(Illegal::StaleAttempt { .. })))
}

/// Two replicas that know of each other, and have told their carriers all there is.
async fn two() -> (PostgresServer, Replica, Replica) {
    let server = tokio::task::spawn_blocking(PostgresServer::start)
        .await
        .unwrap()
        .unwrap();
    let address: QueueAddress = server.url().parse().unwrap();
    let (mut one, mut two) = (
        Replica::start(&address, 1).await,
        Replica::start(&address, 2).await,
    );
    for replica in [&mut one, &mut two] {
        replica.living(&[1, 2], 1);
        let nothing = Push::Anew {
            own: BTreeSet::new(),
            others: BTreeSet::new(),
        };
        replica.looks(&[nothing]).await;
    }
    (server, one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_after_its_run_was_taken_over_has_nothing_to_say() {
    let (server, mut one, mut two) = two().await;
    one.node("http://a").await;
    let job = one.submit().await;
    let own = one.given().await;
    assert_eq!((own.job, own.run.as_deref()), (job, None));
    one.queue.begin(begun(&own, "job-1")).await.unwrap();
    two.looks(&[]).await;
    assert!(
        is_stale(two.queue.complete(completion(&own)).await),
        "it is not its own"
    );

    // the other seems dead: its run is taken over, with the executor's id
    two.living(&[2], 2);
    let taken = two.given().await;
    assert_eq!(
        taken,
        Assignment {
            run: Some("job-1".to_owned()),
            ..own.clone()
        }
    );
    // the first one wakes up, and everything that it says comes too late
    assert!(is_stale(one.queue.begin(begun(&own, "job-2")).await));
    assert!(is_stale(one.queue.print(printed(&own)).await));
    assert!(is_stale(one.queue.fail(failure(&own)).await));
    assert!(is_stale(one.queue.complete(completion(&own)).await));
    one.looks(&[left(&own)]).await;
    two.queue.print(printed(&taken)).await.unwrap();
    two.queue.complete(completion(&taken)).await.unwrap();
    two.looks(&[]).await;

    // it is alive again: nothing is taken from it any more, and a cancel anywhere reaches it
    two.living(&[1, 2], 3);
    one.submit().await;
    let next = one.given().await;
    two.looks(&[]).await;
    two.queue.cancel(next.job).await.unwrap();
    one.looks(&[stop(&next)]).await;
    one.stop().await;
    two.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_lost_when_nobody_reaches_it_and_until_then_carried_by_who_does() {
    let (server, mut one, mut two) = two().await;
    let node = one.node("http://a").await;
    one.submit().await;
    let own = one.given().await;
    one.queue.begin(begun(&own, "job-1")).await.unwrap();
    one.queue.lose(node.clone()).await.unwrap();
    one.looks(&[left(&own)]).await;
    // the other one looks at the node, and carries what there is to carry
    let check = Push::Check { node: node.clone() };
    let handed = Push::Give(Box::new(Assignment {
        run: Some("job-1".to_owned()),
        ..own.clone()
    }));
    two.queue.nodes().await.unwrap();
    assert_eq!([two.next().await, two.next().await], [check, handed]);
    assert_eq!(two.status(&node).await, NodeStatus::Up);
    two.queue.complete(completion(&own)).await.unwrap();
    // what comes now is the other's as well, wherever it is submitted
    one.submit().await;
    one.looks(&[]).await;
    two.queue.nodes().await.unwrap();
    let next = two.given().await;
    assert_eq!(one.status(&node).await, NodeStatus::Up);

    // now nobody reaches it
    two.queue.lose(node.clone()).await.unwrap();
    assert_eq!(one.status(&node).await, NodeStatus::Lost);
    two.looks(&[stop(&next)]).await;
    // back for one of them is back
    one.queue.heartbeat(node.clone(), Vec::new()).await.unwrap();
    let again = one.given().await;
    assert_eq!((again.job, again.attempt), (next.job, next.attempt.next()));
    assert_eq!(two.status(&node).await, NodeStatus::Up);

    // who reaches it dies: the other can't, so it is lost
    two.living(&[2], 2);
    two.queue.nodes().await.unwrap();
    assert_eq!(two.status(&node).await, NodeStatus::Lost);
    one.stop().await;
    two.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_goes_on_with_what_the_dead_have_left_and_with_nothing_else() {
    let (server, mut one, two) = two().await;
    one.node("http://a").await;
    one.submit().await;
    let own = one.given().await;
    one.queue.begin(begun(&own, "job-1")).await.unwrap();
    one.stop().await;
    let address: QueueAddress = server.url().parse().unwrap();
    let mut three = Replica::start(&address, 3).await;
    // the one whose run it is was never seen: it may just have come
    three.living(&[2, 3], 7);
    let all = |own, others| Push::Anew { own, others };
    let run = BTreeSet::from([(own.job, own.attempt)]);
    three.looks(&[all(BTreeSet::new(), run)]).await;
    assert!(three.queue.awaits_look());
    three.living(&[2, 3], 8);
    three.looks(&[]).await;
    three.living(&[2, 3], 9);
    let taken = three.given().await;
    assert_eq!(taken.run.as_deref(), Some("job-1"));
    three.looks(&[]).await;
    assert!(!three.queue.awaits_look());
    // its lease is as long as it was: nobody began anew
    assert_eq!(taken.until, own.until);
    two.stop().await;
    three.stop().await;
    drop(server);
}
