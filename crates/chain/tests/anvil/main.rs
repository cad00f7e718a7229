//! The crate against a real chain: anvil with the committed contracts.

mod connect;
mod follow;
mod lies;
mod market;
mod meters;
mod outcomes;
mod sending;
mod world;
