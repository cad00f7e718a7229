// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Scenes} from "../flaws/Scenes.sol";

/// @title settlement.tree; the table of ends is replayed in `vectors/`
contract SettlementTest is Scenes {
    function test_Poke_RevertWhen_NothingDue() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownJob.selector, bytes32("?")));
        escrow.poke(bytes32("?"));
        bytes32 job = _postOpen(_order(2));
        bytes memory err = abi.encodeWithSelector(IEscrow.NothingDue.selector, job);
        vm.expectRevert(err);
        escrow.poke(job);
        _pass(SEAT_WINDOW); // the deadline itself
        vm.expectRevert(err);
        escrow.poke(job);
        _pass(1);
        escrow.poke(job);
        vm.expectRevert(err);
        escrow.poke(job);
    }

    function test_Poke_PassesEveryWindowAtItsDeadline() public {
        bytes32 job = _postOpen(_order(3));
        uint64 seats = escrow.jobOf(job).deadline;
        _claimSeats(job, 0, 2);
        uint64 run = seats + 3 * WALL + RUN_SLACK;
        uint64 extra = run + SEAT_WINDOW;
        _pass(100 days);
        vm.expectEmit();
        emit IEscrow.PhaseChanged(job, IEscrow.Phase.Run, run);
        vm.expectEmit();
        emit IEscrow.RoundOpened(job, extra, 800);
        vm.expectEmit();
        emit IEscrow.PhaseChanged(job, IEscrow.Phase.Reveal, extra + REVEAL_WINDOW);
        vm.expectEmit();
        emit IEscrow.JobDecided(job, IEscrow.Outcome.NoneWins, 0);
        escrow.poke(job);
        _assertPhase(job, IEscrow.Phase.Closed);
        assertEq(escrow.jobOf(job).remaining, 3 * PRICE);
    }

    function test_Poke_TipsForSilence() public {
        bytes32 job = _seated(_order(3));
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, 0);
        }
        _revealResult(job, 0, 0, 0);
        _revealResult(job, 1, 1, 0);
        // Its window is open.
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.poke(job);
        _pass(REVEAL_WINDOW + 1);
        uint256 slash = BOND * 3 / 10;
        uint256 burnt = BURN.balance;
        vm.expectEmit();
        emit IEscrow.SeatFinished(job, players[2].node, 2, IEscrow.SeatEnd.SlashedUnrevealed, 0, slash);
        vm.prank(keeper);
        escrow.poke(job);
        assertEq(escrow.balanceOf(address(0), keeper), TIP);
        assertEq(BURN.balance - burnt, slash - TIP);
        assertEq(_stake(2), STAKE - slash);
        assertEq(escrow.nodeView(players[2].node).cap, STAKE - slash);
        assertEq(escrow.lockedOf(players[2].node), 0);
        _assertPhase(job, IEscrow.Phase.Closed);
    }

    function test_Poke_TipIsAtMostATwentieth() public {
        IEscrow.Order memory o = _order(3);
        (o.price, o.bond) = (10 * FEE, 50 * FEE);
        bytes32 job = _seated(o);
        _pokeToTheEnd(job);
        uint256 slash = o.bond * 3 / 10;
        assertLt(slash / 20, TIP);
        assertEq(escrow.balanceOf(address(0), keeper), 3 * (slash / 20));
    }

    function test_Poke_SlashedUnitsNoLongerCount() public {
        IEscrow.Order memory o = _order(3);
        o.classId = DET;
        o.bond = 1 ether;
        bytes32 job = _seated(o);
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, 0);
        }
        _pokeToTheEnd(job);
        assertEq(_stake(0), STAKE - 1 ether);
        assertEq(escrow.jobOf(_post(_order(3))).units, 800 - 30);
    }

    function test_Poke_PaysClaimsOfAnExpiredJobAtTheBaseFee() public {
        bytes32 job = _postOpen(_order(3));
        _claim(job, 0);
        _pass(SEAT_WINDOW + 1);
        vm.fee(1 gwei);
        vm.expectEmit();
        emit IEscrow.SeatFinished(job, players[0].node, 0, IEscrow.SeatEnd.Released, 42_000 gwei, 0);
        escrow.poke(job);
        assertEq(_earned(0), 42_000 gwei);
        assertEq(escrow.lockedOf(players[0].node), 0);

        job = _postOpen(_order(3));
        _claim(job, 1);
        _pass(SEAT_WINDOW + 1);
        vm.fee(1000 gwei);
        escrow.poke(job);
        assertEq(_earned(1), FEE / 3);
    }

    function _win(IEscrow.Order memory o, bool late) private returns (bytes32 job) {
        job = _post(o);
        if (late) _openLottery();
        else vm.roll(vm.getBlockNumber() + 2);
        _claimWhereverItWins(job, o.replicas);
        for (uint256 i = 0; i < o.replicas; ++i) {
            _commitResult(job, i, 0);
        }
        for (uint256 i = 0; i < o.replicas; ++i) {
            _revealResult(job, i, i, 0);
        }
    }

    /// @dev Players 0, 1, … take the seats with whichever unit wins, looking again with each block if none does.
    function _claimWhereverItWins(bytes32 job, uint256 n) private {
        for (uint256 i = 0; i < n;) {
            (bytes32 seed,) = escrow.seedOf(job);
            uint256 threshold = escrow.thresholdAt(job, vm.getBlockNumber());
            for (uint32 unit = 0; unit < 100; ++unit) {
                uint256 node = players[i].node;
                if (uint256(keccak256(abi.encode(seed, job, uint256(0), node, uint256(unit)))) >= threshold) continue;
                vm.prank(players[i].worker);
                escrow.claim(job, uint32(node), unit);
                ++i;
                break;
            }
            if (escrow.jobOf(job).seats < i + 1 && i < n) vm.roll(vm.getBlockNumber() + 1);
        }
    }

    function test_Reputation_OnlyOfEarlySeatsWithAQuorum() public {
        // Few units, so that the threshold that counts takes everybody in.
        for (uint256 i = 3; i < 8; ++i) {
            vm.prank(players[i].account);
            registry.leave(players[i].node, address(escrow), STAKE);
        }
        _win(_order(1), true);
        assertEq(_reputation(0), 0);
        _win(_order(2), true);
        assertEq(_reputation(0), 0);
        assertEq(_reputation(1), 0);
    }

    function test_Reputation_GrowsUntilASlash() public {
        for (uint256 i = 0; i < 8; ++i) {
            vm.prank(players[i].account);
            registry.leave(players[i].node, address(escrow), i < 3 ? STAKE - 2 * UNIT : STAKE);
        }
        // Six units: four times 2 / 6 takes everybody in.
        for (uint16 i = 1; i < 4; ++i) {
            _win(_order(2), true);
            assertEq(_reputation(0), i);
        }
        IEscrow.Order memory o = _order(2);
        o.minReputation = 3;
        bytes32 job = _postOpen(o);
        _claimSeats(job, 0, 2);
        _pokeToTheEnd(job);
        assertEq(_reputation(0), 0);
        assertEq(_reputation(1), 0);
    }

    function test_Erc20() public {
        token.mint(client, 1e9);
        vm.prank(client);
        token.approve(address(escrow), 1e9);
        IEscrow.Order memory o = _order(2);
        (o.token, o.price) = (address(token), 3_000_000);
        bytes32 job = _seated(o);
        assertEq(token.balanceOf(address(escrow)), 9_000_000);
        _answerAll(job, _two(0, 0));
        escrow.refund(o);
        assertEq(escrow.nodeBalanceOf(address(token), players[0].node), 3_000_000);
        assertEq(_earned(0), 0);
        vm.prank(players[0].worker);
        escrow.withdrawNode(players[0].node, address(token));
        assertEq(token.balanceOf(players[0].payout), 3_000_000);
        vm.prank(client);
        escrow.withdraw(address(token), keeper);
        assertEq(token.balanceOf(keeper), 3_000_000);
        assertEq(token.balanceOf(address(escrow)), 3_000_000);
    }

    function test_Erc20_LateCancelBurnsTheFee() public {
        token.mint(client, 1e9);
        vm.prank(client);
        token.approve(address(escrow), 1e9);
        IEscrow.Order memory o = _order(3);
        (o.token, o.price) = (address(token), 3_000_000);
        _postOpen(o);
        vm.prank(client);
        escrow.cancel(o);
        assertEq(token.balanceOf(BURN), 300_000);
        assertEq(escrow.balanceOf(address(token), client), 8_700_000);
    }
}
