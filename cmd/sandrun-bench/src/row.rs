//! A row of the benchmark list, the list on disk, and the table for people. Owns the format of
//! `target/bench/results.json`; never measures.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// How a value is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
    /// At most this multiple of the peer's value.
    AtMostTimesPeer(f64),
    /// At least this multiple of the peer's value.
    AtLeastTimesPeer(f64),
    /// No goal: the figure is only said.
    None,
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Name, `part.measure`.
    pub(crate) name: String,
    /// What was measured.
    pub(crate) value: f64,
    /// Its unit, the peer's as well.
    pub(crate) unit: String,
    /// The goal in words; empty when there is none.
    pub(crate) goal: String,
    /// What it is compared with; empty when there is none.
    pub(crate) peer: String,
    /// The peer's value in the same run; absent where the peer is missing.
    pub(crate) peer_value: Option<f64>,
    /// Whether the goal was met; absent where there is none or the peer is missing, and in the file.
    #[serde(skip)]
    pub(crate) met: Option<bool>,
}

impl Row {
    /// A row without a peer.
    pub(crate) fn new(name: &str, value: f64, unit: &str, goal: Goal) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            goal: String::new(),
            peer: String::new(),
            peer_value: None,
            met: None,
        }
        .judged(goal)
    }

    /// The same row beside a peer.
    pub(crate) fn beside(mut self, peer: &str, peer_value: Option<f64>, goal: Goal) -> Self {
        self.peer = peer.to_owned();
        self.peer_value = peer_value;
        self.judged(goal)
    }

    fn judged(mut self, goal: Goal) -> Self {
        (self.goal, self.met) = match goal {
            Goal::AtMost(most) => (format!("≤ {most}"), Some(self.value <= most)),
            Goal::AtLeast(least) => (format!("≥ {least}"), Some(self.value >= least)),
            Goal::AtMostTimesPeer(times) => (
                format!("≤ {times} × peer"),
                self.peer_value.map(|peer| self.value <= times * peer),
            ),
            Goal::AtLeastTimesPeer(times) => (
                format!("≥ {times} × peer"),
                self.peer_value.map(|peer| self.value >= times * peer),
            ),
            Goal::None => (String::new(), None),
        };
        self
    }
}

/// The list on disk.
#[derive(Debug)]
pub(crate) struct List {
    path: PathBuf,
    rows: Vec<Row>,
}

impl List {
    /// Reads the list; a file that is not there is an empty one.
    ///
    /// # Errors
    /// A file that can't be read, or is no list of rows.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let rows = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no list of rows: move it away", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        Ok(Self {
            path: path.to_owned(),
            rows,
        })
    }

    /// Puts `rows` in the place of all those whose names begin with `only`, and of those that they are measured with: a
    /// row that could not be measured anew goes.
    pub(crate) fn replace(&mut self, only: &str, rows: &[Row]) {
        let is_new = |old: &Row| rows.iter().any(|row| row.name == old.name);
        self.rows
            .retain(|row| !row.name.starts_with(only) && !is_new(row));
        self.rows.extend_from_slice(rows);
        self.rows.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Writes the list.
    ///
    /// # Errors
    /// A directory or file that can't be written.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let failed = || format!("writing {}", self.path.display());
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).with_context(failed)?;
        }
        let text = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(&self.path, text + "\n").with_context(failed)
    }
}

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<28} {:>14} {:<8} {:<16} {:>14} {:<32} {}\n",
        "name", "value", "unit", "goal", "peer value", "peer", "met"
    );
    for row in rows {
        let peer = row.peer_value.map_or_else(String::new, number);
        let met = row.met.map_or("", |met| if met { "yes" } else { "NO" });
        text += &format!(
            "{:<28} {:>14} {:<8} {:<16} {:>14} {:<32} {}\n",
            row.name,
            number(row.value),
            row.unit,
            row.goal,
            peer,
            row.peer,
            met
        );
    }
    text
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gas(value: f64) -> Row {
        Row::new("gas.slow.r3", value, "gas", Goal::AtMost(2.0))
    }

    fn start(value: f64, peer: Option<f64>) -> Row {
        Row::new("sandbox.start", value, "ms", Goal::None).beside(
            "bubblewrap",
            peer,
            Goal::AtMostTimesPeer(1.5),
        )
    }

    #[test]
    fn a_part_replaces_only_its_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/results.json");
        let mut list = List::read(&path).unwrap();
        list.replace("", &[start(5.0, Some(4.0)), gas(1.0)]);
        list.save().unwrap();
        let mut list = List::read(&path).unwrap();
        list.replace("gas", &[gas(0.5)]);
        list.save().unwrap();
        let values: Vec<_> = List::read(&path)
            .unwrap()
            .rows
            .into_iter()
            .map(|row| (row.name, row.value))
            .collect();
        assert_eq!(
            values,
            [("gas.slow.r3".to_owned(), 0.5), ("sandbox.start".to_owned(), 5.0)]
        );
    }

    #[test]
    fn a_row_that_is_measured_beside_another_is_there_once() {
        let mut list = List {
            path: PathBuf::new(),
            rows: vec![gas(1.0), start(1.0, None)],
        };
        list.replace("sandbox", &[start(2.0, None), gas(2.0)]);
        assert_eq!(list.rows, [gas(2.0), start(2.0, None)]);
    }

    #[test]
    fn a_row_that_was_not_measured_anew_goes() {
        let mut list = List {
            path: PathBuf::new(),
            rows: vec![gas(1.0), start(1.0, None)],
        };
        list.replace("gas.slow", &[]);
        assert_eq!(list.rows, [start(1.0, None)]);
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(
            List::read(&path)
                .unwrap_err()
                .to_string()
                .contains("no list of rows")
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
    }

    #[test]
    fn goals_are_judged_at_their_bounds() {
        assert_eq!((gas(2.0).met, gas(2.1).met), (Some(true), Some(false)));
        assert_eq!(
            (start(6.0, Some(4.0)).met, start(6.1, Some(4.0)).met),
            (Some(true), Some(false))
        );
        let rate = |value| {
            Row::new("queue.submit", value, "1/s", Goal::None).beside(
                "floor",
                Some(4.0),
                Goal::AtLeastTimesPeer(2.0),
            )
        };
        assert_eq!((rate(8.0).met, rate(7.9).met), (Some(true), Some(false)));
        assert_eq!(start(6.0, None).met, None, "no peer, no verdict");
        assert_eq!(
            Row::new("executor.jobs_per_second", 1.0, "1/s", Goal::None).met,
            None
        );
    }

    #[test]
    fn the_file_has_six_fields_a_row() {
        let row = serde_json::to_value(gas(1.0)).unwrap();
        let fields: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["goal", "name", "peer", "peer_value", "unit", "value"]);
        assert_eq!(
            serde_json::to_value(start(1.0, Some(4.0))).unwrap()["peer_value"],
            4.0
        );
        assert!(row["peer_value"].is_null());
    }
}
