//! Services of old, and such as break off or lie.

use serde_json::{Value, json};

use crate::stand_in::{Answer, StandIn};
use crate::support::{Said, said};
use crate::world::command;

fn ok(body: &Value) -> Answer {
    Answer(200, body.to_string())
}

async fn run(service: &StandIn, directory: &tempfile::TempDir, line: &str) -> anyhow::Result<Said> {
    let mut arguments: Vec<&str> = line.split_whitespace().collect();
    arguments.extend(["--to", &service.url]);
    said(command(directory.path(), &arguments)).await
}

#[tokio::test]
async fn a_broker_of_old_will_do() -> anyhow::Result<()> {
    let status = |word: &str| {
        ok(&json!({"job_id": "7", "status": word, "node_id": null, "created_at": "2026-01-31 12:00:00"}))
    };
    let nodes = json!({"nodes": [{"id": "n", "endpoint": "http://x", "capabilities": {}, "active": true}]});
    let result =
        json!({"job_id": "7", "status": "failed", "output": "hello\n", "error": "oh\n", "exit_code": 4});
    let waits = Answer(202, json!({"error": "Job not completed"}).to_string());
    let service = StandIn::start(&[
        ("GET /nodes", &[ok(&nodes)]),
        (
            "POST /submit",
            &[ok(&json!({"job_id": "7", "status": "pending"}))],
        ),
        (
            "GET /status/7",
            &[
                status("pending"),
                status("assigned"),
                status("running"),
                status("failed"),
            ],
        ),
        ("GET /results/7", &[ok(&result)]),
        ("GET /status/8", &[status("pending"), status("completed")]),
        ("GET /results/8", &[waits, ok(&result)]),
    ])
    .await?;
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("a.py"), "")?;
    std::fs::create_dir(directory.path().join("project"))?;
    std::fs::write(directory.path().join("project/main.py"), "")?;
    let said = run(&service, &directory, "submit --code a.py").await?;
    assert_eq!((said.code, said.stdout.as_str()), (5, "hello\n"), "{said:?}");
    assert!(said.stderr.starts_with("submitted 7\noh\n"), "{said:?}");
    let logs = run(&service, &directory, "logs -f 8").await?;
    assert_eq!(
        (logs.code, logs.stdout.as_str(), logs.stderr.as_str()),
        (0, "hello\n", "oh\n")
    );
    let nodes = run(&service, &directory, "nodes").await?;
    assert!(nodes.code == 0 && nodes.stdout.contains("http://x"), "{nodes:?}");
    for (line, words) in [
        ("submit --code project", "single scripts only"),
        ("submit --code a.py --redundancy 3", "no redundancy but 1"),
        ("submit --code a.py --priority 1", "no priorities"),
        ("submit --code a.py --require gpu=true", "no requirements"),
        ("jobs", "it lists no jobs"),
        ("cancel 7", "takes no job back"),
        ("drain n", "can't be told"),
    ] {
        let said = run(&service, &directory, line).await?;
        assert!(said.code == 2 && said.stderr.contains(words), "{line}: {said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_coordinator_of_old_will_do() -> anyhow::Result<()> {
    // SHA-256 of "42"
    let hash = "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049";
    let facts = json!({
        "job_id": "e", "status": "completed", "execution_metadata": {"exit_code": 0, "outcome": "exited"},
        "output_files": {"a/out.txt": {"size_bytes": 2, "sha256": hash, "type": "text"}}
    });
    let status = |word: &str, facts: &Value| {
        ok(&json!({
            "job_id": "pool-1", "pool_status": word, "worker_id": "w", "worker_status": facts, "submitted_at": 1.5
        }))
    };
    let pool = json!({"total_workers": 1, "workers": [{"worker_id": "w+/=", "endpoint": "http://x", "is_healthy": true,
        "active_jobs": 0, "max_concurrent_jobs": 4, "last_health_check": 1.5}]});
    let service = StandIn::start(&[
        ("GET /pool", &[ok(&pool)]),
        (
            "POST /submit",
            &[ok(&json!({"job_id": "pool-1", "status": "queued"}))],
        ),
        (
            "GET /status/pool-1",
            &[status("dispatched", &Value::Null), status("completed", &facts)],
        ),
        ("GET /outputs/pool-1/a/out.txt", &[Answer(200, "42".to_owned())]),
    ])
    .await?;
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("a.py"), "")?;
    let said = run(&service, &directory, "submit --code a.py --json").await?;
    assert_eq!(said.code, 0, "{said:?}");
    let text = std::fs::read_to_string(directory.path().join("results/pool-1/outputs/a/out.txt"))?;
    assert_eq!(text, "42");
    let nodes = run(&service, &directory, "nodes").await?;
    assert!(nodes.code == 0 && nodes.stdout.contains("0/4"), "{nodes:?}");
    Ok(())
}

const ROOT: (&str, &str) = (
    "GET /",
    r#"{"service": "sandrun-broker", "version": "1", "api": "pool/1"}"#,
);

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_where_it_ended() -> anyhow::Result<()> {
    let events = |text: &str| Answer(200, text.to_owned());
    let service = StandIn::start(&[
        (ROOT.0, &[Answer(200, ROOT.1.to_owned())]),
        (
            "GET /v1/jobs/7/logs/stream",
            &[
                events("event: stdout\ndata: \"one\\n\"\n\nevent: stdout\ndata: \"tw"),
                Answer(503, json!({"error": "it starts"}).to_string()),
                events("event: stdout\ndata: \"one\\ntwo\\n\"\n\n"),
                events("event: stdout\ndata: \"one\\ntwo\\nthree\\n\"\n\nevent: done\ndata: {\"status\": \"completed\"}\n\n"),
            ],
        ),
    ])
    .await?;
    let directory = tempfile::tempdir()?;
    let said = run(&service, &directory, "logs -f 7").await?;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (0, "one\ntwo\nthree\n"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_not_what_was_said_is_deleted() -> anyhow::Result<()> {
    let hash = "00".repeat(32);
    let job = json!({"job_id": "7", "status": "completed", "exit_code": 0,
        "outputs": [{"path": "out.txt", "size": 2, "sha256": hash}]});
    let outside = json!({"job_id": "8", "status": "completed", "exit_code": 0,
        "outputs": [{"path": "../out.txt", "size": 2, "sha256": hash}]});
    let submitted = |id: &str| ok(&json!({"job_id": id, "status": "pending"}));
    let service = StandIn::start(&[
        (ROOT.0, &[Answer(200, ROOT.1.to_owned())]),
        (
            "POST /submit",
            &[submitted("7"), submitted("8"), submitted("../9")],
        ),
        ("GET /v1/jobs/7", &[ok(&job)]),
        ("GET /v1/jobs/8", &[ok(&outside)]),
        ("GET /v1/jobs/7/logs", &[ok(&json!({"stdout": "", "stderr": ""}))]),
        ("GET /v1/jobs/8/logs", &[ok(&json!({"stdout": "", "stderr": ""}))]),
        ("GET /v1/jobs/7/outputs/out.txt", &[Answer(200, "42".to_owned())]),
    ])
    .await?;
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("a.py"), "")?;
    let said = run(&service, &directory, "submit --code a.py --out made").await?;
    assert!(
        said.code == 7 && said.stderr.contains("it is deleted"),
        "{said:?}"
    );
    assert!(!directory.path().join("made/outputs/out.txt").exists());
    // names that would lead elsewhere
    for _ in 0..2 {
        let said = run(&service, &directory, "submit --code a.py").await?;
        assert_eq!(said.code, 3, "{said:?}");
    }
    assert!(!directory.path().join("results/out.txt").exists());
    Ok(())
}
