//! Jobs from their submission to their end, over restarts and losses.

use super::*;

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
        (work.job, work.attempt, work.request.as_deref()),
        (number, Attempt(1), Some(&b"{}"[..]))
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
    assert_eq!((stats.retries.total(), stats.nodes_lost, stats.failed), (3, 4, 1));
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
    let both: Vec<_> = both.into_iter().map(|it| it.unwrap()).collect();
    let known: Vec<_> = both.iter().map(|it| (it.job.0, it.is_known)).collect();
    assert_eq!(known, [(1, false), (1, true), (2, false)]);
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

#[tokio::test]
async fn a_queue_whose_store_has_lost_a_thread_ends_though_nobody_asks() {
    let mut world = World::new().await;
    world.submit(job()).await;
    world.faults.is_lame.store(true, Ordering::SeqCst);
    let ended = async { world.thread.as_mut().unwrap().ended().await };
    let soon = std::time::Duration::from_secs(20);
    tokio::time::timeout(soon, ended).await.unwrap();
    let refused = world.queue.heartbeat(String::new(), Vec::new()).await;
    assert_eq!(refused.err(), Some(QueueError::Stopped));
}
