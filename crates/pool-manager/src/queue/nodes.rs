//! What the engine remembers of nodes beside the machine: names, what they announced, counters, whom to stop.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sandrun_core::pool::{JobNumber, NodeNumber};
use sandrun_store::queue::{NodeRow, ReplicaId, UnixMillis};
use sandrun_types::Attempt;
use serde::{Deserialize, Serialize};

use super::error::QueueError;
use super::ids::IdKey;
use super::words::Announced;

/// Most attempts that are remembered to be stopped at one node; it hears of the others when it lists them.
const MAX_STOPS: usize = 1_024;

/// How often in a node's time it is looked for those that are to be forgotten.
const LOOKS: UnixMillis = 24;

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
    /// Replicas that can't reach it.
    away: BTreeSet<ReplicaId>,
    written: Written,
}

/// The long parts of a node's row as they were written last: most rows are written for their counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Written {
    /// What it announced and who can't reach it; `None` where that has changed.
    announced: Option<Vec<u8>>,
    /// The machine's part; `None` where it was never written.
    snapshot: Option<Vec<u8>>,
}

/// What a node's row says beside the machine's part.
#[derive(Serialize)]
struct RowAnnounced<'a> {
    #[serde(flatten)]
    announced: &'a Announced,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    away: &'a BTreeSet<ReplicaId>,
}

/// Who can't reach a node, as its row says.
#[derive(Default, Deserialize)]
struct RowAway {
    #[serde(default)]
    away: BTreeSet<ReplicaId>,
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
    fn row(&mut self, number: NodeNumber) -> NodeRow {
        let (announced, away) = (&self.announced, &self.away);
        let written = &mut self.written.announced;
        // a struct of plain data: there is always a JSON form
        let announced = written
            .get_or_insert_with(|| serde_json::to_vec(&RowAnnounced { announced, away }).unwrap_or_default())
            .clone();
        NodeRow {
            number,
            id: self.id.clone(),
            endpoint: self.endpoint.clone(),
            announced,
            heard: self.heard,
            completed: self.completed,
            failed: self.failed,
            snapshot: self.written.snapshot.clone().unwrap_or_default(),
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
    /// When it is time to look for those that are to be forgotten.
    next_look: UnixMillis,
}

impl Nodes {
    /// Takes a row from elsewhere; whether somebody can't reach the node who could.
    pub(super) fn take_in(&mut self, row: &NodeRow) -> bool {
        if let Some(known) = self.entries.get_mut(&row.number)
            && known.written.announced.as_ref() == Some(&row.announced)
            && (&known.id, &known.endpoint) == (&row.id, &row.endpoint)
        {
            (known.heard, known.completed, known.failed) = (row.heard, row.completed, row.failed);
            known.written.snapshot = Some(row.snapshot.clone());
            return false;
        }
        let known = self.entries.get_mut(&row.number);
        let (stops, before) = known
            .map(|it| (it.take_stops(), std::mem::take(&mut it.away)))
            .unwrap_or_default();
        let RowAway { away } = serde_json::from_slice(&row.announced).unwrap_or_default();
        let is_doubted = !away.is_subset(&before);
        self.insert(
            row.number,
            NodeEntry {
                id: row.id.clone(),
                endpoint: row.endpoint.clone(),
                announced: serde_json::from_slice(&row.announced).unwrap_or_default(),
                heard: row.heard,
                completed: row.completed,
                failed: row.failed,
                stops,
                away,
                written: Written {
                    announced: Some(row.announced.clone()),
                    snapshot: Some(row.snapshot.clone()),
                },
            },
        );
        is_doubted
    }

    /// Whether the machine's part of a node is in this row as it was written or taken in last: so it stands now, as each
    /// change is written with the batch that makes it.
    pub(super) fn stands_as(&self, row: &NodeRow) -> bool {
        let known = self.entries.get(&row.number);
        known.is_some_and(|it| it.written.snapshot.as_ref() == Some(&row.snapshot))
    }

    /// Whether the machine's part of a node was never written.
    pub(super) fn is_unwritten(&self, number: NodeNumber) -> bool {
        let known = self.entries.get(&number);
        known.is_some_and(|it| it.written.snapshot.is_none())
    }

    /// The row of a node, with the machine's part where that has changed.
    pub(super) fn row(&mut self, number: NodeNumber, changed: Option<Vec<u8>>) -> Option<NodeRow> {
        let entry = self.entries.get_mut(&number)?;
        if let Some(snapshot) = changed {
            entry.written.snapshot = Some(snapshot);
        }
        Some(entry.row(number))
    }

    /// Replicas that can't reach a node; `None` for a node that is not here.
    pub(super) fn away(&self, number: NodeNumber) -> Option<&BTreeSet<ReplicaId>> {
        self.entries.get(&number).map(|entry| &entry.away)
    }

    /// A replica can't reach a node. Those that do not live any more are forgotten.
    pub(super) fn set_away(&mut self, number: NodeNumber, me: ReplicaId, living: &BTreeSet<ReplicaId>) {
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.away.insert(me)
        {
            entry.away.retain(|it| *it == me || living.contains(it));
            entry.written.announced = None;
            self.dirty.insert(number);
        }
    }

    /// A replica reaches a node.
    pub(super) fn set_near(&mut self, number: NodeNumber, me: ReplicaId) {
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.away.remove(&me)
        {
            entry.written.announced = None;
            self.dirty.insert(number);
        }
    }

    /// Nodes that none of these replicas reaches.
    pub(super) fn out_of_reach(&self, me: ReplicaId, living: &BTreeSet<ReplicaId>) -> Vec<NodeNumber> {
        let is_out = |entry: &NodeEntry| entry.away.contains(&me) && living.is_subset(&entry.away);
        let out = self.entries.iter().filter(|(_, entry)| is_out(entry));
        out.map(|(number, _)| *number).collect()
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
        let away = known.map(|it| it.away.clone()).unwrap_or_default();
        let entry = NodeEntry {
            id: ids.node_id(number),
            endpoint,
            announced,
            heard: now,
            completed,
            failed,
            stops: BTreeSet::new(),
            away,
            written: Written::default(),
        };
        self.insert(number, entry);
        self.dirty.insert(number);
    }

    /// A node was heard of.
    pub(super) fn hear(&mut self, number: NodeNumber, now: UnixMillis) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.heard = now;
        }
    }

    /// Nodes that were not heard of for `ttl`; looked for now and then, none in between.
    pub(super) fn silent(&mut self, now: UnixMillis, ttl: UnixMillis) -> Vec<NodeNumber> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.saturating_add(ttl / LOOKS);
        let is_silent = |entry: &NodeEntry| entry.heard.saturating_add(ttl) < now;
        let silent = self.entries.iter().filter(|(_, entry)| is_silent(entry));
        silent.map(|(number, _)| *number).collect()
    }

    /// Forgets a node. Whoever comes from its endpoint is a new one.
    pub(super) fn remove(&mut self, number: NodeNumber) {
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        self.by_id.remove(&entry.id);
        // another replica may have given the endpoint a number of its own meanwhile
        if self.by_endpoint.get(&entry.endpoint) == Some(&number) {
            self.by_endpoint.remove(&entry.endpoint);
        }
        self.dirty.remove(&number);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_changed_last_and_is_taken_in_as_it_is() {
        let (number, mut nodes) = (NodeNumber(1), Nodes::default());
        let ids = IdKey::new([1; 32], "");
        nodes.register(number, &ids, "http://n".to_owned(), Announced::default(), 5);
        assert!(nodes.is_unwritten(number));
        let first = nodes.row(number, Some(b"one".to_vec())).unwrap();
        assert!(nodes.stands_as(&first) && !nodes.is_unwritten(number));
        nodes.count(number, true);
        let counted = NodeRow {
            completed: 1,
            ..first.clone()
        };
        assert_eq!(nodes.row(number, None), Some(counted.clone()));
        nodes.set_away(number, ReplicaId(7), &BTreeSet::new());
        let away = nodes.row(number, Some(b"two".to_vec())).unwrap();
        assert_ne!(away.announced, first.announced);
        assert!(nodes.stands_as(&away) && !nodes.stands_as(&first));

        let mut others = Nodes::default();
        let doubts: Vec<bool> = [&first, &counted, &away, &away, &first]
            .map(|row| {
                let is_doubted = others.take_in(row);
                assert!(others.stands_as(row));
                assert_eq!(others.row(number, None).as_ref(), Some(row));
                is_doubted
            })
            .to_vec();
        assert_eq!(doubts, [false, false, true, false, false]);
        assert_eq!(others.away(number), Some(&BTreeSet::new()));
    }
}
