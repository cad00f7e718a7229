//! The content store: trees of files under the id of their content, the same id everywhere.
//!
//! Owns the [`ContentStore`] trait, packing ([`pack_bundle`], [`pack_result`]) and what is read back: every block that
//! comes in is checked against its CID, on this side, whatever the store says. Content is addressed by CIDv1, dag-pb,
//! sha2-256; on chain stands the digest alone ([`ContentId`]).
//!
//! Never interprets a manifest, never decides who may store what, never talks to other peers of the IPFS network: a
//! Kubo node does, where one is configured.

mod block;
mod embedded;
mod error;
mod id;
mod kubo;
mod limits;
mod name;
mod node;
mod pack;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod tree;

pub use block::{Block, BlockError, MAX_BLOCK_BYTES};
pub use cid::Cid;
pub use embedded::{Collected, EmbeddedConfig, EmbeddedStore, StoreStat};
pub use error::{Cause, ContentError, Fetched};
pub use id::{ContentId, ContentIdError, DAG_PB_CODEC, RAW_CODEC, SHA2_256};
pub use kubo::{KuboClient, KuboConfig};
pub use limits::Limits;
pub use name::NameError;
pub use node::NodeError;
pub use pack::{
    Data, MANIFEST_NAME, OUTPUTS_NAME, PackError, PackedTree, STDERR_NAME, STDOUT_NAME, pack_bundle,
    pack_directory, pack_directory_while, pack_result, root_of,
};
pub use service::{ServeError, Service, ServiceConfig, serve};
pub use store::{BlockStream, ByteStream, ContentStore, StoreHealth};
pub use tree::{EntryKind, TreeEntry};
