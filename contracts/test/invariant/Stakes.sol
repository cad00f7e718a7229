// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Nodes} from "./Nodes.sol";

/// @title  What nodes do with their stake and their earnings
abstract contract Stakes is Nodes {
    /// @notice More stake for a node, half of the time into its cap.
    function addStake(uint256 who, uint256 amount) public watched {
        uint256 player = who % 8;
        amount = amount % 0.5 ether;
        if (deposited > 40 ether) return;
        vm.deal(address(this), amount);
        registry.addStake{value: amount}(players[player].node);
        deposited += amount;
        if (amount % 2 == 0) _raise(player);
    }

    /// @dev All free stake goes into the cap.
    function _raise(uint256 player) internal {
        uint32 node = players[player].node;
        IRegistry.Node memory n = registry.nodeOf(node);
        uint256 cap = registry.optInOf(node, address(escrow)).cap + n.stake - n.reserved;
        vm.prank(players[player].account);
        registry.optIn(node, address(escrow), cap, _classes());
    }

    /// @notice A part of a cap, or all of it, starts to leave.
    function leave(uint256 who, uint256 part) public watched {
        uint256 player = who % 8;
        uint32 node = players[player].node;
        IRegistry.OptIn memory o = registry.optInOf(node, address(escrow));
        uint256 amount = part % 4 == 0 ? o.cap : o.cap / (2 + part % 7);
        if (o.leaving != 0 || amount == 0) return;
        vm.prank(players[player].account);
        registry.leave(node, address(escrow), amount);
        ++seen["leave"];
    }

    /// @notice Somebody with a seat leaves with everything and waits until it is due: the bond stays.
    function leaveSeated(uint256 who) public watched {
        for (uint256 i = 0; i < 8; ++i) {
            Player memory p = players[addmod(who, i, 8)];
            IRegistry.OptIn memory o = registry.optInOf(p.node, address(escrow));
            if (escrow.lockedOf(p.node) == 0 || o.leaving != 0 || o.cap == 0) continue;
            vm.prank(p.account);
            registry.leave(p.node, address(escrow), o.cap);
            _release(p.node, true);
            ++seen["left seated"];
            return;
        }
    }

    /// @notice Comes through exactly when the delay is over and the rest covers the bonds.
    function release(uint256 who, bool wait) public watched {
        _release(players[who % 8].node, wait);
    }

    function _release(uint32 node, bool wait) internal {
        IRegistry.OptIn memory o = registry.optInOf(node, address(escrow));
        if (o.leaving == 0) return;
        if (wait && vm.getBlockTimestamp() < o.leaveAt) _pass(o.leaveAt - vm.getBlockTimestamp());
        if (vm.getBlockTimestamp() >= o.leaveAt && escrow.lockedOf(node) <= o.cap) {
            registry.release(node, address(escrow));
            ++seen["release"];
            return;
        }
        try registry.release(node, address(escrow)) {
            assertTrue(false, "stake was released under a bond, or too early");
        } catch {
            _forget();
        }
    }

    /// @notice Takes out stake: what is free, or more, which must fail.
    function withdrawStake(uint256 who, uint256 amount) public watched {
        uint256 player = who % 8;
        IRegistry.Node memory n = registry.nodeOf(players[player].node);
        uint256 free = n.stake - n.reserved;
        amount = free == 0 ? 1 : amount % (2 * free) + 1;
        uint256 before = sink.balance;
        vm.prank(players[player].account);
        try registry.withdrawStake(players[player].node, amount, sink) {
            assertLe(amount, free, "stake that is not free was paid out");
            assertEq(sink.balance - before, amount, "stake is paid out in full");
            stakeOut += amount;
            ++seen["stake out"];
        } catch {
            _forget();
            bool kept = n.stake < amount + UNIT;
            assertTrue(amount > free || kept, "free stake was held back");
        }
    }

    /// @notice A node's earnings are asked for, by the node or by somebody else.
    function withdrawNode(uint256 who, uint256 what) public watched {
        uint256 player = who % 8;
        address caller =
            [players[player].worker, players[player].account, keeper, players[(player + 1) % 8].worker][what / 2 % 4];
        _withdrawNode(player, what % 2 == 0 ? address(0) : address(token), caller);
    }

    /// @dev Goes to the payout address alone, and only at the node's own wish.
    function _withdrawNode(uint256 player, address token_, address caller) internal {
        Player memory p = players[player];
        uint256 due = escrow.nodeBalanceOf(token_, p.node);
        uint256 before = _balance(token_, p.payout);
        bool own = caller == p.worker || caller == p.account;
        vm.prank(caller);
        try escrow.withdrawNode(p.node, token_) {
            assertTrue(own, "a stranger withdrew");
            assertEq(_balance(token_, p.payout) - before, due, "earnings are paid out in full");
            ++seen["node withdrawal"];
        } catch {
            _forget();
            assertTrue(!own || due == 0, "a node can't be kept from its earnings");
        }
    }
}
