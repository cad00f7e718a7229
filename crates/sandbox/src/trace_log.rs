//! A run's trace as it grows: to a file or to nowhere, never in memory. Owns the file until it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sandrun_types::{RunResult, TraceEvent, TraceFileSummary, TraceHeader, TraceWriter};

use crate::{RunError, events};

/// A trace that is being written. Dropping it unfinished removes its file.
#[derive(Debug)]
pub(crate) struct TraceLog {
    path: Option<PathBuf>,
    header: TraceHeader,
    writer: Option<TraceWriter<Target>>,
}

/// Where it goes.
#[derive(Debug)]
enum Target {
    Nowhere(io::Sink),
    File(BufWriter<File>),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Nowhere(sink) => sink.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Nowhere(sink) => sink.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

impl TraceLog {
    /// Begins a trace with what the run starts from. Nothing is written yet.
    pub(crate) const fn new(path: Option<PathBuf>, header: TraceHeader) -> Self {
        Self {
            path,
            header,
            writer: None,
        }
    }

    /// Adds the events of a batch.
    pub(crate) fn add(&mut self, batch: &[u8]) -> Result<(), RunError> {
        let bad = || RunError::Internal("the supervisor sent an event that is none".to_owned());
        for leaf in events::leaves(batch) {
            let leaf = leaf.map_err(|_| bad())?;
            if !matches!(TraceEvent::decode(leaf), Ok(TraceEvent::Task { .. })) {
                return Err(bad());
            }
            let written = self.writer()?.leaf(leaf);
            written.map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Forgets all events: what a run has done until a limit of this machine ended it is chance.
    pub(crate) fn forget_events(&mut self) {
        // the next event, or the end, begins the file anew
        self.writer = None;
    }

    /// Adds what a run left behind, and ends the trace.
    pub(crate) fn finish(mut self, result: &RunResult<'_>) -> Result<TraceFileSummary, RunError> {
        self.writer()?;
        let Some(mut writer) = self.writer.take() else {
            return Err(RunError::Internal("the trace has no beginning".to_owned()));
        };
        let written = result
            .events()
            .try_for_each(|event| writer.event(&event))
            .and_then(|()| writer.finish());
        let summary = written.map_err(|source| self.failed(source))?;
        self.path = None;
        Ok(summary)
    }

    fn writer(&mut self) -> Result<&mut TraceWriter<Target>, RunError> {
        if self.writer.is_none() {
            let opened = open(self.path.as_deref());
            let begun = opened.and_then(|target| TraceWriter::new(target, &self.header));
            self.writer = Some(begun.map_err(|source| self.failed(source))?);
        }
        self.writer
            .as_mut()
            .ok_or_else(|| RunError::Internal("the trace has no beginning".to_owned()))
    }

    fn failed(&self, source: io::Error) -> RunError {
        let place = self.path.as_deref().unwrap_or(Path::new("nowhere")).display();
        RunError::Files {
            what: format!("write the trace to {place}"),
            source,
        }
    }
}

fn open(path: Option<&Path>) -> io::Result<Target> {
    Ok(match path {
        None => Target::Nowhere(io::sink()),
        Some(path) => Target::File(BufWriter::new(File::create(path)?)),
    })
}

impl Drop for TraceLog {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        drop(self.writer.take());
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove a trace that is not whole");
            }
            Ok(()) | Err(_) => {}
        }
    }
}
