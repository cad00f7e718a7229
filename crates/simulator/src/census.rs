//! What happened how often in a set of histories: events, faults, and rows of the protocol's tables.

use std::collections::{BTreeMap, BTreeSet};

/// How often each thing happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Histories.
    pub seeds: u64,
    /// Steps: everything that a process, the chain or a service did by itself.
    pub steps: u64,
    /// Jobs, of all three services.
    pub jobs: u64,
    /// Nodes, of all three services.
    pub nodes: u64,
    /// What happened, by name.
    pub events: BTreeMap<&'static str, u64>,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rows of the tables that were reached.
    pub rows: BTreeMap<String, u64>,
}

impl Census {
    /// Counts something that happened.
    pub(crate) fn event(&mut self, name: &'static str) {
        *self.events.entry(name).or_default() += 1;
    }

    /// Counts a fault.
    pub(crate) fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Counts a row.
    pub(crate) fn row(&mut self, name: impl Into<String>) {
        *self.rows.entry(name.into()).or_default() += 1;
    }

    /// Adds another census to this one.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.jobs += other.jobs;
        self.nodes += other.nodes;
        for (mine, its) in [
            (&mut self.events, &other.events),
            (&mut self.faults, &other.faults),
        ] {
            for (name, count) in its {
                *mine.entry(name).or_default() += count;
            }
        }
        for (name, count) in &other.rows {
            *self.rows.entry(name.clone()).or_default() += count;
        }
    }

    /// Faults of all kinds.
    pub fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Rows of the tables that were not reached.
    pub fn missing(&self) -> Vec<String> {
        let known: BTreeSet<&String> = self.rows.keys().collect();
        let expected = crate::market::expected_rows().into_iter();
        let expected = expected.chain(crate::pool::expected_rows());
        expected.filter(|row| !known.contains(row)).collect()
    }

    /// Rows of the tables that can be reached at all.
    pub fn expected() -> usize {
        crate::market::expected_rows().len() + crate::pool::expected_rows().len()
    }
}
