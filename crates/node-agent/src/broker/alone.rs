//! One node for each name that a broker knows: two that shared one would get each other's jobs, and each would give up
//! what the other has.
//!
//! Owns a name that is held by one process of a machine at a time, and by none that has died. Knows nothing of other
//! machines: there the names of executors differ.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use sandrun_executor::without_credentials;
use sandrun_types::Sha256Hex;

use super::error::BrokerNodeError;

/// Held for as long as the node works.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Nobody connects to it: that it is bound is all.
    _listener: Option<UnixListener>,
}

impl Alone {
    /// Takes the name `endpoint` with this broker.
    pub(crate) fn claim(broker: &str, endpoint: &str) -> Result<Self, BrokerNodeError> {
        let name = Sha256Hex::of(format!("{broker}\n{endpoint}").as_bytes());
        let bound = SocketAddr::from_abstract_name(format!("sandrun-node-{name}"))
            .and_then(|address| UnixListener::bind_addr(&address));
        match bound {
            Ok(listener) => Ok(Self {
                _listener: Some(listener),
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BrokerNodeError::Twin {
                broker: without_credentials(broker),
                endpoint: endpoint.to_owned(),
            }),
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
        let first = Alone::claim("http://broker", &endpoint).unwrap();
        let second = Alone::claim("http://broker", &endpoint);
        assert!(matches!(second, Err(BrokerNodeError::Twin { .. })), "{second:?}");
        drop(Alone::claim("http://other", &endpoint).unwrap());
        drop(first);
        drop(Alone::claim("http://broker", &endpoint).unwrap());
    }
}
