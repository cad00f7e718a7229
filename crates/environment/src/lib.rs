//! Environments: read-only images of packages that jobs run with, named by the id of their content.
//!
//! Owns locks (which packages, by hash), their making with the languages' own package managers ([`lock_python`],
//! [`lock_node`]), the image that a lock or a directory becomes ([`build_lock`], [`build_directory`]), the list of names
//! ([`EnvironmentList`]) and the cache in which a node keeps images ([`Environments`]). Never runs a package's code,
//! never mounts anything, and never trusts what a package manager or a content store hands over: every package is
//! checked against its lock, every block of an image against its id.
//!
//! **Invariant**: one lock is one content id, whoever builds it, wherever and whenever: an image holds names, contents
//! and whether a file is executable, all of them taken from the packages alone. Layout of an image:
//!
//! ```text
//! environment.json                     what is in it, for people
//! lib/python3.11/site-packages/…       wheels, unpacked
//! lib/node_modules/…                   npm packages, unpacked
//! ```

mod build;
mod cache;
mod downloads;
mod hash;
mod image;
mod interrupt;
mod list;
mod lock;
mod name;
mod requirements;
mod service;
mod source;
mod tool;
mod unpack;

pub use build::{BuildError, Built, Shape, build_directory, build_lock};
pub use cache::{CacheError, Lease};
pub use downloads::{DownloadError, Downloads};
pub use hash::{PackageHash, PackageHashError};
pub use image::{IMAGE_LIMITS, ImageError};
pub use interrupt::Interrupt;
pub use list::{EnvironmentList, ListError, UnknownEnvironment};
pub use lock::{Lock, LockError, NodeLock, NodePackage, PythonLock, Wheel};
pub use name::{EnvironmentName, NameError, Reference};
pub use requirements::first_dependency;
pub use service::{Available, Environments, EnvironmentsConfig, ObtainError};
pub use source::{ResolveError, lock_node, lock_python};
pub use tool::ToolError;
