//! `block/get`, `block/put`, `block/stat`.

use axum::body::Body;
use axum::extract::{Multipart, State};
use axum::response::Response;
use bytes::BytesMut;
use cid::{Cid, Version};
use serde::Serialize;

use super::App;
use super::params::{Params, Target};
use super::parts;
use super::reply::{self, RpcError};
use crate::block::{Block, MAX_BLOCK_BYTES};
use crate::id::{DAG_PB_CODEC, RAW_CODEC};
use crate::store::ContentStore;
use crate::tree;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BlockStat {
    key: String,
    size: u64,
}

/// The block that a target names: itself, or what a path below it leads to.
pub(super) async fn resolved(app: &App, target: &Target) -> Result<Cid, RpcError> {
    if target.path.is_empty() {
        return Ok(target.cid);
    }
    Ok(tree::resolve(&app.store, &target.cid, &target.path, &app.limits)
        .await?
        .cid)
}

/// One block's bytes.
pub(super) async fn get(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    let target = Target::parse(params.arg("cid")?)?;
    let block = app.store.get_block(&resolved(&app, &target).await?).await?;
    let length = block.bytes().len() as u64;
    Ok(reply::stream(Body::from(block.into_bytes()), Some(length)))
}

/// A block's size.
pub(super) async fn stat(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    let target = Target::parse(params.arg("cid")?)?;
    let block = app.store.get_block(&resolved(&app, &target).await?).await?;
    Ok(reply::one(&BlockStat {
        key: target.cid.to_string(),
        size: block.bytes().len() as u64,
    }))
}

/// Which CID a put block gets.
#[derive(Debug, Clone, Copy)]
struct PutForm {
    codec: u64,
    version: Version,
}

impl PutForm {
    fn read(params: &Params) -> Result<Self, RpcError> {
        params.only("mhtype", &["", "sha2-256"])?;
        params.only("mhlen", &["", "-1", "32"])?;
        let name = match params.text("format") {
            None | Some("") => params.text("cid-codec").unwrap_or("raw"),
            Some(legacy) => legacy,
        };
        let (codec, version) = match name {
            "" | "raw" => (RAW_CODEC, Version::V1),
            "dag-pb" | "protobuf" => (DAG_PB_CODEC, Version::V1),
            "v0" => (DAG_PB_CODEC, Version::V0),
            other => {
                return Err(RpcError::Command(format!(
                    "codec {other} is not supported; raw and dag-pb are"
                )));
            }
        };
        Ok(Self { codec, version })
    }

    fn block(self, bytes: bytes::Bytes) -> Result<Block, RpcError> {
        let block = Block::hashed(self.codec, bytes);
        match self.version {
            Version::V1 => Ok(block),
            Version::V0 => {
                let cid = Cid::new_v0(*block.cid().hash()).map_err(|e| RpcError::Command(e.to_string()))?;
                Block::checked(cid, block.into_bytes()).map_err(|e| RpcError::Content(e.into()))
            }
        }
    }
}

/// Stores blocks; each is on disk when its line is sent.
pub(super) async fn put(
    State(app): State<App>,
    params: Params,
    body: Option<Multipart>,
) -> Result<Response, RpcError> {
    let form = PutForm::read(&params)?;
    let pin = params.flag("pin")?.unwrap_or(false);
    let missing = || RpcError::Request("file argument 'data' is required".into());
    let mut body = body.ok_or_else(missing)?;
    let mut stats = Vec::new();
    while let Some(mut field) = parts::patient(body.next_field()).await? {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = parts::chunk(&mut field).await? {
            if bytes.len() + chunk.len() > MAX_BLOCK_BYTES {
                return Err(RpcError::Command(format!(
                    "a block may have {MAX_BLOCK_BYTES} bytes at most"
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        let block = form.block(bytes.freeze())?;
        let (cid, size) = (block.cid(), block.bytes().len() as u64);
        app.store.put_block(block).await?;
        if pin {
            app.store.pin_cid(cid).await?;
        }
        stats.push(BlockStat {
            key: cid.to_string(),
            size,
        });
    }
    if stats.is_empty() {
        Err(missing())
    } else {
        Ok(reply::lines(&stats))
    }
}
