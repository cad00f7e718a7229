// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Seats, Stage} from "./Seats.sol";
import {Terms} from "./Terms.sol";

/// @title  How a job is stored: in one word, while it has at most three seats
/// @notice `Terms` and `Seats` are packed into the job's word by what its stage still needs; a second word is written only
///         for five replicas and for the extra round. Bits from the lowest:
///           open      terms 200 (core, seating, round) | two seats 50 | taken 2 | - 1 | code 3 = 0
///           under way terms 146 (core, seating) | deadline - postedAt 20 | three seats 75 | a 3 | b 3 | taken 2 | - 3 |
///                     more 1 | code 3
///           decided   terms 127 (core, winner) | deadline 32 | three seats 75 | a 3 | b 3 | finished 3 | taken 2 |
///                     ending 7 | more 1 | code 3
///           second    four seats 100 | a 4 | b 4 | finished 4 | first 3 | taken 3 | round 54
///         `code` is 0 for a job of up to three replicas in its first Seats phase, else its stage plus one; `more` says that
///         the second word holds what the first has no room for.
/// @dev    A job's third seat ends its first Seats phase, so `open` never has to hold it.
library JobStore {
    uint256 private constant TERMS_OPEN = (1 << 200) - 1;
    uint256 private constant TERMS_RUNNING = (1 << 146) - 1;
    uint256 private constant TERMS_DECIDED = (1 << 127) - 1;
    uint256 private constant ROUND = (1 << 54) - 1;
    uint256 private constant TWO_SEATS = (1 << 50) - 1;
    uint256 private constant THREE_SEATS = (1 << 75) - 1;
    uint256 private constant FOUR_SEATS = (1 << 100) - 1;
    uint256 private constant MORE = 1 << 252;

    /// @notice Greatest difference between a deadline and the posting.
    uint256 internal constant MAX_LIFE = (1 << 20) - 1;

    /// @notice Whether a job's first word needs the second to be read.
    function hasMore(uint256 word) internal pure returns (bool) {
        return word & MORE != 0;
    }

    /// @notice Whether a job needs the second word.
    function needsMore(Terms t, Seats s) internal pure returns (bool) {
        return t.size() == 3 || s.first() != 0;
    }

    /// @notice The job of a stored word, and of the second where `hasMore` says so.
    function unpack(uint256 word, uint256 more, uint256 seatWindow) internal pure returns (Terms t, Seats s) {
        unchecked {
            uint256 code = word >> 253;
            if (code == 0) {
                uint256 deadline = uint32(word >> 114) + seatWindow;
                uint256 seats = word >> 200 & TWO_SEATS | deadline << 175 | (word >> 250 & 3) << 210;
                return (Terms.wrap(word & TERMS_OPEN), Seats.wrap(seats));
            }
            uint256 terms;
            uint256 x;
            if (code < 4) {
                terms = word & TERMS_RUNNING;
                x = word >> 166 & THREE_SEATS | (uint32(word >> 114) + (word >> 146 & MAX_LIFE)) << 175;
                x |= (word >> 247 & 3) << 210 | (word >> 241 & 7) << 216 | (word >> 244 & 7) << 223;
                if (word & MORE != 0) (terms, x) = _addMore(terms | (more >> 118 & ROUND) << 146, x, more);
            } else {
                terms = word & TERMS_DECIDED | (word >> 245 & 127) << 200;
                x = word >> 159 & THREE_SEATS | uint256(uint32(word >> 127)) << 175;
                x |= (word >> 243 & 3) << 210 | (word >> 234 & 7) << 216 | (word >> 237 & 7) << 223 | (word >> 240 & 7)
                    << 230;
                if (word & MORE != 0) (terms, x) = _addMore(terms, x, more);
            }
            return (Terms.wrap(terms), Seats.wrap(x | code - 1 << 207));
        }
    }

    /// @notice A job's first word; `more` if it needs a second.
    function pack(Terms t, Seats s, bool more) internal pure returns (uint256 word) {
        unchecked {
            uint256 terms = Terms.unwrap(t);
            uint256 x = Seats.unwrap(s);
            uint256 code = x >> 207 & 7;
            if (code == 0 && !more) return terms & TERMS_OPEN | (x & TWO_SEATS) << 200 | (x >> 210 & 3) << 250;
            if (++code < 4) {
                word = terms & TERMS_RUNNING | (s.deadline() - t.postedAt()) << 146 | (x & THREE_SEATS) << 166;
                word |= (x >> 216 & 7) << 241 | (x >> 223 & 7) << 244;
                word |= more ? MORE : (x >> 210 & 3) << 247;
            } else {
                word = terms & TERMS_DECIDED | s.deadline() << 127 | (x & THREE_SEATS) << 159;
                word |= (x >> 216 & 7) << 234 | (x >> 223 & 7) << 237 | (x >> 230 & 7) << 240;
                word |= (more ? MORE : (x >> 210 & 3) << 243) | (terms >> 200 & 127) << 245;
            }
            word |= code << 253;
        }
    }

    /// @notice A job's second word.
    function packMore(Terms t, Seats s) internal pure returns (uint256) {
        uint256 x = Seats.unwrap(s);
        uint256 bits = (x >> 219 & 15) << 100 | (x >> 226 & 15) << 104 | (x >> 233 & 15) << 108;
        uint256 counts = s.first() << 112 | s.taken() << 115;
        return x >> 75 & FOUR_SEATS | bits | counts | (Terms.unwrap(t) >> 146 & ROUND) << 118;
    }

    function _addMore(uint256 terms, uint256 x, uint256 more) private pure returns (uint256, uint256) {
        x |= (more & FOUR_SEATS) << 75 | (more >> 112 & 7) << 213 | (more >> 115 & 7) << 210;
        x |= (more >> 100 & 15) << 219 | (more >> 104 & 15) << 226 | (more >> 108 & 15) << 233;
        return (terms, x);
    }
}
