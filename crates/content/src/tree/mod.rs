//! Reads trees out of any store: resolve a path, list, cat, fetch. Owns the walk and its limits; every block comes
//! through [`ContentStore::get_block`] and is thus checked. Never follows a symlink, never trusts a declared size.

mod budget;
mod fetch;
mod file;

use cid::Cid;
use futures::StreamExt;
use serde::Serialize;

use crate::error::ContentError;
use crate::limits::Limits;
use crate::name;
use crate::node::{NamedLink, Node, NodeError, ShardLink};
use crate::store::{ByteStream, ContentStore};

pub(crate) use budget::Budget;
pub(crate) use fetch::fetch;
pub(crate) use file::FileReader;

/// How deep shards may lie in each other: the 64-bit name hash has eight bytes.
const MAX_SHARD_DEPTH: u32 = 8;

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file, executable or not.
    File {
        /// Whether it may be executed.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A symlink, which this product does not follow.
    Symlink,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its name.
    pub name: String,
    /// What it names.
    pub cid: Cid,
    /// What that is.
    pub kind: EntryKind,
    /// Bytes of content of a file, 0 of anything else.
    pub size: u64,
}

/// Where a path ends.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) cid: Cid,
    pub(crate) node: Node,
}

/// Walks `path` down from `root`.
pub(crate) async fn resolve<S: ContentStore + ?Sized>(
    store: &S,
    root: &Cid,
    path: &str,
    limits: &Limits,
) -> Result<Resolved, ContentError> {
    let mut budget = Budget::new(limits);
    let mut cid = *root;
    let mut node = budget.node(store, &cid).await?;
    for segment in path.split('/').filter(|s| !s.is_empty()) {
        let entries = match node {
            Node::Directory(_) | Node::Shard(_) => entries(store, &cid, node, &mut budget).await?,
            Node::File(_) | Node::Symlink(_) => {
                return Err(ContentError::NotADirectory {
                    path: full(root, path),
                });
            }
        };
        let entry = entries.into_iter().find(|e| e.name == segment);
        cid = entry.map(|e| e.cid).ok_or_else(|| ContentError::NoSuchPath {
            path: full(root, path),
        })?;
        node = budget.node(store, &cid).await?;
    }
    Ok(Resolved { cid, node })
}

/// Streams the file at `path`.
pub(crate) async fn cat<'a, S: ContentStore + ?Sized>(
    store: &'a S,
    root: Cid,
    path: &str,
    limits: &Limits,
) -> Result<ByteStream<'a>, ContentError> {
    let reader = open(store, root, path, limits).await?;
    Ok(futures::stream::try_unfold(reader, move |mut reader| async move {
        Ok(reader.next(store).await?.map(|bytes| (bytes, reader)))
    })
    .boxed())
}

/// A reader of the file at `path`, its size already within the limits.
pub(crate) async fn open<S: ContentStore + ?Sized>(
    store: &S,
    root: Cid,
    path: &str,
    limits: &Limits,
) -> Result<FileReader, ContentError> {
    let found = resolve(store, &root, path, limits).await?;
    match found.node {
        Node::File(node) => {
            let mut budget = Budget::new(limits);
            budget.file(path, node.size)?;
            Ok(FileReader::new(node, path, budget.blocks_left()))
        }
        Node::Symlink(_) => Err(ContentError::Symlink {
            path: path.to_owned(),
        }),
        Node::Directory(_) | Node::Shard(_) => Err(ContentError::NotAFile {
            path: full(&root, path),
        }),
    }
}

/// Lists the directory at `path`, with the kind and size of each entry.
pub(crate) async fn list<S: ContentStore + ?Sized>(
    store: &S,
    root: &Cid,
    path: &str,
    limits: &Limits,
) -> Result<Vec<TreeEntry>, ContentError> {
    let found = resolve(store, root, path, limits).await?;
    let mut budget = Budget::new(limits);
    match found.node {
        Node::Directory(_) | Node::Shard(_) => {
            let links = entries(store, &found.cid, found.node, &mut budget).await?;
            let mut listed = Vec::with_capacity(links.len());
            for link in links {
                budget.entry(&name::join(path, &link.name))?;
                let (kind, size) = match budget.node(store, &link.cid).await? {
                    Node::File(file) => (
                        EntryKind::File {
                            executable: file.executable,
                        },
                        file.size,
                    ),
                    Node::Directory(_) | Node::Shard(_) => (EntryKind::Directory, 0),
                    Node::Symlink(_) => (EntryKind::Symlink, 0),
                };
                listed.push(TreeEntry {
                    name: link.name,
                    cid: link.cid,
                    kind,
                    size,
                });
            }
            Ok(listed)
        }
        Node::File(_) | Node::Symlink(_) => Err(ContentError::NotADirectory {
            path: full(root, path),
        }),
    }
}

/// The entries of a directory node, sharded or not, sorted by name. Refuses names that stand twice.
pub(crate) async fn entries<S: ContentStore + ?Sized>(
    store: &S,
    cid: &Cid,
    node: Node,
    budget: &mut Budget,
) -> Result<Vec<NamedLink>, ContentError> {
    let links = match node {
        Node::Directory(links) => return Ok(links),
        Node::Shard(links) => links,
        Node::File(_) | Node::Symlink(_) => Vec::new(),
    };
    let mut found: Vec<NamedLink> = Vec::new();
    let mut pending = vec![(links, 1)];
    while let Some((links, depth)) = pending.pop() {
        for link in links {
            match link {
                ShardLink::Entry(entry) => found.push(entry),
                ShardLink::Shard(child) => {
                    if depth >= MAX_SHARD_DEPTH {
                        return Err(ContentError::Limit {
                            path: child.to_string(),
                            what: "shard levels",
                            limit: u64::from(MAX_SHARD_DEPTH),
                        });
                    }
                    let Node::Shard(links) = budget.node(store, &child).await? else {
                        return Err(malformed_shard(cid));
                    };
                    pending.push((links, depth + 1));
                }
            }
        }
        budget.directory_size(found.len())?;
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    match found.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(ContentError::malformed(
            *cid,
            NodeError::Duplicate(pair[0].name.clone()),
        )),
        None => Ok(found),
    }
}

fn malformed_shard(cid: &Cid) -> ContentError {
    ContentError::malformed(
        *cid,
        NodeError::UnixFs("a shard links to something that is no shard".into()),
    )
}

/// A path with its root, for messages.
fn full(root: &Cid, path: &str) -> String {
    name::join(&root.to_string(), path)
}

#[cfg(test)]
mod tests;
