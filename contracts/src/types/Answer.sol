// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  What a lane holds of a commit, and later of an answer
/// @notice Bits from the lowest: late 1 | free 19 | node 20 | then 216 bits: the commit until it is opened, then the
///         answer's tag. `late`: committed late enough for `limit`. Tags of digests are their leading 216 bits, of soft
///         answers their number. Words that are neither have tag 0, which nobody can publish.
library Answer {
    bytes32 internal constant LIMIT = bytes32(uint256(2));

    /// @notice The lane's word of a commit.
    function sealedWord(bytes27 commitment, uint256 node_, bool late) internal pure returns (uint256 word) {
        word = uint256(bytes32(commitment)) | node_ << 20;
        if (late) word |= 1;
    }

    /// @notice The lane's word of an opened answer.
    function openWord(uint256 tag, uint256 node_) internal pure returns (uint256) {
        return tag << 40 | node_ << 20;
    }

    /// @notice Upper 216 bits of a lane's word.
    function top(uint256 word) internal pure returns (uint256) {
        return word >> 40;
    }

    /// @notice The node whose lane it is; zero if it was never written.
    function node(uint256 word) internal pure returns (uint256) {
        return word >> 20 & 0xFFFFF;
    }

    /// @notice Whether `limit` may be revealed from this commit.
    function isLate(uint256 word) internal pure returns (bool) {
        return word & 1 != 0;
    }

    /// @notice 216-bit tag of an answer.
    function tagOf(bytes32 answer) internal pure returns (uint256 tag) {
        if (uint256(answer) <= 2) return uint256(answer);
        tag = uint256(answer) >> 40;
        if (tag <= 2) tag = 0;
    }

    /// @notice Whether a tag is a soft answer's.
    function isSoft(uint256 tag) internal pure returns (bool) {
        unchecked {
            return tag - 1 < 2;
        }
    }

    /// @notice Leading 54 bits of a digest's tag, as a decided job keeps them.
    function short(uint256 tag) internal pure returns (uint256) {
        return tag >> 162;
    }

    /// @notice A tag as events and views show it: a digest's leading bits, or the soft answer itself.
    function show(uint256 tag) internal pure returns (bytes32) {
        return bytes32(isSoft(tag) ? tag : tag << 40);
    }
}
