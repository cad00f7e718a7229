// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  Where a job stands
/// @notice `Decided` is Reveal with a winner; it ends when every seat is finished. Numbers, not an enum: what was stored
///         needs no check of its range.
library Stage {
    uint256 internal constant SEATS = 0;
    uint256 internal constant RUN = 1;
    uint256 internal constant REVEAL = 2;
    uint256 internal constant DECIDED = 3;
    uint256 internal constant CLOSED = 4;
}

/// @title  Seats of a job and where it stands, in one word of memory
/// @notice Bits from the lowest:
///           7 × (node 20 | lane 5) | deadline 32 | stage 3 | taken 3 | first 3 | a 7 | b 7 | finished 7
///         For each seat (a, b) is 00 nothing yet, 10 committed, 11 revealed in time, 01 revealed late. `first` is the
///         number of seats of round 0 once round 1 has been opened, else zero.
type Seats is uint256;

using SeatsLib for Seats global;

/// @title Access to the fields of `Seats`.
library SeatsLib {
    uint256 internal constant MAX_NODE = (1 << 20) - 1;

    uint256 private constant SEAT_BITS = 25;
    uint256 private constant DEADLINE = 175;
    uint256 private constant STAGE = 207;
    uint256 private constant TAKEN = 210;
    uint256 private constant FIRST = 213;
    uint256 private constant A = 216;
    uint256 private constant B = 223;
    uint256 private constant FINISHED = 230;
    uint256 private constant PHASE_MASK = ~uint256(((1 << 35) - 1) << DEADLINE);

    /// @notice Goes on to `stage_`, which lasts until `deadline_`.
    function enter(Seats s, uint256 stage_, uint256 deadline_) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) & PHASE_MASK | deadline_ << DEADLINE | stage_ << STAGE);
    }

    /// @notice Goes on to `stage_`; the deadline stays.
    function become(Seats s, uint256 stage_) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) & ~uint256(7 << STAGE) | stage_ << STAGE);
    }

    /// @notice Remembers how many seats round 0 had: round 1 begins.
    function openExtra(Seats s) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | s.taken() << FIRST);
    }

    /// @notice Gives the next seat to `node_`, which keeps what it commits in its lane `lane_`.
    function take(Seats s, uint256 node_, uint256 lane_) internal pure returns (Seats) {
        unchecked {
            return Seats.wrap(Seats.unwrap(s) + (1 << TAKEN) | (node_ | lane_ << 20) << s.taken() * SEAT_BITS);
        }
    }

    function setCommitted(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | (1 << A) << seat);
    }

    function setRevealed(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | (1 << B) << seat);
    }

    function setLate(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) & ~((1 << A) << seat) | (1 << B) << seat);
    }

    function setFinished(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | (1 << FINISHED) << seat);
    }

    function node(Seats s, uint256 seat) internal pure returns (uint256) {
        unchecked {
            return Seats.unwrap(s) >> seat * SEAT_BITS & MAX_NODE;
        }
    }

    function lane(Seats s, uint256 seat) internal pure returns (uint256) {
        unchecked {
            return Seats.unwrap(s) >> seat * SEAT_BITS + 20 & 31;
        }
    }

    function deadline(Seats s) internal pure returns (uint256) {
        return uint32(Seats.unwrap(s) >> DEADLINE);
    }

    function stage(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> STAGE & 7;
    }

    function taken(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> TAKEN & 7;
    }

    function first(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> FIRST & 7;
    }

    /// @notice Bitmap of all seats taken.
    function all(Seats s) internal pure returns (uint256) {
        unchecked {
            return (1 << s.taken()) - 1;
        }
    }

    /// @notice Bitmap of the seats of the present round.
    function present(Seats s) internal pure returns (uint256) {
        unchecked {
            return (1 << s.taken()) - (1 << s.first());
        }
    }

    /// @notice Bitmap of the seats that have committed, whatever they did since.
    function committed(Seats s) internal pure returns (uint256) {
        return (Seats.unwrap(s) >> A | Seats.unwrap(s) >> B) & 127;
    }

    /// @notice Bitmap of the seats that have committed and not revealed.
    function unrevealed(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> A & ~(Seats.unwrap(s) >> B) & 127;
    }

    /// @notice Bitmap of the seats that revealed in time.
    function timely(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> A & Seats.unwrap(s) >> B & 127;
    }

    /// @notice Bitmap of the seats that revealed, late or not.
    function revealed(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> B & 127;
    }

    function finished(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> FINISHED & 127;
    }

    /// @notice Number of bits set.
    function count(uint256 bits) internal pure returns (uint256 n) {
        unchecked {
            for (; bits != 0; bits &= bits - 1) {
                ++n;
            }
        }
    }

    /// @notice Position of the lowest bit set among seven; anything if there is none.
    function lowest(uint256 bits) internal pure returns (uint256 n) {
        unchecked {
            while (bits & 1 == 0) {
                bits >>= 1;
                ++n;
            }
        }
    }
}
