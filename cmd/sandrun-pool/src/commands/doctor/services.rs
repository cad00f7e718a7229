//! Services over HTTP: executor, manager, broker, coordinator.

use std::path::Path;

use client_sdk::pool::{Kind, PoolClient};
use sandrun_executor::{ExecutorClient, without_credentials, worker_key};
use serde_json::Value;

use super::{ANSWER, Finding, Findings};
use crate::exit::words;

/// What the finding about the executor's key is called.
const KEY: &str = "executor's key";

/// Most bytes of an answer.
const LARGEST_ANSWER: usize = 1 << 20;

/// What `GET url/health` is answered with, and its status; an error is in words.
async fn health(url: &str) -> Result<(u16, Value), String> {
    ask(url, "health").await
}

/// What `GET url/path` is answered with.
async fn ask(url: &str, path: &str) -> Result<(u16, Value), String> {
    let http = reqwest::Client::builder()
        .timeout(ANSWER)
        .build()
        .map_err(|error| words(&error.into()))?;
    let url = format!("{}/{path}", url.trim().trim_end_matches('/'));
    let answer = http.get(url).send().await.map_err(|error| {
        if error.is_timeout() {
            format!("no answer within {} s", ANSWER.as_secs())
        } else {
            words(&error.into())
        }
    })?;
    let status = answer.status().as_u16();
    let body = whole(answer, path).await?;
    let body = serde_json::from_slice(&body)
        .map_err(|_| format!("GET /{path} is answered with {status}, and with no JSON"))?;
    Ok((status, body))
}

/// The body of an answer, which has to have an end.
async fn whole(mut answer: reqwest::Response, path: &str) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| words(&error.into()))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(format!("what GET /{path} is answered with does not end"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An address as it is shown: without what might be a password or a key.
fn shown(url: &str) -> String {
    let url = without_credentials(url.trim());
    let place = url.split(['?', '#']).next().unwrap_or_default();
    place.trim_end_matches('/').to_owned()
}

/// What a service says is wrong with itself.
fn complaints(what: &str, status: u16, body: &Value) -> Findings {
    let checks = body["checks"].as_array().into_iter().flatten();
    let mut found: Findings = checks
        .filter(|check| check["ok"] == false)
        .map(|check| {
            let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
            Finding::fail(format!("{what}, {}", text("name")), text("seen"), text("do"))
        })
        .collect();
    if found.is_empty() && status != 200 {
        let seen = format!("GET /health is answered with {status}: {body}");
        found.push(Finding::fail(what, seen, "look at its log"));
    }
    found
}

/// The executor: who it is, what it offers.
pub(super) async fn executor(url: &str, key: Option<&Path>) -> Findings {
    let what = "executor";
    let todo = "start it (sandrun-pool sandrun), or give its address with --sandrun-url";
    // also chooses TLS for the process, without which no client can be made
    let refused = |seen: String| {
        let its_key = key.map(|_| Finding::skip(KEY, "the executor can't be asked"));
        let fail = Finding::fail(what, seen, todo);
        [fail].into_iter().chain(its_key).collect()
    };
    if let Err(error) = ExecutorClient::new(url) {
        return refused(words(&error.into()));
    }
    let (status, body) = match health(url).await {
        Ok(answer) => answer,
        Err(error) => return refused(format!("{}: {error}", shown(url))),
    };
    let Some(classes) = body["classes"].as_object() else {
        return refused(format!(
            "what answers at {} names no execution classes",
            shown(url)
        ));
    };
    let names: Vec<&str> = classes.keys().map(String::as_str).collect();
    let worker = body["worker_id"].as_str();
    let mut found = vec![Finding::ok(
        what,
        format!(
            "{} offers {}; worker {}",
            shown(url),
            names.join(", "),
            worker.unwrap_or("anonymous")
        ),
    )];
    found.extend(complaints(what, status, &body));
    if let Some(path) = key {
        found.push(own_key(path, worker));
    } else if worker.is_none() {
        found.push(Finding::warn(
            KEY,
            "it is anonymous and signs no receipts: enough for a broker, not for the market or a trusted pool",
            "start it with --worker-key FILE",
        ));
    }
    found
}

/// Whether the executor has the key of the file.
fn own_key(path: &Path, worker: Option<&str>) -> Finding {
    let what = KEY;
    match worker_key::load(path) {
        Ok(key) if worker == Some(key.worker_id().to_string().as_str()) => {
            Finding::ok(what, format!("is that of {}", path.display()))
        }
        Ok(key) => Finding::fail(
            what,
            format!(
                "{} holds {}, which the executor is not",
                path.display(),
                key.worker_id()
            ),
            "start the executor with this file, or name the executor's own with --worker-key",
        ),
        // said by the check of the key files
        Err(_) => Finding::skip(what, "the worker key can't be used"),
    }
}

/// A market's manager.
pub(super) async fn manager(url: &str) -> Findings {
    let what = "manager";
    match health(url).await {
        Ok((200, body)) if body["head"].is_object() => {
            let block = &body["head"]["block"]["number"];
            vec![Finding::ok(what, format!("{} is at block {block}", shown(url)))]
        }
        Ok((status, body)) => {
            let mut found = complaints(what, status, &body);
            if found.is_empty() {
                let seen = format!("what answers at {} is no manager", shown(url));
                found.push(Finding::fail(what, seen, "give its address with --pool"));
            }
            found
        }
        Err(error) => vec![Finding::warn(
            what,
            format!("{}: {error}", shown(url)),
            "start it (sandrun-pool pool), or leave --pool out: every command reads the chain without one",
        )],
    }
}

/// A broker, a coordinator or an executor.
pub(super) async fn pool(url: &str) -> Findings {
    let what = "service";
    let todo = "start it, or give its address with --to";
    let client = match tokio::time::timeout(ANSWER, PoolClient::connect(url, None)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return vec![Finding::fail(what, words(&error.into()), todo)],
        Err(_) => {
            let seen = format!("no answer within {} s", ANSWER.as_secs());
            return vec![Finding::fail(what, seen, todo)];
        }
    };
    let kind = client.service().kind.word();
    let version = client.service().version.as_deref().unwrap_or("unknown");
    let mut found = vec![Finding::ok(
        kind,
        format!("{} answers, version {version}", client.url()),
    )];
    match health(url).await {
        Ok((status, body)) => found.extend(complaints(kind, status, &body)),
        Err(error) => found.push(Finding::fail(kind, error, "look at its log")),
    }
    if client.service().kind == Kind::Coordinator {
        found.extend(workers(url).await);
    }
    found
}

/// A coordinator without a healthy worker. One that does not say how many it has is no complaint.
async fn workers(url: &str) -> Option<Finding> {
    let (_, body) = ask(url, "pool").await.ok()?;
    let (total, healthy) = (body["total_workers"].as_u64()?, body["healthy_workers"].as_u64()?);
    (healthy == 0).then(|| {
        let seen = match total {
            0 => "it has no worker, and jobs wait: its list of workers is empty, or no entry of it is valid".to_owned(),
            many => format!("none of its {many} workers is healthy, and jobs wait"),
        };
        let todo = "look at its log, which names entries that it leaves out, correct its workers.json, and start the \
                    executors with their keys";
        Finding::warn("coordinator's workers", seen, todo)
    })
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        assert_eq!(
            shown("http://user:secret@127.0.0.1:1/a/?key=secret"),
            "http://127.0.0.1:1/a"
        );
        assert_eq!(shown("http://127.0.0.1:8443"), "http://127.0.0.1:8443");
    }
}
