//! A strict reader of Prometheus' text format: what its conventions ask for is an error here where it is missing.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// A line of a histogram: the end of its name, its bound and its value.
type Part<'a> = (&'a str, Option<f64>, f64);

/// One family.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// The sample's name, which of a histogram has an ending, its labels and its value.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

/// A whole text, by the families' names.
#[derive(Debug)]
pub(crate) struct Exposition(pub(crate) BTreeMap<String, Family>);

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|it| it.is_ascii_lowercase())
        && letters.all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
}

impl Exposition {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let help = line.strip_prefix("# HELP ").ok_or(format!("no HELP: {line}"))?;
            let (name, help) = help.split_once(' ').ok_or(format!("no words: {line}"))?;
            if !is_name(name) || !help.ends_with('.') {
                return Err(format!("not a name with a sentence: {line}"));
            }
            let line = lines.next().unwrap_or_default();
            let kind = line
                .strip_prefix(&format!("# TYPE {name} "))
                .ok_or(format!("no TYPE: {line}"))?;
            let mut samples = Vec::new();
            while let Some(line) = lines.next_if(|it| !it.starts_with('#')) {
                if !seen.insert(line.rsplit_once(' ').unwrap_or_default().0.to_owned()) {
                    return Err(format!("twice: {line}"));
                }
                samples.push(sample(line).ok_or(format!("no sample: {line}"))?);
            }
            let family = Family {
                kind: kind.to_owned(),
                samples,
            };
            family.check(name).map_err(|why| format!("{name}: {why}"))?;
            if families.insert(name.to_owned(), family).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(Self(families))
    }

    /// The values of a series, by its labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let ends = ["", "_sum", "_count", "_bucket"];
        let family = ends.iter().find_map(|end| self.0.get(name.strip_suffix(end)?))?;
        family
            .samples
            .iter()
            .find(|(of, with, _)| of == name && *with == labels)
            .map(|(.., value)| *value)
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.0.values().map(|it| it.samples.len()).sum()
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return is_name(series).then(|| (series.to_owned(), Labels::new(), value));
    };
    let mut rest = rest.strip_suffix('}')?;
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        // no value of ours has anything to escape
        let (text, after) = after.split_once('"')?;
        let is_fine = is_name(label) && !text.contains('\\');
        if !is_fine || labels.insert(label.to_owned(), text.to_owned()).is_some() {
            return None;
        }
        rest = match after.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            Some(_) => return None,
            None => after,
        };
    }
    is_name(name).then(|| (name.to_owned(), labels, value))
}

impl Family {
    fn check(&self, name: &str) -> Result<(), String> {
        let is_total = name.ends_with("_total");
        match self.kind.as_str() {
            "counter" if !is_total => return Err("a counter is a _total".to_owned()),
            "gauge" if is_total => return Err("a gauge is no _total".to_owned()),
            "histogram" if !name.ends_with("_seconds") => return Err("no unit".to_owned()),
            "counter" | "gauge" => {}
            "histogram" => return self.check_histogram(name),
            other => return Err(format!("{other} is no type of ours")),
        }
        match self
            .samples
            .iter()
            .find(|(of, _, value)| of != name || *value < 0.0)
        {
            Some(odd) => Err(format!("{odd:?}")),
            None if self.samples.is_empty() => Err("empty".to_owned()),
            None => Ok(()),
        }
    }

    fn check_histogram(&self, name: &str) -> Result<(), String> {
        let mut members: BTreeMap<Labels, Vec<Part<'_>>> = BTreeMap::new();
        for (of, labels, value) in &self.samples {
            let mut labels = labels.clone();
            let bound = labels.remove("le").map(|it| it.parse().map_err(|_| it));
            let bound = bound.transpose()?;
            let end = of.strip_prefix(name).ok_or(format!("{of} is not of it"))?;
            members.entry(labels).or_default().push((end, bound, *value));
        }
        for (labels, parts) in members {
            let buckets: Vec<(f64, f64)> = parts
                .iter()
                .filter(|(end, ..)| *end == "_bucket")
                .filter_map(|(_, bound, value)| Some(((*bound)?, *value)))
                .collect();
            let grows = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            let last = buckets.last().filter(|it| it.0 == f64::INFINITY).map(|it| it.1);
            let of = |wanted| parts.iter().find(|(end, ..)| *end == wanted).map(|it| it.2);
            let is_whole = last.is_some() && last == of("_count") && of("_sum").is_some();
            if !grows || !is_whole || parts.len() != buckets.len() + 2 {
                return Err(format!("{labels:?}: {parts:?}"));
            }
        }
        Ok(())
    }
}

#[test]
fn the_reader_refuses_what_breaks_a_rule() {
    let head = "# HELP a_total Some.\n# TYPE a_total counter\n";
    assert!(Exposition::parse(&format!("{head}a_total 1\n")).is_ok());
    for bad in [
        format!("{head}a_total 1"),
        format!("{head}a_total 1\na_total 2\n"),
        format!("{head}b_total 1\n"),
        format!("{head}a_total{{x=\"1\",}} 1\n"),
        format!("{head}a_total x\n"),
        head.to_owned(),
        "a_total 1\n".to_owned(),
        "# HELP a Some.\n# TYPE a counter\na 1\n".to_owned(),
        "# HELP a_seconds Some.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 1\na_seconds_sum 1\na_seconds_count 1\n"
            .to_owned(),
    ] {
        assert!(Exposition::parse(&bad).is_err(), "{bad}");
    }
}
