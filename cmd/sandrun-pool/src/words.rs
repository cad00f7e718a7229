//! The market's states in words for people; scripts get the names that the protocol gives them.

use sandrun_core::market::{Outcome, Phase, SeatEnd};

/// How a job ended.
pub(crate) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Digest => "agreed result",
        Outcome::Limit => "time limit",
        Outcome::Unavailable => "bundle not to be had",
        Outcome::NoneWins => "no agreement",
        Outcome::Expired => "expired",
        Outcome::Cancelled => "cancelled",
    }
}

/// Where a job is that has not ended.
pub(crate) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Seats => "waits for seats",
        Phase::Run => "running",
        Phase::Reveal => "revealing",
        Phase::Closed => "closed",
    }
}

/// What became of a seat.
pub(crate) const fn seat_end(end: SeatEnd) -> &'static str {
    match end {
        SeatEnd::Released => "released",
        SeatEnd::Paid => "agreed",
        SeatEnd::AttemptFee => "paid the attempt fee",
        SeatEnd::Shared => "no agreement, paid a share",
        SeatEnd::Unpaid => "no agreement, not paid",
        SeatEnd::SlashedWrong => "slashed for another answer",
        SeatEnd::SlashedLate => "slashed for a late answer",
        SeatEnd::SlashedUnrevealed => "slashed for not revealing",
        SeatEnd::SlashedUncommitted => "slashed for not committing",
    }
}

/// Why a job that ended has no result, and what to do.
pub(crate) const fn no_result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Digest => "the nodes agree on a result, but none of them has published it",
        Outcome::Limit => {
            "the nodes agree that the job takes longer than its limit: raise the manifest's timeout"
        }
        Outcome::Unavailable => {
            "the nodes agree that the bundle can't be had: keep the content store running"
        }
        Outcome::NoneWins => {
            "the nodes do not agree: the program is not deterministic, or too few answered; `sandrun-pool run CODE --verify` \
             says whether it is, and without --class native it runs in a class that makes it so"
        }
        Outcome::Expired => "too few nodes took the job: `sandrun-pool nodes` shows who is there",
        Outcome::Cancelled => "the job was cancelled",
    }
}
