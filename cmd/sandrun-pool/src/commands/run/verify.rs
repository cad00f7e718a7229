//! `run --verify`: several runs under other conditions each, and what they say together. Owns the judgement.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use sandrun_sandbox::{CancelHandle, Class, RunReport};
use sandrun_types::{OutputRoot, RunOutcome, TraceRoot};

use super::difference::Difference;
use super::ground::{Ground, LocalJob};
use super::said::{RunView, Verified};
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
    first: One,
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
        let first = One::run(job, 0, cancel)?;
        let mut series = Self {
            answers: [first.answer()].into(),
            soft: first.is_soft().then_some(1),
            views: vec![first.view()?],
            first,
            difference: None,
        };
        another_second();
        for number in 1..runs {
            progress.say(&format!("run {} of {runs}", number + 1));
            series.add(number, &One::run(job, number, cancel)?)?;
        }
        Ok(series)
    }

    fn add(&mut self, number: u32, run: &One) -> anyhow::Result<()> {
        self.views.push(run.view()?);
        self.answers.insert(run.answer());
        if run.is_soft() {
            self.soft.get_or_insert(number + 1);
        }
        if self.difference.is_none() {
            self.difference = self.first.difference(run)?;
        }
        Ok(())
    }

    fn is_deterministic(&self) -> bool {
        self.answers.len() == 1 && self.soft.is_none()
    }

    fn into_verified(self, needs: Option<Needs>) -> Verified {
        let is_portable = needs.as_ref().is_none_or(|needs| !needs.contradicts);
        let first = &self.first.report;
        Verified {
            deterministic: self.is_deterministic() && is_portable,
            class: first.class,
            distinct: self.answers.len(),
            // all leaves but the header
            events: first.trace.leaves.saturating_sub(1),
            output_root: first.output_root,
            trace_root: first.trace_root,
            difference: self.difference,
            soft: self.soft,
            needs: needs.map(|needs| needs.words),
            runs: self.views,
        }
    }
}

/// One run and its ground, which holds its trace.
struct One {
    number: u32,
    ground: Ground,
    report: RunReport,
}

impl One {
    /// Run `number`, counted from 0, under its conditions.
    fn run(job: &LocalJob, number: u32, cancel: &CancelHandle) -> anyhow::Result<Self> {
        let processors = std::thread::available_parallelism()
            .ok()
            .and_then(|count| u32::try_from(count.get()).ok())
            .unwrap_or(1);
        let mut ground = Ground::new(job, Conditions::of_run(number, processors))?;
        let sandbox = ground.sandbox()?;
        let report = ground.run(job, &sandbox, &(), cancel)?;
        ground.calm();
        Ok(Self {
            number,
            ground,
            report,
        })
    }

    const fn answer(&self) -> (OutputRoot, TraceRoot) {
        (self.report.output_root, self.report.trace_root)
    }

    fn view(&self) -> anyhow::Result<RunView> {
        Ok(RunView::new(
            self.number + 1,
            &self.report,
            self.ground.changes()?,
        ))
    }

    /// Whether another machine may end the run in another way.
    const fn is_soft(&self) -> bool {
        match self.report.outcome {
            RunOutcome::Timeout | RunOutcome::OutputLimit | RunOutcome::Refused | RunOutcome::Internal => {
                true
            }
            RunOutcome::Exited | RunOutcome::Signalled | RunOutcome::Memory | RunOutcome::Budget => false,
        }
    }

    fn difference(&self, other: &Self) -> anyhow::Result<Option<Difference>> {
        let (own, others) = (self.ground.trace(), other.ground.trace());
        Difference::between((&self.report, &own), (&other.report, &others), other.number + 1)
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
    let needs = |words: &str, contradicts| {
        let words = words.to_owned();
        Ok(Some(Needs { words, contradicts }))
    };
    let class = Class::deterministic_here();
    match job.class {
        Class::Det | Class::DetSoft if series.soft.is_some() => {
            return needs(
                "class native, if it waits in a loop for another thread or process without a system call; else a longer \
                 timeout",
                false,
            );
        }
        Class::Det => return Ok(None),
        Class::DetSoft if class == Class::DetSoft => return Ok(None),
        Class::Native | Class::DetSoft => {}
    }
    // what was found stands also where this machine does not have the class
    if series.soft.is_some() || !series.first.ground.has(class)? {
        return Ok(None);
    }
    progress.say(&format!("class {class}"));
    let elsewhere = job.under(class);
    let det = Series::take(&elsewhere, RUNS_ELSEWHERE, cancel, &Progress::none())?;
    if !det.is_deterministic() {
        return Ok(None);
    }
    if !series.is_deterministic() {
        return needs(&format!("class {class}, where its runs are all the same"), false);
    }
    if det.first.report.output_root == series.first.report.output_root {
        return Ok(None);
    }
    needs(
        &format!(
            "class {class}: its runs are the same here, but class {class}, which hides the machine and the date, gives \
             another output, so it depends on one of them"
        ),
        true,
    )
}

/// Waits until the clock shows another second, so that a program which prints it is found out.
fn another_second() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    std::thread::sleep(
        Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into())),
    );
}
