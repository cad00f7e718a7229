//! The broker: an open queue over HTTP. Whoever registers may work, whoever asks may submit.
//!
//! Owns the wire shapes of existing clients and node clients, and beside them the pool API and the node protocol. Turns
//! requests into the queue's words and back; reads go straight to the store. Never decides anything about a job.
//!
//! A request becomes a caller in `caller.rs`, a job a charge in `charge.rs`, and nowhere else.

mod body;
mod caller;
mod charge;
mod classic;
mod error;
mod follow;
mod found;
mod health;
mod hot;
mod http;
mod jobs;
mod logs;
mod metrics;
mod names;
mod nodes;
mod offer;
mod outputs;
mod parts;
mod recent;
mod request;
mod service;
mod submission;
mod submit;
mod time;
mod waits;
mod work;

pub(crate) use body::At;
pub(crate) use error::ApiError;
pub(crate) use found::{find_ended, parents};
pub(crate) use http::{App, Face, Shared, dress, pool_api};
pub(crate) use jobs::details;
pub(crate) use outputs::file as output_file;
pub(crate) use request::{Program, StoredRequest};
pub use service::{Broker, BrokerConfig, BrokerError};
pub(crate) use submission::main_file;
