// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  How a job ended: `IEscrow.Outcome` as numbers
/// @notice What was stored needs no check of its range.
library Ending {
    uint256 internal constant OPEN = 0;
    uint256 internal constant DIGEST = 1;
    uint256 internal constant LIMIT = 2;
    uint256 internal constant UNAVAILABLE = 3;
    uint256 internal constant NONE_WINS = 4;
    uint256 internal constant EXPIRED = 5;
    uint256 internal constant CANCELLED = 6;
}

/// @title  What a job was posted with and what came out, in one word of memory
/// @notice Bits from the lowest:
///           core 73:     price 36 | bond 30 | token 4 | size 2 | kind 1
///           seating 73:  wall 17 | class 16 | minReputation 8 | postedAt 32     (of an undecided job)
///           round 54:    openedBlock 32 | units 22                              (in Seats)
///           ending 7:    outcome 3 | settled 1 | paid 3                         (of a decided job)
///         In a decided job 54 bits above the core hold the winner's tag. `settled` says that price and bond have given
///         their 66 bits to what is left of the locked sum.
/// @dev    Prices in granules of the token, bonds in 1e12 wei. `size` is the index in 1, 2, 3, 5 replicas, `paid` the number
///         of seats that got the price. `JobStore` says how it is stored.
type Terms is uint256;

using TermsLib for Terms global;

/// @title Access to the fields of `Terms`.
library TermsLib {
    uint256 internal constant MAX_PRICE = (1 << 36) - 1;
    uint256 internal constant MAX_BOND = (1 << 30) - 1;
    uint256 internal constant MAX_WALL = (1 << 17) - 1;
    uint256 internal constant MAX_REPUTATION = (1 << 8) - 1;
    uint256 internal constant MAX_UNITS = (1 << 22) - 1;
    uint256 internal constant MAX_TOKENS = 16;

    uint256 private constant REST_MASK = (1 << 66) - 1;
    uint256 private constant CORE_MASK = (1 << 73) - 1;
    uint256 private constant ROUND = 146;
    uint256 private constant ROUND_MASK = ((1 << 54) - 1) << ROUND;
    uint256 private constant OUTCOME = 200;
    uint256 private constant SETTLED = 1 << 203;
    uint256 private constant PAID = 204;

    /// @notice Terms of a job that is being posted; every argument is checked to fit before.
    function create(uint256 price_, uint256 bond_, uint256 token_, uint256 size_, uint256 kind_)
        internal
        pure
        returns (Terms)
    {
        return Terms.wrap(price_ | bond_ << 36 | token_ << 66 | size_ << 70 | kind_ << 72);
    }

    /// @notice Adds what only an undecided job needs.
    function withSeating(Terms t, uint256 wall_, uint256 classTag_, uint256 minReputation_)
        internal
        view
        returns (Terms)
    {
        uint256 seating = wall_ << 73 | classTag_ << 90 | minReputation_ << 106 | block.timestamp << 114;
        return Terms.wrap(Terms.unwrap(t) | seating);
    }

    /// @notice The round opens in this block, with `units_` active units of stake.
    function withRound(Terms t, uint256 units_) internal view returns (Terms) {
        return Terms.wrap(Terms.unwrap(t) & ~ROUND_MASK | block.number << ROUND | units_ << ROUND + 32);
    }

    /// @notice The job is decided; `tag` is the winning digest's, else zero.
    function withOutcome(Terms t, uint256 outcome_, uint256 tag) internal pure returns (Terms) {
        return Terms.wrap(Terms.unwrap(t) & CORE_MASK | outcome_ << OUTCOME | tag << 73);
    }

    /// @notice One more seat gets the price.
    function withPaid(Terms t) internal pure returns (Terms) {
        unchecked {
            return Terms.wrap(Terms.unwrap(t) + (1 << PAID));
        }
    }

    /// @notice The job is closed and `rest_` granules are left of the locked sum.
    function withRest(Terms t, uint256 rest_) internal pure returns (Terms) {
        return Terms.wrap(Terms.unwrap(t) & ~REST_MASK | SETTLED | rest_);
    }

    function price(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) & MAX_PRICE;
    }

    /// @notice In gwei.
    function bond(Terms t) internal pure returns (uint256) {
        unchecked {
            return (Terms.unwrap(t) >> 36 & MAX_BOND) * 1000;
        }
    }

    function token(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 66 & 15;
    }

    function size(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 70 & 3;
    }

    /// @notice 0 `native`, 1 `det`.
    function kind(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 72 & 1;
    }

    function wall(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 73 & MAX_WALL;
    }

    function classTag(Terms t) internal pure returns (uint256) {
        return uint16(Terms.unwrap(t) >> 90);
    }

    function minReputation(Terms t) internal pure returns (uint256) {
        return uint8(Terms.unwrap(t) >> 106);
    }

    function postedAt(Terms t) internal pure returns (uint256) {
        return uint32(Terms.unwrap(t) >> 114);
    }

    function openedBlock(Terms t) internal pure returns (uint256) {
        return uint32(Terms.unwrap(t) >> ROUND);
    }

    function units(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> ROUND + 32 & MAX_UNITS;
    }

    function outcome(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> OUTCOME & 7;
    }

    /// @notice Leading 54 bits of the winning digest.
    function winner(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 73 & ((1 << 54) - 1);
    }

    function isSettled(Terms t) internal pure returns (bool) {
        return Terms.unwrap(t) & SETTLED != 0;
    }

    function paid(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> PAID & 7;
    }

    function rest(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) & REST_MASK;
    }

    /// @notice The locked sum in granules: one price more for n = 2, whose extra round can end with three payees.
    function locked(Terms t) internal pure returns (uint256) {
        unchecked {
            uint256 n = t.replicas();
            return t.price() * (n == 2 ? 3 : n);
        }
    }

    function replicas(Terms t) internal pure returns (uint256) {
        unchecked {
            return 0x05030201 >> (t.size() << 3) & 7;
        }
    }

    function quorum(Terms t) internal pure returns (uint256) {
        return quorumOf(t.size());
    }

    /// @notice Quorum of a size.
    function quorumOf(uint256 size_) internal pure returns (uint256) {
        unchecked {
            return 0x03020201 >> (size_ << 3) & 7;
        }
    }
}
