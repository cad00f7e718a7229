//! `pin/add`, `pin/ls`, `pin/rm`. Pins are recursive, the only kind that this product needs.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use cid::Cid;
use serde::Serialize;

use super::App;
use super::block::resolved;
use super::params::{Params, Target};
use super::reply::{self, RpcError};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pins {
    pins: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    keys: BTreeMap<String, Key>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    r#type: &'static str,
    name: &'static str,
}

const RECURSIVE: Key = Key {
    r#type: "recursive",
    name: "",
};
const INDIRECT: Key = Key {
    r#type: "indirect",
    name: "",
};

async fn targets(app: &App, params: &Params) -> Result<Vec<Cid>, RpcError> {
    let mut cids = Vec::new();
    for arg in params.args("ipfs-path")? {
        cids.push(resolved(app, &Target::parse(arg)?).await?);
    }
    Ok(cids)
}

fn texts(cids: &[Cid]) -> Vec<String> {
    cids.iter().map(Cid::to_string).collect()
}

/// Pins whole trees, all of whose blocks must be there.
pub(super) async fn add(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    params.only("recursive", &["true", "1", ""])?;
    let cids = targets(&app, &params).await?;
    for cid in &cids {
        app.store.pin_cid(*cid).await?;
    }
    Ok(reply::one(&Pins { pins: texts(&cids) }))
}

/// Unpins; what is not pinned is an error, as with Kubo.
pub(super) async fn rm(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    params.only("recursive", &["true", "1", ""])?;
    let cids = targets(&app, &params).await?;
    for cid in &cids {
        if !app.store.unpin_cid(*cid).await? {
            return Err(RpcError::Command("not pinned or pinned indirectly".into()));
        }
    }
    Ok(reply::one(&Pins { pins: texts(&cids) }))
}

/// Lists pins: those asked for, or all (`type=recursive`, `indirect`, `all`).
pub(super) async fn ls(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    let kind = params
        .text("type")
        .filter(|kind| !kind.is_empty())
        .unwrap_or("all");
    let (recursive, indirect) = match kind {
        "all" => (true, true),
        "recursive" => (true, false),
        "indirect" => (false, true),
        "direct" => (false, false),
        other => {
            let text = format!("invalid type '{other}', must be one of {{direct, indirect, recursive, all}}");
            return Err(RpcError::Command(text));
        }
    };
    let keys = if params.optional_args().is_empty() {
        all(&app, recursive, indirect).await?
    } else {
        asked(&app, &params, recursive).await?
    };
    Ok(reply::one(&Keys { keys }))
}

async fn asked(app: &App, params: &Params, recursive: bool) -> Result<BTreeMap<String, Key>, RpcError> {
    let mut keys = BTreeMap::new();
    for arg in params.optional_args() {
        let cid = resolved(app, &Target::parse(arg)?).await?;
        if !recursive || !app.store.is_pinned(&cid) {
            return Err(RpcError::Command(format!("path '{arg}' is not pinned")));
        }
        keys.insert(cid.to_string(), RECURSIVE);
    }
    Ok(keys)
}

async fn all(app: &App, recursive: bool, indirect: bool) -> Result<BTreeMap<String, Key>, RpcError> {
    let mut keys = BTreeMap::new();
    let roots = app.store.pins();
    if indirect {
        for root in &roots {
            keys.extend(
                app.store
                    .blocks_below(*root)
                    .await?
                    .iter()
                    .map(|cid| (cid.to_string(), INDIRECT)),
            );
        }
    }
    for root in roots {
        keys.remove(&root.to_string());
        if recursive {
            keys.insert(root.to_string(), RECURSIVE);
        }
    }
    Ok(keys)
}
