// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Scenes} from "./Scenes.sol";

/// @title  Flaws of the first draft in what nodes say: 1, 2, 10, 11
contract FlawsAnswersTest is Scenes {
    // 1. Zero proof resubmitted: zero meant "nothing yet".

    function test_Flaw01_ZeroProofResubmitted_CommitsOnce() public {
        bytes32 job = _seated(_order(3));
        vm.startPrank(players[0].worker);
        escrow.commit(job, 0, bytes27(0));
        assertEq(escrow.jobOf(job).committed, 1);
        bytes27 better = _commitment(job, 0, 0, _digest(job, 0));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AlreadyCommitted.selector, job, 0));
        escrow.commit(job, 0, better);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AlreadyCommitted.selector, job, 0));
        escrow.commit(job, 0, bytes27(0));
        vm.stopPrank();
    }

    function test_Flaw01_ZeroProofResubmitted_ZeroOpensNothing() public {
        bytes32 job = _seated(_order(3));
        vm.prank(players[0].worker);
        escrow.commit(job, 0, bytes27(0));
        _commitResult(job, 1, 0);
        _commitResult(job, 2, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 0));
        escrow.reveal(job, _opening(0, 0, bytes32(0)));

        _revealResult(job, 1, 1, 0);
        _revealResult(job, 2, 2, 0);
        _pokeToTheEnd(job);
        assertEq(_earned(0), 0);
        assertEq(_stake(0), STAKE - BOND * 3 / 10);
    }

    /// @dev Words that are no answer, among them those whose leading bits read like a soft answer: `limit` too early.
    function test_Flaw01_ZeroProofResubmitted_NoAnswerCountsForNothing() public {
        uint256[7] memory words = [uint256(0), 3, type(uint40).max, 1 << 40, 2 << 40, 2 << 40 | 2, 3 << 40 | 1];
        for (uint256 i = 0; i < words.length; ++i) {
            bytes32 job = _seated(_order(3));
            _commit(job, 0, 0, bytes32(words[i]));
            _pass(2 * WALL + 1);
            _commit(job, 1, 1, LIMIT);
            _commit(job, 2, 2, UNAVAILABLE);
            _reveal(job, 1, 1, LIMIT);
            _reveal(job, 2, 2, UNAVAILABLE);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.ResultUnpublished.selector, job, bytes32(words[i])));
            escrow.reveal(job, _opening(0, 0, bytes32(words[i])));
            assertEq(escrow.jobOf(job).revealed, 6);
            _pokeToTheEnd(job);
            _assertOutcome(job, IEscrow.Outcome.NoneWins);
        }
    }

    // 2. Plain proofs copied.

    function test_Flaw02_PlainProofsCopied_CopiedCommitDoesNotOpen() public {
        bytes32 job = _seated(_order(2));
        bytes32 digest = _digest(job, 0);
        bytes27 seen = _commitment(job, 0, 0, digest);
        _commitResult(job, 0, 0);
        vm.prank(players[1].worker);
        escrow.commit(job, 1, seen);
        _revealResult(job, 0, 0, 0);

        IEscrow.Opening[] memory copied = _opening(1, 0, digest);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 1));
        escrow.reveal(job, copied);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 1));
        escrow.revealResult(job, 1, _result(0), _salt(0));
    }

    function test_Flaw02_PlainProofsCopied_NoCommitOnceRevealsBegan() public {
        bytes32 job = _seated(_order(3));
        _commitResult(job, 0, 0);
        _commitResult(job, 1, 0);
        _pass(3 * WALL + RUN_SLACK + 1);
        _revealResult(job, 0, 0, 0);
        bytes27 copied = _commitment(job, 0, 2, _digest(job, 0));
        vm.prank(players[2].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.WrongPhase.selector, job, IEscrow.Phase.Reveal));
        escrow.commit(job, 2, copied);
    }

    /// @dev With too few commits nothing is shown before those of the extra round are in.
    function test_Flaw02_PlainProofsCopied_NothingToCopyForTheExtraRound() public {
        bytes32 job = _seated(_order(3));
        _commitResult(job, 0, 0);
        _pass(3 * WALL + RUN_SLACK + 1);
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.WrongPhase.selector, job, IEscrow.Phase.Seats));
        escrow.revealResult(job, 0, _result(0), _salt(0));

        escrow.poke(job);
        _openLottery();
        _claimSeats(job, 3, 5);
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.WrongPhase.selector, job, IEscrow.Phase.Run));
        escrow.revealResult(job, 0, _result(0), _salt(0));
    }

    /// @dev Who repeats in round 1 what round 0 showed has no share of a job that nobody won.
    function test_Flaw02_PlainProofsCopied_RepeatingADigestEarnsNoShare() public {
        bytes32 job = _disagreement(_order(2));
        _claimSeats(job, 2, 4);
        _commitResult(job, 2, 0);
        _commitResult(job, 3, 2);
        _revealResult(job, 2, 2, 0);
        _revealResult(job, 3, 3, 2);
        _assertOutcome(job, IEscrow.Outcome.NoneWins);
        assertEq(_earned(2), FEE);
        uint256 share = (3 * PRICE - FEE) / 3;
        assertEq(_earned(0), share);
        assertEq(_earned(1), share);
        assertEq(_earned(3), share);
    }

    // 10. Redundancy 1 pays anything, and 2 slashes nobody.

    function test_Flaw10_RedundancyOnePaysAnything_PriceIsCapped() public {
        IEscrow.Order memory o = _order(1);
        o.price = 1 ether;
        o.bond = 5 ether;
        _post(o);
        o = _order(1);
        o.price = 1 ether + 1 gwei;
        o.bond = 6 ether;
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.PriceTooHigh.selector, o.price, 1 ether));
        escrow.post{value: o.price}(o);
        o.replicas = 2;
        o.quorum = 2;
        _post(o);
    }

    function test_Flaw10_RedundancyTwoSlashesNobody_LiarOfNativeLosesPart() public {
        _liarOfTwo(NATIVE, BOND * 3 / 10);
    }

    function test_Flaw10_RedundancyTwoSlashesNobody_LiarOfDetLosesAll() public {
        _liarOfTwo(DET, BOND);
    }

    function _liarOfTwo(bytes32 classId, uint256 slash) private {
        IEscrow.Order memory o = _order(2);
        o.classId = classId;
        bytes32 job = _disagreement(o);
        _claimSeats(job, 2, 4);
        _commitResult(job, 2, 0);
        _commitResult(job, 3, 0);
        _revealResult(job, 2, 2, 0);
        _revealResult(job, 3, 3, 0);
        _assertOutcome(job, IEscrow.Outcome.Digest);
        _assertPhase(job, IEscrow.Phase.Closed);
        assertEq(_stake(1), STAKE - slash);
        assertEq(_earned(1), 0);
        assertEq(_earned(0) + _earned(2) + _earned(3), 3 * PRICE);
    }

    // 11. Reputation never read, and the result's content id not kept.

    function test_Flaw11_ReputationNeverRead_OrderAsksForIt() public {
        IEscrow.Order memory o = _order(3);
        o.minReputation = 1;
        bytes32 job = _postOpen(o);
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotEligible.selector, players[0].node, bytes32("reputation")));
        escrow.claim(job, players[0].node, 0);

        uint256[3] memory winners = _earnReputation();
        o = _order(3);
        o.minReputation = 1;
        job = _postOpen(o);
        for (uint256 i = 0; i < 3; ++i) {
            _claim(job, winners[i]);
        }
        _assertPhase(job, IEscrow.Phase.Run);
    }

    function test_Flaw11_ReputationNeverRead_FaultResetsIt() public {
        uint256[3] memory winners = _earnReputation();
        bytes32 job = _postOpen(_order(2));
        _claim(job, winners[0]);
        _claim(job, winners[1]);
        _pokeToTheEnd(job);
        assertEq(_reputation(winners[0]), 0);
        assertEq(_reputation(winners[1]), 0);
        assertEq(_reputation(winners[2]), 1);
    }

    /// @dev Neither unverified jobs nor seats that were there for everybody count: those can be one's own.
    function test_Flaw11_ReputationNeverRead_CannotBeWashed() public {
        bytes32 single = _postEarly(_order(1));
        (uint256 player, uint32 unit) = _winningTicket(single, 0);
        vm.prank(players[player].worker);
        escrow.claim(single, players[player].node, unit);
        _commit(single, 0, player, _digest(single, 0));
        _revealResult(single, 0, player, 0);
        assertEq(_earned(player), PRICE);
        assertEq(_reputation(player), 0);

        _answerAll(_seated(_order(3)), _three(0, 0, 0));
        for (uint256 i = 0; i < 3; ++i) {
            assertGt(_earned(i), 0);
            assertEq(_reputation(i), 0);
        }
    }

    function test_Flaw11_ResultContentNotKept_PublishedAndBound() public {
        bytes32 job = _seated(_order(3));
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, 0);
        }
        bytes32 digest = _digest(job, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ResultUnpublished.selector, job, digest));
        escrow.reveal(job, _opening(0, 0, digest));

        IEscrow.Result memory other = _result(0);
        other.content = keccak256("something else");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 0));
        escrow.revealResult(job, 0, other, _salt(0));

        vm.expectEmit(address(escrow));
        emit IEscrow.ResultPublished(job, digest, _result(0));
        escrow.revealResult(job, 0, _result(0), _salt(0));
        escrow.reveal(job, _opening(1, 1, digest));
        _assertOutcome(job, IEscrow.Outcome.Digest);
    }

    /// @dev A job whose three seats are won early and answered rightly; who sat there.
    function _earnReputation() private returns (uint256[3] memory winners) {
        bytes32 job = _postEarly(_order(3));
        uint256 next;
        for (uint256 seat = 0; seat < 3; ++seat) {
            uint32 unit;
            (winners[seat], unit) = _winningTicket(job, next);
            next = winners[seat] + 1;
            vm.prank(players[winners[seat]].worker);
            escrow.claim(job, players[winners[seat]].node, unit);
        }
        for (uint256 seat = 0; seat < 3; ++seat) {
            _commit(job, seat, winners[seat], _digest(job, 0));
        }
        for (uint256 seat = 0; seat < 3; ++seat) {
            assertEq(_reputation(winners[seat]), 0);
            _revealResult(job, seat, winners[seat], 0);
        }
        for (uint256 seat = 0; seat < 3; ++seat) {
            assertEq(_reputation(winners[seat]), 1);
        }
    }

    /// @dev Posts and goes on to the last block whose seats count for reputation: the threshold is 4n / U.
    function _postEarly(IEscrow.Order memory o) private returns (bytes32 job) {
        job = _post(o);
        vm.roll(vm.getBlockNumber() + 4);
    }

    /// @dev The first player from `from` on who holds a ticket below the threshold, and its unit.
    function _winningTicket(bytes32 job, uint256 from) private view returns (uint256 player, uint32 unit) {
        (bytes32 seed,) = escrow.seedOf(job);
        uint256 threshold = escrow.thresholdAt(job, vm.getBlockNumber());
        for (player = from; player < players.length; ++player) {
            for (unit = 0; unit < STAKE / UNIT; ++unit) {
                if (uint256(keccak256(abi.encode(seed, job, 0, players[player].node, unit))) < threshold) {
                    return (player, unit);
                }
            }
        }
        revert("nobody wins early");
    }
}
