//! The rules of docs/protocol.md as pure functions.
//!
//! Owns the decision, the condition of the extra round, the one table of seat outcomes, the amounts, and the one table
//! of transitions that the model, `why` and `due` are all derived from. Holds no state, knows no job.

mod amounts;
mod decision;
mod lottery;
mod outcome;
mod transition;

pub use amounts::{Payment, SettledSeat, Settlement, Stake, Terms, expiry_payment, slash_amount, tip_amount};
pub use decision::{Tally, Verdict, extra_round_can_decide, final_verdict, winner_at_once};
pub use lottery::{counts_for_reputation, seed_block, threshold};
pub use outcome::{Penalty, SeatRecord, Standing, penalty, seat_end};
pub use transition::{Progress, Resolution, Step, Transition, Windows, next_step};
