//! Benchmarks: figures beside peers, measured in the same run.

mod row;

fn main() {}
