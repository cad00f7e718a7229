//! `run --verify`: several runs under other conditions each, and what they say together. Owns the judgement.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use sandrun_sandbox::{CancelHandle, RunReport};
use sandrun_types::{ClassKind, OutputRoot, RunOutcome, TraceRoot};

use super::ground::{Ground, LocalJob};
use super::said::{Difference, RunView, Verified};
use crate::exit::Status;
use crate::output::Output;
use crate::perturbation::Conditions;
use crate::progress::Progress;

/// Runs under another class, to see what a program needs.
const RUNS_ELSEWHERE: u32 = 2;

/// Runs the job so many times and says whether it is deterministic.
pub(super) fn run(
    job: &LocalJob,
    runs: u32,
    cancel: &CancelHandle,
    output: &Output,
) -> anyhow::Result<Status> {
    let progress = Progress::new(output);
    let series = Series::take(job, runs, cancel, &progress)?;
    let needs = needs(job, &series, cancel, &progress)?;
    progress.finish();
    let verified = series.into_verified(needs);
    output.result(&verified)?;
    Ok(if verified.deterministic {
        Status::Success
    } else {
        Status::Failure
    })
}

/// Runs of one job in one class.
struct Series {
    first: RunReport,
    views: Vec<RunView>,
    answers: BTreeSet<(OutputRoot, TraceRoot)>,
    /// Where the first run that is other than run 1 leaves its path.
    difference: Option<Difference>,
    /// The first run that ended at a limit which depends on the machine.
    soft: Option<u32>,
}

impl Series {
    fn take(job: &LocalJob, runs: u32, cancel: &CancelHandle, progress: &Progress) -> anyhow::Result<Self> {
        progress.say(&format!("run 1 of {runs}"));
        let mut began = SystemTime::now();
        let (first, view) = one(job, 0, cancel)?;
        let mut series = Self {
            answers: [(first.output_root, first.trace_root)].into(),
            soft: is_soft(&first).then_some(1),
            first,
            views: vec![view],
            difference: None,
        };
        for number in 1..runs {
            progress.say(&format!("run {} of {runs}", number + 1));
            another_second(began);
            began = SystemTime::now();
            let (report, view) = one(job, number, cancel)?;
            series.add(number, &report, view);
        }
        Ok(series)
    }

    fn add(&mut self, number: u32, report: &RunReport, view: RunView) {
        self.views.push(view);
        self.answers.insert((report.output_root, report.trace_root));
        if is_soft(report) {
            self.soft.get_or_insert(number + 1);
        }
        if self.difference.is_none() {
            self.difference = Difference::between(&self.first, report, number + 1);
        }
    }

    fn is_deterministic(&self) -> bool {
        self.answers.len() == 1 && self.soft.is_none()
    }

    fn into_verified(self, needs: Option<Needs>) -> Verified {
        let is_portable = needs.as_ref().is_none_or(|needs| !needs.contradicts);
        Verified {
            deterministic: self.is_deterministic() && is_portable,
            class: self.first.class,
            distinct: self.answers.len(),
            events: self.first.trace.events.len(),
            output_root: self.first.output_root,
            trace_root: self.first.trace_root,
            difference: self.difference,
            soft: self.soft,
            needs: needs.map(|needs| needs.words),
            runs: self.views,
        }
    }
}

/// What a program needs to give one answer, where that can be said.
struct Needs {
    words: String,
    /// Whether it takes equal runs for chance.
    contradicts: bool,
}

/// Tries the deterministic class where the job ran under another.
fn needs(
    job: &LocalJob,
    series: &Series,
    cancel: &CancelHandle,
    progress: &Progress,
) -> anyhow::Result<Option<Needs>> {
    if job.class == ClassKind::Det {
        return Ok(waits_busily(series));
    }
    if series.soft.is_some() || !has_det(job)? {
        return Ok(None);
    }
    progress.say("class det");
    let elsewhere = job.under(ClassKind::Det);
    let det = Series::take(&elsewhere, RUNS_ELSEWHERE, cancel, &Progress::none())?;
    let needs = |words: String, contradicts| Some(Needs { words, contradicts });
    if !det.is_deterministic() {
        return Ok(None);
    }
    if !series.is_deterministic() {
        return Ok(needs(
            "class det, where its runs are all the same".to_owned(),
            false,
        ));
    }
    if det.first.output_root == series.first.output_root {
        return Ok(None);
    }
    let text = "class det: the runs are the same here, but their output is another than in class det, which hides the \
                machine and the date; so it depends on one of them";
    Ok(needs(text.to_owned(), true))
}

/// A run that was ended because a task waited in a loop for another.
fn waits_busily(series: &Series) -> Option<Needs> {
    series.soft?;
    Some(Needs {
        words: "class native, if it waits in a loop for another thread or process without a system call; else a longer \
                timeout"
            .to_owned(),
        contradicts: false,
    })
}

/// Whether this machine's sandbox has the deterministic class.
fn has_det(job: &LocalJob) -> anyhow::Result<bool> {
    let sandbox = Ground::new(job, None)?.sandbox()?;
    Ok(sandbox.class().kind() == Some(ClassKind::Det))
}

/// One run on a ground of its own.
fn one(job: &LocalJob, number: u32, cancel: &CancelHandle) -> anyhow::Result<(RunReport, RunView)> {
    let processors = std::thread::available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .unwrap_or(1);
    let ground = Ground::new(job, Conditions::of_run(number, processors))?;
    let sandbox = ground.sandbox()?;
    let report = ground.run(job, &sandbox, &(), cancel)?;
    let view = RunView::new(number + 1, &report, ground.changes()?);
    Ok((report, view))
}

/// Whether another machine may end the run in another way.
const fn is_soft(report: &RunReport) -> bool {
    match report.outcome {
        RunOutcome::Timeout | RunOutcome::OutputLimit | RunOutcome::Refused | RunOutcome::Internal => true,
        RunOutcome::Exited | RunOutcome::Signalled | RunOutcome::Memory | RunOutcome::Budget => false,
    }
}

/// Waits until the clock shows another second than `before`, so that a program which prints it is found out.
fn another_second(before: SystemTime) {
    let second = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (before, now) = (second(before), second(SystemTime::now()));
    if before.as_secs() == now.as_secs() {
        let rest = Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into()));
        std::thread::sleep(rest);
    }
}
