//! Why a call is refused: the contract's custom errors.

use sandrun_types::{Address, JobId, NodeIndex, ResultDigest, SeatIndex, Token, UnixSeconds};

use crate::market::Phase;
use crate::market::rules::{Payment, Stake};

/// Why a call is refused. Variants are named as the contract's errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the subjects of the messages")]
pub enum Refusal {
    /// A field of the order is out of range.
    #[error("the order's {field} is not allowed")]
    BadOrder { field: &'static str },
    /// The deployment does not take this token.
    #[error("{token} does not pay here")]
    UnknownToken { token: Token },
    /// Below the token's minimum.
    #[error("price {} is below {}", price.0, minimum.0)]
    PriceTooLow { price: Payment, minimum: Payment },
    /// Above the cap of an unverified job.
    #[error("price {} is above {}", price.0, maximum.0)]
    PriceTooHigh { price: Payment, maximum: Payment },
    /// Too small for this price.
    #[error("bond {} is below {}", bond.0, minimum.0)]
    BondTooLow { bond: Stake, minimum: Stake },
    /// Not the locked sum.
    #[error("{} was sent, {} is due", sent.0, due.0)]
    WrongPayment { sent: Payment, due: Payment },
    /// The same order again.
    #[error("job {job} is posted already")]
    AlreadyPosted { job: JobId },
    /// Never posted.
    #[error("there is no job {job}")]
    UnknownJob { job: JobId },
    /// Never registered.
    #[error("there is no node {node}")]
    UnknownNode { node: NodeIndex },
    /// Only the client may.
    #[error("{caller} is not the client")]
    NotClient { caller: Address },
    /// Only the payer may.
    #[error("{caller} is not the payer")]
    NotPayer { caller: Address },
    /// Only the node's worker may.
    #[error("{caller} is not the worker of node {node}")]
    NotWorker { node: NodeIndex, caller: Address },
    /// Only the node's account may.
    #[error("{caller} is not the account of node {node}")]
    NotAccount { node: NodeIndex, caller: Address },
    /// Account or worker is a node already.
    #[error("{key} is registered already")]
    AlreadyRegistered { key: Address },
    /// The job is not where this can be done.
    #[error("job {job} is in phase {phase:?}")]
    WrongPhase { job: JobId, phase: Phase },
    /// The window for this is over.
    #[error("the window ended at {}", deadline.0)]
    WindowOver { job: JobId, deadline: UnixSeconds },
    /// A seat is taken, or the seat window is over.
    #[error("job {job} can't be taken back any more")]
    TooLateToCancel { job: JobId },
    /// Wait for the seed block.
    #[error("the seed of job {job} is not known yet")]
    SeedNotReady { job: JobId },
    /// Not lucky yet.
    #[error("unit {unit} has no ticket")]
    NoTicket { job: JobId, unit: u32 },
    /// This node may not take a seat here.
    #[error("node {node} is not eligible: {why}")]
    NotEligible { node: NodeIndex, why: &'static str },
    /// There is no such seat.
    #[error("job {job} has no seat {seat}")]
    NoSuchSeat { job: JobId, seat: SeatIndex },
    /// One commit a seat.
    #[error("seat {seat} has committed already")]
    AlreadyCommitted { job: JobId, seat: SeatIndex },
    /// Nothing to open.
    #[error("seat {seat} has not committed")]
    NotCommitted { job: JobId, seat: SeatIndex },
    /// Answer and salt are not what the seat is bound to.
    #[error("seat {seat} committed to something else")]
    CommitMismatch { job: JobId, seat: SeatIndex },
    /// A digest's parts come first.
    #[error("the result of digest {digest} is not published")]
    ResultUnpublished { job: JobId, digest: ResultDigest },
    /// Committed too early for `limit`.
    #[error("seat {seat} committed too early for `limit`")]
    LimitTooEarly { job: JobId, seat: SeatIndex },
    /// Nothing to do.
    #[error("nothing is due in job {job}")]
    NothingDue { job: JobId },
    /// No balance.
    #[error("nothing to withdraw")]
    NothingToWithdraw,
    /// Only closed jobs are refunded.
    #[error("job {job} is not closed")]
    NotClosed { job: JobId },
    /// More than there is.
    #[error("{} is wanted, {} is available", wanted.0, available.0)]
    NotEnoughStake { wanted: Stake, available: Stake },
    /// The delay is not over.
    #[error("stake leaves at {}", leave_at.0)]
    ExitNotDue { leave_at: UnixSeconds },
    /// One exit at a time.
    #[error("an exit is under way until {}", leave_at.0)]
    ExitPending { leave_at: UnixSeconds },
    /// The leaving part is still needed for bonds.
    #[error("{} is locked in bonds, {} stays", locked.0, cap.0)]
    BondsLocked { locked: Stake, cap: Stake },
}
