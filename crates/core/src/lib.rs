//! The pure core: decisions without clock, randomness or I/O.

pub mod market;
