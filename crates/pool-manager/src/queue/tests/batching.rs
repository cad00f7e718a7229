//! Batches, commits that fail, claims that wait.

use super::*;

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
        numbers.extend(
            other
                .await
                .unwrap()
                .unwrap()
                .into_iter()
                .map(|it| it.unwrap().job),
        );
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=101).map(JobNumber).collect::<Vec<_>>());
    assert_eq!(world.queue.stats().commits.count, 2);
}

#[tokio::test]
async fn files_that_come_with_jobs_do_not_make_a_batch_larger_than_a_few_mebibytes() {
    let ((arrived, at_gate), (open, go)) = (channel(), channel());
    let world = World::with(Some((arrived, go))).await;
    let submit = |queue: Queue, number: u8| {
        let mut job = job();
        job.blobs = vec![BlobHash([number; 32])];
        job.bodies = vec![Body {
            blob: BlobHash([number; 32]),
            put: 1,
            data: vec![number; 256 << 10].into(),
        }];
        tokio::spawn(async move { queue.submit(vec![job]).await })
    };
    let first = submit(world.queue.clone(), 0);
    let at_gate = tokio::task::spawn_blocking(move || at_gate.recv().map(|()| at_gate));
    let at_gate = at_gate.await.unwrap().unwrap();
    let others: Vec<_> = (1..=64)
        .map(|number| submit(world.queue.clone(), number))
        .collect();
    tokio::task::yield_now().await;
    drop(open);
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    // 16 MiB in pieces of 4
    assert_eq!(world.queue.stats().commits.count, 5);
    drop(at_gate);
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
    world.faults.fails.store(true, Ordering::SeqCst);
    let lost = world.queue.submit(vec![job()]).await;
    assert_eq!(lost, Err(QueueError::Full));
    // whoever would have got the lost job hears of it as well
    assert_eq!(waiter.await.unwrap(), Err(QueueError::Full));
    let done = completion(&node, kept, None, 0);
    assert_eq!(world.queue.complete(done.clone()).await, Err(QueueError::Full));
    world.faults.fails.store(false, Ordering::SeqCst);
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
            async move { queue.claim(claim(&node, 2_000)).await },
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
    // however the machine's clock is set
    world.set_back(100);
    assert_eq!(third.await.unwrap().unwrap(), []);
    assert_eq!(world.queue.stats().empty_claims, 1);
}
