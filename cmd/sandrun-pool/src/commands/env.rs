//! `env`: locks, builds and lists environments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sandrun_content::{ContentError, ContentId, ContentStore as _, KuboClient};
use sandrun_environment::{
    BuildError, Built, Downloads, Interrupt, Lock, ResolveError, ToolError, build_directory, build_lock,
    lock_node, lock_python,
};
use serde::Serialize;

use crate::args::EnvironmentListArgs;
use crate::exit::{Failure, Status, WithStatus as _};
use crate::files::read_small;
use crate::output::{Output, Report};
use crate::signals::Signals;

/// How long an interrupted build may take to remove its temporary folders.
const CLEANING: Duration = Duration::from_secs(5);

/// Arguments of `env`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool env lock requirements.txt --out packages.lock.json\n  \
    sandrun-pool env build packages.lock.json --store http://127.0.0.1:5001\n  \
    sandrun-pool env build ./site-packages --out image\n  \
    sandrun-pool env list\n\n\
    A manifest's `environment` is the content id that `build` prints, or a name of the list. Jobs find the image at /env.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Choose exact versions of packages, with their hashes (with pip or npm)
    #[command(after_help = "Example:\n  sandrun-pool env lock requirements.txt --out packages.lock.json")]
    Lock {
        /// requirements.txt (for pip) or package.json (for npm)
        file: PathBuf,
        /// Where the lock goes; printed when not given
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The interpreter that jobs run with
        #[arg(long, value_name = "PATH", default_value = "/usr/bin/python3")]
        python: PathBuf,
    },
    /// Make the image of a lock or a directory, and say its content id
    #[command(after_help = "Examples:\n  \
        sandrun-pool env build packages.lock.json --store http://127.0.0.1:5001\n  \
        sandrun-pool env build ./site-packages --out image")]
    Build {
        /// A lock, or a directory: of Python packages, with `node_modules`, or a whole image with `lib`
        source: PathBuf,
        /// Keep the image in this directory, which must not be there yet
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Put the image into this content store (RPC address)
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        /// Where downloaded packages are kept
        #[arg(long, value_name = "DIR", env = "SANDRUN_ENVIRONMENT_DOWNLOADS")]
        downloads: Option<PathBuf>,
        /// The interpreter whose pip fetches wheels
        #[arg(long, value_name = "PATH", default_value = "/usr/bin/python3")]
        python: PathBuf,
    },
    /// List the environments that have names
    #[command(after_help = "Example:\n  sandrun-pool env list --json")]
    List {
        #[command(flatten)]
        names: EnvironmentListArgs,
    },
}

/// Locks, builds or lists.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    let mut signals = Signals::watch();
    match arguments.what {
        What::Lock { file, out, python } => {
            match blocking(&mut signals, move |interrupt| lock(&file, &python, interrupt)).await? {
                Ok(lock) => locked(&lock, out.as_deref(), output),
                Err(status) => Ok(status),
            }
        }
        What::Build {
            source,
            out,
            store,
            downloads,
            python,
        } => {
            // before anything is downloaded
            let store = store.as_deref().map(KuboClient::new).transpose();
            let store = store.context("--store").status(Status::BadInput)?;
            if let Some(out) = out.as_deref().filter(|out| out.symlink_metadata().is_ok()) {
                let text = format!("{} is there already: give --out a new directory", out.display());
                return Err(Failure::new(Status::BadInput, text));
            }
            let downloads = downloads.unwrap_or_else(|| crate::config::home().join("environments"));
            let scratch = scratch(out.as_deref());
            let work = move |interrupt: &_| build(&source, &downloads, &python, &scratch, interrupt);
            let built = match blocking(&mut signals, work).await? {
                Ok(built) => built,
                Err(status) => return Ok(status),
            };
            tokio::select! {
                biased;
                status = signals.asked() => Ok(status),
                kept = kept(built, out, store, output) => kept,
            }
        }
        What::List { names } => {
            let list = names.list()?;
            let named = list.iter().map(|(name, content)| Named {
                name: name.to_string(),
                content,
            });
            output.result(&Names {
                environments: named.collect(),
            })?;
            Ok(Status::Success)
        }
    }
}

/// Does work that blocks; the status to end with if the process was asked to meanwhile. Then the work is ended, which
/// removes its temporary folders.
async fn blocking<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce(&Interrupt) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<Result<T, Status>> {
    let interrupt = Interrupt::default();
    let own = interrupt.clone();
    let mut work = tokio::task::spawn_blocking(move || work(&own));
    tokio::select! {
        done = &mut work => done?.map(Ok),
        status = signals.asked() => {
            interrupt.now();
            drop(tokio::time::timeout(CLEANING, work).await);
            Ok(Err(status))
        }
    }
}

fn lock(file: &Path, python: &Path, interrupt: &Interrupt) -> anyhow::Result<Lock> {
    let is_node = file.extension().is_some_and(|end| end == "json");
    let lock = if is_node {
        lock_node(file, interrupt)
    } else {
        lock_python(file, python, interrupt)
    };
    lock.map_err(|error| {
        let status = match &error {
            ResolveError::Read { .. } | ResolveError::Package { .. } | ResolveError::Empty(_) => {
                Status::BadInput
            }
            ResolveError::Tool(ToolError::Failed { words, .. }) if is_wrong(words) => Status::BadInput,
            ResolveError::Tool(_)
            | ResolveError::Scratch(_)
            | ResolveError::Answer { .. }
            | ResolveError::Lock(_) => Status::Failure,
        };
        Failure::new(status, crate::exit::words(&error.into()))
    })
}

/// Whether a package manager's words are about what it was given, and not about its network.
fn is_wrong(words: &str) -> bool {
    let has = |some: &[&str]| some.iter().any(|it| words.contains(it));
    has(&["Invalid requirement", "EINVALIDPACKAGENAME", "EINVALIDTAGNAME"])
        || (has(&["No matching distribution found", "E404", "ETARGET"])
            && !has(&["Retrying", "onnection", "ENOTFOUND", "ECONN"]))
}

/// A lock that was made.
#[derive(Debug, Serialize)]
struct Locked<'a> {
    file: &'a Path,
    packages: usize,
}

impl Report for Locked<'_> {
    fn human(&self) -> String {
        format!(
            "{} locked in {}\n",
            match self.packages {
                1 => "1 package is".to_owned(),
                many => format!("{many} packages are"),
            },
            self.file.display()
        )
    }
}

/// The lock itself is the answer where it goes to no file.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Printed<'a>(&'a Lock);

impl Report for Printed<'_> {
    fn human(&self) -> String {
        self.0.to_text()
    }
}

fn locked(lock: &Lock, out: Option<&Path>, output: &Output) -> anyhow::Result<Status> {
    match out {
        None => output.result(&Printed(lock))?,
        Some(file) => {
            std::fs::write(file, lock.to_text())
                .with_context(|| format!("the lock can't be written to {}", file.display()))
                .status(Status::BadInput)?;
            let packages = lock.len();
            output.result(&Locked { file, packages })?;
        }
    }
    Ok(Status::Success)
}

/// Where an image is put together: where it stays, if it stays, as it gets there by a rename.
fn scratch(out: Option<&Path>) -> PathBuf {
    match out.map(Path::parent) {
        None => std::env::temp_dir(),
        Some(Some(parent)) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(Some(_) | None) => PathBuf::from("."),
    }
}

fn build(
    source: &Path,
    downloads: &Path,
    python: &Path,
    scratch: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<Built> {
    let failed = |error: BuildError| {
        let status = match &error {
            BuildError::Unpack { .. }
            | BuildError::Image(_)
            | BuildError::Read { .. }
            | BuildError::Write { .. }
            | BuildError::Pack(_) => Status::BadInput,
            BuildError::Download(_) => Status::Failure,
        };
        Failure::new(status, crate::exit::words(&error.into()))
    };
    if source.is_dir() {
        return build_directory(source, scratch, interrupt).map_err(failed);
    }
    let lock = read_lock(source).status(Status::BadInput)?;
    let downloads = Downloads::new(downloads, python).status(Status::BadInput)?;
    build_lock(&lock, &downloads.until(interrupt), scratch).map_err(failed)
}

fn read_lock(path: &Path) -> anyhow::Result<Lock> {
    let unreadable = || format!("{} can't be read: give a lock or a directory", path.display());
    let bytes = read_small(path).with_context(unreadable)?;
    Lock::parse(&bytes).with_context(|| path.display().to_string())
}

/// An image that was made.
#[derive(Debug, Serialize)]
struct Made {
    content: ContentId,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
}

impl Report for Made {
    fn human(&self) -> String {
        format!("{}\n", self.content)
    }
}

async fn kept(
    built: Built,
    out: Option<PathBuf>,
    store: Option<KuboClient>,
    output: &Output,
) -> anyhow::Result<Status> {
    if let Some(shape) = built.shape {
        output.note(&format!("taken for {}", shape.words()));
    }
    if let Some(store) = &store {
        store.add(&built.tree).await.map_err(not_stored)?;
    }
    let made = Made {
        content: built.id(),
        files: built.tree.files(),
        bytes: built.tree.bytes(),
        out: out.clone(),
        store: store.map(|store| store.api().to_owned()),
    };
    if let Some(out) = out {
        built.keep(&out).status(Status::BadInput)?;
    }
    output.note(&format!(
        "{} files, {} MiB",
        made.files,
        made.bytes.div_ceil(1 << 20)
    ));
    output.result(&made)?;
    Ok(Status::Success)
}

/// The store is named by another option here than where it is used.
fn not_stored(error: ContentError) -> anyhow::Error {
    let text = crate::exit::words(&error.into()).replace("--ipfs-api", "--store");
    Failure::new(Status::Unreachable, text)
}

/// Environments by name.
#[derive(Debug, Serialize)]
struct Names {
    environments: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    content: ContentId,
}

impl Report for Names {
    fn human(&self) -> String {
        let width = self
            .environments
            .iter()
            .map(|it| it.name.len())
            .max()
            .unwrap_or(0);
        let line = |it: &Named| format!("{:width$}  {}\n", it.name, it.content);
        self.environments.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::is_wrong;

    #[test]
    fn a_wrong_requirement_is_told_from_a_network_that_is_away() {
        let none = "ERROR: No matching distribution found for nosuch";
        assert!(is_wrong("ERROR: Invalid requirement: 'a b'") && is_wrong(none));
        assert!(!is_wrong(&format!(
            "WARNING: Retrying after connection broken\n{none}"
        )));
        assert!(!is_wrong("Killed"));
    }
}
