//! How much of a service strangers may hold.

use std::time::Duration;

/// Most connections where nothing says otherwise.
const CONNECTIONS: usize = 1024;

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one address. This machine itself (loopback) is free of it: proxies connect from there.
    pub per_address: usize,
    /// How long the header of a request may take, from the connection's or the former answer's end on.
    pub header_time: Duration,
}

impl Default for Bounds {
    /// 1,024 connections, or half of the files that the process may open where that is less; a quarter of them for
    /// one address; 15 s for a header.
    fn default() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = files.and_then(|files| usize::try_from(files / 2).ok());
        let connections = half.unwrap_or(CONNECTIONS).clamp(8, CONNECTIONS);
        Self {
            connections,
            per_address: connections / 4,
            header_time: Duration::from_secs(15),
        }
    }
}
