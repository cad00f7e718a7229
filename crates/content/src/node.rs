//! Reads one block as a UnixFS node. Owns the strict decoding of dag-pb and of the UnixFS message within.
//!
//! A dag-pb block is accepted only in its canonical encoding, so that all readers of a CID see the same node. Pure: no
//! I/O, and no input makes it panic. Format: <https://specs.ipfs.tech/unixfs/>.

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use prost::Message;

use crate::block::Block;
use crate::id::{DAG_PB_CODEC, RAW_CODEC};
use crate::name;

/// Fan-out of the sharded directories that are read: two hex digits in front of each name.
const SHARD_FANOUT: u64 = 256;
/// murmur3-x64-64, the hash of sharded directories.
const SHARD_HASH: u64 = 0x22;

/// The UnixFS message in a dag-pb node's data (`unixfs.proto`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UnixFsData {
    /// 0 raw, 1 directory, 2 file, 3 metadata, 4 symlink, 5 HAMT shard.
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    /// Inlined content, or a shard's bitfield.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) data: Option<Bytes>,
    /// Bytes of content below this node.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) filesize: Option<u64>,
    /// Bytes of content below each link.
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub(crate) blocksizes: Vec<u64>,
    /// Hash of a shard's names.
    #[prost(uint64, optional, tag = "5")]
    pub(crate) hash_type: Option<u64>,
    /// Width of a shard.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) fanout: Option<u64>,
    /// UnixFS 1.5: permission bits.
    #[prost(uint32, optional, tag = "7")]
    pub(crate) mode: Option<u32>,
    /// UnixFS 1.5: time of modification; never written by this crate.
    #[prost(message, optional, tag = "8")]
    pub(crate) mtime: Option<UnixTime>,
}

/// Time of modification in a UnixFS 1.5 node.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct UnixTime {
    /// Seconds since 1970.
    #[prost(int64, required, tag = "1")]
    pub(crate) seconds: i64,
    /// And nanoseconds.
    #[prost(fixed32, optional, tag = "2")]
    pub(crate) nanos: Option<u32>,
}

/// UnixFS type of a file.
pub(crate) const KIND_FILE: i32 = 2;

/// A part of a file: where it is and how many bytes of content it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) cid: Cid,
    pub(crate) size: u64,
}

/// A file's node, root or inner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileNode {
    /// Content in this node, before that of the parts.
    pub(crate) data: Bytes,
    /// The rest, in order.
    pub(crate) parts: Vec<Part>,
    /// Bytes of content in all; always `data` plus the parts.
    pub(crate) size: u64,
    /// Whether the mode names an executable.
    pub(crate) executable: bool,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedLink {
    pub(crate) name: String,
    pub(crate) cid: Cid,
    pub(crate) total_size: u64,
}

/// A link of a sharded directory: an entry, or a further shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShardLink {
    Entry(NamedLink),
    Shard(Cid),
}

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    File(FileNode),
    Directory(Vec<NamedLink>),
    Shard(Vec<ShardLink>),
    Symlink(String),
}

/// Why a block, though it matches its CID, is no node of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Not dag-pb.
    #[error("it is not dag-pb: {0}")]
    DagPb(String),
    /// dag-pb, but not in the one canonical encoding.
    #[error("its dag-pb encoding is not canonical")]
    NotCanonical,
    /// No UnixFS message within.
    #[error("it holds no UnixFS message: {0}")]
    UnixFs(String),
    /// A UnixFS type that no tree has.
    #[error("UnixFS type {0} is not supported")]
    Kind(i32),
    /// Sizes that contradict each other.
    #[error("its sizes contradict each other: {0}")]
    Sizes(&'static str),
    /// A sharded directory of another shape.
    #[error("its shard parameters are not supported (fan-out {fanout:?}, hash {hash:?})")]
    ShardShape {
        /// Declared fan-out.
        fanout: Option<u64>,
        /// Declared hash.
        hash: Option<u64>,
    },
    /// A shard's link without its two hex digits.
    #[error("shard link `{0}` does not begin with two hex digits")]
    ShardPrefix(String),
    /// A name that no file may have.
    #[error("it names an entry `{name}`: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: name::NameError,
    },
    /// Two entries of one name.
    #[error("it names `{0}` twice")]
    Duplicate(String),
}

/// Decodes a block. A raw block is a file's content.
pub(crate) fn decode(block: &Block) -> Result<Node, NodeError> {
    if block.cid().codec() == RAW_CODEC {
        return Ok(Node::File(FileNode {
            data: block.bytes().clone(),
            parts: Vec::new(),
            size: len_u64(block.bytes()),
            executable: false,
        }));
    }
    let node = dag_pb(block)?;
    let data = node
        .data
        .as_ref()
        .ok_or_else(|| NodeError::UnixFs("the data field is missing".into()))?;
    let message = UnixFsData::decode(data.clone()).map_err(|e| NodeError::UnixFs(e.to_string()))?;
    match message.kind {
        0 | KIND_FILE => file(message, node.links).map(Node::File),
        1 => directory(node.links).map(Node::Directory),
        4 => {
            let target = message.data.unwrap_or_default();
            Ok(Node::Symlink(String::from_utf8_lossy(&target).into_owned()))
        }
        5 => shard(&message, node.links).map(Node::Shard),
        other => Err(NodeError::Kind(other)),
    }
}

/// The CIDs that a block links to, whatever its UnixFS meaning.
pub(crate) fn links(block: &Block) -> Result<Vec<Cid>, NodeError> {
    if block.cid().codec() != DAG_PB_CODEC {
        return Ok(Vec::new());
    }
    Ok(dag_pb(block)?.links.into_iter().map(|link| link.cid).collect())
}

fn dag_pb(block: &Block) -> Result<PbNode, NodeError> {
    let node = PbNode::from_bytes(block.bytes().clone()).map_err(|e| NodeError::DagPb(error_text(&e)))?;
    if node.clone().into_bytes() != *block.bytes() {
        return Err(NodeError::NotCanonical);
    }
    Ok(node)
}

/// An error and its source in one line; ipld-dagpb's own text leaves the reason out.
fn error_text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn file(message: UnixFsData, links: Vec<PbLink>) -> Result<FileNode, NodeError> {
    if message.blocksizes.len() != links.len() {
        return Err(NodeError::Sizes("there are not as many block sizes as links"));
    }
    let data = message.data.unwrap_or_default();
    let mut size = len_u64(&data);
    let mut parts = Vec::with_capacity(links.len());
    for (link, part) in links.into_iter().zip(message.blocksizes) {
        if part == 0 {
            return Err(NodeError::Sizes("a part is empty"));
        }
        size = size
            .checked_add(part)
            .ok_or(NodeError::Sizes("the parts' sum is no 64-bit number"))?;
        parts.push(Part {
            cid: link.cid,
            size: part,
        });
    }
    if message.filesize.is_some_and(|declared| declared != size) {
        return Err(NodeError::Sizes("the file size is not the sum of its parts"));
    }
    let executable = message.mode.is_some_and(|mode| mode & 0o111 != 0);
    Ok(FileNode {
        data,
        parts,
        size,
        executable,
    })
}

fn directory(links: Vec<PbLink>) -> Result<Vec<NamedLink>, NodeError> {
    let mut entries: Vec<NamedLink> = Vec::with_capacity(links.len());
    for link in links {
        let entry = named(link.name.unwrap_or_default(), link.cid, link.size)?;
        // canonical order is by name, so equal names are neighbours
        if entries.last().is_some_and(|last| last.name == entry.name) {
            return Err(NodeError::Duplicate(entry.name));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn shard(message: &UnixFsData, links: Vec<PbLink>) -> Result<Vec<ShardLink>, NodeError> {
    if message.fanout != Some(SHARD_FANOUT) || message.hash_type != Some(SHARD_HASH) {
        return Err(NodeError::ShardShape {
            fanout: message.fanout,
            hash: message.hash_type,
        });
    }
    links
        .into_iter()
        .map(|link| {
            let name = link.name.unwrap_or_default();
            match name.split_at_checked(2) {
                Some((digits, rest)) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    if rest.is_empty() {
                        Ok(ShardLink::Shard(link.cid))
                    } else {
                        named(rest.to_owned(), link.cid, link.size).map(ShardLink::Entry)
                    }
                }
                Some(_) | None => Err(NodeError::ShardPrefix(name)),
            }
        })
        .collect()
}

fn named(name: String, cid: Cid, total_size: Option<u64>) -> Result<NamedLink, NodeError> {
    match name::check(&name) {
        Ok(()) => Ok(NamedLink {
            name,
            cid,
            total_size: total_size.unwrap_or_default(),
        }),
        Err(reason) => Err(NodeError::Name { name, reason }),
    }
}

/// The length of bytes as the 64-bit number that UnixFS counts in.
pub(crate) fn len_u64(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

#[cfg(test)]
mod tests;
