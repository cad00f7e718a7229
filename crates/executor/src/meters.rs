//! What the service counts of its runs, in one place. Never decides anything.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandrun_metrics::{Exposition, Histogram, Kind, Sample};
use sandrun_sandbox::Class;
use sandrun_types::{Receipt, RunOutcome};

/// Bounds of the times that runs take, in seconds.
const BOUNDS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0,
];
/// All outcomes: each is a series from the start on.
const OUTCOMES: [RunOutcome; 8] = [
    RunOutcome::Exited,
    RunOutcome::Signalled,
    RunOutcome::Timeout,
    RunOutcome::Memory,
    RunOutcome::OutputLimit,
    RunOutcome::Budget,
    RunOutcome::Refused,
    RunOutcome::Internal,
];
type Times = Histogram<{ BOUNDS.len() }>;

/// Runs of one class.
#[derive(Debug, Clone)]
struct OfClass {
    by_outcome: BTreeMap<&'static str, u64>,
    wall: Times,
    cpu: Duration,
}

impl OfClass {
    fn new() -> Self {
        Self {
            by_outcome: OUTCOMES.map(|outcome| (outcome.name(), 0)).into(),
            wall: Histogram::new(BOUNDS),
            cpu: Duration::ZERO,
        }
    }
}

/// All runs since the start.
#[derive(Debug)]
pub(crate) struct Meters(Mutex<BTreeMap<String, OfClass>>);

impl Meters {
    /// Nothing yet, of the classes that this executor runs.
    pub(crate) fn new<'a>(classes: impl IntoIterator<Item = &'a Class>) -> Self {
        let of = classes
            .into_iter()
            .map(|class| (class.to_string(), OfClass::new()));
        Self(Mutex::new(of.collect()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfClass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job of this class has ended; the receipt says how.
    pub(crate) fn ended(&self, class: Class, receipt: &Receipt, cpu: Duration) {
        let mut classes = self.lock();
        let of_class = classes.entry(class.to_string()).or_insert_with(OfClass::new);
        *of_class.by_outcome.entry(receipt.outcome.name()).or_default() += 1;
        of_class.wall.observe(Duration::from_millis(receipt.wall_time_ms));
        of_class.cpu = of_class.cpu.saturating_add(cpu);
    }

    /// Writes all of it.
    pub(crate) fn expose(&self, out: &mut Exposition) {
        let classes = self.lock().clone();
        let runs: Vec<Sample> = classes
            .iter()
            .flat_map(|(class, of_class)| {
                of_class.by_outcome.iter().map(move |(outcome, count)| {
                    let labels = [("class", class.as_str()), ("outcome", *outcome)];
                    Sample::labelled(&labels, count)
                })
            })
            .collect();
        let help = "Runs that ended, by class and outcome; internal is a fault of the executor or a run that was taken back.";
        out.family("sandrun_runs_total", Kind::Counter, help, &runs);
        let labels: Vec<[(&str, &str); 1]> =
            classes.keys().map(|class| [("class", class.as_str())]).collect();
        let times: Vec<(&sandrun_metrics::Labels<'_>, Times)> = labels
            .iter()
            .zip(classes.values())
            .map(|(labels, of_class)| (labels.as_slice(), of_class.wall))
            .collect();
        out.histogram("sandrun_run_seconds", "How long programs ran, by class.", &times);
        let cpu: Vec<Sample> = labels
            .iter()
            .zip(classes.values())
            .map(|(labels, of_class)| Sample::labelled(labels, of_class.cpu.as_secs_f64()))
            .collect();
        let help = "Processor time that programs took, by class.";
        out.family("sandrun_run_cpu_seconds_total", Kind::Counter, help, &cpu);
    }
}
