//! `add`: files and directories as multipart parts become trees, streamed into the store as they come. Owns Kubo's
//! options for it and the order of its answer lines.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Multipart, State};
use axum::response::Response;
use cid::{Cid, Version};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;

use super::App;
use super::params::Params;
use super::parts::{self, PartKind};
use super::reply::{self, RpcError};
use crate::block::Block;
use crate::error::ContentError;
use crate::limits::Limits;
use crate::name;
use crate::pack::{AddedFile, DirectoryPacker, FilePacker, Form};
use crate::store::ContentStore;

/// How many blocks wait between the sender and the disk.
const QUEUED_BLOCKS: usize = 16;

/// An answer line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    name: String,
    hash: String,
    size: String,
}

impl Line {
    fn new(name: String, cid: Cid, size: u64) -> Self {
        Self {
            name,
            hash: cid.to_string(),
            size: size.to_string(),
        }
    }
}

/// What `add` was asked to do.
#[derive(Debug, Clone, Copy)]
struct Options {
    form: Form,
    wrap: bool,
    pin: bool,
    only_hash: bool,
}

/// See <https://docs.ipfs.tech/reference/kubo/rpc/#api-v0-add>. Answers when all is on disk.
pub(super) async fn add(
    State(app): State<App>,
    params: Params,
    body: Option<Multipart>,
) -> Result<Response, RpcError> {
    let options = Options::read(&params)?;
    let body = body.ok_or_else(|| RpcError::Request("file argument 'path' is required".into()))?;
    let _adding = app.store.adding().await;
    let (sender, receiver) = mpsc::channel(QUEUED_BLOCKS);
    let received = receive(body, options, app.limits, Blocks(sender));
    let blocks = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|block| (Ok(block), receiver))
    });
    let stored = async {
        if options.only_hash {
            blocks
                .for_each(|_: Result<Block, ContentError>| std::future::ready(()))
                .await;
            Ok(0)
        } else {
            app.store.put_blocks(blocks.boxed()).await.map_err(RpcError::from)
        }
    };
    let (added, _) = tokio::try_join!(received, stored)?;
    if options.pin && !options.only_hash {
        for root in &added.roots {
            app.store.pin_cid(*root).await?;
        }
    }
    Ok(reply::lines(&added.lines))
}

impl Options {
    fn read(params: &Params) -> Result<Self, RpcError> {
        params.only("chunker", &["", "size-262144"])?;
        params.only("hash", &["", "sha2-256"])?;
        params.only("max-file-links", &["174"])?;
        params.only("max-directory-links", &["0"])?;
        params.only("max-hamt-fanout", &["256"])?;
        params.only("to-files", &[])?;
        params.only("pin-name", &[""])?;
        for option in ["trickle", "nocopy", "inline", "preserve-mode", "preserve-mtime"] {
            params.only(option, &["false", "0"])?;
        }
        for option in ["mode", "mtime", "mtime-nsecs"] {
            params.only(option, &["0"])?;
        }
        let version = match params.number("cid-version")? {
            None | Some(0) => Version::V0,
            Some(1) => Version::V1,
            Some(other) => return Err(RpcError::Command(format!("unknown CID version: {other}"))),
        };
        let raw_leaves = params.flag("raw-leaves")?.unwrap_or(version == Version::V1);
        Ok(Self {
            form: Form { version, raw_leaves },
            wrap: params.flag("wrap-with-directory")?.unwrap_or(false),
            pin: params.flag("pin")?.unwrap_or(true),
            only_hash: params.flag("only-hash")?.unwrap_or(false),
        })
    }
}

/// The way of blocks to the store.
struct Blocks(mpsc::Sender<Block>);

impl Blocks {
    async fn send(&self, blocks: Vec<Block>) -> Result<(), RpcError> {
        for block in blocks {
            // the store has ended with an error of its own, which is the answer
            self.0.send(block).await.map_err(|_| ContentError::ShuttingDown)?;
        }
        Ok(())
    }
}

/// A tree in the making: what came, by path.
#[derive(Debug, Default)]
struct Received {
    files: BTreeMap<String, AddedFile>,
    directories: BTreeSet<String>,
    /// Files that came without a name.
    unnamed: Vec<AddedFile>,
    lines: Vec<Line>,
    bytes: u64,
}

/// What the answer says and what is to be pinned.
#[derive(Debug)]
struct Added {
    lines: Vec<Line>,
    roots: Vec<Cid>,
}

async fn receive(
    mut body: Multipart,
    options: Options,
    limits: Limits,
    blocks: Blocks,
) -> Result<Added, RpcError> {
    let mut received = Received::default();
    let mut any = false;
    while let Some(mut field) = parts::patient(body.next_field()).await? {
        any = true;
        let path = parts::path(&field)?;
        received.check_count(&path, &limits)?;
        match parts::kind(&field)? {
            PartKind::Directory => {
                received.directories.insert(path);
            }
            PartKind::File => {
                let mut packer = FilePacker::new(options.form);
                let mut out = Vec::new();
                while let Some(bytes) = parts::chunk(&mut field).await? {
                    received.count_bytes(&path, bytes.len() as u64, &limits)?;
                    packer.push(&bytes, &mut |block| {
                        out.push(block);
                        Ok(())
                    })?;
                    blocks.send(std::mem::take(&mut out)).await?;
                }
                let file = packer.finish(false, &mut |block| {
                    out.push(block);
                    Ok(())
                })?;
                blocks.send(out).await?;
                received.file(path, file)?;
            }
        }
    }
    if !any {
        return Err(RpcError::Request("file argument 'path' is required".into()));
    }
    received.finish(options, &blocks).await
}

impl Received {
    fn check_count(&self, path: &str, limits: &Limits) -> Result<(), RpcError> {
        let entries = (self.files.len() + self.directories.len() + self.unnamed.len()) as u64;
        let limit = |what, limit| ContentError::Limit {
            path: path.to_owned(),
            what,
            limit,
        };
        if entries >= limits.max_entries {
            return Err(limit("files and directories", limits.max_entries).into());
        }
        if path.split('/').count() as u64 > u64::from(limits.max_depth) {
            return Err(limit("levels", u64::from(limits.max_depth)).into());
        }
        Ok(())
    }

    fn count_bytes(&mut self, path: &str, bytes: u64, limits: &Limits) -> Result<(), RpcError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > limits.max_bytes {
            let (what, limit) = ("bytes in all", limits.max_bytes);
            return Err(ContentError::Limit {
                path: path.to_owned(),
                what,
                limit,
            }
            .into());
        }
        Ok(())
    }

    fn file(&mut self, path: String, file: AddedFile) -> Result<(), RpcError> {
        // a file without a name goes by its CID
        let name = if path.is_empty() {
            file.cid.to_string()
        } else {
            path.clone()
        };
        self.lines.push(Line::new(name, file.cid, file.total_size));
        if path.is_empty() {
            self.unnamed.push(file);
        } else if self.files.insert(path.clone(), file).is_some() {
            return Err(RpcError::Command(format!("\"{path}\" was sent twice")));
        }
        Ok(())
    }

    async fn finish(mut self, options: Options, blocks: &Blocks) -> Result<Added, RpcError> {
        let mut roots = Vec::new();
        if options.wrap {
            for file in std::mem::take(&mut self.unnamed) {
                self.files.insert(file.cid.to_string(), file);
            }
            roots.push(self.directory("", options, blocks).await?);
            return Ok(Added {
                lines: self.lines,
                roots,
            });
        }
        roots.extend(self.unnamed.iter().map(|file| file.cid));
        roots.extend(
            self.files
                .iter()
                .filter(|(path, _)| !path.contains('/'))
                .map(|(_, file)| file.cid),
        );
        for top in self.top_directories() {
            if self.files.contains_key(&top) {
                return Err(RpcError::Command(format!(
                    "\"{top}\" was sent both as a file and as a directory"
                )));
            }
            roots.push(self.directory(&top, options, blocks).await?);
        }
        Ok(Added {
            lines: self.lines,
            roots,
        })
    }

    /// The first names of all paths that lead into a directory.
    fn top_directories(&self) -> BTreeSet<String> {
        let in_files = self
            .files
            .keys()
            .filter_map(|path| path.split_once('/').map(|(top, _)| top));
        let named = self.directories.iter().filter_map(|path| path.split('/').next());
        in_files
            .chain(named)
            .filter(|top| !top.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Encodes the directory `top` (empty: all), adds its lines, and returns its root.
    async fn directory(&mut self, top: &str, options: Options, blocks: &Blocks) -> Result<Cid, RpcError> {
        let mut packer = DirectoryPacker::new(options.form);
        let mut known = BTreeSet::new();
        for path in self
            .directories
            .iter()
            .filter_map(|path| below(path, top))
            .filter(|path| !path.is_empty())
        {
            packer.directory(path)?;
            known.insert(path.to_owned());
        }
        for (path, file) in self
            .files
            .iter()
            .filter_map(|(path, file)| Some((below(path, top)?, file)))
        {
            packer.file(path, *file)?;
            known.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        }
        let mut out = Vec::new();
        let mut added = packer.finish(&mut |block| {
            out.push(block);
            Ok(())
        })?;
        blocks.send(out).await?;
        let root = added
            .pop()
            .ok_or_else(|| RpcError::Command("a tree without a root".into()))?;
        let inner = added.into_iter().filter(|dir| known.contains(&dir.path));
        self.lines
            .extend(inner.map(|dir| Line::new(name::join(top, &dir.path), dir.cid, dir.total_size)));
        self.lines
            .push(Line::new(top.to_owned(), root.cid, root.total_size));
        Ok(root.cid)
    }
}

/// The rest of `path` below `top`; all of it where `top` is empty.
fn below<'a>(path: &'a str, top: &str) -> Option<&'a str> {
    if top.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(top)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}
