//! What the HTTP side counts by itself: how calls went, how long jobs waited, what the database did not do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandrun_metrics::{Calls, Exposition, Histogram, Kind, Sample};

/// Bounds of the times that jobs wait, in seconds.
const WAIT_BOUNDS: [f64; 13] = [
    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
];

/// What the database was wanted for when it failed. A batch that was not written is counted by the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During {
    /// A call.
    Request,
    /// Removing what is not kept any longer.
    Sweep,
    /// Reading these numbers.
    Scrape,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Meters {
    calls: Calls,
    waits: Mutex<Histogram<{ WAIT_BOUNDS.len() }>>,
    database: [AtomicU64; 3],
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            calls: Calls::default(),
            waits: Mutex::new(Histogram::new(WAIT_BOUNDS)),
            database: Default::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meters {
    /// A call was answered. `route` is one of the service's own patterns, never what a client wrote.
    pub(super) fn called(&self, route: &str, kinds: (&'static str, u16), took: Duration) {
        self.calls.note(route, kinds, took);
    }

    /// A job was given to a node for the first time, so long after it was accepted.
    pub(crate) fn waited(&self, took: Duration) {
        lock(&self.waits).observe(took);
    }

    /// The database did not answer.
    pub(crate) fn database_failed(&self, during: During) {
        self.database[match during {
            During::Request => 0,
            During::Sweep => 1,
            During::Scrape => 2,
        }]
        .fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let help = "How long jobs waited, from being accepted to their first lease.";
        out.histogram("sandrun_job_wait_seconds", help, &[(&[], *lock(&self.waits))]);
        let failures: Vec<Sample> = ["request", "sweep", "scrape"]
            .iter()
            .zip(&self.database)
            .map(|(during, count)| Sample::labelled(&[("during", during)], count.load(Ordering::Relaxed)))
            .collect();
        let help = "Failures of the database, but for batches that could not be written.";
        out.family("sandrun_database_errors_total", Kind::Counter, help, &failures);
        self.calls.expose(out);
    }
}
