//! `version`, `id`, `repo/stat`, `repo/gc`: what the store says about itself.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::App;
use super::reply::{self, RpcError};

/// The version as other programs of this product and Kubo's clients read it.
const AGENT: &str = concat!("sandrun-content/", env!("CARGO_PKG_VERSION"));

/// This store's version; not a Kubo, and it says so.
pub(super) async fn version() -> Response {
    let system = format!("{}/{}", std::env::consts::ARCH, std::env::consts::OS);
    reply::one(&json!({
        "Version": env!("CARGO_PKG_VERSION"), "Commit": "", "Repo": "1", "System": system, "Golang": "", "Agent": AGENT,
    }))
}

/// It is no peer of any network: the id is its agent name.
pub(super) async fn id() -> Response {
    reply::one(&json!({
        "ID": "sandrun-content", "PublicKey": "", "Addresses": [], "AgentVersion": AGENT, "ProtocolVersion": "",
        "Protocols": [],
    }))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RepoStat {
    repo_size: u64,
    storage_max: u64,
    num_objects: u64,
    repo_path: String,
    version: &'static str,
}

/// Counts the blocks.
pub(super) async fn repo_stat(State(app): State<App>) -> Result<Response, RpcError> {
    let stat = app.store.stat().await?;
    Ok(reply::one(&RepoStat {
        repo_size: stat.bytes,
        storage_max: stat.max_bytes.unwrap_or(u64::MAX),
        num_objects: stat.blocks,
        repo_path: app.store.dir().display().to_string(),
        version: "sandrun-content@1",
    }))
}

/// Removes all that is not pinned.
pub(super) async fn repo_gc(State(app): State<App>) -> Result<Response, RpcError> {
    let collected = app.store.collect().await?;
    let lines: Vec<_> = collected
        .removed
        .iter()
        .map(|cid| json!({ "Key": { "/": cid.to_string() } }))
        .collect();
    Ok(reply::lines(&lines))
}
