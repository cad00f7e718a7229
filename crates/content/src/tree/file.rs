//! Reads one file, part by part, in order. Owns the check that each part has the size that its parent declared.

use std::sync::Arc;

use bytes::Bytes;

use crate::block::Block;
use crate::error::ContentError;
use crate::node::{self, FileNode, Node, NodeError, Part};
use crate::store::ContentStore;

/// How deep a file's nodes may lie in each other; 174 links a node make 2^59 bytes with six.
const MAX_FILE_DEPTH: u32 = 16;

/// A part that is still to be read.
#[derive(Debug)]
struct Pending {
    part: Part,
    depth: u32,
}

/// A file being read. Holds one node's links per level and no content.
#[derive(Debug)]
pub(crate) struct FileReader {
    path: Arc<str>,
    size: u64,
    inline: Option<Bytes>,
    pending: Vec<Pending>,
    blocks_left: u64,
}

impl FileReader {
    /// A reader of the file whose root is `node`, allowed to read `blocks_left` blocks.
    pub(crate) fn new(node: FileNode, path: &str, blocks_left: u64) -> Self {
        let mut reader = Self {
            path: path.into(),
            size: node.size,
            inline: None,
            pending: Vec::new(),
            blocks_left,
        };
        reader.descend(node, 1);
        reader
    }

    /// Bytes of content in all.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// How many blocks it may still read.
    pub(crate) const fn blocks_left(&self) -> u64 {
        self.blocks_left
    }

    /// The next piece of content, or none at the end.
    pub(crate) async fn next<S: ContentStore + ?Sized>(
        &mut self,
        store: &S,
    ) -> Result<Option<Bytes>, ContentError> {
        loop {
            if let Some(bytes) = self.inline.take() {
                return Ok(Some(bytes));
            }
            let Some(Pending { part, depth }) = self.pending.pop() else {
                return Ok(None);
            };
            self.count(depth)?;
            let block = store.get_block(&part.cid).await?;
            let node = self.part_node(&part, &block)?;
            self.descend(node, depth + 1);
        }
    }

    fn count(&mut self, depth: u32) -> Result<(), ContentError> {
        let limit = |what, limit| ContentError::Limit {
            path: self.path.to_string(),
            what,
            limit,
        };
        if depth > MAX_FILE_DEPTH {
            return Err(limit("levels of file nodes", u64::from(MAX_FILE_DEPTH)));
        }
        match self.blocks_left.checked_sub(1) {
            Some(left) => self.blocks_left = left,
            None => return Err(limit("blocks", 0)),
        }
        Ok(())
    }

    fn part_node(&self, part: &Part, block: &Block) -> Result<FileNode, ContentError> {
        match decode_part(part, block) {
            Ok(node) => Ok(node),
            Err(reason) => Err(ContentError::malformed(block.cid(), reason)),
        }
    }

    fn descend(&mut self, node: FileNode, depth: u32) {
        self.pending
            .extend(node.parts.into_iter().rev().map(|part| Pending { part, depth }));
        self.inline = (!node.data.is_empty()).then_some(node.data);
    }
}

fn decode_part(part: &Part, block: &Block) -> Result<FileNode, NodeError> {
    match node::decode(block)? {
        Node::File(file) if file.size == part.size => Ok(file),
        Node::File(_) => Err(NodeError::Sizes("a part has another size than its parent says")),
        Node::Directory(_) | Node::Shard(_) | Node::Symlink(_) => {
            Err(NodeError::UnixFs("a file's part is no file".into()))
        }
    }
}
