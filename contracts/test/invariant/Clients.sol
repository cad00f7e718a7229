// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Moments} from "./Moments.sol";

/// @title  What clients do, and the clock
/// @notice Whatever the protocol allows is called bare, so that a refusal fails the run; whatever it forbids must fail.
abstract contract Clients is Moments {
    uint256 private constant MAX_JOBS = 12;

    /// @dev Two strangers, a node's account and a node's worker post jobs.
    function _payer(uint256 who) internal view returns (address) {
        if (who % 8 == 6) return players[2].account;
        if (who % 8 == 7) return players[3].worker;
        return who % 2 == 0 ? client : second;
    }

    /// @notice Posts an order: any size, coin or token, either class, by one of four payers.
    function post(uint256 size, uint256 who, uint256 price, uint256 flags) public watched {
        if (jobs.length >= MAX_JOBS) return;
        IEscrow.Order memory o = _order([1, 2, 3, 3, 5][size % 5]);
        o.payer = _payer(who);
        o.client = o.payer;
        if (who % 8 < 6 && flags & 1 != 0) o.client = client;
        if (flags & 2 != 0) o.classId = DET;
        if (flags & 28 == 28) o.minReputation = 1;
        if (flags & 96 != 0) {
            o.price = 10 * FEE + price % 7e6 * 1 gwei;
            o.bond = (o.price * 5 + 1e12 - 1) / 1e12 * 1e12 + flags % 64 * 1e12;
        } else {
            o.token = address(token);
            o.price = 3_000_000 + price % 1e5 * 10;
            o.bond = (o.price * 1e9 + 1e12 - 1) / 1e12 * 1e12 + flags % 64 * 1e14;
            ++seen["token"];
        }
        _postOrder(o);
        // The seed is known soon, and the threshold is low.
        if (flags >> 8 & 1 != 0) vm.roll(vm.getBlockNumber() + 2 + (flags >> 9) % 3);
    }

    function _postOrder(IEscrow.Order memory o) internal returns (bytes32 job) {
        job = _post(o);
        jobs.push(job);
        orders[job] = o;
        (ghost[job].locked, ghost[job].postedAt) = (_locked(o), vm.getBlockTimestamp());
        posted[o.token] += _locked(o);
        ++seen["posted"];
    }

    /// @notice Allowed only to the client, in time and before a seat is taken; what comes back is what the text says.
    function cancel(uint256 which, uint256 who) public watched {
        if (jobs.length == 0) return;
        bytes32 job = jobs[which % jobs.length];
        IEscrow.Order memory o = orders[job];
        IEscrow.JobView memory v = escrow.jobOf(job);
        address caller = who % 4 == 0 ? keeper : o.client;
        bool allowed = caller == o.client && v.phase == IEscrow.Phase.Seats && v.seats == 0
            && vm.getBlockTimestamp() <= v.deadline;
        uint256 before = escrow.balanceOf(o.token, o.payer);
        vm.prank(caller);
        if (!allowed) {
            try escrow.cancel(o) {
                assertTrue(false, "cancelled a job that can't be");
            } catch {
                _forget();
            }
            return;
        }
        escrow.cancel(o);
        uint256 fee = o.token == address(0) ? FEE : 300_000;
        uint256 due = ghost[job].locked - (vm.getBlockNumber() > v.openedBlock + 1 ? fee : 0);
        assertEq(escrow.balanceOf(o.token, o.payer) - before, due, "what a cancelled job gives back");
    }

    /// @notice Credits the rest of a closed job once.
    function refund(uint256 which) public watched {
        if (jobs.length != 0) _refund(jobs[which % jobs.length]);
    }

    function _refund(bytes32 job) internal {
        IEscrow.Order memory o = orders[job];
        IEscrow.JobView memory v = escrow.jobOf(job);
        uint256 before = escrow.balanceOf(o.token, o.payer);
        vm.prank(keeper);
        if (v.phase == IEscrow.Phase.Closed && v.remaining != 0) {
            escrow.refund(o);
            assertEq(escrow.balanceOf(o.token, o.payer) - before, v.remaining, "the rest goes to the payer");
        } else {
            // It may close the job itself, if that is due.
            bool due = v.phase != IEscrow.Phase.Closed && vm.getBlockTimestamp() > v.deadline;
            try escrow.refund(o) {
                assertTrue(due, "refunded before the end, or twice");
            } catch {
                _forget();
            }
        }
    }

    /// @notice An owner takes its balance out.
    function withdraw(uint256 who, uint256 what) public watched {
        address owner = who % 9 == 8 ? keeper : _payer(who);
        _withdraw(what % 2 == 0 ? address(0) : address(token), owner);
    }

    function _withdraw(address token_, address owner) internal {
        uint256 due = escrow.balanceOf(token_, owner);
        uint256 before = _balance(token_, sink);
        vm.prank(owner);
        try escrow.withdraw(token_, sink) {
            assertEq(_balance(token_, sink) - before, due, "a balance is paid out in full");
        } catch {
            _forget();
            assertEq(due, 0, "an owner can't be kept from its balance");
        }
    }

    /// @notice Seconds and blocks go by; the base fee changes.
    function pass(uint256 seconds_, uint256 blocks) public {
        uint256 s = seconds_ % 16;
        vm.warp(vm.getBlockTimestamp() + s);
        vm.roll(vm.getBlockNumber() + s + blocks % 12);
        vm.fee(blocks % 3 == 0 ? 5 gwei : 1 gwei);
    }

    /// @notice To the very deadline that comes next, or one second behind it.
    function jump(bool behind) public {
        uint256 next = type(uint256).max;
        for (uint256 i = 0; i < jobs.length; ++i) {
            Moment memory m = _moment(jobs[i]);
            bool open = m.phase != IEscrow.Phase.Closed && m.deadline >= vm.getBlockTimestamp();
            if (open && m.deadline < next) next = m.deadline;
        }
        if (next != type(uint256).max) _pass(next - vm.getBlockTimestamp() + (behind ? 1 : 0));
    }

    function _balance(address token_, address owner) internal view returns (uint256) {
        return token_ == address(0) ? owner.balance : token.balanceOf(owner);
    }

    /// @dev A job that is in `phase` now and can be acted on; zero if there is none.
    function _find(uint256 which, IEscrow.Phase phase) internal view returns (bytes32 job, Moment memory m) {
        for (uint256 i = 0; i < jobs.length; ++i) {
            job = jobs[addmod(which, i, jobs.length)];
            m = _moment(job);
            if (m.phase == phase && !m.fresh) return (job, m);
        }
        return (0, m);
    }
}
