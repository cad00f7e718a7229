//! Turns a [`Layout`] into blocks. Owns the order (children before parents, the root last) and the one thing that
//! rust-unixfs leaves to us: the mode of an executable file's root, whatever the file's size.

use std::io::Read;

use bytes::Bytes;
use cid::{Cid, Version};
use prost::Message;
use rust_unixfs::Metadata;
use rust_unixfs::dir::builder::{BufferingTreeBuilder, TreeOptions};
use rust_unixfs::file::adder::FileAdder;

use super::PackError;
use super::layout::{Data, Item, Layout};
use super::scan;
use crate::block::Block;
use crate::id::{ContentId, DAG_PB_CODEC, RAW_CODEC};
use crate::node::{KIND_FILE, UnixFsData, len_u64};

/// The mode that marks an executable file.
const EXECUTABLE_MODE: u32 = 0o755;
/// Content of a leaf: Kubo's `size-262144`.
const CHUNK_BYTES: usize = 256 * 1024;

/// Takes each block.
pub(crate) type Sink<'a> = dyn FnMut(Block) -> Result<(), PackError> + 'a;

/// Hands all blocks of the tree to `sink` and returns its id.
pub(super) fn build(layout: &Layout, sink: &mut Sink<'_>) -> Result<ContentId, PackError> {
    let mut links = DirectoryPacker::new(Form::default());
    for (path, item) in layout.items() {
        match item {
            Item::Directory => links.directory(path)?,
            Item::File { data, executable } => {
                let added = match data {
                    Data::Bytes(bytes) => add_file(bytes.as_ref(), *executable, sink),
                    Data::File { path, size } => add_from_disk(path, *size, *executable, sink),
                }?;
                links.file(path, added)?;
            }
        }
    }
    let added = links.finish(sink)?;
    let root = added.last().ok_or_else(|| PackError::Encode {
        reason: "a tree without a root".into(),
    })?;
    ContentId::try_from(&root.cid).map_err(encode)
}

/// A file that was added: the CID of its root and the bytes of all its blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddedFile {
    pub(crate) cid: Cid,
    pub(crate) total_size: u64,
}

fn add_from_disk(
    path: &std::path::Path,
    size: u64,
    executable: bool,
    sink: &mut Sink<'_>,
) -> Result<AddedFile, PackError> {
    let mut counted = CountingRead {
        inner: scan::open(path, size)?,
        path,
        left: size,
    };
    let added = add_file(&mut counted, executable, sink)?;
    // what is missing or too much was noticed while reading, but for a file that shrank
    if counted.left == 0 {
        Ok(added)
    } else {
        Err(PackError::Changed {
            path: path.to_owned(),
        })
    }
}

/// A reader that does not read more than was announced.
struct CountingRead<'a> {
    inner: std::fs::File,
    path: &'a std::path::Path,
    left: u64,
}

/// Content in order; `fill` reads as much as fits.
pub(super) trait Source {
    /// Fills `chunk` as far as there is content and returns how far.
    fn fill(&mut self, chunk: &mut [u8]) -> Result<usize, PackError>;
}

impl Source for &[u8] {
    fn fill(&mut self, chunk: &mut [u8]) -> Result<usize, PackError> {
        let len = self.len().min(chunk.len());
        let (head, tail) = self.split_at(len);
        chunk[..len].copy_from_slice(head);
        *self = tail;
        Ok(len)
    }
}

impl Source for &mut CountingRead<'_> {
    fn fill(&mut self, chunk: &mut [u8]) -> Result<usize, PackError> {
        let mut filled = 0;
        while filled < chunk.len() {
            match self.inner.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(scan::read_error(self.path, source)),
            }
        }
        match self.left.checked_sub(len_u64(&chunk[..filled])) {
            Some(left) => self.left = left,
            None => {
                return Err(PackError::Changed {
                    path: self.path.to_owned(),
                });
            }
        }
        Ok(filled)
    }
}

/// Adds one file. The root is handed out last and only once, with its mode.
fn add_file(mut source: impl Source, executable: bool, sink: &mut Sink<'_>) -> Result<AddedFile, PackError> {
    let mut packer = FilePacker::new(Form::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let filled = source.fill(&mut chunk)?;
        packer.push(&chunk[..filled], sink)?;
        if filled < CHUNK_BYTES {
            return packer.finish(executable, sink);
        }
    }
}

/// Which CIDs are made. This product's trees have the default; the RPC offers the others as Kubo does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) version: Version,
    pub(crate) raw_leaves: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            version: Version::V1,
            raw_leaves: true,
        }
    }
}

/// One file in the making. The latest block is held back: it may be the root.
#[derive(Debug)]
pub(crate) struct FilePacker {
    adder: FileAdder,
    last: Option<(Cid, Vec<u8>)>,
    total_size: u64,
}

impl FilePacker {
    pub(crate) fn new(form: Form) -> Self {
        let adder = FileAdder::builder()
            .with_cid_version(form.version)
            .with_raw_leaves(form.raw_leaves)
            .build();
        Self {
            adder,
            last: None,
            total_size: 0,
        }
    }

    /// Takes the next piece of content.
    pub(crate) fn push(&mut self, mut content: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
        while !content.is_empty() {
            let (blocks, used) = self.adder.push(content);
            take(&mut self.last, &mut self.total_size, blocks, sink)?;
            content = &content[used..];
        }
        Ok(())
    }

    /// Hands out the rest, the root last.
    pub(crate) fn finish(mut self, executable: bool, sink: &mut Sink<'_>) -> Result<AddedFile, PackError> {
        take(&mut self.last, &mut self.total_size, self.adder.finish(), sink)?;
        let root = self.last.take().ok_or_else(|| PackError::Encode {
            reason: "a file without a block".into(),
        })?;
        let root = if executable { with_mode(root)? } else { root };
        let cid = root.0;
        emit(root, &mut self.total_size, sink)?;
        Ok(AddedFile {
            cid,
            total_size: self.total_size,
        })
    }
}

/// Hands out all blocks but the latest.
fn take(
    last: &mut Option<(Cid, Vec<u8>)>,
    total_size: &mut u64,
    blocks: impl Iterator<Item = (Cid, Vec<u8>)>,
    sink: &mut Sink<'_>,
) -> Result<(), PackError> {
    for next in blocks {
        if let Some(previous) = last.replace(next) {
            emit(previous, total_size, sink)?;
        }
    }
    Ok(())
}

fn emit((cid, bytes): (Cid, Vec<u8>), total_size: &mut u64, sink: &mut Sink<'_>) -> Result<(), PackError> {
    *total_size += len_u64(&bytes);
    sink(block(cid, bytes)?)
}

/// The root of an executable file: a leaf is put into a node, a node gets the field.
fn with_mode((cid, bytes): (Cid, Vec<u8>)) -> Result<(Cid, Vec<u8>), PackError> {
    let encode = |reason: String| PackError::Encode { reason };
    let mut node = if cid.codec() == RAW_CODEC {
        let leaf = UnixFsData {
            kind: KIND_FILE,
            filesize: Some(len_u64(&bytes)),
            data: (!bytes.is_empty()).then(|| Bytes::from(bytes)),
            ..UnixFsData::default()
        };
        ipld_dagpb::PbNode {
            links: Vec::new(),
            data: Some(leaf.encode_to_vec().into()),
        }
    } else {
        ipld_dagpb::PbNode::from_bytes(bytes.into()).map_err(|e| encode(e.to_string()))?
    };
    let data = node.data.take().unwrap_or_default();
    let mut message = UnixFsData::decode(data).map_err(|e| encode(e.to_string()))?;
    message.mode = Some(EXECUTABLE_MODE);
    node.data = Some(message.encode_to_vec().into());
    let block = Block::hashed(DAG_PB_CODEC, node.into_bytes().into());
    Ok((block.cid(), block.into_bytes().into()))
}

/// The encoder's block, checked: rust-unixfs hashed it, this makes it a [`Block`].
fn block(cid: Cid, bytes: Vec<u8>) -> Result<Block, PackError> {
    Block::checked(cid, bytes.into()).map_err(|e| PackError::Encode {
        reason: e.to_string(),
    })
}

/// The directories of a tree in the making.
#[derive(Debug)]
pub(crate) struct DirectoryPacker {
    builder: BufferingTreeBuilder,
}

/// A directory that was encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedDirectory {
    /// Within the tree; empty for the root, and for the inner nodes of sharded directories.
    pub(crate) path: String,
    pub(crate) cid: Cid,
    pub(crate) total_size: u64,
}

impl DirectoryPacker {
    pub(crate) fn new(form: Form) -> Self {
        let mut options = TreeOptions::default();
        options.wrap_with_directory();
        options.cid_version(form.version);
        Self {
            builder: BufferingTreeBuilder::new(options),
        }
    }

    pub(crate) fn directory(&mut self, path: &str) -> Result<(), PackError> {
        self.builder
            .set_metadata(path, Metadata::default())
            .map_err(encode)
    }

    pub(crate) fn file(&mut self, path: &str, file: AddedFile) -> Result<(), PackError> {
        self.builder
            .put_link(path, file.cid, file.total_size)
            .map_err(encode)
    }

    /// Hands out the directories' blocks, the root last, and returns what they are, in the same order.
    pub(crate) fn finish(self, sink: &mut Sink<'_>) -> Result<Vec<AddedDirectory>, PackError> {
        let mut added = Vec::new();
        let mut nodes = self.builder.build();
        while let Some(node) = nodes.next_borrowed() {
            let node = node.map_err(encode)?;
            sink(block(*node.cid, node.block.to_vec())?)?;
            added.push(AddedDirectory {
                path: node.path.to_owned(),
                cid: *node.cid,
                total_size: node.total_size,
            });
        }
        Ok(added)
    }
}

fn encode(error: impl std::fmt::Display) -> PackError {
    PackError::Encode {
        reason: error.to_string(),
    }
}
