//! What a local market is made of. Never starts anything.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What it should.
    Honest,
    /// Reveals a wrong digest.
    Liar,
    /// Takes seats and says nothing.
    Silent,
    /// Takes seats, and says nothing in about every other job.
    Moody,
    /// What it should, but in class `native` alone.
    Native,
}

impl Role {
    /// Arguments of its agent.
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Honest => &[],
            Self::Liar => &["--misbehave", "liar"],
            Self::Silent => &["--misbehave", "silent"],
            Self::Moody => &["--misbehave", "moody"],
            Self::Native => &["--class", "native"],
        }
    }

    /// Its name in logs and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Liar => "liar",
            Self::Silent => "silent",
            Self::Moody => "moody",
            Self::Native => "native",
        }
    }
}

/// Ports of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The usual ones: 8545, 5001, 8443 and up, 9545.
    Usual,
    /// Any free ones.
    Free,
}

impl Ports {
    /// The port where the usual one is this; 0 for any free one.
    pub(crate) const fn of(self, usual: u16) -> u16 {
        match self {
            Self::Usual => usual,
            Self::Free => 0,
        }
    }
}

/// The content store of a market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// The product's own.
    Embedded,
    /// A Kubo without a network: its program `ipfs`.
    Kubo(PathBuf),
}

/// How the services reach each other: as they are, or by way of something that cuts, delays and lies, in tests of faults.
#[derive(Clone, Default)]
pub struct Lines(Option<Arc<Detour>>);

/// The address at which a service (`agent1`, `sandrun1`, `pool`) finds one that is really at another (its name and URL).
type Detour = dyn Fn(&str, (&str, &str)) -> anyhow::Result<String> + Send + Sync;

impl Lines {
    /// Lines that lead where `detour` says, for the service that asks and the name and URL of whom it looks for
    /// (`anvil`, `content`, `sandrun1`).
    pub fn by(detour: impl Fn(&str, (&str, &str)) -> anyhow::Result<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(detour)))
    }

    /// Where `service` finds `name`, which is really at `url`.
    ///
    /// # Errors
    /// Those of the detour.
    pub(crate) fn of(&self, service: &str, name: &str, url: &str) -> anyhow::Result<String> {
        match &self.0 {
            Some(detour) => detour(service, (name, url)),
            None => Ok(url.to_owned()),
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Lines(by a detour)"
        } else {
            "Lines(straight)"
        })
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct TestnetConfig {
    /// The sandrun-pool binary.
    pub program: PathBuf,
    /// Where state, keys and logs go; emptied at the start if it is an earlier market's, refused if it holds anything else.
    pub directory: PathBuf,
    /// File that gets the deployment, beside the directory's own.
    pub publish: Option<PathBuf>,
    /// The nodes.
    pub nodes: Vec<Role>,
    /// Seconds between blocks; each transaction makes its own when not given.
    pub block_time: Option<u32>,
    /// Ports.
    pub ports: Ports,
    /// Whether there is a manager.
    pub manager: bool,
    /// The content store.
    pub store: Store,
    /// What lies between the services.
    pub lines: Lines,
    /// Further arguments of every agent.
    pub agent_arguments: Vec<String>,
}
