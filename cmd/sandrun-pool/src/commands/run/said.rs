//! What `run` says. Owns its words and its JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use sandrun_sandbox::RunReport;
use sandrun_types::{ClassId, ClassKind, OutputRoot, RunOutcome, Sha256Hex, TraceRoot};
use serde::Serialize;

use super::Kept;
use super::difference::Difference;
use crate::output::Report;
use crate::perturbation::Change;

/// One run, for scripts.
#[derive(Debug, Serialize)]
pub(super) struct Once {
    exit_code: i32,
    outcome: RunOutcome,
    explanation: String,
    class: ClassId,
    stdout: String,
    stderr: String,
    output_root: OutputRoot,
    trace_root: TraceRoot,
    outputs: Vec<OutputView>,
    /// What was no output, though it lay where they do.
    left_out: Vec<LeftOut>,
    /// Where they are.
    out: Option<PathBuf>,
    /// Where its trace is.
    trace: Option<PathBuf>,
    cpu_seconds: f64,
    wall_seconds: f64,
    memory_peak_bytes: u64,
}

/// One output file.
#[derive(Debug, Serialize)]
struct OutputView {
    path: String,
    size_bytes: u64,
    sha256: Sha256Hex,
}

/// An entry that was not taken.
#[derive(Debug, Serialize)]
struct LeftOut {
    name: String,
    why: String,
}

impl Once {
    /// What the report says; streams as text.
    pub(super) fn new(report: &RunReport, kept: Kept) -> Self {
        Self {
            exit_code: report.exit_code,
            outcome: report.outcome,
            explanation: report.explanation.clone(),
            class: report.class,
            stdout: String::from_utf8_lossy(&report.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&report.stderr).into_owned(),
            output_root: report.output_root,
            trace_root: report.trace_root,
            outputs: report
                .outputs
                .iter()
                .map(|file| OutputView {
                    path: file.path.to_string(),
                    size_bytes: file.size_bytes,
                    sha256: file.sha256,
                })
                .collect(),
            left_out: report
                .skipped
                .iter()
                .map(|it| LeftOut {
                    name: it.name.clone(),
                    why: it.reason.to_string(),
                })
                .collect(),
            out: kept.out,
            trace: kept.trace,
            cpu_seconds: report.usage.cpu_seconds(),
            wall_seconds: report.usage.wall.as_secs_f64(),
            memory_peak_bytes: report.usage.memory_peak_bytes,
        }
    }
}

impl Report for Once {
    fn human(&self) -> String {
        // people have seen what the program printed
        String::new()
    }
}

/// One of several runs.
#[derive(Debug, Serialize)]
pub(super) struct RunView {
    number: u32,
    exit_code: i32,
    outcome: RunOutcome,
    explanation: String,
    output_root: OutputRoot,
    trace_root: TraceRoot,
    wall_seconds: f64,
    /// What was other than on the machine as it is.
    changes: Vec<Change>,
}

impl RunView {
    /// Run `number`, counted from 1.
    pub(super) fn new(number: u32, report: &RunReport, changes: Vec<Change>) -> Self {
        Self {
            number,
            exit_code: report.exit_code,
            outcome: report.outcome,
            explanation: report.explanation.clone(),
            output_root: report.output_root,
            trace_root: report.trace_root,
            wall_seconds: report.usage.wall.as_secs_f64(),
            changes,
        }
    }

    fn human(&self) -> String {
        let mut text = format!("run {:<3} exit code {}", self.number, self.exit_code);
        if !self.explanation.is_empty() {
            text += &format!(" ({})", self.explanation);
        }
        text += &format!(", {:.2} s", self.wall_seconds);
        if self.changes.is_empty() {
            return text + ", the machine as it is\n";
        }
        text.push('\n');
        for change in self.changes.iter().filter(|change| change.is_in_force()) {
            let _ = writeln!(text, "        {:<12} {}", change.kind.to_string(), change.to);
        }
        for change in self.changes.iter().filter(|change| !change.is_in_force()) {
            let kind = change.kind.to_string();
            let _ = writeln!(text, "        {kind:<12} not changed: {}", change.failed);
        }
        text
    }
}

/// What the runs say together.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    pub(super) deterministic: bool,
    pub(super) class: ClassId,
    /// How many different pairs of output root and trace root there were.
    pub(super) distinct: usize,
    /// Events of run 1's trace.
    pub(super) events: u64,
    /// Those of run 1.
    pub(super) output_root: OutputRoot,
    pub(super) trace_root: TraceRoot,
    pub(super) difference: Option<Difference>,
    /// The first run that ended at a limit which depends on the machine.
    pub(super) soft: Option<u32>,
    /// The class that it needs, where that can be said.
    pub(super) needs: Option<String>,
    pub(super) runs: Vec<RunView>,
}

impl Report for Verified {
    fn human(&self) -> String {
        let mut text: String = self.runs.iter().map(RunView::human).collect();
        let count = self.runs.len();
        text += &match (self.deterministic, self.soft) {
            (true, _) => format!(
                "deterministic: {count} runs, one trace of {} events\n",
                self.events
            ),
            (false, Some(run)) => {
                format!("not deterministic: run {run} ended at a limit that depends on the machine\n")
            }
            (false, None) if self.distinct == 1 => {
                format!("not deterministic, though {count} runs gave one trace\n")
            }
            (false, None) => {
                format!(
                    "not deterministic: {count} runs, {} different answers\n",
                    self.distinct
                )
            }
        };
        if let Some(difference) = &self.difference {
            text += &difference.human();
        }
        if let Some(needs) = &self.needs {
            text += &format!("it needs {needs}\n");
        }
        let kind = match self.class.kind() {
            Some(ClassKind::Native) => "native",
            Some(ClassKind::Det) if self.class.is_soft() => "det-soft",
            Some(ClassKind::Det) => "det",
            None => "of another version",
        };
        text += &format!(
            "class        {} ({kind})\noutput root  {}\ntrace root   {}\n",
            self.class, self.output_root, self.trace_root
        );
        text
    }
}
