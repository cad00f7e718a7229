// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  All of a node that changes while it works, in one word
/// @notice Bits from the lowest: cap 48 | locked 48 | earned 48 | since 32 | reputation 16 | lanes 32 | early 32.
///         Amounts in gwei. Each bit of `lanes` is a seat that the node holds; the same bit of `early` says that the seat
///         was won before the threshold had doubled more than twice.
type Account is uint256;

using AccountLib for Account global;

/// @title Access to the fields of `Account`.
library AccountLib {
    uint256 internal constant AMOUNT_MAX = (1 << 48) - 1;

    uint256 private constant LOCKED = 48;
    uint256 private constant EARNED = 96;
    uint256 private constant SINCE = 144;
    uint256 private constant REPUTATION = 176;
    uint256 private constant LANES = 192;
    uint256 private constant EARLY = 224;

    function cap(Account a) internal pure returns (uint256) {
        return Account.unwrap(a) & AMOUNT_MAX;
    }

    function locked(Account a) internal pure returns (uint256) {
        return Account.unwrap(a) >> LOCKED & AMOUNT_MAX;
    }

    function earned(Account a) internal pure returns (uint256) {
        return Account.unwrap(a) >> EARNED & AMOUNT_MAX;
    }

    function since(Account a) internal pure returns (uint256) {
        return uint32(Account.unwrap(a) >> SINCE);
    }

    function reputation(Account a) internal pure returns (uint256) {
        return uint16(Account.unwrap(a) >> REPUTATION);
    }

    function lanes(Account a) internal pure returns (uint256) {
        return uint32(Account.unwrap(a) >> LANES);
    }

    function isEarly(Account a, uint256 lane) internal pure returns (bool) {
        return Account.unwrap(a) & (1 << EARLY) << lane != 0;
    }

    /// @notice The lowest lane without a seat; 32 if there is none.
    function freeLane(Account a) internal pure returns (uint256 lane) {
        unchecked {
            for (uint256 taken = a.lanes(); taken & 1 != 0; taken >>= 1) {
                ++lane;
            }
        }
    }

    function withCap(Account a, uint256 cap_) internal pure returns (Account) {
        return Account.wrap(Account.unwrap(a) & ~AMOUNT_MAX | cap_);
    }

    function withEarned(Account a, uint256 earned_) internal pure returns (Account) {
        return Account.wrap(Account.unwrap(a) & ~(AMOUNT_MAX << EARNED) | earned_ << EARNED);
    }

    /// @notice Units of stake count only for jobs posted after now.
    function renewed(Account a) internal view returns (Account) {
        return Account.wrap(Account.unwrap(a) & ~(uint256(type(uint32).max) << SINCE) | block.timestamp << SINCE);
    }

    function withReputation(Account a, uint256 reputation_) internal pure returns (Account) {
        return Account.wrap(Account.unwrap(a) & ~(uint256(type(uint16).max) << REPUTATION) | reputation_ << REPUTATION);
    }

    /// @notice Locks `bond`, which the cap covers, and takes the free lane `lane`.
    function seated(Account a, uint256 bond, uint256 lane, bool early) internal pure returns (Account) {
        unchecked {
            uint256 word = Account.unwrap(a) + (bond << LOCKED) | (1 << LANES) << lane;
            uint256 bit = (1 << EARLY) << lane;
            return Account.wrap(early ? word | bit : word & ~bit);
        }
    }

    /// @notice Unlocks `bond` and frees `lane`.
    function unseated(Account a, uint256 bond, uint256 lane) internal pure returns (Account) {
        unchecked {
            return Account.wrap(Account.unwrap(a) - (bond << LOCKED) & ~((1 << LANES) << lane));
        }
    }
}
