//! `GET /metrics`: the queue's numbers in Prometheus' text format (version 0.0.4).

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::http::Shared;
use crate::queue::{COMMIT_BOUNDS, QueueStats};

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let text = text(&app.queue.stats());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn text(stats: &QueueStats) -> String {
    let counts = &stats.counts;
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
        // writing to a string never fails
        let _ = writeln!(out, "# HELP sandrun_{name} {help}\n# TYPE sandrun_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "sandrun_{name}{labels} {value}");
        }
    };
    let jobs = [
        ("{status=\"blocked\"}", counts.blocked as u64),
        ("{status=\"queued\"}", counts.queued as u64),
        ("{status=\"running\"}", counts.running as u64),
    ];
    family("jobs", "gauge", "Open jobs by where they stand.", &jobs);
    let nodes = [
        ("{status=\"up\"}", counts.up as u64),
        ("{status=\"draining\"}", counts.draining as u64),
        ("{status=\"lost\"}", counts.lost as u64),
    ];
    family("nodes", "gauge", "Nodes by how they stand.", &nodes);
    family(
        "waiting_claims",
        "gauge",
        "Claims that wait for work.",
        &[("", stats.waiters)],
    );
    let ended = [
        ("{status=\"completed\"}", stats.completed),
        ("{status=\"failed\"}", stats.failed),
    ];
    family("jobs_ended_total", "counter", "Jobs that ended.", &ended);
    for (name, help, value) in [
        (
            "jobs_submitted_total",
            "Jobs that were accepted.",
            stats.submitted,
        ),
        ("leases_total", "Jobs that were given to nodes.", stats.leased),
        (
            "empty_claims_total",
            "Claims that found no work.",
            stats.empty_claims,
        ),
        (
            "retries_total",
            "Attempts that were lost and made again.",
            stats.retries,
        ),
        (
            "nodes_lost_total",
            "Nodes that were not heard of for too long.",
            stats.nodes_lost,
        ),
        ("commands_total", "Commands of all batches.", stats.commands),
        (
            "failed_commits_total",
            "Batches that could not be written.",
            stats.failed_commits,
        ),
    ] {
        family(name, "counter", help, &[("", value)]);
    }
    histogram(&mut out, stats);
    out
}

fn histogram(out: &mut String, stats: &QueueStats) {
    let name = "sandrun_commit_seconds";
    let _ = writeln!(
        out,
        "# HELP {name} How long a batch took, from its first command to the disk."
    );
    let _ = writeln!(out, "# TYPE {name} histogram");
    let mut below = 0;
    for (bound, count) in COMMIT_BOUNDS.iter().zip(stats.commit_buckets) {
        below += count;
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", stats.commits);
    let _ = writeln!(out, "{name}_sum {}", stats.commit_seconds);
    let _ = writeln!(out, "{name}_count {}", stats.commits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_below() {
        let mut stats = QueueStats {
            commits: 4,
            commit_seconds: 3.5,
            ..QueueStats::default()
        };
        stats.commit_buckets[0] = 2;
        stats.commit_buckets[2] = 1;
        let text = text(&stats);
        for line in [
            "sandrun_commit_seconds_bucket{le=\"0.001\"} 2",
            "sandrun_commit_seconds_bucket{le=\"0.005\"} 3",
            "sandrun_commit_seconds_bucket{le=\"2.5\"} 3",
            "sandrun_commit_seconds_bucket{le=\"+Inf\"} 4",
            "sandrun_commit_seconds_sum 3.5",
            "sandrun_jobs{status=\"queued\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
