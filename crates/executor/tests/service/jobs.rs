//! Real jobs, their status and their receipts.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use sandrun_executor::ClientError;
use sandrun_executor::wire::JobState;
use sandrun_types::{BundlePath, InputFile, Manifest, RunOutcome, Sha256Hex, job_hash};

use crate::support::{Service, eventually, upload};

#[tokio::test]
async fn python_node_bash_and_own_executables_run() {
    let service = Service::start().await;
    for (manifest, file, code) in [
        ("", "main.py", "import sys; print('hello', *sys.argv[1:])"),
        ("", "index.js", "console.log('hello')"),
        ("", "run.sh", "echo hello"),
        (r#"{"entrypoint":"tool"}"#, "tool", "#!/bin/sh\necho hello"),
        (
            r#"{"entrypoint":"bin/tool.py","interpreter":"self"}"#,
            "bin/tool.py",
            "#!/usr/bin/python3\nprint('hello')",
        ),
        (
            r#"{"entrypoint":"x.txt","interpreter":"bash","class":"native"}"#,
            "x.txt",
            "echo hello",
        ),
    ] {
        let job = service.run(manifest, &[(file, code)]).await;
        let logs = service.client.logs(&job.job_id).await.unwrap();
        assert_eq!(
            (job.status, logs.stdout.as_str()),
            (JobState::Completed, "hello\n"),
            "{file}: {job:?} {logs:?}"
        );
    }
    let program = std::fs::read("/usr/bin/printf").unwrap();
    let form = upload("prog", program).text("manifest", r#"{"entrypoint":"prog","args":["a%s","b"]}"#);
    let (status, body) = service.post(form).await;
    assert_eq!(status, 200, "{body}");
    let job = service.ended(body["job_id"].as_str().unwrap()).await;
    assert_eq!(
        (job.status, service.stdout(&job.job_id).await.as_str()),
        (JobState::Completed, "ab"),
        "{job:?}"
    );
}

#[tokio::test]
async fn arguments_variables_and_several_files_arrive() {
    let service = Service::start().await;
    let code = "import os, sys, lib.util\nprint(sys.argv[1:], os.environ['A'], lib.util.X, open('data/in.txt').read())";
    let job = service
        .run(
            r#"{"entrypoint":"main.py","args":["x y","--z"],"env":{"A":"1"},"timeout":30,"memory_mb":256}"#,
            &[
                ("main.py", code),
                ("lib/util.py", "X = 7"),
                ("data/in.txt", "data"),
            ],
        )
        .await;
    assert_eq!(
        service.stdout(&job.job_id).await,
        "['x y', '--z'] 1 7 data\n",
        "{job:?}"
    );
}

#[tokio::test]
async fn status_says_how_it_ended() {
    let service = Service::start().await;
    let failed = service
        .run("", &[("run.sh", "echo out; echo err >&2; exit 3")])
        .await;
    let run = &failed.execution_metadata;
    assert_eq!(
        (failed.status, run.exit_code, run.outcome),
        (JobState::Failed, Some(3), Some(RunOutcome::Exited))
    );
    let logs = service.client.logs(&failed.job_id).await.unwrap();
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));

    let killed = service.run("", &[("run.sh", "kill -TERM $$")]).await;
    let run = &killed.execution_metadata;
    assert_eq!(
        (killed.status, run.exit_code, run.outcome),
        (JobState::Failed, Some(143), Some(RunOutcome::Signalled))
    );

    let slow = service.run(r#"{"timeout":1}"#, &[("run.sh", "sleep 30")]).await;
    assert_eq!(
        (slow.status, slow.execution_metadata.outcome),
        (JobState::Failed, Some(RunOutcome::Timeout))
    );

    let busy = service
        .run("", &[("main.py", "x = 0\nwhile x < 3_000_000: x += 1")])
        .await;
    let run = &busy.execution_metadata;
    assert!(
        run.cpu_seconds > 0.0 && run.cpu_seconds < 30.0 && run.wall_time_ms > 0,
        "{run:?}"
    );
    assert!(
        run.memory_peak_bytes > 1 << 20 && run.memory_peak_mb == run.memory_peak_bytes >> 20,
        "{run:?}"
    );
    assert_eq!((run.interpreter.as_str(), run.exit_code), ("python3", Some(0)));
}

#[tokio::test]
async fn a_job_prints_too_much_and_takes_too_much_memory() {
    let service = Service::start_with(|config| config.limits.captured_bytes = 1 << 20).await;
    let loud = service.run("", &[("run.sh", "yes")]).await;
    assert_eq!(
        (loud.status, loud.execution_metadata.outcome),
        (JobState::Failed, Some(RunOutcome::OutputLimit))
    );
    assert!(service.stdout(&loud.job_id).await.len() <= 1 << 20);
    let code = "open('made.txt', 'w').write('x')\nx = bytearray(400 * 1024 * 1024)";
    let hungry = service.run(r#"{"memory_mb":64}"#, &[("main.py", code)]).await;
    assert_eq!(hungry.status, JobState::Failed, "{hungry:?}");
    // Where only resource limits bound memory, python gets to say so itself.
    if hungry
        .isolation
        .iter()
        .any(|layer| layer.starts_with("memory:cgroup"))
    {
        assert_eq!(
            hungry.execution_metadata.outcome,
            Some(RunOutcome::Memory),
            "{hungry:?}"
        );
        assert!(
            hungry.output_files.is_empty() && !hungry.explanation.is_empty(),
            "{hungry:?}"
        );
    }
}

#[tokio::test]
async fn the_receipt_says_what_the_status_says_and_is_signed() {
    let service = Service::start().await;
    let manifest = r#"{"args":["1"],"entrypoint":"a/main.py"}"#;
    let files = [
        ("a/main.py", "open('result.txt','w').write('done')"),
        ("note.txt", "note"),
    ];
    let job = service.run(manifest, &files).await;
    let receipt = service
        .client
        .verified_receipt(&job.job_id, service.worker)
        .await
        .unwrap();
    assert_eq!(receipt.worker_id, job.worker_metadata.worker_id);
    assert_eq!(
        (Some(receipt.class), receipt.output_root, receipt.trace_root),
        (job.class, job.output_root, job.trace_root)
    );
    assert_eq!(
        (&receipt.isolation, &receipt.output_files),
        (&job.isolation, &job.output_files)
    );
    assert_eq!(
        (Some(receipt.job_hash), receipt.status.as_str()),
        (job.job_hash, "completed")
    );
    assert!(
        job.isolation.iter().any(|layer| layer == "seccomp"),
        "{:?}",
        job.isolation
    );
    let result = &job.output_files[&BundlePath::parse("result.txt").unwrap()];
    assert_eq!(
        (result.size_bytes, result.sha256, result.kind.as_str()),
        (4, Sha256Hex::of(b"done"), "text")
    );

    let input = |(name, text): &(&str, &str)| {
        let file = InputFile {
            sha256: Sha256Hex::of(text.as_bytes()),
            size_bytes: text.len() as u64,
        };
        (BundlePath::parse(name).unwrap(), file)
    };
    let inputs: BTreeMap<_, _> = files.iter().map(input).collect();
    let digest = Manifest::parse(manifest.as_bytes()).unwrap().digest();
    assert_eq!(receipt.job_hash, job_hash(digest, &inputs));
    let other = sandrun_types::WorkerId([7; 32]);
    assert!(service.client.verified_receipt(&job.job_id, other).await.is_err());
}

#[tokio::test]
async fn the_queue_has_positions() {
    let service = Service::start_with(|config| config.parallel = NonZeroU32::MIN).await;
    let first = service.submit("", &[("run.sh", "sleep 600")]).await;
    let second = service.submit("", &[("run.sh", "echo 2")]).await;
    let third = service.submit("", &[("run.sh", "echo 3")]).await;
    assert_eq!(
        (
            first.status.as_str(),
            first.position,
            second.position,
            third.position
        ),
        ("queued", 1, 1, 2)
    );
    let waiting = service.client.status(&third.job_id).await.unwrap();
    assert_eq!((waiting.status, waiting.queue_position), (JobState::Queued, 2));
    let running = service.client.status(&first.job_id).await.unwrap();
    assert_eq!((running.status, running.queue_position), (JobState::Running, 0));
    let stats = service.client.stats().await.unwrap();
    assert_eq!(
        (
            stats.system.queue_length,
            stats.system.active_jobs,
            stats.your_quota.active_jobs
        ),
        (2, 1, 3)
    );
    let refused = service.client.receipt_bytes(&third.job_id).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Refused { status: 409, .. }),
        "{refused}"
    );
    service.stop().await.unwrap();
}

#[tokio::test]
async fn waiting_jobs_run_when_a_slot_is_free() {
    let service = Service::start_with(|config| config.parallel = NonZeroU32::MIN).await;
    let mut jobs = Vec::new();
    for n in 0..4 {
        jobs.push((
            n,
            service
                .submit("", &[("run.sh", &format!("sleep 0.2; echo {n}"))])
                .await
                .job_id,
        ));
    }
    for (n, job) in jobs {
        let job = service.ended(&job).await;
        assert_eq!((job.status, job.queue_position), (JobState::Completed, 0));
        assert_eq!(service.stdout(&job.job_id).await, format!("{n}\n"));
    }
}

#[tokio::test]
async fn jobs_run_in_parallel() {
    let service = Service::start_with(|config| config.parallel = NonZeroU32::new(4).unwrap()).await;
    for _ in 0..5 {
        service.submit("", &[("run.sh", "sleep 600")]).await;
    }
    eventually("four jobs run at once", async || {
        let system = service.client.stats().await.unwrap().system;
        (system.active_jobs, system.queue_length) == (4, 1)
    })
    .await;
    service.stop().await.unwrap();
}
