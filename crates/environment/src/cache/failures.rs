//! Images that could not be had a moment ago. Owns for how long that is believed. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandrun_content::{ContentError, ContentId};

use super::CacheError;

/// How long nobody tries again: all who waited for the same image are told at once.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30);

/// Why an image could not be had.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// It was not served, or was something else.
    Fetch(Arc<ContentError>),
    /// It did not come in so many seconds.
    Late(u64),
    /// It takes more than all images may.
    TooLarge(u64),
}

impl Failure {
    /// What is worth remembering of an error: nothing of what our own disk or other images have to do with.
    pub(super) fn of(error: &CacheError) -> Option<Self> {
        match error {
            CacheError::Fetch { source, .. } => Some(Self::Fetch(Arc::clone(source))),
            CacheError::Late { seconds, .. } => Some(Self::Late(*seconds)),
            CacheError::TooLarge { cap, .. } => Some(Self::TooLarge(*cap)),
            CacheError::NoStore(_)
            | CacheError::Busy { .. }
            | CacheError::Full { .. }
            | CacheError::Disk { .. }
            | CacheError::ShuttingDown => None,
        }
    }

    fn error(&self, id: ContentId) -> CacheError {
        match self {
            Self::Fetch(source) => CacheError::Fetch {
                id,
                source: Arc::clone(source),
            },
            Self::Late(seconds) => CacheError::Late {
                id,
                seconds: *seconds,
            },
            Self::TooLarge(cap) => CacheError::TooLarge { id, cap: *cap },
        }
    }
}

/// What failed lately.
#[derive(Debug, Default)]
pub(super) struct Failures {
    all: HashMap<ContentId, (Instant, Failure)>,
}

impl Failures {
    /// Notes a failure, and forgets old ones.
    pub(super) fn note(&mut self, now: Instant, id: ContentId, failure: Failure) {
        self.all
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBERED);
        self.all.insert(id, (now, failure));
    }

    /// Why an image could not be had a moment ago, if it could not.
    pub(super) fn recent(&self, now: Instant, id: ContentId) -> Option<CacheError> {
        let (at, failure) = self.all.get(&id)?;
        (now.saturating_duration_since(*at) < REMEMBERED).then(|| failure.error(id))
    }
}

#[cfg(test)]
mod tests {
    use sandrun_types::ContentDigest;

    use super::*;

    #[test]
    fn a_failure_is_believed_for_a_while_and_then_forgotten() {
        let id = |n| ContentId::from_digest(ContentDigest([n; 32]));
        let start = Instant::now();
        let mut failures = Failures::default();
        failures.note(start, id(1), Failure::Late(300));
        let just = start + REMEMBERED - Duration::from_millis(1);
        assert!(matches!(
            failures.recent(just, id(1)),
            Some(CacheError::Late { seconds: 300, .. })
        ));
        assert!(failures.recent(just, id(2)).is_none());
        assert!(failures.recent(start + REMEMBERED, id(1)).is_none());
        failures.note(start + REMEMBERED, id(2), Failure::TooLarge(7));
        assert_eq!(failures.all.len(), 1, "old ones take no room");
    }
}
