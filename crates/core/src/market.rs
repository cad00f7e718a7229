//! The market: the rules of docs/protocol.md as pure functions, a pure model of the escrow contract, and what anyone
//! can know about a job from its chain events.
//!
//! Owns the words of the contract's events, the decision, the seat table, the amounts, and the table of transitions.
//! Never reads a clock, never talks to a chain: time, blocks and events are arguments.

pub mod escrow;
mod event;
mod facts;
pub mod rules;
mod words;

pub use event::{MarketEvent, Profile, PublishedResult};
pub use facts::{Due, FactsError, JobFacts, Owes, SeatFacts, SeatFinish, WaitsFor, Why, due, why};
pub use words::{Outcome, Phase, Round, SeatEnd};
