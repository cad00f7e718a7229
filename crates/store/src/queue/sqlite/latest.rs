//! Which batch changes something last: whoever reads it waits for that one.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Room that is kept after a burst.
const KEPT: usize = 512;

/// The last batch that changes something.
#[derive(Debug)]
pub(super) struct Latest<K>(HashMap<K, u64>);

impl<K> Default for Latest<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Latest<K> {
    /// The last one that changes it, unless the tables have that.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<u64>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied()
    }

    /// This batch changes it.
    pub(super) fn note(&mut self, key: K, id: u64) {
        self.0.insert(key, id);
    }

    /// This batch is in the tables.
    pub(super) fn remove_if(&mut self, key: &K, id: u64) {
        if self.0.get(key) == Some(&id) {
            self.0.remove(key);
        }
    }

    /// This batch was refused: only those up to `last` were acknowledged.
    pub(super) fn lower(&mut self, key: &K, id: u64, last: u64) {
        if let Some(found) = self.0.get_mut(key)
            && *found >= id
        {
            *found = last;
        }
    }

    /// All up to this one is in the tables.
    pub(super) fn tidy(&mut self, settled: u64) {
        self.0.retain(|_, id| *id > settled);
        self.0.shrink_to(KEPT);
    }
}
