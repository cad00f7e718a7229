// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";

/// @title  What a job was posted with, in one word; later, what came out
/// @notice Bits from the lowest:
///           price 40 | bond 42 | token 6 | size 2 | kind 1 | outcome 3 | settled 1 | free 1 | then
///           undecided:  postedAt 32 | openedBlock 32 | units 28 | wall 17 | class 32 | minReputation 16 | free 3
///           decided:    leading 160 bits of the winner
///         `settled` says that price and bond have given their 82 bits to what is left of the locked sum.
/// @dev    Prices in granules of the token, bonds in gwei. `size` is the index in 1, 2, 3, 5 replicas.
type Terms is uint256;

using TermsLib for Terms global;

/// @title Access to the fields of `Terms`.
library TermsLib {
    uint256 internal constant PRICE_BITS = 40;
    uint256 internal constant BOND_BITS = 42;
    uint256 internal constant UNITS_BITS = 28;
    uint256 internal constant WALL_BITS = 17;

    uint256 private constant REST_MASK = (1 << (PRICE_BITS + BOND_BITS)) - 1;
    uint256 private constant OUTCOME_MASK = 7 << 91;
    uint256 private constant SETTLED = 1 << 94;
    uint256 private constant LOW_MASK = (1 << 95) - 1;
    uint256 private constant OPENED_MASK = ((1 << 60) - 1) << 128;

    /// @notice Terms of a job that is being posted; every argument is checked to fit before.
    function create(uint256 price_, uint256 bond_, uint256 token_, uint256 size_, uint256 kind_)
        internal
        pure
        returns (Terms)
    {
        return Terms.wrap(price_ | bond_ << 40 | token_ << 82 | size_ << 88 | kind_ << 90);
    }

    /// @notice Adds what only the seats phase needs.
    function withSeating(Terms t, uint256 wall_, uint256 classTag_, uint256 minReputation_)
        internal
        view
        returns (Terms)
    {
        return
            Terms.wrap(Terms.unwrap(t) | block.timestamp << 96 | wall_ << 188 | classTag_ << 205 | minReputation_ << 237);
    }

    /// @notice The round opens in this block, with `units_` active units of stake.
    function withRound(Terms t, uint256 units_) internal view returns (Terms) {
        return Terms.wrap(Terms.unwrap(t) & ~OPENED_MASK | block.number << 128 | units_ << 160);
    }

    /// @notice The job is decided; `tag` is the winner's, or zero.
    function withOutcome(Terms t, IEscrow.Outcome outcome_, uint256 tag) internal pure returns (Terms) {
        return Terms.wrap(Terms.unwrap(t) & LOW_MASK & ~OUTCOME_MASK | uint256(outcome_) << 91 | tag << 96);
    }

    /// @notice The job is closed and `rest_` granules are left of the locked sum.
    function withRest(Terms t, uint256 rest_) internal pure returns (Terms) {
        return Terms.wrap(Terms.unwrap(t) & ~REST_MASK | SETTLED | rest_);
    }

    function price(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) & ((1 << 40) - 1);
    }

    function bond(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 40 & ((1 << 42) - 1);
    }

    function token(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 82 & 63;
    }

    function size(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 88 & 3;
    }

    /// @notice 0 `native`, 1 `det`.
    function kind(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 90 & 1;
    }

    function outcome(Terms t) internal pure returns (IEscrow.Outcome) {
        return IEscrow.Outcome(Terms.unwrap(t) >> 91 & 7);
    }

    function isSettled(Terms t) internal pure returns (bool) {
        return Terms.unwrap(t) & SETTLED != 0;
    }

    function rest(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) & REST_MASK;
    }

    function postedAt(Terms t) internal pure returns (uint256) {
        return uint32(Terms.unwrap(t) >> 96);
    }

    function openedBlock(Terms t) internal pure returns (uint256) {
        return uint32(Terms.unwrap(t) >> 128);
    }

    function units(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 160 & ((1 << 28) - 1);
    }

    function wall(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 188 & ((1 << 17) - 1);
    }

    function classTag(Terms t) internal pure returns (uint256) {
        return uint32(Terms.unwrap(t) >> 205);
    }

    function minReputation(Terms t) internal pure returns (uint256) {
        return uint16(Terms.unwrap(t) >> 237);
    }

    /// @notice Leading bits of the winner of a decided job.
    function winner(Terms t) internal pure returns (uint256) {
        return Terms.unwrap(t) >> 96;
    }

    /// @notice The locked sum in granules: one price more for n = 2, whose extra round can end with three payees.
    function locked(Terms t) internal pure returns (uint256) {
        uint256 n = replicas(t.size());
        return t.price() * (n == 2 ? 3 : n);
    }

    /// @notice Replicas of a size.
    function replicas(uint256 size_) internal pure returns (uint256) {
        return 0x05030201 >> (size_ << 3) & 7;
    }

    /// @notice Quorum of a size.
    function quorum(uint256 size_) internal pure returns (uint256) {
        return 0x03020201 >> (size_ << 3) & 7;
    }
}
