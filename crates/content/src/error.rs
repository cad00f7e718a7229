//! What can go wrong with a store. Each message says what failed, why, and where it helps what to do next.

use std::path::PathBuf;

use cid::Cid;

use crate::block::BlockError;
use crate::id::ContentId;
use crate::node::NodeError;
use crate::pack::PackError;

/// An error of a library below, kept as the source.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What an operation on a [`crate::ContentStore`] failed with.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The store does not have it.
    #[error("block {cid} is not in the store")]
    NotFound {
        /// What was asked for.
        cid: Cid,
    },
    /// The bytes in hand are not what their CID names, or can't be checked.
    #[error(transparent)]
    Block(Box<BlockError>),
    /// A block matches its CID, but is no node of a tree.
    #[error("block {cid} is no node of a tree: {reason}")]
    Malformed {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        reason: Box<NodeError>,
    },
    /// The tree is larger than the caller allows.
    #[error("`{path}` passes the limit of {limit} {what}")]
    Limit {
        /// The path within the tree, `/` for the whole of it.
        path: String,
        /// What is limited: bytes, entries, levels, blocks.
        what: &'static str,
        /// The bound that was passed.
        limit: u64,
    },
    /// A symlink within the tree: this product neither packs nor follows them.
    #[error("`{path}` is a symlink; trees with symlinks are not accepted")]
    Symlink {
        /// The path within the tree.
        path: String,
    },
    /// The id names no directory where one is needed.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// The root's CID and the path within the tree.
        path: String,
    },
    /// The path names a directory where a file is needed.
    #[error("`{path}` is not a file")]
    NotAFile {
        /// The root's CID and the path within the tree.
        path: String,
    },
    /// No such name in the tree.
    #[error("there is no `{path}`")]
    NoSuchPath {
        /// The root's CID and the path within the tree.
        path: String,
    },
    /// The directory to fetch into holds something already.
    #[error("{} exists and is not an empty directory; fetch into a new one", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The tree to add can't be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A file of our own could not be read or written.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create` …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store is full and nothing in it may be collected.
    #[error(
        "the content store is full: {used} of {cap} bytes used, {needed} more needed; unpin content or raise its size cap"
    )]
    Full {
        /// Bytes used now.
        used: u64,
        /// The size cap.
        cap: u64,
        /// Bytes that did not fit.
        needed: u64,
    },
    /// Another process has the store open.
    #[error("the content store in {} is in use by another process; stop that one, or give this one another folder", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// The address of a content service is none.
    #[error("`{url}` is no address of a content service ({reason}); give one such as http://127.0.0.1:5001")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer from the content service at all.
    #[error("no content service answers at {api}; is it running, and is --ipfs-api right?")]
    Unreachable {
        /// The service.
        api: String,
        /// What the transport said.
        source: Cause,
    },
    /// The service sent nothing for too long.
    #[error(
        "content service {api} sent nothing for {seconds} s while asked to {request}; is it overloaded, and is --ipfs-api right?"
    )]
    Stalled {
        /// The service.
        api: String,
        /// The request.
        request: String,
        /// The patience that ran out, in seconds.
        seconds: u64,
    },
    /// The service answered with an error, or with something else than was asked for.
    #[error("content service {api} refused to {request}: {message}")]
    Refused {
        /// The service.
        api: String,
        /// The request.
        request: String,
        /// The service's own words.
        message: String,
    },
    /// A task of ours ended early (the runtime shuts down).
    #[error("the content store is shutting down")]
    ShuttingDown,
}

impl ContentError {
    /// A block that matches its CID, but is no node of a tree.
    pub(crate) fn malformed(cid: Cid, reason: NodeError) -> Self {
        Self::Malformed {
            cid,
            reason: Box::new(reason),
        }
    }

    /// An I/O error with its subject.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether it says something about who was asked, and not about the content: it is not there, or other bytes were
    /// served in the place of a block, or there was no answer. Another store, or the same one later, may have it.
    #[must_use]
    pub fn is_of_the_store(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Unreachable { .. }
            | Self::Stalled { .. }
            | Self::Refused { .. }
            | Self::ShuttingDown => true,
            Self::Block(error) => match **error {
                BlockError::Corrupt { .. } | BlockError::TooLarge { .. } => true,
                BlockError::Unsupported { .. } => false,
            },
            Self::Malformed { .. }
            | Self::Limit { .. }
            | Self::Symlink { .. }
            | Self::NotADirectory { .. }
            | Self::NotAFile { .. }
            | Self::NoSuchPath { .. }
            | Self::Occupied { .. }
            | Self::Pack(_)
            | Self::Io { .. }
            | Self::Full { .. }
            | Self::Locked { .. }
            | Self::Address { .. } => false,
        }
    }

    /// Whether the content can't be had as named (missing, corrupt, malformed, too large): asking again will not help,
    /// in contrast to a service that can't be reached.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Block(_)
            | Self::Malformed { .. }
            | Self::Limit { .. }
            | Self::Symlink { .. }
            | Self::NotADirectory { .. }
            | Self::NotAFile { .. }
            | Self::NoSuchPath { .. } => true,
            Self::Occupied { .. }
            | Self::Pack(_)
            | Self::Io { .. }
            | Self::Full { .. }
            | Self::Locked { .. }
            | Self::Address { .. }
            | Self::Unreachable { .. }
            | Self::Stalled { .. }
            | Self::Refused { .. }
            | Self::ShuttingDown => false,
        }
    }
}

impl From<BlockError> for ContentError {
    fn from(error: BlockError) -> Self {
        Self::Block(Box::new(error))
    }
}

/// A store's result for a tree that was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// What was fetched.
    pub root: ContentId,
    /// Regular files written.
    pub files: u64,
    /// Directories made, the root not counted.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
}
