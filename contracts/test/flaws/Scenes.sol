// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Base} from "../utils/Base.sol";

/// @title  Scenes in which the flaws of the first draft would show
/// @notice Player i always holds seat i; `k` names a result.
abstract contract Scenes is Base {
    address internal keeper = makeAddr("keeper");

    /// @dev Posts, and every seat of round 0 is taken.
    function _seated(IEscrow.Order memory o) internal returns (bytes32 job) {
        job = _postOpen(o);
        _claimSeats(job, 0, o.replicas);
    }

    function _claimSeats(bytes32 job, uint256 from, uint256 to) internal {
        for (uint256 i = from; i < to; ++i) {
            _claim(job, i);
        }
    }

    function _commitResult(bytes32 job, uint256 seat, uint256 k) internal {
        _commit(job, seat, seat, _digest(job, k));
    }

    /// @dev Seat i commits to and reveals result `ks[i]`.
    function _answerAll(bytes32 job, uint256[] memory ks) internal {
        for (uint256 i = 0; i < ks.length; ++i) {
            _commitResult(job, i, ks[i]);
        }
        for (uint256 i = 0; i < ks.length; ++i) {
            _revealResult(job, i, i, ks[i]);
        }
    }

    /// @dev Two seats reveal different results: the extra round is open and its lottery takes everybody in.
    function _disagreement(IEscrow.Order memory o) internal returns (bytes32 job) {
        job = _seated(o);
        _answerAll(job, _two(0, 1));
        _openLottery();
    }

    /// @dev What a stranger can do about a job that nobody minds: its windows go by, one poke after each.
    function _pokeToTheEnd(bytes32 job) internal {
        for (uint256 i = 0; escrow.jobOf(job).phase != IEscrow.Phase.Closed; ++i) {
            assertLt(i, 6, "a job reaches an end in so many pokes");
            uint256 over = escrow.jobOf(job).deadline + 1;
            if (over > vm.getBlockTimestamp()) vm.warp(over);
            vm.roll(vm.getBlockNumber() + 1);
            vm.prank(keeper);
            escrow.poke(job);
        }
    }

    function _two(uint256 a, uint256 b) internal pure returns (uint256[] memory ks) {
        ks = new uint256[](2);
        (ks[0], ks[1]) = (a, b);
    }

    function _three(uint256 a, uint256 b, uint256 c) internal pure returns (uint256[] memory ks) {
        ks = new uint256[](3);
        (ks[0], ks[1], ks[2]) = (a, b, c);
    }

    function _earned(uint256 player) internal view returns (uint256) {
        return escrow.nodeBalanceOf(address(0), players[player].node);
    }

    function _stake(uint256 player) internal view returns (uint256) {
        return registry.nodeOf(players[player].node).stake;
    }

    function _reputation(uint256 player) internal view returns (uint16) {
        return escrow.nodeView(players[player].node).reputation;
    }

    function _assertPhase(bytes32 job, IEscrow.Phase phase) internal view {
        assertEq(uint8(escrow.jobOf(job).phase), uint8(phase), "phase");
    }

    function _assertOutcome(bytes32 job, IEscrow.Outcome outcome) internal view {
        assertEq(uint8(escrow.jobOf(job).outcome), uint8(outcome), "outcome");
    }
}
