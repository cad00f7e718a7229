//! What outlives a process of a node: its journal and its gate. A write is there whole or not at all, and fails while
//! the disk is full.

use std::collections::BTreeMap;

use sandrun_core::seat::{Gate, Record};
use sandrun_types::JobId;

/// A disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    journal: BTreeMap<JobId, Vec<Record>>,
    gate: Gate,
    full_until: u64,
}

impl Disk {
    /// Is full until `until`.
    pub(crate) const fn fill(&mut self, until: u64) {
        self.full_until = until;
    }

    pub(crate) const fn is_full(&self, now: u64) -> bool {
        now < self.full_until
    }

    /// Appends to a job's journal; `None` when there is no room.
    pub(crate) fn append(&mut self, now: u64, job: JobId, record: Record) -> Option<()> {
        if self.is_full(now) {
            return None;
        }
        self.journal.entry(job).or_default().push(record);
        Some(())
    }

    pub(crate) fn records(&self, job: JobId) -> &[Record] {
        self.journal.get(&job).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn write_gate(&mut self, now: u64, gate: &Gate) -> Option<()> {
        if self.is_full(now) {
            return None;
        }
        self.gate = gate.clone();
        Some(())
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate.clone()
    }
}
