//! The agent: what a node of the market runs beside its executor.

mod detect;

pub use detect::{Detection, detect};
