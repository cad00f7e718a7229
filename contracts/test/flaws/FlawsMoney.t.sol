// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Scenes} from "./Scenes.sol";

/// @dev Takes no coin, whoever sends it.
contract Refuser {
    IEscrow private immutable ESCROW;

    constructor(IEscrow escrow_) payable {
        ESCROW = escrow_;
    }

    function post(IEscrow.Order calldata order, uint256 value) external returns (bytes32) {
        return ESCROW.post{value: value}(order);
    }

    function poke(bytes32 job) external {
        ESCROW.poke(job);
    }

    function withdraw(address to) external {
        ESCROW.withdraw(address(0), to);
    }
}

/// @title  Flaws of the first draft in stake and money: 3, 5, 7, 8, 12
contract FlawsMoneyTest is Scenes {
    // 3. Stake withdrawn in mid-job.

    function test_Flaw03_StakeWithdrawnMidJob() public {
        bytes32 job = _seated(_order(3));
        uint32 node = players[0].node;
        vm.startPrank(players[0].account);
        registry.leave(node, address(escrow), STAKE);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, STAKE, 0));
        registry.withdrawStake(node, STAKE, players[0].account);
        uint256 due = vm.getBlockTimestamp() + EXIT_DELAY;
        vm.expectRevert(abi.encodeWithSelector(IRegistry.ExitNotDue.selector, due));
        registry.release(node, address(escrow));
        _pass(EXIT_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.BondsLocked.selector, BOND, 0));
        registry.release(node, address(escrow));
        vm.stopPrank();

        // What is leaving can still be seized.
        _pokeToTheEnd(job);
        uint256 left = STAKE - BOND * 3 / 10;
        assertEq(_stake(0), left);
        registry.release(node, address(escrow));
        vm.prank(players[0].account);
        registry.withdrawStake(node, left, address(0xCAFE));
        assertEq(address(0xCAFE).balance, left);
    }

    function test_Flaw03_StakeWithdrawnMidJob_WhatLeavesWinsNoSeats() public {
        uint32 node = players[0].node;
        bytes32 job = _postOpen(_order(3));
        vm.prank(players[0].account);
        registry.leave(node, address(escrow), STAKE);
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotEligible.selector, node, bytes32("bond")));
        escrow.claim(job, node, 0);
    }

    /// @dev One stake backs no more seats than its bonds cover.
    function test_Flaw03_StakeWithdrawnMidJob_NoStakeTwice() public {
        _addNode(2 * BOND);
        _pass(1);
        uint32 node = players[8].node;
        _claim(_postOpen(_order(3)), 8);
        _claim(_postOpen(_order(3)), 8);
        bytes32 third = _postOpen(_order(3));
        vm.prank(players[8].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotEligible.selector, node, bytes32("bond")));
        escrow.claim(third, node, 0);
    }

    // 5. A reverting payee blocks all.

    function test_Flaw05_RevertingPayeeBlocksAll_OnlyItself() public {
        address refuser = address(new Refuser(escrow));
        vm.prank(players[0].account);
        registry.setPayout(players[0].node, refuser);
        bytes32 job = _seated(_order(3));
        _answerAll(job, _three(0, 0, 0));
        _assertPhase(job, IEscrow.Phase.Closed);

        vm.prank(players[1].worker);
        escrow.withdrawNode(players[1].node, address(0));
        assertEq(players[1].payout.balance, PRICE);
        vm.prank(players[0].worker);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(0), refuser, PRICE));
        escrow.withdrawNode(players[0].node, address(0));

        vm.prank(players[0].account);
        registry.setPayout(players[0].node, address(0xCAFE));
        vm.prank(players[0].worker);
        escrow.withdrawNode(players[0].node, address(0));
        assertEq(address(0xCAFE).balance, PRICE);
    }

    /// @dev A client, payer and keeper that takes no coin: refund and tip are credits.
    function test_Flaw05_RevertingPayeeBlocksAll_PayerAndKeeper() public {
        Refuser refuser = new Refuser{value: 1 ether}(escrow);
        IEscrow.Order memory o = _order(3);
        o.client = o.payer = address(refuser);
        bytes32 job = refuser.post(o, 3 * PRICE);
        _openLottery();
        _claimSeats(job, 0, 3);
        _commitResult(job, 0, 0);
        _commitResult(job, 1, 0);
        _commitResult(job, 2, 0);
        _revealResult(job, 0, 0, 0);
        _revealResult(job, 1, 1, 0);
        _pass(REVEAL_WINDOW + 1);
        refuser.poke(job);
        _assertPhase(job, IEscrow.Phase.Closed);
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), address(refuser)), PRICE + TIP);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(0), address(refuser), PRICE + TIP)
        );
        refuser.withdraw(address(refuser));
        refuser.withdraw(address(0xCAFE));
        assertEq(address(0xCAFE).balance, PRICE + TIP);
    }

    // 7. Slashed coin and rounding dust stuck.

    function test_Flaw07_SlashedCoinAndDustStuck() public {
        IEscrow.Order memory o = _order(3);
        o.price = PRICE + 3 gwei;
        o.bond = BOND + 1e12;
        bytes32 job = _seated(o);
        _answerAll(job, _three(0, 1, 2));
        _openLottery();
        _claimSeats(job, 3, 5);
        _commitResult(job, 3, 3);
        _commitResult(job, 4, 4);
        _revealResult(job, 3, 3, 3);
        _pokeToTheEnd(job);
        _assertOutcome(job, IEscrow.Outcome.NoneWins);

        uint256 slash = o.bond * 3 / 10;
        assertEq(BURN.balance, slash - TIP);
        assertEq(address(registry).balance, 8 * STAKE - slash);
        uint256 share = 3 * o.price / 4 / 1 gwei * 1 gwei;
        uint256 dust = 3 * o.price - 4 * share;
        assertEq(dust, 1 gwei);
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), client), dust);
        vm.prank(client);
        escrow.withdraw(address(0), client);
        vm.prank(keeper);
        escrow.withdraw(address(0), keeper);
        assertEq(keeper.balance, TIP);
        for (uint256 i = 0; i < 4; ++i) {
            vm.prank(players[i].account);
            escrow.withdrawNode(players[i].node, address(0));
            assertEq(players[i].payout.balance, share);
        }
        assertEq(address(escrow).balance, 0, "nothing stays");
    }

    /// @dev Nobody gains by a slash but who pokes, and no reveal is tipped.
    function test_Flaw07_SlashedCoinAndDustStuck_RevealsAreNotTipped() public {
        bytes32 job = _seated(_order(3));
        for (uint256 i = 0; i < 3; ++i) {
            _commitResult(job, i, i == 2 ? 1 : 0);
        }
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(keeper);
            escrow.revealResult(job, uint8(i), _result(i == 2 ? 1 : 0), _salt(i));
        }
        assertEq(escrow.balanceOf(address(0), keeper), 0);
        assertEq(BURN.balance, BOND * 3 / 10);
    }

    // 8. Slash equal to the minimum payment: lying cost what honest work earned.

    function test_Flaw08_SlashEqualToMinimumPayment(uint256 price) public {
        price = bound(price, 10 * FEE, 1 ether) / 1 gwei * 1 gwei;
        IEscrow.Order memory o = _order(3);
        o.price = price;
        o.bond = 5 * price / 1e12 * 1e12;
        uint256 due = _locked(o);
        if (o.bond < 5 * price) {
            vm.prank(client);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.BondTooLow.selector, o.bond, 5 * price));
            escrow.post{value: due}(o);
            o.bond += 1e12;
        }
        bytes32 job = _seated(o);
        _commitResult(job, 0, 0);
        _commitResult(job, 1, 0);
        _pokeToTheEnd(job);
        uint256 slash = STAKE - _stake(2);
        assertGe(slash, price * 3 / 2, "the least slash outweighs the price");
    }

    function test_Flaw08_SlashEqualToMinimumPayment_BondBelowTheMinimum() public {
        IEscrow.Order memory o = _order(3);
        o.bond = BOND - 1e12;
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BondTooLow.selector, o.bond, BOND));
        escrow.post{value: 3 * PRICE}(o);
    }

    // 12. No ERC-20 and no limits.

    function test_Flaw12_NoErc20_JobIsPaidInAToken() public {
        IEscrow.Order memory o = _tokenOrder(2);
        token.mint(client, 15_000_000);
        vm.prank(client);
        token.approve(address(escrow), 15_000_000);
        bytes32 job = _seated(o);
        assertEq(token.balanceOf(address(escrow)), 15_000_000);
        _answerAll(job, _two(0, 0));
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(players[i].worker);
            escrow.withdrawNode(players[i].node, address(token));
            assertEq(token.balanceOf(players[i].payout), 5_000_000);
            assertEq(_earned(i), 0);
        }
        escrow.refund(o);
        vm.prank(client);
        escrow.withdraw(address(token), client);
        assertEq(token.balanceOf(client), 5_000_000);
        assertEq(token.balanceOf(address(escrow)), 0);
    }

    function test_Flaw12_NoErc20_OnlyAllowedTokens() public {
        IEscrow.Order memory o = _tokenOrder(2);
        o.token = address(registry);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, o.token));
        escrow.post(o);
    }

    function test_Flaw12_NoLimits_EveryFieldHasBounds() public {
        IEscrow.Order[13] memory bad;
        bytes32[13] memory fields;
        for (uint256 i = 0; i < bad.length; ++i) {
            bad[i] = _order(3);
        }
        (bad[0].replicas, fields[0]) = (0, "replicas");
        (bad[1].replicas, fields[1]) = (4, "replicas");
        (bad[2].replicas, fields[2]) = (255, "replicas");
        (bad[3].quorum, fields[3]) = (1, "quorum");
        (bad[4].quorum, fields[4]) = (3, "quorum");
        (bad[5].wallLimit, fields[5]) = (0, "wallLimit");
        (bad[6].wallLimit, fields[6]) = (91, "wallLimit");
        (bad[7].classId, fields[7]) = (bytes32(uint256(2) << 248), "classId");
        (bad[8].minReputation, fields[8]) = (256, "minReputation");
        (bad[9].version, fields[9]) = (2, "version");
        (bad[10].extensions, fields[10]) = (bytes32(uint256(1)), "extensions");
        (bad[11].price, fields[11]) = (PRICE - 1, "price");
        (bad[12].bond, fields[12]) = (BOND + 1, "bond");
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.prank(client);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.BadOrder.selector, fields[i]));
            escrow.post{value: 3 * PRICE}(bad[i]);
        }
    }

    function test_Flaw12_NoLimits_WhatIsSentIsWhatIsDue() public {
        IEscrow.Order memory o = _order(2);
        for (uint256 i = 0; i < 2; ++i) {
            uint256 sent = i == 0 ? 3 * PRICE - 1 : 3 * PRICE + 1;
            vm.prank(client);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.WrongPayment.selector, sent, 3 * PRICE));
            escrow.post{value: sent}(o);
        }
        o.price = 10 * FEE - 1 gwei;
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.PriceTooLow.selector, o.price, 10 * FEE));
        escrow.post{value: 3 * o.price}(o);
    }

    function test_Flaw12_NoLimits_ProfilesAndClasses() public {
        uint32 node = players[0].node;
        IRegistry.Profile memory profile = _profile();
        profile.capabilities = new bytes(4097);
        bytes32[] memory classes = new bytes32[](9);
        vm.startPrank(players[0].account);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.CapabilitiesTooLong.selector, 4097));
        registry.setProfile(node, profile);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.TooManyClasses.selector, 9));
        registry.optIn(node, address(escrow), STAKE, classes);
        vm.stopPrank();
    }

    function _tokenOrder(uint8 n) private returns (IEscrow.Order memory o) {
        o = _order(n);
        o.token = address(token);
        o.price = 5_000_000;
    }
}
