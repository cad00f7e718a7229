//! How much of a service strangers may hold.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections where nothing says otherwise.
const CONNECTIONS: usize = 1024;
/// Most connections of a service that a fleet of nodes keeps asking.
const FLEET_CONNECTIONS: usize = 16_384;
/// How many files such a service wants to be allowed to open.
const FLEET_FILES: u64 = 32_768;
/// How long a fleet's connections may be idle: longer than proxies keep theirs (60 s with most).
const FLEET_HEADER_TIME: Duration = Duration::from_secs(75);
/// How long a body is waited for without a byte of it.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// Bytes a second below which nobody may send a body for long: a quarter of what the slowest lines carry.
const BODY_RATE: u32 = 4 << 10;

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one address. This machine itself (loopback) is free of it: proxies connect from there.
    pub per_address: usize,
    /// How long the header of a request may take, from the connection's or the former answer's end on.
    pub header_time: Duration,
    /// How long a body is waited for: without a byte of it, and in all where it comes slower than [`Self::body_rate`],
    /// which restores the time as fast as it goes by. Only the time counts in which the service waits for the client.
    pub body_idle: Duration,
    /// Bytes a second that a body comes with at least.
    pub body_rate: u32,
}

impl Default for Bounds {
    /// 1,024 connections, or half of the files that the process may open where that is less; a quarter of them for
    /// one address; 15 s for a header; 30 s without a byte of a body, or with less than 4 KiB a second.
    fn default() -> Self {
        let connections = connections(CONNECTIONS);
        Self {
            connections,
            per_address: connections / 4,
            header_time: Duration::from_secs(15),
            body_idle: BODY_IDLE,
            body_rate: BODY_RATE,
        }
    }
}

impl Bounds {
    /// For a service that thousands of nodes wait at, perhaps all of them behind one address: 16,384 connections, or half
    /// of the files that the process may open where that is less; three quarters of them for one address; 75 s for a
    /// header; bodies as with any service. Raises the process's own limit of open files towards the hard one, as far as this
    /// needs it.
    #[must_use]
    pub fn fleet() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(FLEET_FILES).min(FLEET_FILES);
        if limit.current.is_some_and(|current| current < wanted) {
            let raised = Rlimit {
                current: Some(wanted),
                maximum: limit.maximum,
            };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::debug!(%error, "the limit of open files stays as it is");
            }
        }
        let connections = connections(FLEET_CONNECTIONS);
        Self {
            connections,
            per_address: connections / 4 * 3,
            header_time: FLEET_HEADER_TIME,
            body_idle: BODY_IDLE,
            body_rate: BODY_RATE,
        }
    }
}

/// So many connections, or half of the files that the process may open.
fn connections(most: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let half = files.and_then(|files| usize::try_from(files / 2).ok());
    half.unwrap_or(most).clamp(8, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_gets_as_many_connections_as_the_process_may_have() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let bounds = Bounds::fleet();
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(soft >= hard.min(FLEET_FILES), "{soft} of {hard}");
        let half = usize::try_from(soft / 2).unwrap_or(usize::MAX);
        assert_eq!(bounds.connections, half.clamp(8, FLEET_CONNECTIONS));
        assert!(bounds.per_address > bounds.connections / 2 && bounds.per_address < bounds.connections);
    }
}
