//! What a broker's node knows of itself: counters that its tasks count up, and its state as it is when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sandrun_metrics::{Check, DiskWatch, Exposition, Histogram, Kind, Readiness, Sample, Tally, flag};

use super::node::Node;
use super::state::Counts;
use crate::vitals::Vitals;

/// Bounds of the times that attempts take, in seconds.
const BOUNDS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0];
/// Bytes that have to be free for a job's files.
const LEAST_FREE: u64 = 64 << 20;
/// How much longer than two signs of life take the broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The counters.
#[derive(Debug)]
pub(crate) struct NodeMeters {
    attempts: Tally<4>,
    times: Mutex<Histogram<{ BOUNDS.len() }>>,
    claims: Tally<3>,
    claimed: AtomicU64,
    answers: Tally<4>,
    heartbeats: Tally<2>,
    /// When the broker said anything last.
    heard: Mutex<Option<Instant>>,
    disk: DiskWatch,
}

impl NodeMeters {
    pub(crate) fn new(data_dir: std::path::PathBuf) -> Self {
        Self {
            attempts: Tally::new("outcome", ["completed", "failed", "nothing", "unwanted"]),
            times: Mutex::new(Histogram::new(BOUNDS)),
            claims: Tally::new("outcome", ["work", "none", "error"]),
            claimed: AtomicU64::new(0),
            answers: Tally::new("outcome", ["accepted", "not_ours", "refused", "too_late"]),
            heartbeats: Tally::new("outcome", ["answered", "error"]),
            heard: Mutex::new(None),
            disk: DiskWatch::new(data_dir, LEAST_FREE),
        }
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The broker was asked for work: how many jobs it gave, or `None` where it did not answer.
    pub(crate) fn claimed(&self, jobs: Option<usize>) {
        self.claims.count(match jobs {
            Some(0) => "none",
            Some(_) => "work",
            None => "error",
        });
        if let Some(jobs) = jobs {
            self.hear();
            self.claimed.fetch_add(jobs as u64, Ordering::Relaxed);
        }
    }

    /// A sign of life was answered, or not.
    pub(crate) fn beat(&self, is_answered: bool) {
        if is_answered {
            self.hear();
        }
        self.heartbeats
            .count(if is_answered { "answered" } else { "error" });
    }

    /// An attempt is over, after so long.
    pub(crate) fn ended(&self, outcome: &'static str, took: Duration) {
        self.attempts.count(outcome);
        self.times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .observe(took);
    }

    /// What came of an answer.
    pub(crate) fn told(&self, outcome: &'static str) {
        self.answers.count(outcome);
    }
}

/// What is served: nothing but that it starts until there is a node.
#[derive(Debug, Default)]
pub(crate) struct NodeVitals(OnceLock<Arc<Node>>);

impl NodeVitals {
    /// The node is there.
    pub(crate) fn set(&self, node: Arc<Node>) {
        // once in a process
        drop(self.0.set(node));
    }
}

impl Vitals for NodeVitals {
    fn readiness(&self) -> Readiness {
        Readiness::of(match self.0.get() {
            Some(node) => checks(node),
            None => vec![Check::bad("start", "it looks at the machine", "wait")],
        })
    }

    fn expose(&self, out: &mut Exposition) {
        out.build("node", env!("CARGO_PKG_VERSION"));
        if let Some(node) = self.0.get() {
            expose(out, node);
        }
    }
}

fn checks(node: &Node) -> Vec<Check> {
    let counts = node.state().counts();
    let meters = &node.meters;
    let most = node.config.heartbeat_interval.saturating_mul(2) + PATIENCE;
    let heard = *meters.heard.lock().unwrap_or_else(PoisonError::into_inner);
    let broker = match heard.map(|at| at.elapsed()) {
        Some(ago) if ago <= most => Check::good("broker", format!("it answered {} s ago", ago.as_secs())),
        Some(ago) => Check::bad(
            "broker",
            format!("it has not answered for {} s", ago.as_secs()),
            "look at the broker, and at the network between it and this node",
        ),
        None => Check::bad(
            "broker",
            "it has not answered yet",
            "is --broker right, and does the broker run?",
        ),
    };
    let executor = if counts.executor_is_up {
        Check::good("executor", "it answers")
    } else {
        Check::bad(
            "executor",
            "it does not answer",
            "is --sandrun right, and does the executor run?",
        )
    };
    let gate = if counts.draining {
        let todo = "sandrun-pool drain NODE --resume lets it take jobs again";
        Check::bad("gate", "the broker drains this node: it gets nothing new", todo)
    } else if counts.rests {
        Check::bad(
            "gate",
            "attempts came to nothing here, so it pauses",
            "look at its log; is its disk full?",
        )
    } else {
        Check::good("gate", "open")
    };
    vec![broker, executor, gate, meters.disk.check()]
}

fn expose(out: &mut Exposition, node: &Node) {
    let Counts {
        running,
        undelivered,
        draining,
        ..
    } = node.state().counts();
    let jobs = [("running", running), ("undelivered", undelivered)];
    let jobs = jobs.map(|(status, count)| Sample::labelled(&[("status", status)], count));
    let help = "Jobs that this node answers for: under way, and with an answer that the broker could not be told yet.";
    out.family("sandrun_jobs", Kind::Gauge, help, &jobs);
    out.gauge(
        "sandrun_slots",
        "Jobs that may run at once.",
        node.config.max_concurrent_jobs,
    );
    let help = "Whether the broker gives this node nothing new.";
    out.gauge("sandrun_draining", help, flag(draining));
    let meters = &node.meters;
    let help = "Attempts that are over: with exit code 0, with another one, without an answer, or not wanted any more.";
    meters.attempts.expose(out, "sandrun_attempts_total", help);
    let times = *meters.times.lock().unwrap_or_else(PoisonError::into_inner);
    let help = "How long attempts took, from the claim to the end of the run.";
    out.histogram("sandrun_attempt_seconds", help, &[(&[], times)]);
    let help = "Questions for work, by what came of them.";
    meters.claims.expose(out, "sandrun_claims_total", help);
    let claimed = meters.claimed.load(Ordering::Relaxed);
    out.counter(
        "sandrun_jobs_claimed_total",
        "Jobs that the broker gave.",
        claimed,
    );
    let help = "Answers, by what the broker said to them.";
    meters.answers.expose(out, "sandrun_answers_total", help);
    let help = "Signs of life, by whether the broker answered.";
    meters.heartbeats.expose(out, "sandrun_heartbeats_total", help);
    meters.disk.expose(out);
}
