//! Bundles, dependants, batches, lists: what is beside the existing broker's calls.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use sandrun_types::{BundlePath, InputFile, Sha256Hex, output_root};
use serde_json::{Value, json};

use crate::support::Service;

/// Uploads an output of an attempt; how `/complete` names it.
async fn upload(broker: &Service, node: &str, id: &str, path: &str, body: &[u8]) -> Value {
    let url = broker.url(&format!("/v1/work/{id}/1/outputs/{path}?node_id={node}"));
    let answer = broker.http.put(url).body(body.to_vec()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_bundle_goes_to_a_node_that_can_and_its_outputs_come_back() {
    let broker = Service::start().await;
    let old = broker.old_node("http://old").await;
    let big: Vec<u8> = (0..3_000_000_u32).map(|it| it.to_le_bytes()[0]).collect();
    let options = json!({"priority": 9, "requirements": {"cpu_cores": 2}}).to_string();
    let parts = [
        ("manifest", r#"{"entrypoint":"src/main.py","outputs":["out/"]}"#),
        ("options", options.as_str()),
    ];
    let (status, answer) = broker
        .submit_form(&[("src/main.py", b"print(1)"), ("data.bin", &big)], &parts)
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let id = answer["job_id"].as_str().unwrap();
    assert_eq!(
        broker.ok("/claim", json!({"node_id": old})).await,
        json!({"job": null})
    );

    let node = broker.node("http://new").await;
    let work = broker.claim(&node).await;
    assert_eq!(
        (&work["id"], &work["attempt"], &work["timeout"], &work["parents"]),
        (&json!(id), &json!(1), &json!(300), &json!([]))
    );
    assert_eq!(
        work["manifest"],
        json!({"entrypoint": "src/main.py", "outputs": ["out/"], "timeout": 300}),
        "with what the service says about time"
    );
    let file = work["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["path"] == "data.bin")
        .unwrap();
    assert_eq!(file["size"], 3_000_000);
    let url = format!("/v1/work/{id}/1/files/{}", file["sha256"].as_str().unwrap());
    let body = broker
        .http
        .get(broker.url(&url))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(body, big);
    let (status, _) = broker
        .get(&format!("/v1/work/{id}/1/files/{}", "0".repeat(64)))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let output = upload(&broker, &node, id, "out/a%20b.txt", b"result").await;
    assert_eq!(
        (&output["path"], &output["size"]),
        (&json!("out/a b.txt"), &json!(6))
    );
    let done = |outputs: Value| json!({"node_id": node, "job_id": id, "attempt": 1, "exit_code": 0, "output": "1\n", "outputs": outputs});
    let missing = json!([{"path": "x", "size": 1, "sha256": "0".repeat(64)}]);
    assert_eq!(
        broker.post("/complete", done(missing)).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        broker.get(&format!("/v1/jobs/{id}/outputs")).await.0,
        StatusCode::CONFLICT
    );
    broker.ok("/complete", done(json!([output]))).await;

    let (_, view) = broker.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(
        (
            &view["status"],
            &view["exit_code"],
            &view["priority"],
            &view["outputs"],
            &view["node"]
        ),
        (
            &json!("completed"),
            &json!(0),
            &json!(9),
            &json!([output]),
            &json!(node)
        )
    );
    let (_, list) = broker.get(&format!("/v1/jobs/{id}/outputs")).await;
    assert_eq!(list["files"], json!([output]));
    let url = broker.url(&format!("/v1/jobs/{id}/outputs/out/a%20b.txt"));
    assert_eq!(
        broker.http.get(url).send().await.unwrap().text().await.unwrap(),
        "result"
    );
    assert_eq!(
        broker.get(&format!("/v1/jobs/{id}/outputs/out/b")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        broker.get(&format!("/v1/jobs/{id}/receipt")).await.0,
        StatusCode::NOT_FOUND
    );
    let (_, logs) = broker.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(logs, json!({"stdout": "1\n", "stderr": ""}));
}

#[tokio::test]
async fn files_may_come_in_json_too() {
    let broker = Service::start().await;
    let files = json!({"main.py": STANDARD.encode("print(1)"), "empty": ""});
    let id = broker
        .submit(json!({"files": files, "manifest": {"timeout": 5}}))
        .await;
    let node = broker.node("http://a").await;
    let work = broker.claim(&node).await;
    assert_eq!(
        (
            &work["id"],
            &work["timeout"],
            work["files"].as_array().unwrap().len()
        ),
        (&json!(id), &json!(5), 2)
    );
    for file in work["files"].as_array().unwrap() {
        let url = format!("/v1/work/{id}/1/files/{}", file["sha256"].as_str().unwrap());
        let body = broker
            .http
            .get(broker.url(&url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert_eq!(body.len() as u64, file["size"].as_u64().unwrap());
    }
}

#[tokio::test]
async fn a_dependant_gets_its_parents_outputs_as_files() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    let parent = broker.submit(json!({"code": "x", "outputs": ["o"]})).await;
    let child = broker
        .submit(json!({"code": "y", "after": [{"job": parent, "into": "in"}]}))
        .await;
    assert_eq!(broker.claim(&node).await["id"], parent);
    assert_eq!(
        broker.ok("/claim", json!({"node_id": node})).await,
        json!({"job": null})
    );
    let output = upload(&broker, &node, &parent, "o", b"made").await;
    let done = json!({"node_id": node, "job_id": parent, "exit_code": 0, "outputs": [output]});
    broker.ok("/complete", done).await;
    let work = broker.claim(&node).await;
    assert_eq!(
        (&work["id"], &work["parents"]),
        (&json!(child), &json!([{"into": "in", "files": [output]}]))
    );
    let url = format!("/v1/work/{child}/1/files/{}", output["sha256"].as_str().unwrap());
    assert_eq!(
        broker
            .http
            .get(broker.url(&url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "made"
    );
    assert_eq!(
        broker.get(&format!("/v1/jobs/{child}")).await.1["parents"],
        json!([parent])
    );

    // whoever waits for one that fails fails by its name
    let last = broker
        .submit(json!({"code": "z", "after": [{"job": child}]}))
        .await;
    let done = json!({"node_id": node, "job_id": child, "exit_code": 1});
    broker.ok("/complete", done).await;
    let (_, view) = broker.get(&format!("/status/{last}")).await;
    assert_eq!(view["status"], "failed");
    assert!(view["reason"].as_str().unwrap().contains(&child), "{view}");
}

#[tokio::test]
async fn a_parent_may_be_named_by_its_output_root() {
    name_by_output_root(&Service::start().await).await;
}

/// A job, another one that fails, and children that name them by what they left.
pub(crate) async fn name_by_output_root(broker: &Service) {
    let node = broker.node("http://a").await;
    let body = json!({"code": "x", "outputs": ["o"]});
    let (parent, failed) = (broker.submit(body.clone()).await, broker.submit(body).await);
    let mut roots = Vec::new();
    for (id, exit_code, made) in [(&parent, 0, b"made"), (&failed, 1, b"more")] {
        assert_eq!(broker.claim(&node).await["id"], *id);
        let output = upload(broker, &node, id, "o", made).await;
        let done = json!({"node_id": node, "job_id": id, "exit_code": exit_code, "output": "1\n", "outputs": [output]});
        broker.ok("/complete", done).await;
        let files = BTreeMap::from([(
            BundlePath::parse("o").unwrap(),
            InputFile {
                sha256: Sha256Hex::of(made),
                size_bytes: 4,
            },
        )]);
        roots.push(hex::encode(output_root(b"1\n", b"", &files).0));
    }
    let view = broker.get(&format!("/v1/jobs/{parent}")).await.1;
    assert_eq!(view["output_root"], json!(roots[0]), "{view}");
    let child = |root: &str| json!({"code": "y", "after": [{"content": root, "into": "in"}]});
    let id = broker.submit(child(&roots[0])).await;
    let work = broker.claim(&node).await;
    assert_eq!(
        (&work["id"], &work["parents"][0]["files"][0]["path"]),
        (&json!(id), &json!("o"))
    );
    assert_eq!(
        broker.get(&format!("/v1/jobs/{id}")).await.1["parents"],
        json!([parent])
    );
    // what came to nothing is nobody's parent, nor is what never was
    for root in [&roots[1], &"0".repeat(64)] {
        let (status, answer) = broker.post("/submit", child(root)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(root.as_str()),
            "{answer}"
        );
    }
    let batch = json!([child(&roots[0]), child(&roots[1])]);
    let answers = broker.ok("/v1/jobs/batch", batch).await;
    assert_eq!(answers[0]["status"], "pending", "{answers}");
    assert!(answers[1]["error"].is_string(), "{answers}");
}

#[tokio::test]
async fn a_batch_with_many_files_is_no_one_record() {
    let broker = Service::start().await;
    let before = broker.journal_bytes();
    let file = |number: usize| format!("{number:05}{}", "x".repeat(50_000));
    let job = |number: usize| {
        let body = STANDARD.encode(file(number));
        json!({"manifest": {"entrypoint": "a.py"}, "files": {"a.py": body}})
    };
    let jobs: Vec<Value> = (0..450).map(job).collect();
    let answers = broker.ok("/v1/jobs/batch", Value::Array(jobs)).await;
    let answers = answers.as_array().unwrap();
    assert!(answers.len() == 450 && answers.iter().all(|it| it["status"] == "pending"));
    assert_eq!(broker.journal_bytes(), before, "22 MB of files in one record");
    // those that came with their jobs, and those that were stored before them
    let node = broker.node("http://a").await;
    for number in 0..150 {
        let work = broker.claim(&node).await;
        let (id, sha256) = (
            work["id"].as_str().unwrap(),
            work["files"][0]["sha256"].as_str().unwrap(),
        );
        let url = broker.url(&format!("/v1/work/{id}/1/files/{sha256}"));
        let body = broker.http.get(url).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(body, file(number));
        let done = json!({"node_id": node, "job_id": id, "exit_code": 0, "outputs": []});
        broker.ok("/complete", done).await;
    }
}

#[tokio::test]
async fn a_batch_answers_for_each_job_and_a_key_names_one() {
    let broker = Service::start().await;
    let bodies = json!([{"code": "a"}, {"timeout": 1}, 7, {"code": "b", "idempotency_key": "k"}]);
    let answer = broker.ok("/v1/jobs/batch", bodies).await;
    let answers = answer.as_array().unwrap();
    let accepted: Vec<bool> = answers.iter().map(|it| it["status"] == "pending").collect();
    assert_eq!(accepted, [true, false, false, true], "{answer}");
    assert!(answers[1]["error"].is_string() && answers[2]["error"].is_string());
    let submit = |client: &'static str| {
        let request = broker
            .http
            .post(broker.url("/submit"))
            .header("Idempotency-Key", "k");
        let request = request.header("X-Client", client).json(&json!({"code": "c"}));
        async move { request.send().await.unwrap().json::<Value>().await.unwrap()["job_id"].clone() }
    };
    let (first, again, other) = (submit("a").await, submit("a").await, submit("b").await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    // the batch's client is this address, which has used the key before
    let same = broker.submit(json!({"code": "b", "idempotency_key": "k"})).await;
    assert_eq!(answers[3]["job_id"], same);
}

#[tokio::test]
async fn a_key_that_names_one_job_is_refused_for_another() {
    let broker = Service::start().await;
    let first = broker
        .submit(json!({"code": "a", "args": ["1"], "idempotency_key": "k"}))
        .await;
    for other in [
        json!({"code": "b", "args": ["1"], "idempotency_key": "k"}),
        json!({"code": "a", "idempotency_key": "k"}),
        json!({"code": "a", "args": ["1"], "replicas": 3, "idempotency_key": "k"}),
        json!({"files": {"main.py": ""}, "idempotency_key": "k"}),
    ] {
        let (status, answer) = broker.post("/submit", other).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(
            answer["error"].as_str().unwrap().contains("another job"),
            "{answer}"
        );
    }
    // how urgent it is, or how long it may take, makes no other job of it
    let again = json!({"code": "a", "args": ["1"], "timeout": 7, "priority": 9, "idempotency_key": "k"});
    assert_eq!(broker.submit(again.clone()).await, first);
    let batch = json!([
        {"code": "c", "idempotency_key": "k"},
        again,
        {"code": "d", "idempotency_key": "l"},
        {"code": "e", "idempotency_key": "l"},
    ]);
    let answer = broker.ok("/v1/jobs/batch", batch).await;
    let is_refused: Vec<bool> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["error"].is_string())
        .collect();
    assert_eq!(is_refused, [true, false, false, true], "{answer}");
    let (_, jobs) = broker.get("/v1/jobs").await;
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
    // the order of a form's files does not count, their content does
    let form = async |first: &str, files: &[(&str, &[u8])]| {
        let options = json!({"idempotency_key": first}).to_string();
        let parts = [
            ("manifest", r#"{"entrypoint": "a.py"}"#),
            ("options", options.as_str()),
        ];
        broker.submit_form(files, &parts).await
    };
    let sent = form("f", &[("a.py", b"1"), ("b.py", b"2")]).await;
    assert_eq!(sent, form("f", &[("b.py", b"2"), ("a.py", b"1")]).await);
    let (status, _) = form("f", &[("a.py", b"1"), ("b.py", b"3")]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn outputs_that_no_disk_can_hold_are_refused() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.node("http://a").await;
    broker.claim(&node).await;
    let file = upload(&broker, &node, &id, "a", b"1").await;
    let mut inside = file.clone();
    inside["path"] = json!("a/b");
    let body =
        json!({"node_id": node, "job_id": id, "attempt": 1, "exit_code": 0, "outputs": [file, inside]});
    let (status, answer) = broker.post("/complete", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert_eq!(broker.get(&format!("/status/{id}")).await.1["status"], "assigned");
}

#[tokio::test]
async fn jobs_are_listed_by_pages_status_and_client() {
    let broker = Service::start().await;
    let mut ids = Vec::new();
    for at in 0..5 {
        let request = broker
            .http
            .post(broker.url("/submit"))
            .json(&json!({"code": "x"}));
        let client = if at % 2 == 0 { "even" } else { "odd" };
        let answer = request.header("X-Client", client).send().await.unwrap();
        ids.push(
            answer.json::<Value>().await.unwrap()["job_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/jobs?limit=2".to_owned();
    loop {
        let (status, page) = broker.get(&path).await;
        assert_eq!(status, StatusCode::OK);
        seen.extend(
            page["jobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it["job_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/jobs?limit=2&after={next}");
    }
    assert_eq!(seen, ids);
    let count = async |query: &str| {
        broker.get(&format!("/v1/jobs?{query}")).await.1["jobs"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (
            count("client=odd").await,
            count("status=pending").await,
            count("status=failed").await
        ),
        (2, 5, 0)
    );
    for bad in ["status=new", "limit=x", "after=x", "colour=1"] {
        assert_eq!(
            broker.get(&format!("/v1/jobs?{bad}")).await.0,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_drained_node_ends_what_it_has_and_takes_nothing_new() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    let held = broker.submit(json!({"code": "x"})).await;
    broker.claim(&node).await;
    broker.ok(&format!("/v1/nodes/{node}/drain"), json!({})).await;
    broker.submit(json!({"code": "y"})).await;
    assert_eq!(
        broker.ok("/heartbeat", json!({"node_id": node})).await["drain"],
        true
    );
    assert_eq!(
        broker.ok("/claim", json!({"node_id": node})).await,
        json!({"job": null})
    );
    assert_eq!(broker.get("/v1/nodes").await.1["nodes"][0]["status"], "draining");
    broker
        .ok(
            "/complete",
            json!({"node_id": node, "job_id": held, "exit_code": 0}),
        )
        .await;
    broker.ok(&format!("/v1/nodes/{node}/resume"), json!({})).await;
    assert!(broker.claim(&node).await["id"].is_string());
}

#[tokio::test]
async fn a_node_that_was_drained_while_lost_comes_back_drained_also_after_a_restart() {
    let broker = Service::start_with(|it| it.node_timeout = 1).await;
    let node = broker.node("http://a").await;
    let listed = async |broker: &Service| broker.get("/v1/nodes").await.1["nodes"][0].clone();
    while listed(&broker).await["status"] != "lost" {
        tokio::task::yield_now().await;
    }
    broker.ok(&format!("/v1/nodes/{node}/drain"), json!({})).await;
    let shown = listed(&broker).await;
    assert_eq!(
        [&shown["status"], &shown["draining"]],
        [&json!("lost"), &json!(true)]
    );
    let broker = broker.restart().await;
    assert_eq!(broker.node("http://a").await, node);
    assert_eq!(listed(&broker).await["status"], "draining");
    broker.submit(json!({"code": "x"})).await;
    assert_eq!(
        broker.ok("/claim", json!({"node_id": node})).await,
        json!({"job": null})
    );
    broker.ok(&format!("/v1/nodes/{node}/resume"), json!({})).await;
    assert!(broker.claim(&node).await["id"].is_string());
    assert_eq!(listed(&broker).await["draining"], false);
}

#[tokio::test]
async fn a_manifest_among_the_files_says_where_a_job_can_go() {
    let broker = Service::start().await;
    let node = broker.node("http://plain").await;
    let own = br#"{"entrypoint": "run.sh", "environment": "ml-basic"}"#;
    let files: [(&str, &[u8]); 2] = [("run.sh", b"true"), ("job.json", own)];
    let (status, answer) = broker.submit_form(&files, &[]).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let encoded: BTreeMap<&str, String> = files
        .iter()
        .map(|(name, bytes)| (*name, STANDARD.encode(bytes)))
        .collect();
    broker.submit(json!({"files": encoded})).await;
    // it has no environments
    assert_eq!(
        broker.ok("/claim", json!({"node_id": node})).await,
        json!({"job": null})
    );
    let sent = [("manifest", r#"{"entrypoint": "run.sh"}"#)];
    let (_, answer) = broker.submit_form(&files, &sent).await;
    assert_eq!(broker.claim(&node).await["id"], answer["job_id"]);
    let bad: [(&str, &[u8]); 2] = [("run.sh", b"true"), ("job.json", b"{")];
    let (status, answer) = broker.submit_form(&bad, &[]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
}
