//! One process of a machine for what two must not do at once: two nodes of one name would get each other's jobs, two agents
//! of one key would take each other's seats.
//!
//! Owns a name that is held by one process of a machine at a time, and by none that has died. Knows nothing of other
//! machines.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use sandrun_types::Sha256Hex;

/// Held for as long as the process works.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Nobody connects to it: that it is bound is all.
    _listener: Option<UnixListener>,
}

/// Another process of this machine holds the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken;

impl Alone {
    /// Takes the name that these lines are.
    pub(crate) fn claim(lines: &[&str]) -> Result<Self, Taken> {
        let name = Sha256Hex::of(lines.join("\n").as_bytes());
        let bound = SocketAddr::from_abstract_name(format!("sandrun-node-{name}"))
            .and_then(|address| UnixListener::bind_addr(&address));
        match bound {
            Ok(listener) => Ok(Self {
                _listener: Some(listener),
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Taken),
            Err(error) => {
                tracing::warn!(%error, "cannot see whether another node on this machine has the same name");
                Ok(Self { _listener: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once_with_each_broker_and_free_again_afterwards() {
        let endpoint = format!("http://box:{}", std::process::id());
        let first = Alone::claim(&["http://broker", &endpoint]).unwrap();
        assert_eq!(Alone::claim(&["http://broker", &endpoint]).unwrap_err(), Taken);
        drop(Alone::claim(&["http://other", &endpoint]).unwrap());
        drop(first);
        drop(Alone::claim(&["http://broker", &endpoint]).unwrap());
    }
}
