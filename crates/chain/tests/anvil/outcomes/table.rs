//! The table of docs/protocol.md, "What becomes of a seat", as the document has it.

use std::collections::BTreeSet;

use sandrun_core::market::rules::Standing;
use sandrun_core::market::{Outcome, SeatEnd};
use sandrun_types::{Answer, ClassKind};

/// What a seat did, a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    Winner,
    OtherDigest,
    OtherSoft,
    WinnerLate,
    OtherLate,
    NeverRevealed,
    NeverCommitted,
}

/// A cell: what the seat did, what won, what becomes of it, and per cent of the bond that it loses.
pub(super) type Cell = (ClassKind, Row, Outcome, SeatEnd, u64);

/// The table, as the document has it.
pub(super) fn table() -> BTreeSet<Cell> {
    use Outcome::{Digest, Limit, NoneWins, Unavailable};
    use SeatEnd::{
        AttemptFee, Paid, Shared, SlashedLate, SlashedUncommitted, SlashedUnrevealed, SlashedWrong, Unpaid,
    };
    let mut cells = BTreeSet::new();
    for (kind, whole) in [(ClassKind::Native, 30), (ClassKind::Det, 100)] {
        let rows = [
            (Row::Winner, Digest, Paid, 0),
            (Row::Winner, Limit, Paid, 0),
            (Row::Winner, Unavailable, AttemptFee, 0),
            (Row::OtherDigest, Digest, SlashedWrong, whole),
            (Row::OtherDigest, Limit, AttemptFee, 0),
            (Row::OtherDigest, Unavailable, AttemptFee, 0),
            (Row::OtherDigest, NoneWins, Shared, 0),
            // repeated in round 1
            (Row::OtherDigest, NoneWins, AttemptFee, 0),
            (Row::OtherSoft, Digest, SlashedWrong, 30),
            (Row::OtherSoft, Limit, SlashedWrong, 30),
            (Row::OtherSoft, Unavailable, AttemptFee, 0),
            (Row::OtherSoft, NoneWins, Unpaid, 0),
            // no digest was revealed in time
            (Row::OtherSoft, NoneWins, AttemptFee, 0),
            (Row::WinnerLate, Digest, SlashedLate, 30),
            (Row::WinnerLate, Limit, SlashedLate, 30),
            (Row::WinnerLate, Unavailable, SlashedLate, 30),
        ];
        cells.extend(rows.map(|(row, outcome, end, part)| (kind, row, outcome, end, part)));
        for outcome in [Digest, Limit, Unavailable, NoneWins] {
            cells.extend([
                (kind, Row::OtherLate, outcome, SlashedUnrevealed, whole),
                (kind, Row::NeverRevealed, outcome, SlashedUnrevealed, whole),
                (kind, Row::NeverCommitted, outcome, SlashedUncommitted, 30),
            ]);
        }
    }
    cells
}

pub(super) fn row(standing: Standing, winner: Option<Answer>) -> Row {
    match standing {
        Standing::Uncommitted => Row::NeverCommitted,
        Standing::Committed => Row::NeverRevealed,
        Standing::Late(answer) if Some(answer) == winner => Row::WinnerLate,
        Standing::Late(_) => Row::OtherLate,
        Standing::Revealed(answer) if Some(answer) == winner => Row::Winner,
        Standing::Revealed(Answer::Digest(_)) => Row::OtherDigest,
        Standing::Revealed(Answer::Limit | Answer::Unavailable) => Row::OtherSoft,
    }
}
