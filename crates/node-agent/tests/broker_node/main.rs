//! The node of a broker: a real executor with the real sandbox, and brokers old and new; the last of them is the product's own.

mod broker;
mod existing;
mod ours;
mod scene;
mod served;
mod vitals;
