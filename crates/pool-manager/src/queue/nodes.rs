//! What the engine remembers of nodes beside the machine: names, what they announced, counters, whom to stop.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sandrun_core::pool::{JobNumber, NodeNumber};
use sandrun_store::queue::{NodeRow, UnixMillis};
use sandrun_types::Attempt;

use super::error::QueueError;
use super::ids::IdKey;
use super::words::Announced;

/// Most attempts that are remembered to be stopped at one node; it hears of the others when it lists them.
const MAX_STOPS: usize = 1_024;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeEntry {
    pub(super) id: String,
    pub(super) endpoint: String,
    pub(super) announced: Announced,
    pub(super) heard: UnixMillis,
    pub(super) completed: u64,
    pub(super) failed: u64,
    /// Attempts that nobody needs any more and that it was not told of.
    stops: BTreeSet<(JobNumber, Attempt)>,
}

impl NodeEntry {
    /// Remembers to stop an attempt.
    pub(super) fn stop(&mut self, job: JobNumber, attempt: Attempt) {
        if self.stops.len() < MAX_STOPS {
            self.stops.insert((job, attempt));
        }
    }

    /// What it was not told of yet.
    pub(super) fn take_stops(&mut self) -> BTreeSet<(JobNumber, Attempt)> {
        std::mem::take(&mut self.stops)
    }

    /// Its row.
    pub(super) fn row(&self, number: NodeNumber, snapshot: Vec<u8>) -> NodeRow {
        NodeRow {
            number,
            id: self.id.clone(),
            endpoint: self.endpoint.clone(),
            // a struct of plain data: there is always a JSON form
            announced: serde_json::to_vec(&self.announced).unwrap_or_default(),
            heard: self.heard,
            completed: self.completed,
            failed: self.failed,
            snapshot,
        }
    }
}

/// All nodes by number, id and endpoint.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    entries: BTreeMap<NodeNumber, NodeEntry>,
    by_id: HashMap<String, NodeNumber>,
    by_endpoint: HashMap<String, NodeNumber>,
    /// Nodes whose rows have changed beside the machine's part.
    dirty: BTreeSet<NodeNumber>,
}

impl Nodes {
    /// Takes a row from elsewhere.
    pub(super) fn take_in(&mut self, row: &NodeRow) {
        let stops = self.entries.get_mut(&row.number).map(NodeEntry::take_stops);
        self.insert(
            row.number,
            NodeEntry {
                id: row.id.clone(),
                endpoint: row.endpoint.clone(),
                announced: serde_json::from_slice(&row.announced).unwrap_or_default(),
                heard: row.heard,
                completed: row.completed,
                failed: row.failed,
                stops: stops.unwrap_or_default(),
            },
        );
    }

    fn insert(&mut self, number: NodeNumber, entry: NodeEntry) {
        self.by_id.insert(entry.id.clone(), number);
        self.by_endpoint.insert(entry.endpoint.clone(), number);
        self.entries.insert(number, entry);
    }

    /// The node with this id.
    pub(super) fn number(&self, id: &str) -> Result<NodeNumber, QueueError> {
        let found = self.by_id.get(id).copied();
        found.ok_or_else(|| QueueError::UnknownNode(id.chars().take(80).collect()))
    }

    /// The node at this endpoint.
    pub(super) fn at(&self, endpoint: &str) -> Option<NodeNumber> {
        self.by_endpoint.get(endpoint).copied()
    }

    /// A node has come, or come back.
    pub(super) fn register(
        &mut self,
        number: NodeNumber,
        ids: &IdKey,
        endpoint: String,
        announced: Announced,
        now: UnixMillis,
    ) {
        let known = self.entries.get(&number);
        let (completed, failed) = known.map_or((0, 0), |it| (it.completed, it.failed));
        let entry = NodeEntry {
            id: ids.node_id(number),
            endpoint,
            announced,
            heard: now,
            completed,
            failed,
            stops: BTreeSet::new(),
        };
        self.insert(number, entry);
        self.dirty.insert(number);
    }

    pub(super) fn get(&self, number: NodeNumber) -> Option<&NodeEntry> {
        self.entries.get(&number)
    }

    /// A node, to change what is not written, or written with the machine's part.
    pub(super) fn get_mut(&mut self, number: NodeNumber) -> Option<&mut NodeEntry> {
        self.entries.get_mut(&number)
    }

    /// Counts an answer of a node.
    pub(super) fn count(&mut self, number: NodeNumber, success: bool) {
        if let Some(entry) = self.entries.get_mut(&number) {
            if success {
                entry.completed += 1;
            } else {
                entry.failed += 1;
            }
            self.dirty.insert(number);
        }
    }

    /// Nodes that changed since the last call.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<NodeNumber> {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeNumber, &NodeEntry)> {
        self.entries.iter().map(|(number, entry)| (*number, entry))
    }
}
