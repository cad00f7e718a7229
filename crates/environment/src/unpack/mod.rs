//! Package files become files of an image. Owns the two formats: wheels (PEP 427) and npm's archives. Never runs what is
//! in them, and never follows a link: there is none in an image.

mod tarball;
mod wheel;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::image::ImageError;

pub(crate) use tarball::unpack_tarball;
pub(crate) use wheel::unpack_wheel;

/// A package that cannot be unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// It is no archive of its kind.
    #[error("it is no {kind}: {source}")]
    Broken {
        /// `wheel` or `npm package`.
        kind: &'static str,
        /// What is wrong.
        source: io::Error,
    },
    /// Its file in the cache.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it that no image holds.
    #[error(transparent)]
    Image(#[from] ImageError),
}

#[cfg(test)]
mod tests;
