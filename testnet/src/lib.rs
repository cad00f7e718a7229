//! A whole market on one machine, for the testnet, the demo, and tests.
//!
//! Owns child processes and the order in which they start and end; every part is the released binary. Never decides
//! anything about jobs, and is needed by no other room but the command line and the benchmarks.

mod config;
mod demo;
mod folder;
mod kubo;
mod market;
mod postgres;
pub mod probes;
mod process;

pub use config::{Lines, Ports, Role, Store, TestnetConfig};
pub use demo::{Demo, FileSummary, JobSummary, NodePayment, Slash, Summary};
pub use market::{LocalMarket, LocalNode, TEST_TOKEN};
pub use postgres::PostgresServer;
pub use process::{Service, ServiceSpec, listening};
