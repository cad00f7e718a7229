//! Prometheus' text format, version 0.0.4: families with their help and type, each once.

use std::fmt::{self, Write as _};

use crate::histogram::Histogram;

/// The format's content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label names with values.
pub type Labels<'a> = [(&'a str, &'a str)];

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One value of a family.
#[derive(Debug, Clone)]
pub struct Sample {
    labels: String,
    value: String,
}

impl Sample {
    /// The one value of a family without labels.
    #[must_use]
    pub fn of(value: impl fmt::Display) -> Self {
        Self::labelled(&[], value)
    }

    /// A value by its labels.
    #[must_use]
    pub fn labelled(labels: &Labels<'_>, value: impl fmt::Display) -> Self {
        Self {
            labels: written(labels),
            value: value.to_string(),
        }
    }
}

/// The text as it grows. Writing to a string never fails.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// A family that is a counter or a gauge.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str, samples: &[Sample]) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        for Sample { labels, value } in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    /// A family of histograms, of seconds.
    pub fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        members: &[(&Labels<'_>, Histogram<N>)],
    ) {
        self.head(name, "histogram", help);
        for (labels, histogram) in members {
            let mut bucket = |bound: &str, count: u64| {
                let labels = written(&[*labels, &[("le", bound)]].concat());
                let _ = writeln!(self.0, "{name}_bucket{labels} {count}");
            };
            for (bound, within) in histogram.cumulative() {
                bucket(&bound.to_string(), within);
            }
            bucket("+Inf", histogram.count);
            let labels = written(labels);
            let _ = writeln!(self.0, "{name}_sum{labels} {}", histogram.sum);
            let _ = writeln!(self.0, "{name}_count{labels} {}", histogram.count);
        }
    }

    /// What build of which service this is.
    pub fn build(&mut self, service: &str, version: &str) {
        let info = [("service", service), ("version", version)];
        let samples = [Sample::labelled(&info, 1)];
        self.family("sandrun_build_info", Kind::Gauge, "What this is.", &samples);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, Kind::Gauge, help, &[Sample::of(value)]);
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, Kind::Counter, help, &[Sample::of(value)]);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

/// A truth as a number.
#[must_use]
pub const fn flag(is_so: bool) -> u8 {
    if is_so { 1 } else { 0 }
}

/// `{name="value",…}`, with the escapes of the format; nothing where there is none.
fn written(labels: &Labels<'_>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_have_one_head_and_escaped_labels() {
        let mut out = Exposition::default();
        let samples = [
            Sample::labelled(&[("kind", "a \"b\"\\\n")], 1),
            Sample::labelled(&[("kind", "c")], 0.5),
        ];
        out.family("things", Kind::Gauge, "Some.", &samples);
        assert_eq!(
            out.finish(),
            "# HELP things Some.\n# TYPE things gauge\nthings{kind=\"a \\\"b\\\"\\\\\\n\"} 1\nthings{kind=\"c\"} 0.5\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all_its_sum_and_its_count() {
        let mut histogram = Histogram::new([0.001, 2.5]);
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_secs(3));
        let mut out = Exposition::default();
        out.histogram("took_seconds", "Time.", &[(&[("call", "x")], histogram)]);
        let text = out.finish();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "took_seconds_bucket{call=\"x\",le=\"0.001\"} 1",
                "took_seconds_bucket{call=\"x\",le=\"2.5\"} 1",
                "took_seconds_bucket{call=\"x\",le=\"+Inf\"} 2",
                "took_seconds_sum{call=\"x\"} 3.001",
                "took_seconds_count{call=\"x\"} 2",
            ]
        );
    }
}
