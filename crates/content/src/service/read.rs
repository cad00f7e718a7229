//! `cat`, `ls`, `get`: content out of trees.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde::Serialize;

use super::App;
use super::params::{Params, Target};
use super::reply::{self, RpcError};
use super::tar;
use crate::embedded::EmbeddedStore;
use crate::error::ContentError;
use crate::node::Node;
use crate::tree::{self, EntryKind, FileReader};

/// A file's bytes as a stream that owns what it reads from.
pub(super) fn content(
    store: EmbeddedStore,
    reader: FileReader,
) -> BoxStream<'static, Result<Bytes, ContentError>> {
    stream::try_unfold((store, reader), |(store, mut reader)| async move {
        Ok(reader.next(&store).await?.map(|bytes| (bytes, (store, reader))))
    })
    .boxed()
}

/// One file, or the part of it from `offset` on, `length` bytes long.
pub(super) async fn cat(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    let target = Target::parse(params.arg("ipfs-path")?)?;
    let offset = params.number("offset")?.unwrap_or(0);
    let reader = match tree::open(&app.store, target.cid, &target.path, &app.limits).await {
        Err(ContentError::NotAFile { .. }) => Err(RpcError::Command("this dag node is a directory".into())),
        opened => opened.map_err(RpcError::from),
    }?;
    let rest = reader.size().saturating_sub(offset);
    let length = params.number("length")?.unwrap_or(rest).min(rest);
    let bytes = content(app.store, reader);
    Ok(reply::stream(
        Body::from_stream(range(bytes, offset, length)),
        Some(length),
    ))
}

/// The bytes from `skip` on, `left` of them.
fn range(
    bytes: BoxStream<'static, Result<Bytes, ContentError>>,
    skip: u64,
    left: u64,
) -> BoxStream<'static, Result<Bytes, ContentError>> {
    stream::try_unfold((bytes, skip, left), |(mut bytes, mut skip, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        while let Some(mut chunk) = bytes.next().await.transpose()? {
            // a chunk is no longer than a block, so what is skipped or taken of it fits a usize
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk = chunk.slice(skipped..);
            skip -= skipped as u64;
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            chunk.truncate(taken);
            if !chunk.is_empty() {
                return Ok(Some((chunk, (bytes, skip, left - taken as u64))));
            }
        }
        Ok(None)
    })
    .boxed()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Objects {
    objects: Vec<Object>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    hash: String,
    links: Vec<Link>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Link {
    name: String,
    hash: String,
    size: u64,
    r#type: u8,
    target: &'static str,
}

/// The entries of directories; a file has none.
pub(super) async fn ls(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    let mut objects = Vec::new();
    for arg in params.args("ipfs-path")? {
        let target = Target::parse(arg)?;
        let found = tree::resolve(&app.store, &target.cid, &target.path, &app.limits).await?;
        let links = match found.node {
            Node::Directory(_) | Node::Shard(_) => {
                tree::list(&app.store, &found.cid, "", &app.limits).await?
            }
            Node::File(_) | Node::Symlink(_) => Vec::new(),
        };
        let links = links.into_iter().map(|entry| Link {
            name: entry.name,
            hash: entry.cid.to_string(),
            size: entry.size,
            r#type: match entry.kind {
                EntryKind::Directory => 1,
                EntryKind::File { .. } => 2,
                EntryKind::Symlink => 4,
            },
            target: "",
        });
        objects.push(Object {
            hash: target.text,
            links: links.collect(),
        });
    }
    Ok(reply::one(&Objects { objects }))
}

/// A whole tree as a tar archive.
pub(super) async fn get(State(app): State<App>, params: Params) -> Result<Response, RpcError> {
    params.only("compress", &["false", "0"])?;
    let target = Target::parse(params.arg("ipfs-path")?)?;
    let found = tree::resolve(&app.store, &target.cid, &target.path, &app.limits).await?;
    let name = match target.path.rsplit('/').next() {
        Some(last) if !last.is_empty() => last.to_owned(),
        Some(_) | None => target.cid.to_string(),
    };
    Ok(reply::stream(
        Body::from_stream(tar::archive(app.store, app.limits, name, found)),
        None,
    ))
}
