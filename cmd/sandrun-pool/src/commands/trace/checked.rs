//! A trace that may be compared: its root is known from elsewhere, or from all of it.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use sandrun_types::{Sha256Hex, TraceReader, TraceRoot};
use tempfile::TempDir;

use super::place::{OfJob, Parts, Place, of_client, open};
use super::show::MOST;

/// Parts of a trace, and the root that it has to have.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) parts: Parts,
    /// Bytes of its file.
    pub(super) length: u64,
    root: TraceRoot,
    /// Holds what was fetched whole.
    _folder: Option<TempDir>,
}

impl Checked {
    /// Opens it. A file is read whole; of a trace at an executor the receipt's word is taken, unless its root is given.
    pub(super) async fn open(place: &Place, wanted: Option<Sha256Hex>) -> anyhow::Result<Self> {
        let (path, folder) = match (place, wanted) {
            (Place::File(path), _) => (path.clone(), None),
            (Place::Job(job), Some(_)) => {
                let folder = tempfile::tempdir().context("a temporary folder for the trace")?;
                let to = folder.path().join("trace");
                let fetched = job.client()?.save_trace(&job.id.to_string(), &to, MOST).await;
                fetched.map_err(of_client)?;
                (to, Some(folder))
            }
            (Place::Job(job), None) => return Self::at_executor(place, job).await,
        };
        let file = path.clone();
        let root = tokio::task::spawn_blocking(move || whole(&file)).await??;
        if let Some(wanted) = wanted {
            let name = match place {
                Place::File(path) => path.display().to_string(),
                Place::Job(job) => job.id.to_string(),
            };
            ensure!(
                root.0 == wanted.0,
                "the trace {name} has the root {}, not {wanted}",
                Sha256Hex(root.0)
            );
        }
        let (parts, length) = Parts::open(&Place::File(path)).await?;
        Ok(Self {
            parts,
            length,
            root,
            _folder: folder,
        })
    }

    async fn at_executor(place: &Place, job: &OfJob) -> anyhow::Result<Self> {
        let id = job.id;
        let (_, receipt) = job.receipt(&job.client()?).await?;
        let Some(root) = receipt.trace_root else {
            bail!("{id} has no trace: {}", receipt.outcome);
        };
        let (parts, length) = Parts::open(place).await?;
        ensure!(
            length <= MOST,
            "the trace of {id} has {length} bytes, more than the {MOST} that any may have"
        );
        Ok(Self {
            parts,
            length,
            root: TraceRoot(root.0),
            _folder: None,
        })
    }

    /// Whether the root that the trace's file states is its own.
    pub(super) fn holds(&self, name: &str, stated: TraceRoot) -> anyhow::Result<()> {
        ensure!(
            stated == self.root,
            "{name} states the root {stated}, and its root is {}",
            self.root
        );
        Ok(())
    }
}

/// Reads all of it: its root.
fn whole(path: &PathBuf) -> anyhow::Result<TraceRoot> {
    let what = || format!("{} can't be compared", path.display());
    read(open(path)?).with_context(what)
}

fn read(file: File) -> anyhow::Result<TraceRoot> {
    let mut reader = TraceReader::new(BufReader::new(file))?;
    for leaf in reader.by_ref() {
        leaf?;
    }
    Ok(reader.root())
}
