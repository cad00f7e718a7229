// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @notice Where a job stands, as stored. `Decided` is Reveal with a winner; it ends when every seat is finished.
enum Stage {
    Seats,
    Run,
    Reveal,
    Decided,
    Closed
}

/// @title  Seats of a job and where it stands, in one word
/// @notice Bits from the lowest:
///           7 × (node 20 | lane 5) | deadline 32 | wall 17 | stage 3 | taken 3 | size 2 | first 3 | a 7 | b 7 | finished 7
///         For each seat (a, b) is 00 nothing yet, 10 committed, 11 revealed in time, 01 revealed late. `first` is the
///         number of seats of round 0 once round 1 has been opened, else zero. Nobody needs the wall limit of a decided
///         job: its place holds a bitmap of the seats that were paid the price.
/// @dev    A job's word is zero until somebody takes a seat.
type Seats is uint256;

using SeatsLib for Seats global;

/// @title Access to the fields of `Seats`.
library SeatsLib {
    uint256 internal constant MAX_NODE = (1 << 20) - 1;

    uint256 private constant SEAT_BITS = 25;
    uint256 private constant DEADLINE = 175;
    uint256 private constant WALL = 207;
    uint256 private constant STAGE = 224;
    uint256 private constant TAKEN = 227;
    uint256 private constant SIZE = 230;
    uint256 private constant FIRST = 232;
    uint256 private constant A = 235;
    uint256 private constant B = 242;
    uint256 private constant FINISHED = 249;

    /// @notice The word of a job whose first seat is about to be taken.
    function create(uint256 size_, uint256 wall_, uint256 deadline_) internal pure returns (Seats) {
        return Seats.wrap(size_ << SIZE | wall_ << WALL | deadline_ << DEADLINE);
    }

    /// @notice Goes on to `stage_`, which lasts until `deadline_`.
    function enter(Seats s, Stage stage_, uint256 deadline_) internal pure returns (Seats) {
        uint256 cleared = Seats.unwrap(s) & ~(uint256(type(uint32).max) << DEADLINE | 7 << STAGE);
        return Seats.wrap(cleared | deadline_ << DEADLINE | uint256(stage_) << STAGE);
    }

    /// @notice Decided or closed: the deadline stays, the wall limit's place is free for the bitmap of the paid.
    function decide(Seats s) internal pure returns (Seats) {
        uint256 cleared = Seats.unwrap(s) & ~(7 << STAGE | ((1 << 17) - 1) << WALL);
        return Seats.wrap(cleared | uint256(Stage.Decided) << STAGE);
    }

    function close(Seats s) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) & ~(uint256(7) << STAGE) | uint256(Stage.Closed) << STAGE);
    }

    /// @notice Remembers how many seats round 0 had: round 1 begins.
    function openExtra(Seats s) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | s.taken() << FIRST);
    }

    /// @notice Gives the next seat to `node_`, which keeps what it commits in its lane `lane_`.
    function take(Seats s, uint256 node_, uint256 lane_) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) + (1 << TAKEN) | (node_ | lane_ << 20) << s.taken() * SEAT_BITS);
    }

    function setCommitted(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | 1 << A + seat);
    }

    function setRevealed(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | 1 << B + seat);
    }

    function setLate(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) & ~(1 << A + seat) | 1 << B + seat);
    }

    function setFinished(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | 1 << FINISHED + seat);
    }

    /// @notice Only of a decided job.
    function setPaid(Seats s, uint256 seat) internal pure returns (Seats) {
        return Seats.wrap(Seats.unwrap(s) | 1 << WALL + seat);
    }

    function node(Seats s, uint256 seat) internal pure returns (uint256) {
        return Seats.unwrap(s) >> seat * SEAT_BITS & MAX_NODE;
    }

    function lane(Seats s, uint256 seat) internal pure returns (uint256) {
        return Seats.unwrap(s) >> seat * SEAT_BITS + 20 & 31;
    }

    function deadline(Seats s) internal pure returns (uint256) {
        return uint32(Seats.unwrap(s) >> DEADLINE);
    }

    function wall(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> WALL & ((1 << 17) - 1);
    }

    /// @notice Bitmap of the seats that were paid the price; only of a decided job.
    function paid(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> WALL & 127;
    }

    function stage(Seats s) internal pure returns (Stage) {
        return Stage(Seats.unwrap(s) >> STAGE & 7);
    }

    function taken(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> TAKEN & 7;
    }

    function size(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> SIZE & 3;
    }

    function first(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> FIRST & 7;
    }

    /// @notice Bitmap of all seats taken.
    function all(Seats s) internal pure returns (uint256) {
        return (1 << s.taken()) - 1;
    }

    /// @notice Bitmap of the seats of the present round.
    function present(Seats s) internal pure returns (uint256) {
        return s.all() ^ ((1 << s.first()) - 1);
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
        return (Seats.unwrap(s) >> A & Seats.unwrap(s) >> B) & 127;
    }

    /// @notice Bitmap of the seats that revealed, late or not.
    function revealed(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> B & 127;
    }

    function finished(Seats s) internal pure returns (uint256) {
        return Seats.unwrap(s) >> FINISHED;
    }

    /// @notice Whether round 0 ended without a Reveal of its own, so that both rounds reveal together.
    function together(Seats s) internal pure returns (bool) {
        uint256 seats = s.committed() & ((1 << s.first()) - 1);
        return s.first() != 0 && count(seats) < quorumOf(s);
    }

    /// @notice Bitmap of the seats whose reveal window is that of the present round.
    function revealing(Seats s) internal pure returns (uint256) {
        return s.together() ? s.all() : s.present();
    }

    /// @notice Number of bits set among the lowest seven.
    function count(uint256 bits) internal pure returns (uint256 n) {
        for (; bits != 0; bits &= bits - 1) ++n;
    }

    function quorumOf(Seats s) private pure returns (uint256) {
        return 0x03020201 >> (s.size() << 3) & 7;
    }
}
