//! Following a run and ending it.

use std::time::Duration;

use sandrun_executor::wire::JobState;
use sandrun_executor::{ClientError, FileContent, Submission};
use sandrun_types::{BundlePath, RunOutcome};

use crate::support::{Service, eventually};

const WAIT: Duration = Duration::from_secs(10);
/// For a run that ends at once, on a machine that has other things to do.
const PATIENT: Duration = Duration::from_secs(60);

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

fn script(code: &str) -> Submission {
    let name = BundlePath::parse("run.sh").unwrap();
    Submission::new().file(name, FileContent::Bytes(code.as_bytes().to_vec()))
}

#[tokio::test]
async fn a_short_run_is_answered_with_its_end_and_forgotten() {
    let service = Service::start().await;
    for (code, printed) in [("true", ""), ("echo one; echo two >&2", "one\n")] {
        let run = service
            .client
            .submit_and_follow(script(code), PATIENT)
            .await
            .unwrap();
        let followed = run.followed.unwrap();
        assert_eq!(followed.stdout, printed.as_bytes());
        let receipt = followed.receipt.unwrap().check(&run.id, Some(service.worker));
        assert_eq!(receipt.unwrap().exit_code, 0);
        assert!(run.is_forgotten);
        eventually("it is forgotten", async || {
            is_unknown(service.client.status(&run.id).await) && service.job_folders().is_empty()
        })
        .await;
    }
    // what it leaves is still to be fetched
    let run = service
        .client
        .submit_and_follow(script("echo 42 > answer.txt"), PATIENT);
    let run = run.await.unwrap();
    assert!(!run.is_forgotten && run.followed.unwrap().receipt.is_some());
    assert_eq!(
        service.get(&format!("/outputs/{}/answer.txt", run.id)).await.0,
        200
    );
    service.client.cancel(&run.id).await.unwrap();
    assert!(is_unknown(service.client.status(&run.id).await));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_run_that_goes_on_is_answered_with_its_beginning_and_ends_with_a_client_that_goes_away() {
    let service = Service::start().await;
    let endless = "echo begun; while :; do sleep 1; done";
    let run = service
        .client
        .submit_and_follow(script(endless), WAIT)
        .await
        .unwrap();
    let followed = run.followed.unwrap();
    assert_eq!(followed.stdout, b"begun\n");
    assert!(followed.receipt.is_none() && !run.is_forgotten);
    assert_eq!(
        service.client.status(&run.id).await.unwrap().status,
        JobState::Running
    );
    service.client.cancel(&run.id).await.unwrap();
    let active = async || service.client.stats().await.unwrap().system.active_jobs;
    {
        // silent: nothing is answered until it ends
        let asked = service
            .client
            .submit_and_follow(script("while :; do sleep 1; done"), WAIT);
        let mut asked = Box::pin(asked);
        tokio::select! {
            answer = &mut asked => panic!("answered: {answer:?}"),
            () = eventually("it runs", async || active().await == 1) => {}
        }
    }
    eventually("it is ended", async || active().await == 0).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn ended_jobs_hold_no_files_open() {
    let service = Service::start().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(service.run("", &[("run.sh", "echo text")]).await.job_id);
    }
    let log = |id: &String| service.folder.path().join(format!("data/jobs/{id}/log"));
    for job in &jobs {
        let log = std::fs::canonicalize(log(job)).unwrap();
        let held = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let held = held.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == log));
        assert_eq!(held.count(), 0, "{}", log.display());
    }
    service.stop().await.unwrap();
}
