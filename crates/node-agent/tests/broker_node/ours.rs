//! With a broker that speaks the node protocol.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::http::StatusCode;
use sandrun_executor::decode_signature;
use sandrun_types::{Manifest, Receipt, Sha256Hex, WorkerId};
use serde_json::{Value, json};

use super::broker::{Broker, decode};
use super::scene::{Scene, executor_process};

fn job(id: &str, code: &str) -> Value {
    json!({"id": id, "attempt": 1, "code": code, "interpreter": "bash", "args": [], "timeout": 60})
}

const ENDLESS: &str = "echo begun; while :; do sleep 1; done";

#[tokio::test(flavor = "multi_thread")]
async fn several_jobs_run_at_once_and_a_line_arrives_while_they_run() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let node = scene.node(&broker.url, |config| config.max_concurrent_jobs = 3);
    let chatty = "echo one; sleep 2; echo two >&2; sleep 2; echo three";
    for id in ["a", "b", "c", "d"] {
        broker.submit(job(id, chatty));
    }
    let first = broker.completion("a").await?;
    assert_eq!(
        (&first["output"], &first["error"], &first["attempt"]),
        (&json!("one\nthree\n"), &json!("two\n"), &json!(1))
    );
    broker.look(|seen| {
        let given = seen.given.iter().filter(|(_, id)| id != "d").count();
        assert_eq!(given, 3, "the others are under way");
    });
    for id in ["b", "c"] {
        broker.completion(id).await?;
    }
    broker.look(|seen| {
        for id in ["a", "b", "c"] {
            let work = format!("{id}/1");
            let lines: Vec<_> = seen.logs.iter().filter(|(_, of, _)| *of == work).collect();
            // alone, so it came while the program slept
            let first = lines.first().map(|(.., update)| &update["stdout"]);
            assert_eq!(first, Some(&json!({"from": 0, "text": "one\n"})));
            let second = lines.iter().find(|(.., update)| !update["stderr"].is_null());
            assert_eq!(
                second.map(|(.., update)| &update["stderr"]),
                Some(&json!({"from": 0, "text": "two\n"}))
            );
        }
    });
    broker.completion("d").await?;
    // while all slots are taken nothing is asked for
    let most = broker.look(|seen| seen.claims.iter().filter_map(|(_, it)| it["max"].as_u64()).max());
    assert_eq!(most, Some(3));
    node.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_told_whole_beside_it() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let node = scene.node(&broker.url, |_| ());
    broker.submit(job("a", "printf 'a\\xffb'; printf 'fine' >&2"));
    let done = broker.completion("a").await?;
    assert_eq!(
        (&done["output"], &done["error"]),
        (&json!("a\u{fffd}b"), &json!("fine"))
    );
    assert_eq!(decode(&done["output_base64"])?, b"a\xffb");
    assert_eq!(done.get("error_base64"), None, "a text needs no other form");
    let receipt = Receipt::parse(&decode(&done["receipt"])?)?;
    let root = sandrun_types::output_root(b"a\xffb", b"fine", &BTreeMap::new());
    assert_eq!(receipt.output_root.map(|it| it.0), Some(root.0));
    node.stop().await?;
    scene.end().await
}

fn file(path: &str, bytes: &[u8], files: &mut BTreeMap<String, Vec<u8>>) -> Value {
    let hash = Sha256Hex::of(bytes).to_string();
    files.insert(hash.clone(), bytes.to_vec());
    json!({"path": path, "size": bytes.len(), "sha256": hash})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_runs_with_its_parents_files_and_leaves_outputs_and_a_receipt() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let mut files = BTreeMap::new();
    let code = b"cat data/in.txt prev/x/y.txt > out.txt; mkdir deep; echo \"$1\" > 'deep/a b.txt'; echo no > other.log";
    let manifest = json!({"entrypoint": "go.sh", "args": ["hello"], "outputs": ["*.txt"]});
    let bundle = json!({
        "id": "bundle", "attempt": 7, "timeout": 30, "manifest": manifest,
        "files": [file("go.sh", code, &mut files), file("data/in.txt", b"own\n", &mut files)],
        "parents": [{"into": "prev", "files": [file("x/y.txt", b"parent\n", &mut files)]}],
    });
    let broken = json!({
        "id": "broken", "attempt": 1, "manifest": manifest,
        "files": [{"path": "go.sh", "size": 4, "sha256": Sha256Hex::of(b"what it should be")}],
    });
    let wrong = Sha256Hex::of(b"what it should be").to_string();
    files.insert(wrong, b"else".to_vec());
    broker.script(|script| script.files = files);
    broker.submit(bundle);
    broker.submit(broken);
    let node = scene.node(&broker.url, |_| ());

    let done = broker.completion("bundle").await?;
    assert_eq!(
        (&done["exit_code"], &done["attempt"]),
        (&json!(0), &json!(7)),
        "{done}"
    );
    broker.look(|seen| {
        let uploads = &seen.uploads;
        assert_eq!(uploads["bundle/7/out.txt"], b"own\nparent\n");
        assert_eq!(uploads["bundle/7/deep/a b.txt"], b"hello\n");
        assert!(!uploads.contains_key("bundle/7/other.log"));
    });
    let worker: WorkerId = serde_json::from_value(done["worker_id"].clone())?;
    let signature = done["signature"].as_str().and_then(decode_signature);
    let receipt = Receipt::verify(
        &decode(&done["receipt"])?,
        &signature.context("unsigned")?,
        worker,
    )?;
    let sent = Manifest::parse(manifest.to_string().as_bytes())?;
    assert_eq!(receipt.manifest_sha256.0, sent.digest().0);
    let outputs = done["outputs"].as_array().context("no outputs")?;
    for output in outputs {
        let path = serde_json::from_value(output["path"].clone())?;
        let stated = receipt.output_files.get(&path).context("not in the receipt")?;
        assert_eq!(output["sha256"], json!(stated.sha256));
        assert_eq!(output["size"], stated.size_bytes);
    }
    // the job's own files are outputs only where it changed them
    assert!(outputs.iter().any(|it| it["path"] == "out.txt"), "{outputs:?}");

    let (work, failure) = broker
        .until("the failure", |seen| seen.failures.first().cloned())
        .await?;
    assert_eq!((work.as_str(), &failure["retry"]), ("broken/1", &json!(true)));
    node.stop().await?;
    assert_eq!(std::fs::read_dir(scene.data().join("work"))?.count(), 0);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_on_the_executor_and_nobody_is_told_about_it() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    broker.submit(job("endless", ENDLESS));
    let node = scene.node(&broker.url, |_| ());
    broker
        .until("a sign of life", |seen| (!seen.logs.is_empty()).then_some(()))
        .await?;
    let named = json!([{"id": "endless", "attempt": 1}]);
    broker
        .until("its name in a heartbeat", |seen| {
            seen.heartbeats.iter().any(|it| it["jobs"] == named).then_some(())
        })
        .await?;
    broker.script(|script| script.cancel = vec![json!({"id": "endless", "attempt": 1})]);
    // the slot is free again only when the run is told to end
    broker.submit(job("next", "echo next"));
    let next = broker.completion("next").await?;
    assert_eq!(next["output"], "next\n");
    broker.look(|seen| {
        assert_eq!((seen.completions.len(), seen.failures.len()), (1, 0), "{seen:#?}");
    });
    node.stop().await?;
    assert_eq!(scene.executor.stats().await?.system.active_jobs, 0);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_takes_nothing_until_it_is_resumed() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    broker.script(|script| script.drain = true);
    let node = scene.node(&broker.url, |_| ());
    // the claim that waited when it learnt of it gets nothing, and no other follows
    broker
        .until("heartbeats", |seen| (seen.heartbeats.len() >= 3).then_some(()))
        .await?;
    broker.submit(job("patient", "echo at last"));
    let beats = broker.look(|seen| seen.heartbeats.len());
    broker
        .until("more heartbeats", |seen| {
            (seen.heartbeats.len() >= beats + 3).then_some(())
        })
        .await?;
    assert_eq!(broker.look(|seen| seen.given.len()), 0);
    broker.script(|script| script.drain = false);
    assert_eq!(broker.completion("patient").await?["output"], "at last\n");
    node.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_end_answers_what_ends_and_gives_the_rest_back() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    broker.submit(job("endless", ENDLESS));
    broker.submit(job("short", "echo begun; sleep 2; echo done"));
    let node = scene.node(&broker.url, |config| config.max_concurrent_jobs = 4);
    broker
        .until("both to run", |seen| {
            let begun = |work: &str| seen.logs.iter().any(|(_, of, _)| of == work);
            (begun("endless/1") && begun("short/1")).then_some(())
        })
        .await?;
    let told = Instant::now();
    node.stop().await?;
    assert!(told.elapsed() < Duration::from_secs(10));
    broker.look(|seen| {
        assert_eq!(seen.completions.len(), 1, "{seen:#?}");
        assert_eq!(seen.completions[0]["output"], "begun\ndone\n");
        assert_eq!(seen.failures.len(), 1, "{seen:#?}");
        let (work, failure) = &seen.failures[0];
        assert_eq!((work.as_str(), &failure["retry"]), ("endless/1", &json!(true)));
    });
    assert_eq!(scene.executor.stats().await?.system.active_jobs, 0);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_refused_by_its_number_is_dropped() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    broker.script(|script| script.complete_status = Some(StatusCode::CONFLICT));
    broker.submit(job("late", "echo late"));
    let node = scene.node(&broker.url, |_| ());
    broker.completion("late").await?;
    broker.script(|script| script.complete_status = None);
    broker.submit(job("next", "echo next"));
    broker.completion("next").await?;
    broker.look(|seen| assert_eq!(seen.completions.len(), 2, "{seen:#?}"));
    node.stop().await?;
    assert_eq!(scene.kept_answers()?, 0);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_executor_refuses_is_given_back_for_good_unless_others_may_have_what_it_lacks() -> Result<()>
{
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let mut files = BTreeMap::new();
    let greedy = json!({
        "id": "greedy", "attempt": 1, "manifest": {"memory_mb": 1_000_000},
        "files": [file("run.sh", b"echo", &mut files)],
    });
    let elsewhere = json!({
        "id": "elsewhere", "attempt": 1, "manifest": {"environment": "squares"},
        "files": [file("run.sh", b"echo", &mut files)],
    });
    broker.script(|script| script.files = files);
    broker.submit(greedy);
    broker.submit(json!({"id": "odd", "attempt": 3, "code": ["no text"]}));
    broker.submit(elsewhere);
    let node = scene.node(&broker.url, |_| ());
    let failures = broker
        .until("all", |seen| {
            (seen.failures.len() == 3).then(|| seen.failures.clone())
        })
        .await?;
    for (work, failure) in failures {
        // another node's list may have the name
        let is_elsewhere = work == "elsewhere/1";
        assert_eq!(failure["retry"], is_elsewhere, "{work}: {failure}");
        let words = failure["reason"].as_str().unwrap_or_default();
        match work.as_str() {
            "elsewhere/1" => assert!(words.contains("no environment `squares`"), "{words}"),
            "greedy/1" => assert!(words.contains("memory"), "{words}"),
            other => assert_eq!(other, "odd/3"),
        }
    }
    node.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_life_that_calls_a_claim_answered_lists_what_it_brought() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let node = scene.node(&broker.url, |config| config.max_concurrent_jobs = 2);
    broker
        .until("a first sign of life", |seen| seen.heartbeats.first().map(drop))
        .await?;
    broker.submit(job("endless", ENDLESS));
    let listed = |heartbeat: &Value| heartbeat["jobs"] == json!([{"id": "endless", "attempt": 1}]);
    broker
        .until("one that lists it", |seen| {
            seen.heartbeats.iter().any(listed).then_some(())
        })
        .await?;
    let claims: Vec<u64> = broker.look(|seen| {
        let number = |(_, body): &(_, Value)| body["claim"].as_u64().unwrap();
        seen.claims.iter().map(number).collect()
    });
    assert!(claims.windows(2).all(|pair| pair[0] < pair[1]), "{claims:?}");
    broker.look(|seen| {
        let answered = |it: &Value| it["claims_answered_up_to"].as_u64().unwrap();
        // the job came with the last claim but the one that waits
        let last = seen
            .heartbeats
            .iter()
            .find(|it| listed(it))
            .map(answered)
            .unwrap();
        assert!(claims.contains(&last), "{last} of {claims:?}");
        for heartbeat in &seen.heartbeats {
            assert_eq!(listed(heartbeat), answered(heartbeat) >= last, "{heartbeat}");
        }
    });
    node.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_had_under_way_is_given_back_by_the_next_process() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    broker.submit(job("endless", ENDLESS));
    let mut node = scene.process(&broker.url)?;
    broker
        .until("its first line", |seen| (!seen.logs.is_empty()).then_some(()))
        .await?;
    node.kill().await?;
    assert_eq!(scene.executor.stats().await?.system.active_jobs, 1);
    let mut node = scene.process(&broker.url)?;
    let (work, failure) = broker
        .until("the failure", |seen| seen.failures.first().cloned())
        .await?;
    assert_eq!((work.as_str(), &failure["retry"]), ("endless/1", &json!(true)));
    // the run of the dead one is ended before
    assert_eq!(scene.executor.stats().await?.system.active_jobs, 0);
    broker.submit(job("next", "echo next"));
    broker.completion("next").await?;
    drop(node.stdin.take());
    assert!(node.wait().await?.success());
    let notes = std::fs::read_to_string(scene.data().join("attempts.jsonl"))?;
    let over = notes.lines().filter(|line| line.contains("\"over\""));
    assert_eq!(over.count(), 2, "{notes}");
    broker.look(|seen| assert_eq!((seen.failures.len(), seen.completions.len()), (1, 1)));
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_its_killed_executor_has_lost_is_run_again_under_the_same_attempt() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let port = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = port.local_addr()?;
    drop(port);
    let data = scene.folder.path().join("killed");
    let mut executor = executor_process(address, &data)?;
    broker.submit(job("lost", "echo one; sleep 2; echo two"));
    let node = scene.node(&broker.url, |config| {
        config.sandrun_url = format!("http://{address}")
    });
    broker
        .until("its first line", |seen| (!seen.logs.is_empty()).then_some(()))
        .await?;
    executor.kill().await?;
    let mut executor = executor_process(address, &data)?;
    let done = broker.completion("lost").await?;
    assert_eq!(
        (&done["output"], &done["exit_code"], &done["attempt"]),
        (&json!("one\ntwo\n"), &json!(0), &json!(1))
    );
    // an anonymous executor signs nothing
    assert!(done["signature"].is_null() && !done["receipt"].is_null());
    broker.look(|seen| {
        assert_eq!(
            (seen.completions.len(), seen.failures.len(), seen.given.len()),
            (1, 0, 1)
        );
        let texts = seen
            .logs
            .iter()
            .filter_map(|(.., it)| it["stdout"]["text"].as_str());
        assert!(
            "one\ntwo\n".starts_with(&texts.collect::<String>()),
            "{:?}",
            seen.logs
        );
    });
    node.stop().await?;
    drop(executor.stdin.take());
    executor.wait().await?;
    scene.end().await
}
