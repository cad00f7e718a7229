//! Garbage collection: mark what the pins reach, sweep the rest. Owns the walk over links; what a link means it does
//! not ask.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use cid::Cid;

use super::blocks::Digest32;
use super::{Collected, Inner};
use crate::block::supported;
use crate::error::ContentError;
use crate::id::{DAG_PB_CODEC, RAW_CODEC, cid_of};
use crate::node;

impl Inner {
    /// Visits every block below `root`, itself included, each once. `visit` says whether the block is there; the first
    /// that is not is an error.
    pub(super) fn reach(
        &self,
        root: &Cid,
        visit: &mut dyn FnMut(&Digest32) -> Result<bool, ContentError>,
    ) -> Result<(), ContentError> {
        self.walk(root, &mut HashSet::new(), &mut |cid, digest| {
            if visit(digest)? {
                Ok(())
            } else {
                Err(ContentError::NotFound { cid: *cid })
            }
        })
    }

    /// All blocks below `root`, itself included, each once, children after parents.
    pub(super) fn reachable(&self, root: &Cid) -> Result<Vec<Cid>, ContentError> {
        let mut found = Vec::new();
        self.walk(root, &mut HashSet::new(), &mut |cid, digest| {
            if !self.blocks.contains(digest)? {
                return Err(ContentError::NotFound { cid: *cid });
            }
            found.push(*cid);
            Ok(())
        })?;
        Ok(found)
    }

    fn walk(
        &self,
        root: &Cid,
        seen: &mut HashSet<(u64, Digest32)>,
        visit: &mut dyn FnMut(&Cid, &Digest32) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut pending = vec![*root];
        while let Some(cid) = pending.pop() {
            let digest = supported(&cid)?;
            // the same bytes may be linked as a leaf here and as a node there
            if !seen.insert((cid.codec(), digest)) {
                continue;
            }
            visit(&cid, &digest)?;
            if cid.codec() == DAG_PB_CODEC {
                let block = self.blocks.read(&cid)?;
                let links = node::links(&block).map_err(|reason| ContentError::malformed(cid, reason))?;
                pending.extend(links.into_iter().rev());
            }
        }
        Ok(())
    }

    /// Removes blocks that no pin reaches and that were last added before `before`, oldest first, until at most
    /// `target` bytes are used (none: all of them).
    pub(super) fn collect(&self, before: SystemTime, target: Option<u64>) -> Result<Collected, ContentError> {
        let mut seen = HashSet::new();
        let mut marked = HashSet::new();
        for root in self.pins.list() {
            self.walk(&root, &mut seen, &mut |_, digest| {
                marked.insert(*digest);
                Ok(())
            })?;
        }
        let mut garbage = Vec::new();
        self.blocks.each(|file| {
            if file.added < before && !marked.contains(&file.digest) {
                garbage.push(file);
            }
        })?;
        garbage.sort_by_key(|file| file.added);
        let mut done = Collected::default();
        for file in garbage {
            if target.is_some_and(|target| self.used.load(Ordering::Relaxed) <= target) {
                break;
            }
            if let Some(freed) = self.blocks.remove(&file.digest, before)? {
                self.used.fetch_sub(freed, Ordering::Relaxed);
                done.bytes += freed;
                done.removed.push(cid_of(RAW_CODEC, file.digest));
            }
        }
        tracing::info!(
            blocks = done.removed.len(),
            bytes = done.bytes,
            "collected unpinned blocks"
        );
        Ok(done)
    }
}
