//! From a lock or a directory to an image. Owns what an image looks like; what was downloaded is checked before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sandrun_content::{ContentId, PackError, PackedTree, pack_directory_while};
use serde_json::json;
use tempfile::TempDir;
use thiserror::Error;

use crate::downloads::{DownloadError, Downloads};
use crate::image::{IMAGE_LIMITS, ImageError, ImageWriter, is_bytecode};
use crate::interrupt::Interrupt;
use crate::lock::Lock;
use crate::unpack::{UnpackError, unpack_tarball, unpack_wheel};

/// What says in an image's root what is in it.
const ABOUT: &str = "environment.json";
/// Version of Python whose packages a plain directory is taken for.
const PLAIN_PYTHON: &str = "3.11";

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// Its content.
    pub tree: PackedTree,
    /// What a directory was taken for; locks say themselves what they are.
    pub shape: Option<Shape>,
    folder: TempDir,
}

/// What a directory was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A whole image: it has `lib` or `environment.json`.
    Image,
    /// What npm installs into: it has `node_modules`.
    NodeModules,
    /// Python packages, as `pip install --target` lays them down.
    PythonPackages,
}

/// Why there is no image.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The packages are not there.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// One of them cannot be unpacked.
    #[error("{package} can't be unpacked: {source}")]
    Unpack {
        /// Which.
        package: String,
        /// Why.
        source: UnpackError,
    },
    /// Something in the directory, or the image as a whole.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A directory that cannot be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Our own disk.
    #[error("the image can't be written to {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image can't be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl Shape {
    /// Words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Image => "a whole image",
            Self::NodeModules => "npm packages (node_modules)",
            Self::PythonPackages => "Python packages",
        }
    }
}

impl Built {
    /// The image's id.
    #[must_use]
    pub const fn id(&self) -> ContentId {
        self.tree.root()
    }

    /// Moves the image to `out`, a directory that must not be there yet, whose parent must be.
    ///
    /// # Errors
    /// [`BuildError::Write`].
    pub fn keep(self, out: &Path) -> Result<(), BuildError> {
        let failed = |source| BuildError::Write {
            path: out.to_owned(),
            source,
        };
        if fs::symlink_metadata(out).is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(self.folder.path().join("image"), out).map_err(failed)
    }
}

/// Builds the image of a lock, in a temporary directory below `scratch`. Blocking; talks to registries for packages that
/// `downloads` lacks, and ends with them ([`Downloads::until`]).
///
/// # Errors
/// [`BuildError`].
pub fn build_lock(lock: &Lock, downloads: &Downloads, scratch: &Path) -> Result<Built, BuildError> {
    downloads.complete(lock)?;
    let (folder, mut image) = begin(scratch, downloads.interrupt())?;
    let unpack = |package: String| move |source| BuildError::Unpack { package, source };
    let about = match lock {
        Lock::Python(lock) => {
            let site = site(&lock.python);
            for wheel in &lock.packages {
                let name = format!("{} {}", wheel.name, wheel.version);
                unpack_wheel(&downloads.path(&wheel.hash), &site, &mut image).map_err(unpack(name))?;
            }
            let names = lock
                .packages
                .iter()
                .map(|it| format!("{} {}", it.name, it.version));
            json!({"language": "python", "packages": names.collect::<Vec<_>>(), "python": lock.python})
        }
        Lock::Node(lock) => {
            for package in &lock.packages {
                let name = format!("{} {}", package.name, package.version);
                let place = format!("lib/{}", package.path);
                unpack_tarball(&downloads.path(&package.hash), &place, &mut image).map_err(unpack(name))?;
            }
            let names = lock
                .packages
                .iter()
                .map(|it| format!("{} {}", it.path, it.version));
            json!({"language": "node", "packages": names.collect::<Vec<_>>()})
        }
    };
    let about = serde_json::to_string_pretty(&about).unwrap_or_default() + "\n";
    image.add(ABOUT, false, &mut about.as_bytes())?;
    finish(folder, None, downloads.interrupt())
}

/// Builds the image of a directory: bytecode, links' absence and modes are made the same whoever made the directory.
/// Blocking; ends with `interrupt`.
///
/// # Errors
/// [`BuildError`]; a link or a special file in it is one.
pub fn build_directory(directory: &Path, scratch: &Path, interrupt: &Interrupt) -> Result<Built, BuildError> {
    let has = |name: &str| directory.join(name).exists();
    let (shape, prefix) = if has("lib") || has(ABOUT) {
        (Shape::Image, String::new())
    } else if has("node_modules") {
        (Shape::NodeModules, "lib/".to_owned())
    } else {
        (Shape::PythonPackages, site(PLAIN_PYTHON) + "/")
    };
    let (folder, mut image) = begin(scratch, interrupt)?;
    let from = match shape {
        Shape::NodeModules => directory.join("node_modules"),
        Shape::Image | Shape::PythonPackages => directory.to_owned(),
    };
    let prefix = match shape {
        Shape::NodeModules => prefix + "node_modules/",
        Shape::Image | Shape::PythonPackages => prefix,
    };
    copy(&from, &prefix, &mut image)?;
    finish(folder, Some(shape), interrupt)
}

/// Where one version of Python looks for packages.
fn site(python: &str) -> String {
    format!("lib/python{python}/site-packages")
}

fn begin(scratch: &Path, interrupt: &Interrupt) -> Result<(TempDir, ImageWriter), BuildError> {
    let failed = |source| BuildError::Write {
        path: scratch.to_owned(),
        source,
    };
    let folder = tempfile::Builder::new()
        .prefix(".image-")
        .tempdir_in(scratch)
        .map_err(failed)?;
    let image = folder.path().join("image");
    fs::create_dir(&image).map_err(failed)?;
    fs::set_permissions(&image, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok((folder, ImageWriter::new(&image).until(interrupt)))
}

fn finish(folder: TempDir, shape: Option<Shape>, interrupt: &Interrupt) -> Result<Built, BuildError> {
    let image = folder.path().join("image");
    let tree = pack_directory_while(&image, &IMAGE_LIMITS, || !interrupt.is_over())?;
    Ok(Built { tree, shape, folder })
}

fn copy(from: &Path, prefix: &str, image: &mut ImageWriter) -> Result<(), BuildError> {
    let failed = |source| BuildError::Read {
        path: from.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        entries.push((entry.file_name(), entry.file_type().map_err(failed)?));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = from.join(&name);
        let shown = format!("{prefix}{}", name.to_string_lossy());
        // npm's folder of links to programs
        let is_links = name == ".bin" && (prefix.ends_with("node_modules/"));
        if is_bytecode(&shown) || is_links {
            continue;
        }
        if kind.is_dir() {
            copy(&path, &format!("{shown}/"), image)?;
        } else if kind.is_file() {
            let read = |source| BuildError::Read {
                path: path.clone(),
                source,
            };
            let mut file = File::open(&path).map_err(read)?;
            let mode = file.metadata().map_err(read)?.permissions().mode();
            image.add(&shown, mode & 0o100 != 0, &mut file)?;
        } else {
            return Err(ImageError::Special(path.display().to_string()).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
