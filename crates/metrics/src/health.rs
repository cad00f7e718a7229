//! Whether a service can do its work now, part by part: the form of `GET /health`.

use serde::Serialize;

use crate::text::{Exposition, Kind, Sample, flag};

/// One part that a service needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which; one of a fixed set of names.
    pub name: &'static str,
    /// Whether it is as it has to be.
    pub ok: bool,
    /// What was seen.
    pub seen: String,
    /// What to do; empty where it is as it has to be.
    #[serde(rename = "do", skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl Check {
    /// A part that is as it has to be.
    pub fn good(name: &'static str, seen: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            seen: seen.into(),
            todo: String::new(),
        }
    }

    /// A part that keeps the service from its work.
    pub fn bad(name: &'static str, seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            name,
            ok: false,
            seen: seen.into(),
            todo: todo.into(),
        }
    }
}

/// All parts of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// `ready`, or `not ready`.
    pub status: &'static str,
    /// The parts.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Ready if all parts are as they have to be.
    #[must_use]
    pub fn of(checks: Vec<Check>) -> Self {
        let is_ready = checks.iter().all(|check| check.ok);
        Self {
            status: if is_ready { "ready" } else { "not ready" },
            checks,
        }
    }

    /// Whether the service can do its work now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The HTTP status of `GET /health`: 200, or 503.
    #[must_use]
    pub fn code(&self) -> u16 {
        if self.is_ready() { 200 } else { 503 }
    }

    /// The same as numbers.
    pub fn expose(&self, out: &mut Exposition) {
        out.gauge(
            "sandrun_ready",
            "Whether the service can do its work now (1) or not (0), as GET /health says.",
            flag(self.is_ready()),
        );
        let checks: Vec<Sample> = self
            .checks
            .iter()
            .map(|check| Sample::labelled(&[("check", check.name)], flag(check.ok)))
            .collect();
        let help =
            "Parts that the service needs: 1 where it is as it has to be; GET /health says what to do.";
        out.family("sandrun_health_check", Kind::Gauge, help, &checks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_part_is_enough_and_says_what_to_do() {
        let good = Readiness::of(vec![Check::good("disk", "10 GiB are free")]);
        assert_eq!((good.code(), good.status), (200, "ready"));
        let bad = Check::bad("chain", "no answer for 40 s", "look at the RPC");
        let bad = Readiness::of([good.checks, vec![bad]].concat());
        assert_eq!(bad.code(), 503);
        assert_eq!(
            serde_json::to_value(&bad).unwrap(),
            serde_json::json!({"status": "not ready", "checks": [
                {"name": "disk", "ok": true, "seen": "10 GiB are free"},
                {"name": "chain", "ok": false, "seen": "no answer for 40 s", "do": "look at the RPC"},
            ]})
        );
        let mut out = Exposition::default();
        bad.expose(&mut out);
        let text = out.finish();
        assert!(text.contains("sandrun_ready 0\n"), "{text}");
        assert!(
            text.contains("sandrun_health_check{check=\"chain\"} 0\n"),
            "{text}"
        );
    }
}
