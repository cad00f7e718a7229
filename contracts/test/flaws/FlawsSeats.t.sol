// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Escrow} from "../../src/Escrow.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Scenes} from "./Scenes.sol";

/// @title  Flaws of the first draft in a job's life and its seats: 4, 6, 9
contract FlawsSeatsTest is Scenes {
    // 4. No timeout or cancel.

    function test_Flaw04_NoTimeoutOrCancel_AllBackBeforeTheSeed() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _post(o);
        vm.roll(vm.getBlockNumber() + 1);
        vm.prank(client);
        escrow.cancel(o);
        _assertOutcome(job, IEscrow.Outcome.Cancelled);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.refund(o);
    }

    function test_Flaw04_NoTimeoutOrCancel_LessTheFeeOnceTheSeedIsKnown() public {
        IEscrow.Order memory o = _order(3);
        _post(o);
        vm.roll(vm.getBlockNumber() + 2);
        vm.prank(client);
        escrow.cancel(o);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE - FEE);
        assertEq(BURN.balance, FEE);
    }

    function test_Flaw04_NoTimeoutOrCancel_NotFromUnderANode() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _postOpen(o);
        _claim(job, 0);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TooLateToCancel.selector, job));
        escrow.cancel(o);
    }

    function test_Flaw04_NoTimeoutOrCancel_NobodyComes() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _post(o);
        _pokeToTheEnd(job);
        _assertOutcome(job, IEscrow.Outcome.Expired);
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
    }

    function test_Flaw04_NoTimeoutOrCancel_TooFewCome() public {
        IEscrow.Order memory o = _order(3);
        vm.fee(1 gwei);
        bytes32 job = _postOpen(o);
        _claim(job, 0);
        _pokeToTheEnd(job);
        _assertOutcome(job, IEscrow.Outcome.Expired);
        assertEq(escrow.lockedOf(players[0].node), 0);
        assertEq(_stake(0), STAKE);
        assertGt(_earned(0), 0);
        assertLe(_earned(0), FEE / 3);
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE - _earned(0));
    }

    function test_Flaw04_NoTimeoutOrCancel_NobodyCommits() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _seated(o);
        _pokeToTheEnd(job);
        _assertAllSilent(o, job);
    }

    function test_Flaw04_NoTimeoutOrCancel_NobodyReveals() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _seated(o);
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, 0);
        }
        _pokeToTheEnd(job);
        _assertAllSilent(o, job);
    }

    function test_Flaw04_NoTimeoutOrCancel_NobodyComesToTheExtraRound() public {
        IEscrow.Order memory o = _order(2);
        bytes32 job = _disagreement(o);
        _pokeToTheEnd(job);
        _assertOutcome(job, IEscrow.Outcome.NoneWins);
        escrow.refund(o);
        assertEq(_earned(0) + _earned(1) + escrow.balanceOf(address(0), client), 3 * PRICE);
    }

    /// @dev Four results and a seat that stays away: two more could not give any of them a majority, so nobody waits.
    function test_Flaw04_NoTimeoutOrCancel_NoRoundThatCouldNotDecide() public {
        bytes32 job = _seated(_order(5));
        for (uint256 i = 0; i < 4; ++i) {
            _commitResult(job, i, i);
        }
        _pass(3 * WALL + RUN_SLACK + 1);
        for (uint256 i = 0; i < 4; ++i) {
            _revealResult(job, i, i, i);
        }
        _assertOutcome(job, IEscrow.Outcome.NoneWins);
        _assertPhase(job, IEscrow.Phase.Closed);
        for (uint256 i = 0; i < 4; ++i) {
            assertEq(_earned(i), PRICE);
        }
    }

    function _assertAllSilent(IEscrow.Order memory o, bytes32 job) private {
        _assertOutcome(job, IEscrow.Outcome.NoneWins);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_stake(i), STAKE - BOND * 3 / 10);
            assertEq(escrow.lockedOf(players[i].node), 0);
        }
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
    }

    // 6. Equal jobs in a block collide.

    function test_Flaw06_EqualJobsCollide_TwoOfAKind() public {
        IEscrow.Order memory a = _order(3);
        IEscrow.Order memory b = _order(3);
        bytes32 first = _post(a);
        bytes32 second = _post(b);
        assertNotEq(first, second);
        _openLottery();
        _claimSeats(first, 0, 3);
        assertEq(escrow.jobOf(second).seats, 0);
        _claimSeats(second, 0, 3);
        _answerAll(first, _three(0, 0, 0));
        _assertPhase(first, IEscrow.Phase.Closed);
        _assertPhase(second, IEscrow.Phase.Run);
        _answerAll(second, _three(0, 0, 0));
        _assertPhase(second, IEscrow.Phase.Closed);
        assertEq(_earned(0), 2 * PRICE);
    }

    function test_Flaw06_EqualJobsCollide_SameOrderIsPostedOnce() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _post(o);
        _expectPosted(o, job);
        vm.prank(client);
        escrow.cancel(o);
        _expectPosted(o, job);
    }

    function test_Flaw06_EqualJobsCollide_EveryFieldIsInTheNumber() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = escrow.jobId(o);
        bytes memory order = abi.encode(o);
        uint256 words = order.length / 32;
        assertEq(words, 17);
        for (uint256 i = 0; i < words; ++i) {
            bytes memory other = abi.encode(o);
            other[32 * i + 31] ^= 0x01;
            assertNotEq(escrow.jobId(abi.decode(other, (IEscrow.Order))), job);
        }
    }

    function test_Flaw06_EqualJobsCollide_ChainAndContractAreInTheNumber() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = escrow.jobId(o);
        Escrow beside = new Escrow(_parameters(), _tokenTerms());
        assertNotEq(beside.jobId(o), job);
        vm.chainId(block.chainid + 1);
        assertNotEq(escrow.jobId(o), job);
    }

    function _expectPosted(IEscrow.Order memory o, bytes32 job) private {
        uint256 due = _locked(o);
        vm.prank(o.payer);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AlreadyPosted.selector, job));
        escrow.post{value: due}(o);
    }

    // 9. First-come seats for three keys of one owner, and for the client itself.

    function test_Flaw09_FirstComeSeats_NobodyBeforeTheSeed() public {
        bytes32 job = _post(_order(3));
        uint256 opened = vm.getBlockNumber();
        for (uint256 b = opened; b < opened + 2; ++b) {
            vm.roll(b);
            vm.prank(players[0].worker);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.SeedNotReady.selector, job));
            escrow.claim(job, players[0].node, 0);
        }
    }

    /// @dev Three quick keys with a unit each get what three units of stake are worth.
    function test_Flaw09_FirstComeSeats_ThreeKeysOfOneOwner() public {
        for (uint256 i = 0; i < 3; ++i) {
            _addNode(UNIT);
        }
        _pass(1);
        bytes32 job = _post(_order(3));
        vm.roll(vm.getBlockNumber() + 2);
        uint256 units = escrow.jobOf(job).units;
        assertEq(units, 8 * STAKE / UNIT + 3);
        assertEq(escrow.thresholdAt(job, vm.getBlockNumber()), type(uint256).max / units * 3);
        for (uint256 i = 8; i < 11; ++i) {
            bool wins = _ticket(job, i, 0) < escrow.thresholdAt(job, vm.getBlockNumber());
            bytes memory noTicket = abi.encodeWithSelector(IEscrow.NoTicket.selector, job, 0);
            vm.prank(players[i].worker);
            if (!wins) vm.expectRevert(noTicket);
            escrow.claim(job, players[i].node, 0);
        }
        assertLt(escrow.jobOf(job).seats, 2, "no majority for being quick");
    }

    /// @dev A key has the units that its stake is worth, and one seat in a job.
    function test_Flaw09_FirstComeSeats_OneSeatForANode() public {
        bytes32 job = _postOpen(_order(3));
        uint32 node = players[0].node;
        vm.startPrank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoTicket.selector, job, STAKE / UNIT));
        escrow.claim(job, node, uint32(STAKE / UNIT));
        escrow.claim(job, node, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotEligible.selector, node, bytes32("seat")));
        escrow.claim(job, node, 1);
        vm.stopPrank();
    }

    function test_Flaw09_FirstComeSeats_NotEvenInTheExtraRound() public {
        bytes32 job = _disagreement(_order(2));
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotEligible.selector, players[0].node, bytes32("seat")));
        escrow.claim(job, players[0].node, 1);
    }

    function test_Flaw09_FirstComeSeats_StakeThatCameAfterThePosting() public {
        bytes32 job = _postOpen(_order(3));
        _addNode(STAKE);
        _expectTooYoung(job, 8);
    }

    function test_Flaw09_FirstComeSeats_StakeThatCameBeforeTheExtraRound() public {
        bytes32 job = _seated(_order(2));
        _addNode(STAKE);
        _pass(5);
        _answerAll(job, _two(0, 1));
        _openLottery();
        _expectTooYoung(job, 8);
        _claim(job, 2);
    }

    function test_Flaw09_FirstComeSeats_ClientsOwnNodeInTheExtraRound() public {
        IEscrow.Order memory o = _order(2);
        o.client = o.payer = players[7].account;
        vm.deal(o.payer, 1 ether);
        bytes32 job = _disagreement(o);
        _expectTooYoung(job, 7);
        _claim(job, 2);
    }

    function test_Flaw09_FirstComeSeats_ClientsOwnNode() public {
        for (uint256 i = 0; i < 2; ++i) {
            IEscrow.Order memory o = _order(3);
            o.client = o.payer = i == 0 ? players[i].account : players[i].worker;
            vm.deal(o.payer, 1 ether);
            bytes32 job = _postOpen(o);
            _expectTooYoung(job, i);
            _claim(job, 2);
        }
    }

    /// @dev Nobody else's money makes a node's owner the client of a job that its node could sit in.
    function test_Flaw09_FirstComeSeats_ClientsNodeAndAnothersMoney() public {
        for (uint256 i = 0; i < 2; ++i) {
            IEscrow.Order memory o = _order(3);
            o.client = i == 0 ? players[i].account : players[i].worker;
            uint256 due = _locked(o);
            vm.prank(o.payer);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.BadOrder.selector, bytes32("client")));
            escrow.post{value: due}(o);
        }
    }

    function _expectTooYoung(bytes32 job, uint256 player) private {
        vm.prank(players[player].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotEligible.selector, players[player].node, bytes32("since")));
        escrow.claim(job, players[player].node, 0);
    }

    function _ticket(bytes32 job, uint256 player, uint256 unit) private view returns (uint256) {
        (bytes32 seed,) = escrow.seedOf(job);
        return uint256(keccak256(abi.encode(seed, job, 0, players[player].node, unit)));
    }
}
