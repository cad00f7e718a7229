//! The node agent's machine for one job of the market.
//!
//! Owns what a node may do about a job and when: fetch, claim, run, commit, reveal, poke. It is fed with chain facts
//! (applied or undone), results of its own actions and ticks, and answers with actions that a driver performs. What
//! state it is in is derived from three things alone: what its journal holds, what the chain says, and the one action
//! that is under way. So a restart is nothing special: replay the journal, replay the chain, go on.
//!
//! Never reads a clock or draws a number: chain time and salts are arguments. Never signs: the driver does.
//!
//! # How a driver uses it
//!
//! 1. [`Seat::new`] when a job is seen, or [`Seat::resume`] with the journal's records after a restart.
//! 2. Feed every [`ChainNews`] of the job, in order. A `Head` comes after all logs of its block; the machine does not
//!    act before the first one, so that a half-read chain decides nothing.
//! 3. Perform the returned [`Action`]s in order and report each one that has a report: [`Action::Journal`] →
//!    [`Event::Journalled`] once it is on disk, [`Action::FetchBundle`] → [`Event::Fetched`], [`Action::Run`] →
//!    [`Event::Ran`], claim, commit, reveal and poke → [`Event::Sent`]. One is under way at a time.
//! 4. In [`State::Seen`] ask [`judge`] and report [`Event::Judged`]; in [`State::Accepted`] look for a winning ticket
//!    and report [`Event::Ticket`].
//! 5. Send [`Event::Tick`] at least every few seconds: windows end without a transaction.
//!
//! **Invariant**: an answer and its salt are in the journal before the commit is handed out, and the journal holds at
//! most one answer for each round: there is no path to a second one.

mod action;
mod event;
mod gate;
mod judge;
mod machine;
mod plan;
mod record;
mod state;
mod terms;
mod view;

pub use action::{Action, Transaction};
pub use event::{ChainNews, Event, FetchFailure, Position, Refused, RunEnd, TransactionEnd};
pub use gate::{Fault, Gate};
pub use judge::{Objection, Standing, judge};
pub use machine::Seat;
pub use record::{Record, ResumeError, SealedAnswer};
pub use state::{Held, Loss, State, StateName};
pub use terms::{Salt, Salts, Terms};

#[cfg(test)]
mod tests;
