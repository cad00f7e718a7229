// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Outcomes} from "./Outcomes.sol";

/// @title  The market that the fuzzer plays with, and its last day
contract World is Outcomes {
    /// @notice What the fuzzer may call.
    function actions() external pure returns (bytes4[] memory list) {
        list = new bytes4[](14);
        (list[0], list[1], list[2], list[3]) =
        (this.post.selector, this.claim.selector, this.commit.selector, this.reveal.selector);
        (list[4], list[5], list[6], list[7]) =
        (this.poke.selector, this.pass.selector, this.jump.selector, this.cancel.selector);
        (list[8], list[9], list[10], list[11]) =
        (this.refund.selector, this.withdraw.selector, this.withdrawNode.selector, this.attack.selector);
        (list[12], list[13]) = (this.stake.selector, this.revealLate.selector);
    }

    /// @notice One of the rarer things.
    function stake(uint256 kind, uint256 who, uint256 amount) external {
        if (kind % 6 == 0) addStake(who, amount);
        else if (kind % 6 == 1) leave(who, amount);
        else if (kind % 6 == 2) release(who, amount % 16 == 0);
        else if (kind % 6 == 3) withdrawStake(who, amount);
        else if (kind % 6 == 4) this.stakeOne(who);
        else if (amount % 4 == 0) leaveSeated(who);
    }

    /// @notice A node's free stake goes back into its cap.
    function stakeOne(uint256 who) external watched {
        _raise(who % 8);
    }

    /// @notice One call, of a kind and with arguments that follow from `seed`.
    function step(uint256 seed) external {
        (uint256 a, uint256 b, uint256 c) = (seed >> 16 & 0xffffffff, seed >> 48 & 0xffffffff, seed >> 80);
        uint256 kind = seed % 25;
        if (kind < 2) this.post(a, b, c, seed >> 128);
        else if (kind < 6) this.claim(a, b, c);
        else if (kind < 10) this.commit(a, b, c);
        else if (kind < 14 || kind == 18 && b & 6 != 0) this.reveal(a, b, c);
        else if (kind == 14) this.poke(a);
        else if (kind == 15) this.revealLate(a, b);
        else if (kind < 18) this.pass(a, b);
        else if (kind == 18) this.jump(b & 1 == 0);
        else if (kind == 19) this.cancel(a, b);
        else if (kind == 20) this.refund(a);
        else if (kind == 21) b & 1 == 0 ? this.withdraw(a, c) : this.withdrawNode(a, c);
        else if (kind == 22) this.attack(a, b, c);
        else this.stake(a, b, c);
    }

    /// @notice Every job comes to its end by pokes alone, within its two rounds.
    function endJobs() public {
        for (uint256 i = 0; i < jobs.length; ++i) {
            for (uint256 k = 0; k < 8; ++k) {
                IEscrow.JobView memory v = escrow.jobOf(jobs[i]);
                if (v.phase == IEscrow.Phase.Closed) break;
                if (v.deadline >= vm.getBlockTimestamp()) _pass(v.deadline - vm.getBlockTimestamp() + 1);
                _poke(jobs[i], v);
            }
            IEscrow.JobView memory end = escrow.jobOf(jobs[i]);
            assertEq(uint8(end.phase), uint8(IEscrow.Phase.Closed), "a job has no end");
            assertEq(ghost[jobs[i]].decisions, 1, "a closed job has an outcome");
            assertEq(end.finished, (1 << end.seats) - 1, "a seat was forgotten");
        }
    }

    /// @notice Whatever has happened, an honest job is still done and paid.
    function playHonest() public {
        for (uint256 i = 0; i < 3; ++i) {
            _renew(i);
        }
        _pass(1);
        IEscrow.Order memory o = _order(3);
        o.bond = BOND;
        bytes32 job = _postOrder(o);
        _openLottery();
        for (uint256 i = 0; i < 3; ++i) {
            assertTrue(_tryClaim(job, i), "an honest node gets its seat");
        }
        Moment memory m = _moment(job);
        for (uint256 i = 0; i < 3; ++i) {
            _tryCommit(job, i, m, 0);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _tryReveal(job, i, 0);
        }
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(uint8(seats[job][i].end), uint8(IEscrow.SeatEnd.Paid), "an honest node is paid");
            assertTrue(seats[job][i].early == (reputation[players[i].node] != 0) || !seats[job][i].early);
        }
        assertEq(uint8(escrow.jobOf(job).phase), uint8(IEscrow.Phase.Closed), "the last reveal closes the job");
    }

    function _renew(uint256 player) private watched {
        vm.deal(address(this), NODE_STAKE);
        registry.addStake{value: NODE_STAKE}(players[player].node);
        deposited += NODE_STAKE;
        _raise(player);
    }

    /// @notice Everybody takes out what is theirs; nothing stays.
    function takeAll() public {
        for (uint256 i = 0; i < jobs.length; ++i) {
            this.refundOf(i);
            this.refundOf(i);
        }
        for (uint256 i = 0; i < 9; ++i) {
            this.withdraw(i, 0);
            this.withdraw(i, 1);
        }
        for (uint256 i = 0; i < players.length; ++i) {
            this.withdrawNode(i, 0);
            this.withdrawNode(i, 1);
            this.exit(i);
        }
        assertEq(address(escrow).balance, 0, "coin stays in the escrow");
        assertEq(token.balanceOf(address(escrow)), 0, "tokens stay in the escrow");
        assertEq(address(registry).balance, 0, "stake stays in the registry");
    }

    /// @notice The rest of a job, if there is one.
    function refundOf(uint256 i) external watched {
        _refund(jobs[i]);
    }

    /// @notice A node leaves for good.
    function exit(uint256 player) external watched {
        uint32 node = players[player].node;
        _release(node, true);
        uint256 cap = registry.optInOf(node, address(escrow)).cap;
        if (cap != 0) {
            vm.prank(players[player].account);
            registry.leave(node, address(escrow), cap);
            _release(node, true);
        }
        IRegistry.Node memory n = registry.nodeOf(node);
        assertEq(n.reserved, 0, "stake is kept though no bond is open");
        if (n.stake == 0) return;
        if (vm.getBlockTimestamp() < 1_800_000_000 + EXIT_DELAY) vm.warp(1_800_000_000 + EXIT_DELAY);
        vm.prank(players[player].account);
        registry.withdrawStake(node, n.stake, sink);
        stakeOut += n.stake;
    }

    /// @notice All jobs end, the market still works, everything is taken out, and everything has held.
    function lastDay() external {
        endJobs();
        playHonest();
        checkAll();
        takeAll();
        checkAll();
    }

    /// @notice Every property.
    function checkAll() public view {
        checkMoney();
        checkJobs();
        checkPaidOnce();
        checkBonds();
        checkCaps();
        checkRegistry();
        checkSlashes();
        checkLanes();
        checkCommits();
        checkReputation();
        checkReentry();
        checkDeeds();
        checkDecisions();
        checkHonest();
        checkEnds();
    }
}
