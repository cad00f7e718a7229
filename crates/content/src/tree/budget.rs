//! What a walk may still use. Owns the counting against [`Limits`]; every block that a walk reads goes through it.

use cid::Cid;

use crate::error::ContentError;
use crate::limits::Limits;
use crate::node::{self, Node};
use crate::store::ContentStore;

/// What is left of the limits in one walk.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
    blocks: u64,
}

impl Budget {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            bytes: 0,
            entries: 0,
            blocks: 0,
        }
    }

    /// Reads and decodes one block.
    pub(crate) async fn node<S: ContentStore + ?Sized>(
        &mut self,
        store: &S,
        cid: &Cid,
    ) -> Result<Node, ContentError> {
        self.block("/")?;
        let block = store.get_block(cid).await?;
        node::decode(&block).map_err(|reason| ContentError::malformed(*cid, reason))
    }

    /// Counts one block.
    pub(crate) fn block(&mut self, path: &str) -> Result<(), ContentError> {
        self.blocks += 1;
        within(path, "blocks", self.blocks, self.limits.max_blocks())
    }

    /// How many blocks may still be read.
    pub(crate) const fn blocks_left(&self) -> u64 {
        self.limits.max_blocks().saturating_sub(self.blocks)
    }

    /// Takes over the count of a file's reader.
    pub(crate) const fn set_blocks_left(&mut self, left: u64) {
        self.blocks = self.limits.max_blocks().saturating_sub(left);
    }

    /// Counts one file or directory.
    pub(crate) fn entry(&mut self, path: &str) -> Result<(), ContentError> {
        self.entries += 1;
        within(
            path,
            "files and directories",
            self.entries,
            self.limits.max_entries,
        )
    }

    /// Refuses a directory that alone has too many entries, before all of them are read.
    pub(crate) fn directory_size(&self, entries: usize) -> Result<(), ContentError> {
        within(
            "/",
            "files and directories",
            entries as u64,
            self.limits.max_entries,
        )
    }

    /// Counts the declared size of a file; its reader makes sure that the content has this size.
    pub(crate) fn file(&mut self, path: &str, size: u64) -> Result<(), ContentError> {
        within(path, "bytes in a file", size, self.limits.max_file_bytes)?;
        self.bytes = self.bytes.saturating_add(size);
        within(path, "bytes in all", self.bytes, self.limits.max_bytes)
    }

    /// Refuses what lies too deep.
    pub(crate) fn depth(&self, path: &str, depth: u32) -> Result<(), ContentError> {
        within(path, "levels", u64::from(depth), u64::from(self.limits.max_depth))
    }
}

fn within(path: &str, what: &'static str, found: u64, limit: u64) -> Result<(), ContentError> {
    if found <= limit {
        return Ok(());
    }
    Err(ContentError::Limit {
        path: path.to_owned(),
        what,
        limit,
    })
}
