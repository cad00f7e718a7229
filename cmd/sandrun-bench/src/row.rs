//! A row of the benchmark list, the list on disk, and the table for people. Owns the format of
//! `target/bench/results.json`; never measures.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// How a value is judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most this value.
    AtMost(f64),
    /// At most this multiple of the peer's value.
    AtMostTimesPeer(f64),
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
    /// Whether the goal was met; absent where there is none or the peer is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
            Goal::AtMostTimesPeer(times) => {
                (format!("≤ {times} × peer"), self.peer_value.map(|peer| self.value <= times * peer))
            }
            Goal::None => (String::new(), None),
        };
        self
    }
}

/// Reads the list, replaces the rows whose names begin with `only`, and writes it again.
pub(crate) fn write(path: &Path, only: &str, rows: &[Row]) -> anyhow::Result<()> {
    let old: Vec<Row> = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is no list of rows", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut list: Vec<Row> = old.into_iter().filter(|row| !row.name.starts_with(only)).collect();
    list.extend_from_slice(rows);
    list.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let text = serde_json::to_string_pretty(&list)?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
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
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_replaces_only_its_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.json");
        let gas = Row::new("gas.slow.r3", 1.0, "gas", Goal::AtMost(2.0));
        let start = Row::new("sandbox.start", 5.0, "ms", Goal::None).beside("bubblewrap", Some(4.0), Goal::AtMostTimesPeer(1.0));
        write(&path, "", &[gas.clone(), start.clone()]).unwrap();
        let better = Row::new("gas.slow.r3", 0.5, "gas", Goal::AtMost(2.0));
        write(&path, "gas", std::slice::from_ref(&better)).unwrap();
        let list: Vec<Row> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(list, vec![better, start.clone()]);
        assert_eq!(start.met, Some(false));
    }
}
