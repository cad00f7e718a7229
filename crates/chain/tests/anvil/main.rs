//! The crate against a real chain: anvil with the committed contracts.

mod connect;
mod follow;
mod market;
mod meters;
mod sending;
mod world;
