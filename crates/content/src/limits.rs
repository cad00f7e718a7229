//! How much a tree may hold. Owns the numbers and their defaults; packing and fetching enforce them.

/// Bounds on one tree, enforced while it is packed and while it is fetched. Reaching a bound is allowed, passing it is
/// an error that names the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of file content in all.
    pub max_bytes: u64,
    /// Bytes of one file.
    pub max_file_bytes: u64,
    /// Files and directories in all, the root not counted.
    pub max_entries: u64,
    /// Directories within directories; the root's own entries have depth 1.
    pub max_depth: u32,
}

impl Default for Limits {
    /// 1 GiB in all and in one file, 20,000 entries, 32 levels.
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_file_bytes: 1 << 30,
            max_entries: 20_000,
            max_depth: 32,
        }
    }
}

impl Limits {
    /// The same limits with `max_bytes` for the tree and for each file.
    #[must_use]
    pub const fn with_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self.max_file_bytes = max_bytes;
        self
    }

    /// How many blocks a tree within these limits may have: one or two for each entry (a node, a shard), one for each
    /// 4 KiB of content, and some to spare. Bounds the work that a hostile DAG with many empty nodes can cause.
    pub(crate) const fn max_blocks(&self) -> u64 {
        (self.max_bytes / 4096)
            .saturating_add(self.max_entries.saturating_mul(2))
            .saturating_add(1024)
    }
}
