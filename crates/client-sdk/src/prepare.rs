//! From a path and a manifest to a job that can be posted. Owns every check that needs no network, so that a mistake
//! costs nothing. Never talks to a chain or a store.

use std::path::{Path, PathBuf};

use sandrun_content::{Limits, MANIFEST_NAME, PackError, PackedTree, pack_bundle};
use sandrun_types::{
    BundlePath, BundlePathError, ContentDigest, Entry, Manifest, ManifestDigest, ManifestError, Requirements,
};

/// Seconds of real time that a run may take when the manifest says nothing.
const DEFAULT_WALL_LIMIT: u32 = 60;
/// MiB of memory that a run may take when the manifest says nothing: the executors' own default.
const DEFAULT_MEMORY_MIB: u32 = 512;

/// A job whose inputs are checked and packed.
#[derive(Debug, Clone)]
pub struct PreparedJob {
    /// Where the code was read.
    pub code: PathBuf,
    /// Its files by their names in the bundle; a `job.json` of the directory is not among them.
    pub files: Vec<BundlePath>,
    /// The manifest, as it will run.
    pub manifest: Manifest,
    /// Its digest.
    pub manifest_digest: ManifestDigest,
    /// The packed bundle.
    pub bundle: PackedTree,
    /// What starts.
    pub entry: Entry,
    /// What a node has to have.
    pub requirements: Requirements,
    /// Seconds of real time that a run may take.
    pub wall_limit: u32,
}

impl PreparedJob {
    /// The bundle's digest, as it stands in an order.
    pub fn bundle_digest(&self) -> ContentDigest {
        self.bundle.root().to_digest()
    }
}

/// What is wrong with a job's inputs.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Code or manifest can't be read.
    #[error("{what} {} can't be read: {source}. Check the path", path.display())]
    Unreadable {
        /// `the code` or `the manifest`.
        what: &'static str,
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is wrong.
    #[error("the manifest {}: {source}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A single file of code and a manifest that names another entrypoint.
    #[error("{}: {source}", path.display())]
    Code {
        /// The code.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A name in the code that no bundle may hold.
    #[error("{}: {source}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundlePathError,
    },
    /// The bundle can't be packed.
    #[error("packing the code failed: {0}")]
    Pack(#[from] PackError),
}

/// Reads, checks and packs a job. `code` is a directory or a file; `manifest` a file, else the directory's own
/// `job.json`, else defaults hold. A single file without a named entrypoint is its own entrypoint.
///
/// # Errors
/// [`PrepareError`], naming the file and what to do.
pub fn prepare(code: &Path, manifest: Option<&Path>) -> Result<PreparedJob, PrepareError> {
    let unreadable = |what, path: &Path, source| PrepareError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    let kind = std::fs::metadata(code).map_err(|source| unreadable("the code", code, source))?;
    let inner = code.join(MANIFEST_NAME);
    let source = manifest
        .map(Path::to_owned)
        .or_else(|| (kind.is_dir() && inner.is_file()).then_some(inner));
    let mut parsed = match &source {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|source| unreadable("the manifest", path, source))?;
            Manifest::parse(&bytes).map_err(|source| PrepareError::Manifest {
                path: path.clone(),
                source,
            })?
        }
        None => Manifest::default(),
    };
    let files = if kind.is_dir() {
        list(code)?
    } else {
        vec![single(code)?]
    };
    if parsed.entrypoint.is_none() && !kind.is_dir() {
        parsed.entrypoint = files.first().cloned();
    }
    let blame = |error| match &source {
        Some(path) => PrepareError::Manifest {
            path: path.clone(),
            source: error,
        },
        None => PrepareError::Code {
            path: code.to_owned(),
            source: error,
        },
    };
    let entry = parsed.entry(&files).map_err(blame)?;
    let bundle = pack_bundle(code, &parsed.canonical_bytes(), &Limits::default())?;
    let mut files = files;
    if kind.is_dir() {
        // the manifest stands for it
        files.retain(|it| it.as_str() != MANIFEST_NAME);
    }
    Ok(PreparedJob {
        code: code.to_owned(),
        files,
        manifest_digest: parsed.digest(),
        requirements: requirements(&parsed),
        wall_limit: parsed.timeout.unwrap_or(DEFAULT_WALL_LIMIT),
        manifest: parsed,
        bundle,
        entry,
    })
}

/// What the manifest asks of a machine, in the order's words.
fn requirements(manifest: &Manifest) -> Requirements {
    let gpu = manifest.gpu.as_ref().filter(|gpu| gpu.required);
    let capability = gpu.and_then(|gpu| gpu.compute_capability);
    Requirements {
        cpu_cores: 1,
        memory_mib: manifest.memory_mb.unwrap_or(DEFAULT_MEMORY_MIB),
        gpu: gpu.is_some(),
        vram_mib: gpu
            .and_then(|gpu| gpu.min_vram_gb)
            .unwrap_or(0)
            .saturating_mul(1024),
        compute_capability_x10: capability.map_or(0, |version| {
            version.major.saturating_mul(10).saturating_add(version.minor)
        }),
    }
}

fn single(code: &Path) -> Result<BundlePath, PrepareError> {
    let name = code.file_name().unwrap_or_default().to_string_lossy();
    BundlePath::parse(&name).map_err(|source| PrepareError::Name {
        path: code.to_owned(),
        source,
    })
}

/// Every regular file below `root`, by its name in the bundle.
fn list(root: &Path) -> Result<Vec<BundlePath>, PrepareError> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let unreadable = |source| PrepareError::Unreadable {
            what: "the directory",
            path: directory.clone(),
            source,
        };
        for item in std::fs::read_dir(&directory).map_err(unreadable)? {
            let item = item.map_err(unreadable)?;
            let path = item.path();
            if item.file_type().map_err(unreadable)?.is_dir() {
                open.push(path);
            } else {
                let relative = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                files.push(
                    BundlePath::parse(&relative).map_err(|source| PrepareError::Name { path, source })?,
                );
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn a_single_file_is_its_own_entrypoint() {
        let code = directory(&[("my-script.py", "print(1)")]);
        let job = prepare(&code.path().join("my-script.py"), None).unwrap();
        assert_eq!(job.entry.entrypoint.as_str(), "my-script.py");
        assert_eq!(job.wall_limit, DEFAULT_WALL_LIMIT);
    }

    #[test]
    fn the_same_code_has_the_same_bundle() {
        let one = directory(&[("main.py", "print(1)"), ("lib/a.py", "")]);
        let two = directory(&[("lib/a.py", ""), ("main.py", "print(1)")]);
        let digest = |dir: &tempfile::TempDir| prepare(dir.path(), None).unwrap().bundle_digest();
        assert_eq!(digest(&one), digest(&two));
    }

    #[test]
    fn mistakes_are_named_before_anything_is_sent() {
        let code = directory(&[
            ("main.py", ""),
            ("bad.json", "{not json"),
            ("field.json", r#"{"colour": 1}"#),
        ]);
        let with = |manifest: &str| {
            prepare(code.path(), Some(&code.path().join(manifest)))
                .unwrap_err()
                .to_string()
        };
        assert!(with("bad.json").contains("bad.json"), "{}", with("bad.json"));
        assert!(with("field.json").contains("colour"), "{}", with("field.json"));
        let error = prepare(&code.path().join("none.py"), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("none.py"), "{error}");
        let empty = directory(&[("readme.txt", "")]);
        assert!(matches!(
            prepare(empty.path(), None),
            Err(PrepareError::Code { .. })
        ));
    }

    #[test]
    fn an_entrypoint_outside_the_bundle_is_refused() {
        let code = directory(&[("job.json", r#"{"entrypoint": "../main.py"}"#), ("main.py", "")]);
        assert!(matches!(
            prepare(code.path(), None),
            Err(PrepareError::Manifest { .. })
        ));
        let code = directory(&[("job.json", r#"{"entrypoint": "other.py"}"#), ("main.py", "")]);
        let error = prepare(code.path(), None).unwrap_err().to_string();
        assert!(error.contains("other.py"), "{error}");
    }
}
