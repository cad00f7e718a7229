// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Vm} from "forge-std/Vm.sol";
import {Scenes} from "../flaws/Scenes.sol";

/// @title answers.tree
contract AnswersTest is Scenes {
    function _wrongPhase(bytes32 job, IEscrow.Phase phase) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IEscrow.WrongPhase.selector, job, uint8(phase));
    }

    function test_Commit_RevertWhen_NotInTheRun() public {
        bytes32 job = _postOpen(_order(2));
        _claim(job, 0);
        vm.startPrank(players[0].worker);
        vm.expectRevert(_wrongPhase(job, IEscrow.Phase.Seats));
        escrow.commit(job, 0, bytes27("x"));
        vm.stopPrank();
        _claim(job, 1);
        _pass(3 * WALL + RUN_SLACK);
        _commit(job, 0, 0, UNAVAILABLE); // at the deadline itself
        _pass(1);
        vm.startPrank(players[1].worker);
        // One commit of two: the extra round is due.
        vm.expectRevert(_wrongPhase(job, IEscrow.Phase.Seats));
        escrow.commit(job, 1, bytes27("x"));
    }

    function test_Commit_StartsARunThatIsDue() public {
        bytes32 job = _postOpen(_order(3));
        _claimSeats(job, 0, 2);
        uint64 run = escrow.jobOf(job).deadline + 3 * WALL + RUN_SLACK;
        _pass(SEAT_WINDOW + 3);
        vm.expectEmit();
        emit IEscrow.PhaseChanged(job, IEscrow.Phase.Run, run);
        vm.expectEmit();
        emit IEscrow.Committed(job, players[0].node, 0, run);
        _commit(job, 0, 0, UNAVAILABLE);
    }

    function test_Commit_RevertWhen_NoSuchSeat() public {
        bytes32 job = _seated(_order(2));
        vm.startPrank(players[0].worker);
        uint8[3] memory seats = [2, 7, 255];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NoSuchSeat.selector, job, seats[i]));
            escrow.commit(job, seats[i], bytes27("x"));
        }
    }

    function test_Commit_RevertWhen_SeatOfTheFirstRound() public {
        bytes32 job = _disagreement(_order(2));
        _claimSeats(job, 2, 4);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoSuchSeat.selector, job, 0));
        vm.prank(players[0].worker);
        escrow.commit(job, 0, bytes27("x"));
    }

    function test_Commit_RevertWhen_NotTheSeatsWorker() public {
        bytes32 job = _seated(_order(2));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotWorker.selector, players[0].node, players[1].worker));
        vm.prank(players[1].worker);
        escrow.commit(job, 0, bytes27("x"));
        // Nor when both have worked before, so that their lanes say whose they are.
        _answerAll(job, _two(0, 0));
        job = _seated(_order(2));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotWorker.selector, players[0].node, players[1].worker));
        vm.prank(players[1].worker);
        escrow.commit(job, 0, bytes27("x"));
    }

    function test_Commit_RevertWhen_Again() public {
        bytes32 job = _seated(_order(2));
        _commit(job, 0, 0, UNAVAILABLE);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AlreadyCommitted.selector, job, 0));
        vm.prank(players[0].worker);
        escrow.commit(job, 0, bytes27("x"));
    }

    function test_Commit_LastOpensTheReveal() public {
        bytes32 job = _seated(_order(2));
        _pass(4);
        uint64 run = escrow.jobOf(job).deadline;
        vm.expectEmit();
        emit IEscrow.Committed(job, players[0].node, 0, run);
        _commit(job, 0, 0, UNAVAILABLE);
        assertEq(escrow.jobOf(job).committed, 1);
        _pass(4);
        vm.expectEmit();
        emit IEscrow.Committed(job, players[1].node, 1, uint64(vm.getBlockTimestamp()) + REVEAL_WINDOW);
        _commit(job, 1, 1, UNAVAILABLE);
        _assertPhase(job, IEscrow.Phase.Reveal);
        assertEq(escrow.jobOf(job).committed, 3);
    }

    function test_Reveal_RevertWhen_TooEarly() public {
        bytes32 job = _seated(_order(2));
        _commit(job, 0, 0, UNAVAILABLE);
        vm.expectRevert(_wrongPhase(job, IEscrow.Phase.Run));
        _reveal(job, 0, 0, UNAVAILABLE);
    }

    function test_Reveal_RevertWhen_NotTheCommit() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _seated(o);
        _commitResult(job, 0, 0);
        _commitResult(job, 1, 0);
        _pass(3 * WALL + RUN_SLACK + 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoSuchSeat.selector, job, 3));
        _reveal(job, 3, 0, UNAVAILABLE);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotCommitted.selector, job, 2));
        _reveal(job, 2, 2, UNAVAILABLE);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 0));
        _reveal(job, 0, 0, UNAVAILABLE);
        bytes32 digest = _digest(job, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 0));
        _reveal(job, 0, 1, digest); // another's salt
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CommitMismatch.selector, job, 0));
        _revealResult(job, 0, 0, 1);
    }

    function test_Reveal_RevertWhen_Unpublished() public {
        bytes32 job = _seated(_order(3));
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, i / 2);
        }
        bytes32 digest = _digest(job, 0);
        bytes32 other = _digest(job, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ResultUnpublished.selector, job, digest));
        _reveal(job, 0, 0, digest);
        _revealResult(job, 0, 0, 0);
        // Another result is still not published by that.
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ResultUnpublished.selector, job, other));
        _reveal(job, 2, 2, other);
        _reveal(job, 1, 1, digest);
        _assertOutcome(job, IEscrow.Outcome.Digest);
        // Nor once the job is decided.
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ResultUnpublished.selector, job, other));
        _reveal(job, 2, 2, other);
        _revealResult(job, 2, 2, 1);
        _assertPhase(job, IEscrow.Phase.Closed);
    }

    function test_Reveal_RevertWhen_LimitTooEarly() public {
        bytes32 job = _seated(_order(2));
        _pass(2 * WALL);
        _commit(job, 0, 0, LIMIT);
        _pass(1);
        _commit(job, 1, 1, LIMIT);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LimitTooEarly.selector, job, 0));
        _reveal(job, 0, 0, LIMIT);
        _reveal(job, 1, 1, LIMIT);
        assertEq(escrow.jobOf(job).revealed, 2);
    }

    function test_Reveal_SkipsAndOpensSeveral() public {
        bytes32 job = _seated(_order(3));
        for (uint256 i = 0; i < 3; ++i) {
            _commit(job, i, i, UNAVAILABLE);
        }
        IEscrow.Opening[] memory openings = new IEscrow.Opening[](4);
        for (uint256 i = 0; i < 4; ++i) {
            openings[i] = IEscrow.Opening({seat: uint8(i % 3), answer: UNAVAILABLE, salt: _salt(i % 3)});
        }
        vm.prank(keeper);
        escrow.reveal(job, openings);
        _assertOutcome(job, IEscrow.Outcome.Unavailable);
        _assertPhase(job, IEscrow.Phase.Closed);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_earned(i), FEE);
        }
    }

    function test_RevealResult_Publishes() public {
        bytes32 job = _seated(_order(2));
        _commitResult(job, 0, 7);
        _commitResult(job, 1, 7);
        bytes32 digest = _digest(job, 7);
        vm.expectEmit();
        emit IEscrow.ResultPublished(job, digest, _result(7));
        vm.expectEmit();
        emit IEscrow.Revealed(job, players[0].node, 0, digest);
        _revealResult(job, 0, 0, 7);
        assertEq(escrow.jobOf(job).answer, digest >> 40 << 40);
        vm.expectEmit();
        emit IEscrow.JobDecided(job, IEscrow.Outcome.Digest, digest >> 40 << 40);
        vm.expectEmit();
        emit IEscrow.SeatFinished(job, players[0].node, 0, IEscrow.SeatEnd.Paid, PRICE, 0);
        _revealResult(job, 1, 1, 7);
        assertEq(escrow.jobOf(job).answer, digest >> 202 << 202);
    }

    function test_RevealResult_PublishesOnce() public {
        bytes32 job = _seated(_order(3));
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, 7);
        }
        vm.recordLogs();
        for (uint256 i = 0; i < 3; ++i) {
            _revealResult(job, i, i, 7);
        }
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 published;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IEscrow.ResultPublished.selector) ++published;
        }
        assertEq(published, 1);
        _assertPhase(job, IEscrow.Phase.Closed);
    }

    function testFuzz_DigestOf(bytes32 job, IEscrow.Result memory r) public view {
        bytes memory words = abi.encodePacked(
            bytes32("sandrun-result-v1"),
            block.chainid,
            bytes32(uint256(uint160(address(escrow)))),
            job,
            r.classId,
            uint256(r.exitStatus),
            r.outputRoot,
            r.traceRoot,
            r.content
        );
        assertEq(escrow.digestOf(job, r), sha256(words));
    }
}
