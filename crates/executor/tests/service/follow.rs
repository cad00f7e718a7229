//! Following a run and ending it.

use std::time::Duration;

use sandrun_executor::ClientError;
use sandrun_executor::wire::JobState;
use sandrun_types::RunOutcome;

use crate::support::Service;

const WAIT: Duration = Duration::from_secs(10);

fn is_unknown<T>(result: Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Refused { status: 404, .. }))
}

#[tokio::test]
async fn output_comes_as_it_is_printed_and_the_receipt_with_the_last_of_it() {
    let service = Service::start().await;
    let code = "echo one; sleep 1; echo two >&2; sleep 1; printf '\\377end'; exit 3";
    let job = service.submit("", &[("run.sh", code)]).await.job_id;
    let (mut from, mut stdout, mut stderr, mut answers) = (0, Vec::new(), Vec::new(), 0);
    let receipt = loop {
        let followed = service.client.follow(&job, from, WAIT).await.unwrap();
        (from, answers) = (followed.next, answers + 1);
        stdout.extend(followed.stdout);
        stderr.extend(followed.stderr);
        if stderr.is_empty() {
            assert!(
                b"one\n".starts_with(stdout.as_slice()),
                "the end came with the beginning"
            );
        }
        match followed.receipt {
            Some(receipt) => break receipt,
            None => assert!(answers < 10, "it answers without a reason"),
        }
    };
    assert_eq!(
        (stdout.as_slice(), stderr.as_slice()),
        (b"one\n\xffend".as_slice(), b"two\n".as_slice())
    );
    let receipt = receipt.check(&job, Some(service.worker)).unwrap();
    assert_eq!((receipt.outcome, receipt.exit_code), (RunOutcome::Exited, 3));

    // all of it can be had again, and at once
    let again = service.client.follow(&job, 0, WAIT).await.unwrap();
    assert_eq!((again.stdout, again.next), (stdout, from));
    assert!(again.receipt.is_some());
    assert!(is_unknown(service.client.follow("job-1", 0, WAIT).await));
    let beyond = service.client.follow(&job, from + 1, Duration::ZERO).await;
    assert!(matches!(beyond, Err(ClientError::Refused { status: 400, .. })));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_run_can_be_ended_while_it_waits_and_while_it_runs_and_its_data_be_deleted() {
    let service = Service::start_with(|config| config.parallel = std::num::NonZeroU32::MIN).await;
    let endless = "echo begun; while :; do sleep 1; done";
    let running = service.submit("", &[("run.sh", endless)]).await.job_id;
    let waiting = service.submit("", &[("run.sh", endless)]).await.job_id;
    let begun = service.client.follow(&running, 0, WAIT).await.unwrap();
    assert_eq!(
        (begun.stdout.as_slice(), begun.state),
        (b"begun\n".as_slice(), JobState::Running)
    );
    for job in [&waiting, &running] {
        assert_eq!(service.client.cancel(job).await.unwrap().status, JobState::Failed);
        let ended = service.client.follow(job, 0, Duration::ZERO).await.unwrap();
        let receipt = ended.receipt.unwrap().check(job, Some(service.worker)).unwrap();
        assert_eq!(receipt.outcome, RunOutcome::Internal);
        assert!(
            receipt.explanation.contains("cancelled"),
            "{}",
            receipt.explanation
        );
    }
    assert_eq!(service.client.stats().await.unwrap().system.active_jobs, 0);

    let done = service.run("", &[("run.sh", "echo done")]).await.job_id;
    assert_eq!(
        service.client.cancel(&done).await.unwrap().status,
        JobState::Completed
    );
    assert!(is_unknown(service.client.logs(&done).await));
    assert!(is_unknown(service.client.cancel(&done).await));
    assert!(is_unknown(service.client.cancel("job-1").await));
    // what is known of the run stays
    assert_eq!(
        service.client.status(&done).await.unwrap().status,
        JobState::Completed
    );
    service.stop().await.unwrap();
}
