//! A stand-in for a node that says two things about each attempt at once, to two replicas: one of them counts at most, and
//! what counts is the job's result.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client_sdk::pool::{PoolClient, PoolJobId};
use serde_json::{Value, json};

use crate::load::{Ended, Load, PATIENCE, persist};

/// A request may hang with the process that it was sent to.
const ANSWER: Duration = Duration::from_secs(10);

struct Stub {
    http: reqwest::Client,
    replicas: Vec<SocketAddr>,
    turn: usize,
}

/// Submits jobs that only it can do, and does them, until the load is over.
pub(crate) async fn work(replicas: Vec<SocketAddr>, load: &Load) -> anyhow::Result<Vec<Ended>> {
    let stub = Stub {
        http: reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?,
        replicas,
        turn: 0,
    };
    stub.work(load).await.context("the stand-in")
}

impl Stub {
    async fn work(mut self, load: &Load) -> anyhow::Result<Vec<Ended>> {
        let service = load.connect("stand-in").await?;
        let node = self.register().await?;
        let mut ended = Vec::new();
        let mut claims = 0_u64;
        for n in 1_u64.. {
            if load.is_over() {
                break;
            }
            let key = format!("stand-in-{n}");
            let body = json!({
                "code": "echo", "timeout": 5, "idempotency_key": key,
                "requirements": {"labels": {"stand-in": "yes"}},
            });
            let (_, answer) = self.ask("/submit", &body).await?;
            let id: PoolJobId = answer["job_id"].as_str().context("an id")?.parse()?;
            let started = Instant::now();
            let mut winner = None;
            while winner.is_none() {
                ensure!(started.elapsed() < PATIENCE, "job {id} is stuck");
                claims += 1;
                let claim = json!({"node_id": node, "max": 1, "claim": claims});
                let (status, answer) = self.ask("/claim?wait=1", &claim).await?;
                ensure!(status == 200, "a claim: {status} {answer}");
                let given = answer["jobs"][0].clone();
                if given["id"] == id.as_str() {
                    winner = self.complete_twice(&node, &given).await?;
                }
                let beat = json!({"node_id": node, "jobs": [], "claims_answered_up_to": claims});
                self.ask("/heartbeat", &beat).await?;
            }
            ended.push(check(&service, &id, winner.as_deref()).await?);
        }
        Ok(ended)
    }

    async fn register(&mut self) -> anyhow::Result<String> {
        let offer = json!({
            "cpu": {"cores": 1, "model": "x"}, "memory_mib": 1_024, "features": [],
            "interpreters": [{"name": "python3", "version": "3"}], "labels": {"stand-in": "yes"},
        });
        let body = json!({"endpoint": "http://stand-in", "protocol": 2, "slots": 1, "offer": offer});
        let (_, answer) = self.ask("/register", &body).await?;
        Ok(answer["node_id"].as_str().context("a node's id")?.to_owned())
    }

    /// Says two things at once; the one that counts, if one does.
    async fn complete_twice(&mut self, node: &str, given: &Value) -> anyhow::Result<Option<String>> {
        self.turn += 1;
        let said = |word: &str| {
            json!({
                "node_id": node, "job_id": given["id"], "attempt": given["attempt"], "exit_code": 0, "output": word,
            })
        };
        let (one, other) = (said("one"), said("other"));
        let (one, other) = tokio::try_join!(
            self.ask_from(self.turn, "/complete", &one),
            self.ask_from(self.turn + 1, "/complete", &other)
        )?;
        for (status, answer) in [&one, &other] {
            ensure!([200, 409].contains(status), "an answer: {status} {answer}");
        }
        ensure!(
            (one.0, other.0) != (200, 200),
            "attempt {} of job {} was accepted twice",
            given["attempt"],
            given["id"]
        );
        Ok(match (one.0, other.0) {
            (200, _) => Some("one".to_owned()),
            (_, 200) => Some("other".to_owned()),
            _ => None,
        })
    }

    async fn ask(&mut self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.turn += 1;
        self.ask_from(self.turn, path, body).await
    }

    /// Asks one replica after the other until one answers.
    async fn ask_from(&self, first: usize, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let started = Instant::now();
        for at in first.. {
            ensure!(started.elapsed() < PATIENCE, "nobody answers {path}");
            let replica = self.replicas[at % self.replicas.len()];
            let request = self.http.post(format!("http://{replica}{path}")).json(body);
            if let Ok(answer) = request.send().await {
                let status = answer.status().as_u16();
                if let (false, Ok(body)) = (status >= 500, answer.json().await) {
                    return Ok((status, body));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("no number is left")
    }
}

/// The job's result is what was accepted.
async fn check(service: &PoolClient, id: &PoolJobId, winner: Option<&str>) -> anyhow::Result<Ended> {
    let job = persist(async || service.wait(id, |_| ()).await).await?;
    let printed = persist(async || service.printed(id).await).await?;
    ensure!(
        Some(printed.stdout.as_str()) == winner,
        "job {id} says {:?}, accepted was {winner:?}",
        printed.stdout
    );
    Ok(Ended {
        job,
        answers: 1,
        sent: 1,
    })
}
