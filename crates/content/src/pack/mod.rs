//! Packs files into a tree, the same way each time. Owns what a bundle and a result look like as content.
//!
//! A tree holds names, contents and one bit: whether a bundle's file is executable. That bit is UnixFS `mode` 0755
//! (Kubo 0.30 and later write it back); other files carry no mode, so that they have the id that
//! `ipfs add --cid-version=1` gives. Times, owners and other bits are recorded nowhere. Directories are read sorted by
//! the bytes of their names. Chunks of 256 KiB, raw leaves, 174 links a node, directories above 256 KiB sharded:
//! Kubo's own parameters for CIDv1.
//!
//! A result carries no mode at all and no empty directory: it must be the same whether its files came straight from
//! the sandbox or over HTTP.
//!
//! Packing reads each file twice: once for the id, once for the blocks on their way into a store. A file that changes
//! in between is an error, not a different tree.

mod blocks;
mod error;
mod layout;
mod scan;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use crate::block::Block;
use crate::error::ContentError;
use crate::id::ContentId;
use crate::limits::Limits;
use crate::store::BlockStream;

pub(crate) use blocks::{AddedFile, DirectoryPacker, FilePacker, Form};
pub use error::PackError;
pub use layout::Data;
use layout::Layout;

/// The name of the canonical manifest in a bundle's root.
pub const MANIFEST_NAME: &str = "job.json";
/// The name of the standard output in a result's root.
pub const STDOUT_NAME: &str = "stdout";
/// The name of the standard error in a result's root.
pub const STDERR_NAME: &str = "stderr";
/// The name of the directory of output files in a result's root.
pub const OUTPUTS_NAME: &str = "outputs";

/// How many blocks wait between the disk and a store.
const QUEUED_BLOCKS: usize = 8;

/// A tree whose id is known and whose blocks can be streamed from disk, as often as needed.
#[derive(Debug, Clone)]
pub struct PackedTree {
    layout: Arc<Layout>,
    root: ContentId,
    blocks: u64,
}

/// Packs a bundle: `path` is a directory, whose entries stand in the root, or one file, which stands there under its
/// own name. The canonical manifest's bytes become `job.json` in the root, in place of any file of that name.
///
/// # Errors
/// [`PackError`], naming the path.
pub fn pack_bundle(path: &Path, manifest: &[u8], limits: &Limits) -> Result<PackedTree, PackError> {
    let mut layout = scan::directory_or_file(path, limits)?;
    layout.replace_file(MANIFEST_NAME, Data::from(Bytes::copy_from_slice(manifest)), path)?;
    PackedTree::of(layout, limits, || true)
}

/// Packs a result: `stdout` and `stderr` and, below `outputs/`, the files of a directory (if there is one).
///
/// # Errors
/// [`PackError`], naming the path.
pub fn pack_result(
    stdout: Data,
    stderr: Data,
    outputs: Option<&Path>,
    limits: &Limits,
) -> Result<PackedTree, PackError> {
    let mut layout = Layout::default();
    layout.file(STDOUT_NAME, stdout)?;
    layout.file(STDERR_NAME, stderr)?;
    layout.directory(OUTPUTS_NAME);
    if let Some(outputs) = outputs {
        layout.below(OUTPUTS_NAME, scan::directory(outputs, limits)?.files_only());
    }
    PackedTree::of(layout, limits, || true)
}

/// Packs a directory as it is, without a manifest.
///
/// # Errors
/// [`PackError`], naming the path.
pub fn pack_directory(path: &Path, limits: &Limits) -> Result<PackedTree, PackError> {
    pack_directory_while(path, limits, || true)
}

/// As [`pack_directory`], as long as `goes_on` says so, which is asked with each block.
///
/// # Errors
/// [`PackError`], naming the path; [`PackError::Stopped`] where it is not to go on.
pub fn pack_directory_while(
    path: &Path,
    limits: &Limits,
    goes_on: impl Fn() -> bool,
) -> Result<PackedTree, PackError> {
    PackedTree::of(scan::directory(path, limits)?, limits, goes_on)
}

/// The id of a directory, without storing anything.
///
/// # Errors
/// [`PackError`], naming the path.
pub fn root_of(path: &Path, limits: &Limits) -> Result<ContentId, PackError> {
    pack_directory(path, limits).map(|tree| tree.root())
}

impl PackedTree {
    fn of(layout: Layout, limits: &Limits, goes_on: impl Fn() -> bool) -> Result<Self, PackError> {
        layout.check(limits)?;
        let mut blocks = 0;
        let root = blocks::build(&layout, &mut |_| {
            blocks += 1;
            goes_on().then_some(()).ok_or(PackError::Stopped)
        })?;
        Ok(Self {
            layout: Arc::new(layout),
            root,
            blocks,
        })
    }

    /// The tree's id.
    #[must_use]
    pub const fn root(&self) -> ContentId {
        self.root
    }

    /// Bytes of file content.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Regular files.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.layout.files()
    }

    /// Blocks, children before parents, repeated ones counted each time.
    #[must_use]
    pub const fn block_count(&self) -> u64 {
        self.blocks
    }

    /// Hands each block to `sink`, children before parents, the root last. Reads the files anew.
    ///
    /// # Errors
    /// What `sink` says, or [`PackError::Changed`] where a file is no longer what it was when the tree was packed.
    pub fn each_block<E: From<PackError>>(
        &self,
        mut sink: impl FnMut(Block) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut refused = None;
        let built = blocks::build(&self.layout, &mut |block| {
            sink(block).map_err(|e| {
                refused = Some(e);
                PackError::Stopped
            })
        });
        match (refused, built) {
            (Some(e), _) => Err(e),
            (None, Err(e)) => Err(e.into()),
            (None, Ok(root)) if root == self.root => Ok(()),
            (None, Ok(_)) => Err(PackError::Changed {
                path: self.layout.name(),
            }
            .into()),
        }
    }

    /// The blocks as a stream; the disk is read on a blocking thread, a few blocks ahead.
    pub(crate) fn stream(&self) -> BlockStream<'static> {
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUED_BLOCKS);
        let tree = self.clone();
        tokio::task::spawn_blocking(move || {
            let sent = tree.each_block(|block| {
                // a receiver that is gone wants no more
                sender
                    .blocking_send(Ok(block))
                    .map_err(|_| ContentError::Pack(PackError::Stopped))
            });
            if let Err(error) = sent {
                // nobody listens only where the stream was dropped, and then nobody misses the error
                let _unheard = sender.blocking_send(Err(error));
            }
        });
        futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|item| (item, receiver))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests;
