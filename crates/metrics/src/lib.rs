//! What a service says of itself to its operator: numbers in Prometheus' text format, and whether it can work now.
//!
//! Owns the format, counters and histograms, the process's own numbers, those of a disk, and the form of `GET /health`.
//! Never counts by itself: each service keeps its counters in one place of its own and exposes them. No global state,
//! no HTTP, no clock but for how old a look at a disk is.
//!
//! Names are by Prometheus' conventions: the prefix `sandrun_`, base units, `_total` for counters. A label has a fixed
//! set of values; clients, jobs and nodes are never among them. Money is in whole coins, as a double.

mod calls;
mod disk;
mod health;
mod histogram;
mod process;
mod tally;
mod text;

pub use calls::{Calls, method_name};
pub use disk::{Disk, DiskWatch};
pub use health::{Check, Readiness};
pub use histogram::Histogram;
pub use process::expose as expose_process;
pub use tally::{Coins, Tally};
pub use text::{CONTENT_TYPE, Exposition, Kind, Labels, Sample, flag};
