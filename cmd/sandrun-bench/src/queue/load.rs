//! Jobs for the queue to hold.

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::wire::Wire;

/// Jobs of one batch request.
const BATCH: usize = 1_000;
/// Batches on their way at once.
const CONNECTIONS: usize = 4;
/// Clients that the jobs of a large load are of.
const CLIENTS: usize = 100;
/// Priorities that they have.
const PRIORITIES: usize = 5;
/// Different sets of requirements.
const NEEDS: usize = 10;

/// A job of 1 KiB of code.
pub(super) fn plain() -> Value {
    json!({"code": code(), "interpreter": "python3", "timeout": 60})
}

fn code() -> String {
    let mut code = "print('a job')\n# ".to_owned();
    code.push_str(&"x".repeat(1_024 - code.len()));
    code
}

/// A job of a mixed load: one of five priorities, one of ten sets of requirements, all of which the claimers meet.
fn mixed(number: usize) -> Value {
    let mut job = plain();
    job["priority"] = json!(number % PRIORITIES);
    job["requirements"] = json!({"memory_mib": 64 * (1 + number / PRIORITIES % NEEDS)});
    job
}

/// Submits so many jobs in batches; `is_mixed` ones are of many clients, priorities and requirements.
///
/// # Errors
/// A batch that is refused.
pub(super) async fn fill(url: &str, jobs: usize, is_mixed: bool) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let url = url.to_owned();
        tasks.spawn(async move {
            let mut wire = Wire::open(&url).await?;
            let mut from = connection * BATCH;
            while from < jobs {
                let to = (from + BATCH).min(jobs);
                let list: Vec<Value> = (from..to)
                    .map(|it| if is_mixed { mixed(it) } else { plain() })
                    .collect();
                let client = format!("client-{}", from / BATCH % CLIENTS);
                let body: Bytes = serde_json::to_vec(&list)?.into();
                wire.post("/v1/jobs/batch", Some(&client), body).await?;
                from += CONNECTIONS * BATCH;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
