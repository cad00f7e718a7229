//! Where packages come from: the registries, through their own package managers, as the user has set them up. Owns what
//! they are asked and how their answers are read.

mod npm;
mod pip;

use std::path::PathBuf;

use thiserror::Error;

use crate::lock::LockError;
use crate::tool::ToolError;

pub(crate) use npm::download_packages;
pub(crate) use pip::download_wheels;

pub use npm::lock_node;
pub use pip::lock_python;

/// Why there is no lock.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The package manager.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// What is to be locked.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder of our own.
    #[error("no temporary directory can be made")]
    Scratch(#[source] std::io::Error),
    /// The package manager's answer.
    #[error("{tool} answered with something that can't be read ({problem}); is it too old?")]
    Answer {
        /// The program.
        tool: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A package that is not from a registry, or has no strong hash.
    #[error("{package} can't be locked: {problem}")]
    Package {
        /// Which.
        package: String,
        /// Why.
        problem: &'static str,
    },
    /// Nothing to lock.
    #[error("{} names no packages", .0.display())]
    Empty(PathBuf),
    /// What the registry calls a package.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// An address without a user's name and password: locks are published.
fn public_address(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let (host, path) = rest.split_once('/')?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.split(['#', '?']).next().unwrap_or_default();
    Some(format!("https://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_published() {
        let address = |url| public_address(url);
        assert_eq!(
            address("https://me:secret@host/a.whl#sha256=1").as_deref(),
            Some("https://host/a.whl")
        );
        assert_eq!(
            address("https://host/a.whl?token=secret").as_deref(),
            Some("https://host/a.whl")
        );
        assert_eq!(address("file:///srv/a.whl"), None);
        assert_eq!(address("http://host/a.whl"), None);
    }
}
