//! Jobs through the coordinator: what goes in, what comes out, what is refused.

use std::io::Write as _;

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Service, Worker};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_and_everything_that_it_left_is_here() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    service.until_healthy(1).await;
    let job = service
        .submit("echo said; echo wrong >&2; mkdir -p a; printf 'x\\0y' > a/b.bin")
        .await;
    assert!(job.starts_with("pool-") && job.len() == 21, "{job}");
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert_eq!(status["worker_id"], json!(worker.listed.id));
    assert_eq!(status["worker_status"]["status"], "completed");
    assert!(status["submitted_at"].as_f64().unwrap() <= status["completed_at"].as_f64().unwrap());
    // the executor may forget everything now
    drop(worker.folder);
    let url = format!("{}/outputs/{job}/a/b.bin", service.base);
    let file = service.http.get(url).send().await.unwrap();
    assert_eq!(file.bytes().await.unwrap().as_ref(), b"x\0y");
    let logs = service.ok(&format!("/v1/jobs/{job}/logs")).await;
    assert_eq!(logs, json!({"stdout": "said\n", "stderr": "wrong\n"}));
    let view = service.ok(&format!("/v1/jobs/{job}")).await;
    assert_eq!(view["exit_code"], 0);
    assert_eq!(view["attempt"], 1);
    assert_eq!(view["outputs"][0]["path"], "a/b.bin");
    let receipt = service.ok(&format!("/v1/jobs/{job}/receipt")).await;
    assert_eq!(receipt["worker_id"], status["worker_id"]);
    let pool = service.ok("/pool").await;
    assert_eq!(pool["total_jobs"], 1);
    assert_eq!(
        pool["workers"][0]["active_jobs"], 0,
        "its slot is free though nobody asked the worker"
    );
    let (missing, _) = service.get(&format!("/outputs/{job}/none")).await;
    assert_eq!(missing, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_unpacked_by_the_worker_and_long_files_go_whole() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    let mut archive = Vec::new();
    let script = b"cat main.txt > copy.txt; sha256sum < long.bin | cut -c1-64";
    {
        // a tar of one file by hand: name, mode, size, checksum
        let mut header = [0u8; 512];
        header[..6].copy_from_slice(b"run.sh");
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", script.len()).as_bytes());
        header[156] = b'0';
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut tar = header.to_vec();
        tar.extend_from_slice(script);
        tar.resize(512 * 4, 0);
        let mut gzip = flate2::write::GzEncoder::new(&mut archive, flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        gzip.finish().unwrap();
    }
    let long: Vec<u8> = (0u8..=250).cycle().take(3 << 20).collect();
    let files: [(&str, &[u8]); 3] = [
        ("job.tar.gz", &archive),
        ("main.txt", b"text"),
        ("long.bin", &long),
    ];
    let manifest = ("manifest", r#"{"entrypoint": "run.sh", "outputs": ["copy.txt"]}"#);
    let (status, answer) = service.form(&files, &[manifest]).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let job = answer["job_id"].as_str().unwrap();
    let status = service.ended(job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    let logs = service.ok(&format!("/v1/jobs/{job}/logs")).await;
    let hash = sandrun_types::Sha256Hex::of(&long).to_string();
    assert_eq!(logs["stdout"].as_str().unwrap().trim(), hash);
    assert_eq!(service.ok(&format!("/outputs/{job}/copy.txt")).await, "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    let manifest = ("manifest", "{}");
    for (files, parts) in [
        (&[][..], &[manifest][..]),
        (&[("run.sh", &b"true"[..])][..], &[][..]),
        (&[("run.sh", &b"true"[..])][..], &[("manifest", "{oh")][..]),
    ] {
        let (status, answer) = service.form(files, parts).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["error"].is_string());
    }
    let (unknown, _) = service.get("/status/pool-0123456789abcdef").await;
    assert_eq!(unknown, StatusCode::NOT_FOUND);
    // the program's own failure
    let job = service.submit("echo no >&2; exit 7").await;
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "failed");
    assert_eq!(service.ok(&format!("/v1/jobs/{job}")).await["exit_code"], 7);
    assert_eq!(
        service.ok(&format!("/v1/jobs/{job}/logs")).await["stderr"],
        "no\n"
    );
    // the worker refuses, though its machine has as much: nobody tries again
    let manifest = ("manifest", r#"{"entrypoint": "run.sh", "memory_mb": 2100}"#);
    let (_, answer) = service.form(&[("run.sh", b"true")], &[manifest]).await;
    let status = service.ended(answer["job_id"].as_str().unwrap()).await;
    assert_eq!(status["pool_status"], "failed", "{status}");
    assert!(status["reason"].as_str().unwrap().contains("memory"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_document_is_there() {
    let service = Service::start(&[]).await;
    let document = service.ok("/openapi.json").await;
    assert_eq!(service.ok("/").await["service"], "sandrun-coordinator");
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            let url = format!("{}{}", service.base, path.replace(['{', '}'], ""));
            let answer = service.http.request(method.clone(), url).send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert!(
                call["responses"].get(status.as_str()).is_some(),
                "{method} {path}: {status} {text}"
            );
            assert!(!text.contains("no such call"), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_parents_leave_stay_what_they_are() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    // the second one is long
    let script = "echo x > a; tar czf r.tar.gz a; rm a; head -c 600000 /dev/zero > b.zip; printf 42 > c.TGZ";
    let parent = service.submit(script).await;
    let after = json!([{"job": parent, "into": "in"}, {"job": parent}]);
    let options = json!({"after": after}).to_string();
    let parts = [
        ("manifest", r#"{"entrypoint": "run.sh"}"#),
        ("options", options.as_str()),
    ];
    let script = b"tar tzf in/r.tar.gz; tar tzf r.tar.gz; wc -c < in/b.zip; cat in/c.TGZ; ls r.tar.gz in";
    let (status, answer) = service.form(&[("run.sh", script)], &parts).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let child = answer["job_id"].as_str().unwrap();
    service.ended(child).await;
    let logs = service.ok(&format!("/v1/jobs/{child}/logs")).await;
    let expected = "a\na\n600000\n42r.tar.gz\n\nin:\nb.zip\nc.TGZ\nr.tar.gz\n";
    assert_eq!(logs["stdout"], expected, "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependant_finds_its_parents_files() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    let parent = service.submit("printf 42 > answer.txt").await;
    let options = json!({"after": [{"job": parent, "into": "in"}]}).to_string();
    let parts = [
        ("manifest", r#"{"entrypoint": "run.sh"}"#),
        ("options", options.as_str()),
    ];
    let (status, answer) = service.form(&[("run.sh", b"cat in/answer.txt")], &parts).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let child = answer["job_id"].as_str().unwrap();
    let status = service.ended(child).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert_eq!(
        service.ok(&format!("/v1/jobs/{child}/logs")).await["stdout"],
        "42"
    );
}
