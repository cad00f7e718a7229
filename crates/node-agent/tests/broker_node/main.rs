//! The node of a broker: a real executor with the real sandbox, and brokers old and new.

mod broker;
mod existing;
mod ours;
mod scene;
