//! The one trait of all content stores. Owns what every store can do with trees, built on what each store does with
//! blocks: read one (checked), write some (durable when acknowledged), pin and unpin a root.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::error::{ContentError, Fetched};
use crate::id::ContentId;
use crate::limits::Limits;
use crate::pack::PackedTree;
use crate::tree::{self, TreeEntry};

/// Blocks on their way into a store.
pub type BlockStream<'a> = BoxStream<'a, Result<Block, ContentError>>;
/// A file's content on its way out of a store.
pub type ByteStream<'a> = BoxStream<'a, Result<Bytes, ContentError>>;

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreHealth {
    /// Where it is: a URL or a directory.
    pub place: String,
    /// Its version, as it says.
    pub version: String,
}

/// A content store: trees of files under the id of their content.
///
/// **Invariant**: whatever comes out of any method was checked against its CID on this side, block by block; a store
/// that lies is an error, never wrong bytes.
#[async_trait]
pub trait ContentStore: Send + Sync + fmt::Debug {
    /// Reads one block, checked.
    async fn get_block(&self, cid: &Cid) -> Result<Block, ContentError>;

    /// Writes blocks, children before parents, and returns how many there were. On `Ok` they are durable; on an error
    /// some may be there, unpinned, for the garbage collection.
    async fn put_blocks(&self, blocks: BlockStream<'_>) -> Result<u64, ContentError>;

    /// Whether the root block of `id` can be had without asking a network. As roots are written last, a root that is
    /// there was added whole.
    async fn has(&self, id: ContentId) -> Result<bool, ContentError>;

    /// Keeps the whole tree `id` from being collected. Pinning twice is pinning once.
    async fn pin(&self, id: ContentId) -> Result<(), ContentError>;

    /// Lets the tree be collected. Unpinning what is not pinned is no error.
    async fn unpin(&self, id: ContentId) -> Result<(), ContentError>;

    /// Whether this very tree is pinned, by whomever.
    async fn is_pinned(&self, id: ContentId) -> Result<bool, ContentError>;

    /// Asks the store for a sign of life.
    async fn health(&self) -> Result<StoreHealth, ContentError>;

    /// Writes one block and returns when it is durable.
    async fn put_block(&self, block: Block) -> Result<(), ContentError> {
        self.put_blocks(futures::stream::iter([Ok(block)]).boxed())
            .await
            .map(drop)
    }

    /// Adds a packed tree and pins it. On `Ok` the tree is durable.
    async fn add(&self, tree: &PackedTree) -> Result<ContentId, ContentError> {
        self.put_blocks(tree.stream()).await?;
        self.pin(tree.root()).await?;
        Ok(tree.root())
    }

    /// Fetches the tree `id` into the directory `into`, which must be new or empty and whose parent must exist. All
    /// or nothing: the directory appears when the tree is complete and checked.
    async fn fetch(&self, id: ContentId, into: &Path, limits: &Limits) -> Result<Fetched, ContentError> {
        tree::fetch(self, id, into, limits).await
    }

    /// Streams the file at `path` in the tree `id` (`a/b.txt`; empty where the id names a file).
    async fn cat<'a>(
        &'a self,
        id: ContentId,
        path: &str,
        limits: &Limits,
    ) -> Result<ByteStream<'a>, ContentError> {
        tree::cat(self, id.to_cid(), path, limits).await
    }

    /// Lists the directory at `path` in the tree `id` (empty: its root), sorted by name.
    async fn list(&self, id: ContentId, path: &str, limits: &Limits) -> Result<Vec<TreeEntry>, ContentError> {
        tree::list(self, &id.to_cid(), path, limits).await
    }
}
