//! From a path and a manifest to a job that can be posted. Owns every check that needs no network, so that a mistake
//! costs nothing. Never talks to a chain or a store.

mod error;

use std::path::{Path, PathBuf};

use sandrun_content::{Limits, MANIFEST_NAME, PackedTree, pack_bundle};
use sandrun_environment::{EnvironmentList, first_dependency};
use sandrun_types::{BundlePath, ContentDigest, Entry, Manifest, ManifestDigest, Requirements};

use crate::gather::{Gathered, Packing, gather, read_bounded};

pub use error::PrepareError;

/// Bytes of files that a bundle may have: what agents fetch (their `max_bundle_bytes`).
pub const MAX_BUNDLE_BYTES: u64 = 100 << 20;

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
    /// Files and directories of the code that are left out: `.git`, downloaded results, what `.sandrunignore` names.
    pub left_out: u64,
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
    /// What the bundle's blocks are read from, until it is stored.
    _packing: Packing,
}

impl PreparedJob {
    /// The bundle's digest, as it stands in an order.
    pub fn bundle_digest(&self) -> ContentDigest {
        self.bundle.root().to_digest()
    }
}

/// Reads, checks and packs a job. `code` is a directory or a file; `manifest` a file, else the directory's own
/// `job.json`, else defaults hold. A single file without a named entrypoint is its own entrypoint.
///
/// # Errors
/// [`PrepareError`], naming the file and what to do.
pub fn prepare(code: &Path, manifest: Option<&Path>) -> Result<PreparedJob, PrepareError> {
    prepare_with(code, manifest, |asked| Ok(asked.to_owned()))
}

/// As [`prepare`], for the market: an environment that the manifest has by name stands in the bundle by its content id,
/// as `list` has it. What nodes run with is then fixed by the order's manifest digest, whatever their own lists say.
///
/// # Errors
/// As [`prepare`], and a name that is not in the list.
pub fn prepare_for_market(
    code: &Path,
    manifest: Option<&Path>,
    list: &EnvironmentList,
) -> Result<PreparedJob, PrepareError> {
    prepare_with(code, manifest, |asked| Ok(list.resolve(asked)?.to_string()))
}

/// As [`prepare`], for a broker or a coordinator: an environment that is in `list` by its name stands by its content id,
/// so that every node has the same; other names are for the nodes' own lists.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_for_pool(
    code: &Path,
    manifest: Option<&Path>,
    list: &EnvironmentList,
) -> Result<PreparedJob, PrepareError> {
    prepare_with(code, manifest, |asked| {
        Ok(list
            .resolve(asked)
            .map_or_else(|_| asked.to_owned(), |id| id.to_string()))
    })
}

fn prepare_with(
    code: &Path,
    manifest: Option<&Path>,
    environment: impl FnOnce(&str) -> Result<String, PrepareError>,
) -> Result<PreparedJob, PrepareError> {
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
        Some(path) => read_manifest(path)?,
        None => Manifest::default(),
    };
    if let Some(asked) = &mut parsed.environment {
        *asked = environment(asked)?;
    }
    let gathered = if kind.is_dir() {
        gather(code)?
    } else {
        Gathered::single(single(code)?, kind.len())
    };
    small_enough(code, &gathered)?;
    let mut files: Vec<BundlePath> = gathered.files.iter().map(|(file, _)| file.clone()).collect();
    if !kind.is_dir() {
        name_entrypoint(code, source.as_deref(), &mut parsed, &files)?;
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
    installs_nothing(code, kind.is_dir(), &parsed)?;
    let packing = gathered.packing(code)?;
    let tree = match &packing {
        Packing::Whole => code,
        Packing::Copy(copy) => copy.path(),
    };
    let bundle = pack_bundle(tree, &parsed.canonical_bytes(), &Limits::default())?;
    if kind.is_dir() {
        // the manifest stands for it
        files.retain(|it| it.as_str() != MANIFEST_NAME);
    }
    Ok(PreparedJob {
        code: code.to_owned(),
        files,
        left_out: gathered.left_out,
        manifest_digest: parsed.digest(),
        requirements: requirements(&parsed),
        wall_limit: parsed.timeout.unwrap_or(DEFAULT_WALL_LIMIT),
        manifest: parsed,
        bundle,
        entry,
        _packing: packing,
    })
}

fn read_manifest(path: &Path) -> Result<Manifest, PrepareError> {
    let bytes = read_bounded(path, Manifest::MAX_BYTES as u64, "the manifest")?;
    Manifest::parse(&bytes).map_err(|source| PrepareError::Manifest {
        path: path.to_owned(),
        source,
    })
}

/// Refuses a requirements file that names packages: no executor installs any.
fn installs_nothing(code: &Path, is_directory: bool, parsed: &Manifest) -> Result<(), PrepareError> {
    let Some(file) = &parsed.requirements else {
        return Ok(());
    };
    let path = if is_directory {
        code.join(file.as_str())
    } else {
        code.to_owned()
    };
    let text = std::fs::read(&path).map_err(|source| PrepareError::Unreadable {
        what: "the manifest's `requirements`",
        path,
        source,
    })?;
    match first_dependency(file.file_name(), &String::from_utf8_lossy(&text)) {
        Some(first) => Err(PrepareError::Packages {
            file: file.clone(),
            first,
        }),
        None => Ok(()),
    }
}

/// A single file is what starts; a manifest that starts another one was made for other code.
fn name_entrypoint(
    code: &Path,
    manifest: Option<&Path>,
    parsed: &mut Manifest,
    files: &[BundlePath],
) -> Result<(), PrepareError> {
    let Some(file) = files.first() else {
        return Ok(());
    };
    match (&parsed.entrypoint, manifest) {
        (None, _) => parsed.entrypoint = Some(file.clone()),
        (Some(named), Some(manifest)) if named != file => {
            return Err(PrepareError::Entrypoint {
                code: code.to_owned(),
                file: file.clone(),
                manifest: manifest.to_owned(),
                entrypoint: named.clone(),
            });
        }
        (Some(_), _) => {}
    }
    Ok(())
}

/// Refuses what no agent would fetch, before it is read.
fn small_enough(code: &Path, gathered: &Gathered) -> Result<(), PrepareError> {
    let bytes = gathered
        .files
        .iter()
        .fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
    if bytes <= MAX_BUNDLE_BYTES {
        return Ok(());
    }
    let mut files: Vec<&(BundlePath, u64)> = gathered.files.iter().collect();
    files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    Err(PrepareError::TooBig {
        code: code.to_owned(),
        bytes,
        biggest: files
            .iter()
            .take(3)
            .map(|(file, size)| match size >> 20 {
                0 => format!("{file} ({size} bytes)"),
                mebibytes => format!("{file} ({mebibytes} MiB)"),
            })
            .collect(),
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

    #[test]
    fn packages_that_nobody_installs_are_refused() {
        let with = |needs: &str| {
            let code = directory(&[
                ("main.py", ""),
                ("job.json", r#"{"requirements": "needs.txt"}"#),
                ("needs.txt", needs),
            ]);
            prepare_for_pool(code.path(), None, &EnvironmentList::default())
        };
        assert!(with("# none\n").is_ok());
        let words = with("numpy==2\n").unwrap_err().to_string();
        assert!(
            words.contains("numpy==2") && words.contains("`environment`"),
            "{words}"
        );
    }

    #[test]
    fn on_the_market_an_environment_stands_by_its_id() {
        let code = directory(&[("main.py", ""), ("job.json", r#"{"environment": "ml-basic"}"#)]);
        let list = EnvironmentList::built_in();
        let id = list.resolve("ml-basic").unwrap().to_string();
        let job = prepare_for_market(code.path(), None, &list).unwrap();
        assert_eq!(job.manifest.environment.as_deref(), Some(id.as_str()));
        assert_eq!(job.manifest_digest, job.manifest.digest());
        let named = prepare(code.path(), None).unwrap();
        assert_eq!(named.manifest.environment.as_deref(), Some("ml-basic"));
        assert_ne!(job.bundle_digest(), named.bundle_digest());
        let pooled = prepare_for_pool(code.path(), None, &list).unwrap();
        assert_eq!(pooled.manifest.environment.as_deref(), Some(id.as_str()));
        let others = prepare_for_pool(code.path(), None, &EnvironmentList::default()).unwrap();
        assert_eq!(others.manifest.environment.as_deref(), Some("ml-basic"));
        let words = prepare_for_market(code.path(), None, &EnvironmentList::default())
            .unwrap_err()
            .to_string();
        assert!(words.contains("no environment `ml-basic`"), "{words}");
    }

    #[test]
    fn a_single_file_and_a_manifest_for_another_are_both_named() {
        let code = directory(&[
            ("my-script.py", ""),
            ("job.json", r#"{"entrypoint": "main.py"}"#),
            ("args.json", r#"{"args": ["--verbose"]}"#),
        ]);
        let with = |manifest: &str| {
            prepare(
                &code.path().join("my-script.py"),
                Some(&code.path().join(manifest)),
            )
        };
        let words = with("job.json").unwrap_err().to_string();
        assert!(
            words.contains("my-script.py is a single file") && words.contains("starts main.py"),
            "{words}"
        );
        assert_eq!(
            with("args.json").unwrap().entry.entrypoint.as_str(),
            "my-script.py"
        );
    }

    #[test]
    fn a_manifest_without_end_or_beyond_its_bound_is_not_read() {
        let code = directory(&[("main.py", "")]);
        let endless = prepare(code.path(), Some(Path::new("/dev/zero"))).unwrap_err();
        assert!(matches!(endless, PrepareError::NoFile { .. }), "{endless}");
        std::fs::write(
            code.path().join(MANIFEST_NAME),
            vec![b' '; Manifest::MAX_BYTES + 1],
        )
        .unwrap();
        let large = prepare(code.path(), None).unwrap_err();
        assert!(matches!(large, PrepareError::Large { .. }), "{large}");
    }

    #[test]
    fn what_no_agent_fetches_is_refused_with_the_biggest_files() {
        let code = directory(&[("main.py", "")]);
        let big = std::fs::File::create(code.path().join("data.bin")).unwrap();
        big.set_len(MAX_BUNDLE_BYTES + 1).unwrap();
        let words = prepare(code.path(), None).unwrap_err().to_string();
        assert!(words.contains("data.bin (100 MiB), main.py (0 bytes)"), "{words}");
    }

    #[test]
    fn what_was_downloaded_does_not_change_the_bundle() {
        let code = directory(&[("main.py", "print(1)")]);
        let before = prepare(code.path(), None).unwrap();
        let result = code.path().join("results/0x01234567");
        std::fs::create_dir_all(&result).unwrap();
        std::fs::write(result.join("stdout"), "1\n").unwrap();
        std::fs::write(result.join("stderr"), "").unwrap();
        let after = prepare(code.path(), None).unwrap();
        assert_eq!(after.left_out, 1);
        assert_eq!(before.bundle_digest(), after.bundle_digest());
    }
}
