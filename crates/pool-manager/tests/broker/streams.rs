//! Live output, by server-sent events and by WebSocket.

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{PATIENCE, Service};

type Event = (String, Value);

/// Reads server-sent events until so many have come.
async fn events(stream: &mut reqwest::Response, text: &mut String, count: usize) -> Vec<Event> {
    events_until(stream, text, |all| all.len() >= count).await
}

/// Reads server-sent events until they are what is waited for. How many tell of a job's states depends on how many of
/// them pass between two looks.
async fn events_until(
    stream: &mut reqwest::Response,
    text: &mut String,
    enough: impl Fn(&[Event]) -> bool,
) -> Vec<Event> {
    let parse = |text: &str| {
        let event = |block: &str| {
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::trim)
            };
            let name = field("event:")?.to_owned();
            Some((name, serde_json::from_str(field("data:")?).unwrap()))
        };
        text.split_inclusive("\n\n")
            .filter(|it| it.ends_with("\n\n"))
            .filter_map(event)
            .collect::<Vec<_>>()
    };
    // a chunk may end in the midst of a character
    let mut rest = Vec::new();
    while !rest.is_empty() || !enough(&parse(text)) {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk())
            .await
            .unwrap()
            .unwrap();
        rest.extend(chunk.unwrap());
        if let Ok(whole) = std::str::from_utf8(&rest) {
            text.push_str(whole);
            rest.clear();
        }
    }
    parse(text)
}

#[tokio::test]
async fn lines_reach_the_client_while_the_job_runs() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.node("http://a").await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let mut stream = broker.http.get(&url).timeout(PATIENCE).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let first = events(&mut stream, &mut text, 1).await;
    assert_eq!(
        first[0],
        ("status".to_owned(), json!({"status": "pending", "attempt": null}))
    );
    let (mut socket, _) = connect_async(url.replace("http://", "ws://")).await.unwrap();

    broker.claim(&node).await;
    let path = format!("/v1/work/{id}/1/logs");
    broker
        .ok(
            &path,
            json!({"node_id": node, "stdout": {"from": 0, "text": "zwölf\n"}}),
        )
        .await;
    let printed = ("stdout".to_owned(), json!("zwölf\n"));
    events_until(&mut stream, &mut text, |all| all.contains(&printed)).await;
    assert_eq!(
        broker.get(&format!("/v1/jobs/{id}/logs")).await.1,
        json!({"stdout": "zwölf\n", "stderr": ""})
    );
    // a piece that was sent again prints nothing again
    let again = json!({"node_id": node, "stdout": {"from": 0, "text": "zwölf\n"}, "stderr": {"from": 0, "text": "e"}});
    broker.ok(&path, again).await;
    let done = json!({"node_id": node, "job_id": id, "exit_code": 0, "output": "zwölf\nend\n", "error": "e"});
    broker.ok("/complete", done).await;

    while let Some(chunk) = tokio::time::timeout(PATIENCE, stream.chunk())
        .await
        .unwrap()
        .unwrap()
    {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let all = events(&mut stream, &mut text, 0).await;
    let printed = |name: &str| {
        all.iter()
            .filter(|it| it.0 == name)
            .map(|it| it.1.as_str().unwrap())
            .collect::<String>()
    };
    assert_eq!(
        (printed("stdout").as_str(), printed("stderr").as_str()),
        ("zwölf\nend\n", "e")
    );
    let end = json!({"status": "completed", "reason": null, "exit_code": 0});
    assert_eq!(all.last().unwrap(), &("done".to_owned(), end.clone()));

    let mut stdout = String::new();
    let mut last = Value::Null;
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
        if let Message::Text(text) = message {
            last = serde_json::from_str(&text).unwrap();
            if last["event"] == "stdout" {
                stdout.push_str(last["data"].as_str().unwrap());
            }
        }
    }
    assert_eq!(stdout, "zwölf\nend\n");
    assert_eq!(last, json!({"event": "done", "data": end}));
}

#[tokio::test]
async fn a_client_that_comes_back_goes_on_where_it_was() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.node("http://a").await;
    broker.claim(&node).await;
    let path = format!("/v1/work/{id}/1/logs");
    broker
        .ok(
            &path,
            json!({"node_id": node, "stdout": {"from": 0, "text": "one\n"}}),
        )
        .await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let mut text = String::new();
    let mut stream = broker.http.get(&url).timeout(PATIENCE).send().await.unwrap();
    events(&mut stream, &mut text, 2).await;
    drop(stream);
    let last = text
        .lines()
        .find_map(|it| it.strip_prefix("id: "))
        .unwrap()
        .to_owned();
    assert_eq!(last, "1.4.0");
    broker
        .ok(
            &path,
            json!({"node_id": node, "stdout": {"from": 4, "text": "two\n"}}),
        )
        .await;
    let done = json!({"node_id": node, "job_id": id, "exit_code": 0, "output": "one\ntwo\nthree\n"});
    broker.ok("/complete", done).await;
    let stream = broker
        .http
        .get(&url)
        .header("Last-Event-ID", last)
        .timeout(PATIENCE);
    let text = stream.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("two\\nthree") && !text.contains(r"one\n"), "{text}");
}

#[tokio::test]
async fn an_ended_job_is_told_at_once_and_whole() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.old_node("http://a").await;
    broker.ok("/claim", json!({"node_id": node})).await;
    broker
        .ok(
            "/complete",
            json!({"node_id": node, "job_id": id, "exit_code": 0, "output": "o", "error": "e"}),
        )
        .await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let text = broker
        .http
        .get(url)
        .timeout(PATIENCE)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let names: Vec<&str> = text.lines().filter_map(|it| it.strip_prefix("event: ")).collect();
    assert_eq!(names, ["stdout", "stderr", "done"], "{text}");
}

#[tokio::test]
async fn a_client_that_comes_back_hears_that_another_attempt_printed_from_the_start() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.node("http://a").await;
    broker.claim(&node).await;
    let one = json!({"node_id": node, "stdout": {"from": 0, "text": "one\n"}});
    broker.ok(&format!("/v1/work/{id}/1/logs"), one).await;
    let lost = json!({"node_id": node, "reason": "gone", "retry": true});
    broker.ok(&format!("/v1/work/{id}/1/fail"), lost).await;
    broker.claim(&node).await;
    let done = json!({"node_id": node, "job_id": id, "attempt": 2, "exit_code": 0, "output": "one\ntwo\n"});
    broker.ok("/complete", done).await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let stream = broker.http.get(&url).header("Last-Event-ID", "1.4.0");
    let answer = stream.timeout(PATIENCE).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let data = text.lines().filter_map(|it| it.strip_prefix("data: "));
    let data: Vec<Value> = data.map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(data[0], json!({"status": "completed", "attempt": 2}), "{text}");
    assert_eq!(data[1], "one\ntwo\n", "{text}");
}

#[tokio::test]
async fn a_client_hears_the_output_that_counts_where_it_followed_another_replica() {
    let broker = Service::start().await;
    let id = broker
        .submit(json!({"code": "x", "replicas": 2, "quorum": 2}))
        .await;
    let (a, b) = (broker.node("http://a").await, broker.node("http://b").await);
    let print = async |attempt: u32, node: &str, from: u64, text: &str| {
        let body = json!({"node_id": node, "stdout": {"from": from, "text": text}});
        broker.ok(&format!("/v1/work/{id}/{attempt}/logs"), body).await;
    };
    broker.claim(&a).await;
    print(1, &a, 0, "one\n").await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let mut stream = broker.http.get(&url).timeout(PATIENCE).send().await.unwrap();
    let mut text = String::new();
    let printed = |all: &[Event], what: &str| all.iter().any(|(_, data)| data == what);
    events_until(&mut stream, &mut text, |all| printed(all, "one\n")).await;
    // it is given to another one as well; who is followed goes on
    broker.claim(&b).await;
    print(1, &a, 4, "two\n").await;
    events_until(&mut stream, &mut text, |all| printed(all, "two\n")).await;
    print(2, &b, 0, "one\n").await;
    let attempts = |all: &[Event]| {
        let of = |(_, data): &Event| data["attempt"].as_u64();
        let mut attempts: Vec<u64> = all.iter().filter_map(of).collect();
        attempts.dedup();
        attempts
    };
    let heard = events_until(&mut stream, &mut text, |all| attempts(all).contains(&2)).await;
    assert_eq!(attempts(&heard), [1, 2], "{text}");
    for (attempt, node) in [(1, &a), (2, &b)] {
        let done = json!({"node_id": node, "job_id": id, "attempt": attempt, "exit_code": 0, "output": "one\ntwo\n"});
        broker.ok("/complete", done).await;
    }
    let is_done = |all: &[Event]| all.iter().any(|(name, _)| name == "done");
    let heard = events_until(&mut stream, &mut text, is_done).await;
    // whatever attempt counts: what follows the last notice of one is its output, once
    let last = heard
        .iter()
        .rposition(|(_, data)| data["attempt"].is_u64())
        .unwrap();
    let texts: String = heard[last..]
        .iter()
        .filter_map(|(_, data)| data.as_str())
        .collect();
    assert_eq!(texts, "one\ntwo\n", "{text}");
}

/// The text of a stream, and the length of its longest piece.
fn joined(all: &[Event], name: &str) -> (String, usize) {
    let pieces = all
        .iter()
        .filter(|it| it.0 == name)
        .filter_map(|it| it.1.as_str());
    let longest = pieces.clone().map(str::len).max().unwrap_or(0);
    (pieces.collect(), longest)
}

#[tokio::test]
async fn a_long_output_comes_in_pieces_whole_and_in_order() {
    const PIECE: usize = 64 << 10;
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.node("http://a").await;
    broker.claim(&node).await;
    let lines =
        |word: &str| -> String { (0..60_000).map(|at| format!("{word} {at}: ä€𝄞\n")).collect() };
    let (out, err) = (lines("out"), lines("err"));
    let sent =
        json!({"node_id": node, "stdout": {"from": 0, "text": out}, "stderr": {"from": 0, "text": err}});
    broker.ok(&format!("/v1/work/{id}/1/logs"), sent).await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let mut text = String::new();
    let mut stream = broker.http.get(&url).timeout(PATIENCE).send().await.unwrap();
    let is_there = |all: &[Event]| joined(all, "stderr").0.len() == err.len();
    let all = events_until(&mut stream, &mut text, is_there).await;
    for (name, whole) in [("stdout", &out), ("stderr", &err)] {
        let (text, longest) = joined(&all, name);
        assert!(text == *whole && longest <= PIECE, "{name}: {longest}");
    }
    let logs = broker.get(&format!("/v1/jobs/{id}/logs")).await.1;
    assert!(logs["stdout"] == *out && logs["stderr"] == *err);

    // who was in the midst of it goes on there, also when it has ended
    let ids: Vec<&str> = text.lines().filter_map(|it| it.strip_prefix("id: ")).collect();
    let last = ids[10];
    let (_, had) = last.split_once('.').unwrap();
    let had: usize = had.split('.').next().unwrap().parse().unwrap();
    let done = json!({"node_id": node, "job_id": id, "exit_code": 0, "output": out, "error": err});
    broker.ok("/complete", done).await;
    let stream = broker.http.get(&url).header("Last-Event-ID", last);
    let mut stream = stream.timeout(PATIENCE).send().await.unwrap();
    let mut text = String::new();
    let is_done = |all: &[Event]| all.last().is_some_and(|it| it.0 == "done");
    let all = events_until(&mut stream, &mut text, is_done).await;
    for (name, whole) in [("stdout", &out[had..]), ("stderr", &err[..])] {
        let (text, longest) = joined(&all, name);
        assert!(text == whole && longest <= PIECE, "{name}: {longest}");
    }
}

#[tokio::test]
async fn what_was_printed_is_of_one_attempt() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.node("http://a").await;
    broker.claim(&node).await;
    let one = json!({"node_id": node, "stdout": {"from": 0, "text": "of the first\n"}});
    broker.ok(&format!("/v1/work/{id}/1/logs"), one).await;
    let lost = json!({"node_id": node, "reason": "gone", "retry": true});
    broker.ok(&format!("/v1/work/{id}/1/fail"), lost).await;
    broker.claim(&node).await;
    let two = json!({"node_id": node, "stderr": {"from": 0, "text": "of the second\n"}});
    broker.ok(&format!("/v1/work/{id}/2/logs"), two).await;
    assert_eq!(
        broker.get(&format!("/v1/jobs/{id}/logs")).await.1,
        json!({"stdout": "", "stderr": "of the second\n"})
    );
}

#[tokio::test]
async fn a_websocket_of_another_version_is_told_which_one_is_known() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let asked = broker.http.get(broker.url(&format!("/v1/jobs/{id}/logs/stream")));
    let asked = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    .into_iter()
    .fold(asked, |asked, (name, value)| asked.header(name, value));
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), reqwest::StatusCode::UPGRADE_REQUIRED);
    assert_eq!(answer.headers()["sec-websocket-version"], "13");
}
