// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Escrow} from "../../src/Escrow.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {ISeedSource} from "../../src/interfaces/ISeedSource.sol";
import {Scenes} from "../flaws/Scenes.sol";

/// @title seating.tree
contract SeatingTest is Scenes {
    function _notEligible(uint256 player, bytes32 why) private view returns (bytes memory) {
        return abi.encodeWithSelector(IEscrow.NotEligible.selector, players[player].node, why);
    }

    function _expectClaim(bytes32 job, uint256 player, uint32 unit, bytes memory err) private {
        vm.expectRevert(err);
        vm.prank(players[player].worker);
        escrow.claim(job, players[player].node, unit);
    }

    function test_Claim_RevertWhen_UnknownJobOrCaller() public {
        _expectClaim(bytes32("?"), 0, 0, abi.encodeWithSelector(IEscrow.UnknownJob.selector, bytes32("?")));
        bytes32 job = _postOpen(_order(3));
        address account = players[0].account;
        uint32 node = players[0].node;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotWorker.selector, node, account));
        vm.prank(account);
        escrow.claim(job, node, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotWorker.selector, node, players[1].worker));
        vm.prank(players[1].worker);
        escrow.claim(job, node, 0);
    }

    function test_Claim_RevertWhen_SeedUnknown() public {
        bytes32 job = _post(_order(3));
        bytes memory err = abi.encodeWithSelector(IEscrow.SeedNotReady.selector, job);
        _expectClaim(job, 0, 0, err);
        vm.roll(vm.getBlockNumber() + 1);
        _expectClaim(job, 0, 0, err);
    }

    function test_Claim_RevertWhen_ClassNotServed() public {
        IEscrow.Order memory o = _order(3);
        o.classId = bytes32(uint256(0xc1a55));
        bytes32 job = _postOpen(o);
        _expectClaim(job, 0, 0, _notEligible(0, "class"));
    }

    function test_Claim_ServesEachOfEightClasses() public {
        bytes32[] memory classes = new bytes32[](8);
        for (uint256 i = 0; i < 8; ++i) {
            classes[i] = bytes32(i + 100);
        }
        vm.prank(players[0].account);
        registry.optIn(players[0].node, address(escrow), STAKE, classes);
        _pass(1);
        for (uint256 i = 0; i < 8; ++i) {
            IEscrow.Order memory o = _order(3);
            o.classId = classes[i];
            _claim(_postOpen(o), 0);
        }
        bytes32 job = _postOpen(_order(3));
        _expectClaim(job, 0, 0, _notEligible(0, "class"));
    }

    function test_Claim_RevertWhen_StakeTooYoung() public {
        uint32 late = _addNode(STAKE);
        bytes32 job = _postOpen(_order(3));
        assertEq(escrow.nodeView(late).since, vm.getBlockTimestamp());
        _expectClaim(job, 8, 0, _notEligible(8, "since"));
        _pass(1);
        _claim(_postOpen(_order(3)), 8);
    }

    function test_Claim_RevertWhen_ReputationTooLow() public {
        IEscrow.Order memory o = _order(3);
        o.minReputation = 1;
        bytes32 job = _postOpen(o);
        _expectClaim(job, 0, 0, _notEligible(0, "reputation"));
    }

    function test_Claim_RevertWhen_BondNotCovered() public {
        IEscrow.Order memory o = _order(3);
        o.bond = STAKE;
        _claim(_postOpen(o), 0);
        bytes32 job = _postOpen(_order(3));
        _expectClaim(job, 0, 0, _notEligible(0, "bond"));
        assertEq(escrow.nodeView(players[0].node).locked, STAKE);
        assertEq(escrow.lockedOf(players[0].node), STAKE);
    }

    function test_Claim_RevertWhen_SeatHereOr32Elsewhere() public {
        bytes32 job = _postOpen(_order(3));
        _claim(job, 0);
        _expectClaim(job, 0, 1, _notEligible(0, "seat"));
        for (uint256 i = 1; i < 32; ++i) {
            _claim(_postOpen(_order(3)), 0);
        }
        job = _postOpen(_order(3));
        _expectClaim(job, 0, 0, _notEligible(0, "lanes"));
        assertEq(escrow.lockedOf(players[0].node), 32 * BOND);
    }

    function test_Claim_RevertWhen_NoSuchUnit() public {
        bytes32 job = _postOpen(_order(3));
        _expectClaim(job, 0, 100, abi.encodeWithSelector(IEscrow.NoTicket.selector, job, 100));
        vm.prank(players[0].worker);
        escrow.claim(job, players[0].node, 99);
    }

    function test_Claim_RevertWhen_SeatsTaken() public {
        bytes32 job = _seated(_order(2));
        _expectClaim(job, 2, 0, abi.encodeWithSelector(IEscrow.SeatsFull.selector, job));
    }

    function test_Claim_RevertWhen_WindowOver() public {
        bytes32 job = _postOpen(_order(3));
        vm.warp(vm.getBlockTimestamp() + SEAT_WINDOW);
        _claim(job, 0);
        vm.warp(vm.getBlockTimestamp() + 1);
        // Nothing but the reservation has happened: the job is expired, which a claim can only say.
        _expectClaim(job, 1, 0, abi.encodeWithSelector(IEscrow.WrongPhase.selector, job, uint8(IEscrow.Phase.Closed)));
    }

    function test_Claim() public {
        bytes32 job = _postOpen(_order(2));
        uint64 seats = uint64(vm.getBlockTimestamp()) + SEAT_WINDOW;
        vm.expectEmit();
        emit IEscrow.SeatClaimed(job, players[3].node, 0, seats);
        _claim(job, 3);
        assertEq(escrow.seatNode(job, 0), players[3].node);
        assertEq(escrow.seatNode(job, 1), 0);
        assertEq(escrow.lockedOf(players[3].node), BOND);
        _pass(5);
        vm.expectEmit();
        emit IEscrow.SeatClaimed(job, players[1].node, 1, seats + 5 - SEAT_WINDOW + 3 * WALL + RUN_SLACK);
        _claim(job, 1);
        IEscrow.JobView memory v = escrow.jobOf(job);
        assertEq(uint8(v.phase), uint8(IEscrow.Phase.Run));
        assertEq(v.seats, 2);
        assertEq(v.seatsFirst, 2);
    }

    function test_Threshold_DoublesWithEachBlock() public {
        bytes32 job = _post(_order(3));
        uint256 b = vm.getBlockNumber();
        assertEq(escrow.thresholdAt(job, b + 1), 0);
        uint256 base = type(uint256).max / 800 * 3;
        for (uint256 i = 0; i < 9; ++i) {
            uint256 expected = base > type(uint256).max >> i ? type(uint256).max : base << i;
            assertEq(escrow.thresholdAt(job, b + 2 + i), expected);
        }
        assertLt(escrow.thresholdAt(job, b + 10), type(uint256).max);
        assertEq(escrow.thresholdAt(job, b + 11), type(uint256).max);
        assertEq(escrow.thresholdAt(job, b + 1000), type(uint256).max);
    }

    function test_Threshold_TicketWinsExactlyBelow() public {
        uint256 wins;
        for (uint256 round = 0; round < 4; ++round) {
            bytes32 job = _post(_order(3));
            vm.roll(vm.getBlockNumber() + 6);
            (bytes32 seed, bool ready) = escrow.seedOf(job);
            assertTrue(ready);
            for (uint32 unit = 0; unit < 12; ++unit) {
                uint256 node = players[unit % 8].node;
                uint256 ticket = uint256(keccak256(abi.encode(seed, job, uint256(0), node, uint256(unit))));
                bool expected = ticket < escrow.thresholdAt(job, vm.getBlockNumber());
                vm.prank(players[unit % 8].worker);
                try escrow.claim(job, uint32(node), unit) {
                    assertTrue(expected);
                    ++wins;
                    break;
                } catch (bytes memory err) {
                    assertFalse(expected);
                    assertEq(err, abi.encodeWithSelector(IEscrow.NoTicket.selector, job, unit));
                }
            }
        }
        assertGt(wins, 0);
    }

    function test_Seed_IsTheNextBlocksHash() public {
        bytes32 job = _post(_order(3));
        uint256 b = vm.getBlockNumber();
        (, bool ready) = escrow.seedOf(job);
        assertFalse(ready);
        vm.roll(b + 2);
        bytes32 seed;
        (seed, ready) = escrow.seedOf(job);
        assertTrue(ready);
        assertEq(seed, blockhash(b + 1));
        assertNotEq(seed, 0);
    }

    /// @dev At no block is the seed unknown, and it moves on by exactly 256 when the hash is lost.
    function testFuzz_Seed_MovesOnBy256(uint16 later) public {
        bytes32 job = _post(_order(3));
        uint256 b = vm.getBlockNumber();
        uint256 at = b + 2 + later;
        vm.roll(at);
        uint256 source = b + 1 + uint256(later) / 256 * 256;
        assertLe(at - source, 256);
        vm.setBlockhash(source, keccak256(abi.encode(source)));
        (bytes32 seed, bool ready) = escrow.seedOf(job);
        assertTrue(ready);
        assertEq(seed, keccak256(abi.encode(source)));
    }

    function test_OnOptIn_RevertWhen_NotRegistry() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.OnlyRegistry.selector, address(this)));
        escrow.onOptIn(1, client, client, 1 ether, _classes());
    }

    function test_OnOptIn_RenewsWhatGrows() public {
        uint32 node = players[0].node;
        uint64 before = escrow.nodeView(node).since;
        _pass(100);
        // Less: the node stays as old as it is.
        vm.prank(players[0].account);
        registry.leave(node, address(escrow), 4 ether);
        assertEq(escrow.nodeView(node).since, before);
        assertEq(escrow.nodeView(node).cap, 6 ether);
        // The same again: too.
        vm.prank(players[0].account);
        registry.optIn(node, address(escrow), 6 ether, _classes());
        assertEq(escrow.nodeView(node).since, before);
        // Other classes.
        vm.prank(players[0].account);
        registry.optIn(node, address(escrow), 6 ether, new bytes32[](1));
        assertEq(escrow.nodeView(node).since, vm.getBlockTimestamp());
        _pass(100);
        // More.
        registry.addStake{value: 1 ether}(node);
        vm.prank(players[0].account);
        registry.optIn(node, address(escrow), 7 ether, new bytes32[](1));
        assertEq(escrow.nodeView(node).since, vm.getBlockTimestamp());
        bytes32 job = _post(_order(3));
        assertEq(escrow.jobOf(job).units, 770);
    }
}

/// @dev Says when its seed is ready.
contract ManualSource is ISeedSource {
    uint64 public rounds;
    bool public broken;
    mapping(uint64 round => bytes32) private _values;

    function set(uint64 round, bytes32 value) external {
        _values[round] = value;
    }

    function breakDown() external {
        broken = true;
    }

    function request(bytes32) external returns (uint64) {
        require(!broken, "broken");
        return ++rounds;
    }

    function seed(uint64 round) external view returns (bytes32, bool) {
        require(!broken, "broken");
        return (_values[round], _values[round] != 0);
    }
}

/// @title seating.tree: seed from an external source
contract SeedSourceTest is Scenes {
    ManualSource private source = new ManualSource();

    function _parameters() internal view override returns (IEscrow.Parameters memory p) {
        p = super._parameters();
        p.seedSource = address(source);
    }

    function test_SeedSource() public {
        bytes32 job = _post(_order(2));
        assertEq(source.rounds(), 1);
        _openLottery();
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.SeedNotReady.selector, job));
        escrow.claim(job, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.poke(job);
        assertEq(escrow.thresholdAt(job, vm.getBlockNumber()), 0);

        source.set(1, keccak256("seed"));
        // Ready is not enough: a poke starts the lottery.
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.SeedNotReady.selector, job));
        escrow.claim(job, 1, 0);
        escrow.poke(job);
        (bytes32 seed, bool ready) = escrow.seedOf(job);
        assertTrue(ready);
        assertEq(seed, keccak256("seed"));
        assertEq(escrow.thresholdAt(job, vm.getBlockNumber()), type(uint256).max / 800 * 2);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.poke(job);
        _openLottery();
        _claimSeats(job, 0, 2);
        // The extra round asks again.
        _answerAll(job, _two(0, 1));
        assertEq(source.rounds(), 2);
        _openLottery();
        vm.prank(players[2].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.SeedNotReady.selector, job));
        escrow.claim(job, 3, 0);
        source.set(2, keccak256("second seed"));
        escrow.poke(job);
        _openLottery();
        _claim(job, 2);
    }

    function test_SeedSource_OneThatBreaksHoldsNoMoney() public {
        bytes32 first = _post(_order(2));
        source.set(1, keccak256("seed"));
        escrow.poke(first);
        _openLottery();
        _claimSeats(first, 0, 2);
        IEscrow.Order memory late = _order(3);
        bytes32 second = _post(late);
        source.breakDown();
        // The last reveal opens the extra round all the same.
        _answerAll(first, _two(0, 1));
        assertEq(uint8(escrow.jobOf(first).phase), uint8(IEscrow.Phase.Seats));
        // Nothing is known to be ready, so that cancelling costs nothing, and what nobody takes expires.
        vm.prank(client);
        escrow.cancel(late);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
        assertEq(uint8(escrow.jobOf(second).phase), uint8(IEscrow.Phase.Closed));
        vm.warp(escrow.jobOf(first).deadline + 1);
        escrow.poke(first);
        assertEq(uint8(escrow.jobOf(first).phase), uint8(IEscrow.Phase.Closed));
        // A new job is refused while there is no seed to be had.
        IEscrow.Order memory next = _order(1);
        vm.deal(client, PRICE);
        vm.prank(client);
        vm.expectPartialRevert(IEscrow.SeedNotReady.selector);
        escrow.post{value: PRICE}(next);
    }

    function test_SeedSource_CancelIsFreeUntilItIsReady() public {
        IEscrow.Order memory o = _order(3);
        _post(o);
        _openLottery();
        vm.prank(client);
        escrow.cancel(o);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
        o = _order(3);
        _post(o);
        source.set(2, keccak256("seed"));
        vm.prank(client);
        escrow.cancel(o);
        assertEq(escrow.balanceOf(address(0), client), 6 * PRICE - FEE);
    }
}
