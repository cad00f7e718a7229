//! Crash points: named places between two steps at which a test can kill the process.
//!
//! Compiled to nothing without the feature `crash-points`. With it, a process whose environment has
//! `SANDRUN_CRASH_AT=name` aborts when it comes to the point `name`, without unwinding, flushing or saying goodbye:
//! to the disk and to the chain that is `kill -9`.

/// Names of all points, in the order of a job's life.
#[cfg(feature = "crash-points")]
pub const CRASH_POINTS: [&str; 12] = [
    "bundle-held",
    "claim-journalled",
    "claim-sent",
    "run-journalled",
    "run-ended",
    "result-stored",
    "answer-journalled",
    "commit-sent",
    "before-reveal",
    "reveal-sent",
    "end-seen",
    "end-journalled",
];

/// Aborts here if the environment asks for it.
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not listed");
    if std::env::var("SANDRUN_CRASH_AT").is_ok_and(|wanted| wanted == name) {
        std::process::abort();
    }
}

/// Nothing: the feature is off.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) const fn point(_name: &'static str) {}
