//! With a broker that knows nothing but the wire description.

use std::time::Duration;

use anyhow::Result;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::broker::Broker;
use super::scene::Scene;

fn job(id: &str, code: &str, interpreter: &str) -> Value {
    json!({"id": id, "code": code, "interpreter": interpreter})
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_jobs_are_run_one_by_one_and_completed_in_the_five_old_fields() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::existing().await?);
    broker.submit(job(
        "one",
        "import sys\nprint('out')\nprint('err', file=sys.stderr)",
        "python3",
    ));
    broker.submit(job("two", "echo bash; exit 3", "bash"));
    broker.submit(job("three", "print(1)", "cobol"));
    let mut slow = job("four", "while :; do :; done", "bash");
    slow["timeout"] = json!(1);
    broker.submit(slow);
    let node = scene.node(&broker.url, |_| ());

    let one = broker.completion("one").await?;
    assert_eq!(
        one,
        json!({"node_id": "node-1", "job_id": "one", "output": "out\n", "error": "err\n", "exit_code": 0})
    );
    let two = broker.completion("two").await?;
    assert_eq!((&two["output"], &two["exit_code"]), (&json!("bash\n"), &json!(3)));
    let three = broker.completion("three").await?;
    assert_ne!(three["exit_code"], 0);
    assert!(
        three["error"].as_str().is_some_and(|it| it.contains("cobol")),
        "{three}"
    );
    let four = broker.completion("four").await?;
    assert_eq!(four["exit_code"], 137);
    assert!(
        four["error"]
            .as_str()
            .is_some_and(|it| it.contains("longer than 1")),
        "{four}"
    );

    let registration = broker.look(|seen| seen.registrations[0].clone());
    for field in ["cpu_cores", "memory_gb", "gpu", "interpreters"] {
        assert!(!registration["capabilities"][field].is_null(), "{registration}");
    }
    // once there is nothing, it asks at its own pace, and not before
    let seen = broker.look(|seen| seen.claims.len());
    broker
        .until("more claims", |it| (it.claims.len() >= seen + 3).then_some(()))
        .await?;
    broker.look(|it| {
        for pair in it.claims[seen..].windows(2) {
            let pause = pair[1].0 - pair[0].0;
            assert!(pause >= Duration::from_millis(200), "{pause:?}");
        }
        assert_eq!(it.unknown, Vec::<String>::new());
    });
    node.stop().await?;
    assert_eq!(scene.kept_answers()?, 0);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_broker_has_forgotten_registers_again() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::existing().await?);
    let node = scene.node(&broker.url, |_| ());
    broker
        .until("claims", |seen| (seen.claims.len() >= 2).then_some(()))
        .await?;
    broker.script(|script| script.known_node = None);
    broker.submit(job("after", "echo again", "bash"));
    let completion = broker.completion("after").await?;
    assert_eq!(completion["output"], "again\n");
    broker.look(|seen| {
        assert!(seen.registrations.len() >= 2);
        assert_eq!(
            seen.registrations[0]["endpoint"],
            seen.registrations[1]["endpoint"]
        );
        let last = format!("node-{}", seen.registrations.len());
        assert_eq!(completion["node_id"], last);
    });
    node.stop().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_told_again_after_kill_9_until_the_broker_takes_it() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::existing().await?);
    broker.script(|script| script.complete_status = Some(StatusCode::SERVICE_UNAVAILABLE));
    broker.submit(job("once", "import uuid; print(uuid.uuid4())", "python3"));
    let mut node = scene.process(&broker.url)?;
    // the second try comes after the answer was put down
    let first = broker
        .until("two tries", |seen| {
            (seen.completions.len() >= 2).then(|| seen.completions[0].clone())
        })
        .await?;
    node.kill().await?;
    assert_eq!(scene.kept_answers()?, 1);

    let before = broker.look(|seen| seen.completions.len());
    broker.script(|script| script.complete_status = None);
    let mut node = scene.process(&broker.url)?;
    let again = broker
        .until("another try", |seen| seen.completions.get(before).cloned())
        .await?;
    assert_eq!(again, first);
    assert_ne!(first["output"], "");
    // it goes on, and says nothing twice
    broker.submit(job("next", "echo next", "bash"));
    broker.completion("next").await?;
    assert_eq!(
        broker.look(|seen| (seen.completions.len(), seen.given.len())),
        (before + 2, 2)
    );
    drop(node.stdin.take());
    assert!(node.wait().await?.success());
    assert_eq!(scene.kept_answers()?, 0);
    scene.end().await
}
