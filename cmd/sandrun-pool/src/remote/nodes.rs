//! `nodes` and `drain` at a service.

use client_sdk::pool::{Node, PoolNodeId};
use serde::Serialize;
use serde_json::Value;

use super::{connect, failed};
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report, table};

#[derive(Debug, Serialize)]
struct List {
    nodes: Vec<Node>,
}

impl Report for List {
    fn human(&self) -> String {
        let heading = [
            "NODE", "STATE", "ENDPOINT", "CORES", "MEMORY", "GPU", "JOBS", "DONE", "FAILED", "HEARD",
        ]
        .map(str::to_owned)
        .to_vec();
        let rows = self.nodes.iter().map(row);
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    }
}

fn row(node: &Node) -> Vec<String> {
    let has = |name: &str| node.capabilities.get(name);
    let number = |name: &str| has(name).and_then(Value::as_f64).map(|it| it.to_string());
    let gpu = has("gpu")
        .and_then(Value::as_bool)
        .map(|it| if it { "yes" } else { "no" }.to_owned());
    let jobs = match (node.active_jobs, node.slots) {
        (Some(active), Some(slots)) => Some(format!("{active}/{slots}")),
        (active, _) => active.map(|it| it.to_string()),
    };
    let state = node.status.clone().map(|it| match node.draining {
        Some(true) if it == "lost" => "lost (drained)".to_owned(),
        Some(_) | None => it,
    });
    let cells = [
        Some(node.id.clone()),
        state,
        Some(node.endpoint.clone()),
        number("cpu_cores"),
        has("memory_gb")
            .and_then(Value::as_f64)
            .map(|it| format!("{:.0} MiB", it * 1024.0)),
        gpu,
        jobs,
        node.jobs_completed.map(|it| it.to_string()),
        node.jobs_failed.map(|it| it.to_string()),
        node.last_heartbeat.as_ref().map(ToString::to_string),
    ];
    let or_dash = |it: Option<String>| it.filter(|it| !it.is_empty()).unwrap_or_else(|| "-".to_owned());
    cells.into_iter().map(or_dash).collect()
}

/// Lists the nodes.
pub(crate) async fn nodes(to: &str, output: &Output) -> anyhow::Result<Status> {
    let service = connect(to, None).await?;
    let nodes = service.nodes().await.map_err(failed)?;
    output.result(&List { nodes })?;
    Ok(Status::Success)
}

#[derive(Debug, Serialize)]
struct Drained {
    node: PoolNodeId,
    status: &'static str,
}

impl Report for Drained {
    fn human(&self) -> String {
        format!("{} is {}\n", self.node, self.status)
    }
}

/// Lets a node take nothing new, or take jobs again.
pub(crate) async fn drain(to: &str, node: &str, resume: bool, output: &Output) -> anyhow::Result<Status> {
    let node: PoolNodeId = node.parse().status(Status::BadInput)?;
    let service = connect(to, None).await?;
    service.drain(&node, resume).await.map_err(failed)?;
    output.result(&Drained {
        node,
        status: if resume { "up" } else { "draining" },
    })?;
    Ok(Status::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_that_says_little_has_dashes() {
        let full = json!({
            "id": "n1", "endpoint": "http://a", "status": "up", "slots": 4, "active_jobs": 1, "jobs_completed": 7,
            "jobs_failed": 0, "last_heartbeat": "2026-01-31 12:00:00",
            "capabilities": {"cpu_cores": 8, "memory_gb": 15.5, "gpu": false, "interpreters": ["python3"]}
        });
        let bare = json!({"id": "n2"});
        let gone = json!({"id": "n3", "status": "lost", "draining": true});
        let nodes = [full, bare, gone].map(|it| serde_json::from_value::<Node>(it).unwrap());
        let cells = nodes.each_ref().map(|it| row(it).join(" "));
        assert_eq!(
            cells[0],
            "n1 up http://a 8 15872 MiB no 1/4 7 0 2026-01-31 12:00:00"
        );
        assert_eq!(cells[1], "n2 - - - - - - - - -");
        assert_eq!(cells[2], "n3 lost (drained) - - - - - - - -");
    }
}
