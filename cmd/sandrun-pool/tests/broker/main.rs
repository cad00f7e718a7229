//! The command line at services: a real broker, executor and node, each as a process of its own; and stand-ins for what a
//! real one never does.

mod coordinator;
mod disk;
mod jobs;
mod operators;
mod stand_in;
mod strange;
#[path = "../support/mod.rs"]
mod support;
mod world;
