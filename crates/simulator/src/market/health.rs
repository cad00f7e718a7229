//! When a process could not do what it should: down, cut off, without a disk or a store. A promise to honest nodes
//! holds for those that came back within their windows; this says who did.

/// Times at which something was wrong, in seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    ill: Vec<(u64, u64)>,
}

impl Health {
    /// Something is wrong from `from` until `to`.
    pub(crate) fn ill(&mut self, from: u64, to: u64) {
        self.ill.push((from, to));
    }

    /// Whether all was well between the two times.
    pub(crate) fn is_well(&self, from: u64, to: u64) -> bool {
        self.ill.iter().all(|(start, end)| *end < from || to < *start)
    }
}
