//! What a service sets for its queue.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sandrun_core::pool::{Policy, Settings};
use sandrun_store::queue::UnixMillis;
use sandrun_types::Manifest;

/// Seconds beyond a job's own time that its lease lasts: for the way there, the files and the way back.
const LEASE_MARGIN: u32 = 60;
/// Seconds of waiting that are worth one step of priority.
const AGEING_STEP: u32 = 60;

/// Seconds that a node may at least be away until it is forgotten.
const FORGET: u32 = 86_400;

/// Settings of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// The trust model.
    pub policy: Policy,
    /// What job ids begin with.
    pub id_prefix: &'static str,
    /// `JOB_TIMEOUT`: seconds that a job runs where it does not say, as far as any may, and the least that a lease lasts.
    pub job_timeout: u32,
    /// `RESULT_TTL`: seconds that an ended job is kept.
    pub result_ttl: u32,
    /// `NODE_TIMEOUT`: seconds without a word after which a node is dead.
    pub node_timeout: u32,
    /// `MAX_RETRIES`: how many attempts of a job may be lost before it fails.
    pub max_retries: u8,
}

impl QueueSettings {
    /// The defaults of a broker.
    pub const BROKER: Self = Self {
        policy: Policy::BROKER,
        id_prefix: "",
        job_timeout: 300,
        result_ttl: 3_600,
        node_timeout: 60,
        max_retries: 3,
    };

    /// The defaults of a trusted pool's coordinator. Its workers are asked for their health, and say nothing themselves.
    pub const COORDINATOR: Self = Self {
        policy: Policy::TRUSTED,
        id_prefix: "pool-",
        job_timeout: 300,
        result_ttl: 3_600,
        node_timeout: 120,
        max_retries: 3,
    };

    /// Seconds that a job runs which does not say: no longer than any job may.
    #[must_use]
    pub fn default_timeout(&self) -> u32 {
        self.job_timeout.min(Manifest::MAX_TIMEOUT)
    }

    /// Seconds that a lease lasts for a job which runs at most `timeout` seconds.
    #[must_use]
    pub fn lease_seconds(&self, timeout: u32) -> u32 {
        self.job_timeout.max(timeout).saturating_add(LEASE_MARGIN)
    }

    /// Milliseconds without a word after which a node is forgotten: what its jobs left is gone long before.
    #[must_use]
    pub fn node_ttl(&self) -> UnixMillis {
        let seconds = self
            .result_ttl
            .max(FORGET)
            .max(self.node_timeout.saturating_mul(2));
        UnixMillis::from(seconds) * 1_000
    }

    /// What the machine is told.
    pub(super) const fn machine(&self) -> Settings {
        Settings {
            policy: self.policy,
            ageing_step: AGEING_STEP,
            node_timeout: Some(self.node_timeout),
            max_retries: self.max_retries,
        }
    }
}

/// What time it is, in milliseconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMillis + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX)
        })
    }

    /// A clock that shows what `now` says.
    pub fn new(now: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
