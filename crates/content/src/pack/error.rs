//! Why files can't be packed; each names the path as the user knows it.

use std::path::PathBuf;

use crate::name::NameError;

/// Why a directory or file can't be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is nothing at the path.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A file or directory can't be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A symlink. They are refused, since what they name may lie outside.
    #[error("{} is a symlink; put the file itself there", path.display())]
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// A device, a socket, a named pipe.
    #[error("{} is neither a file nor a directory", path.display())]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// A directory was asked for.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A file name that is no UTF-8.
    #[error("the name of {} is not UTF-8; rename it", path.display())]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// A name that no file in a tree may have.
    #[error("{} can't be packed: {reason}", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// What is wrong with its name.
        reason: NameError,
    },
    /// A name that the product itself needs stands for a directory, or twice.
    #[error("{} takes the name of a file that is put there; rename it", path.display())]
    Reserved {
        /// The path.
        path: PathBuf,
    },
    /// Too much.
    #[error("{} passes the limit of {limit} {what}", path.display())]
    Limit {
        /// The path that passed it.
        path: PathBuf,
        /// What is limited.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The files changed while they were packed.
    #[error("{} changed while it was being packed; pack it again", path.display())]
    Changed {
        /// The file, or the whole tree.
        path: PathBuf,
    },
    /// A directory can't be encoded (thousands of names of equal hash).
    #[error("a directory of the tree can't be encoded: {reason}")]
    Encode {
        /// What the encoder said.
        reason: String,
    },
    /// Whoever took the blocks wants no more.
    #[error("packing was stopped")]
    Stopped,
}
