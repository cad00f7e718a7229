//! The broker over real HTTP, with its queue in a SQLite file: existing clients and node clients, and ours.

mod classic;
mod life;
mod ours;
mod streams;
mod support;
