// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Clients} from "./Clients.sol";

/// @title  What nodes do with jobs, honest ones, liars and silent ones
/// @notice Players 0 to 4 mostly agree, 5 lies, 6 is silent, 7 says anything.
abstract contract Nodes is Clients {
    /// @dev What a claim would need.
    struct Ticket {
        bool eligible;
        bool wins;
        bool early;
        uint32 unit;
    }

    /// @notice Some nodes, one after the other, try for seats of a job.
    function claim(uint256 which, uint256 from, uint256 count) public {
        (bytes32 job,) = _find(which, IEscrow.Phase.Seats);
        if (job == 0) return;
        for (uint256 i = 0; i <= count % 8; ++i) {
            _tryClaim(job, addmod(from, i, 8));
        }
    }

    /// @dev Claims; must come through exactly when the node may sit there and has a ticket that wins.
    function _tryClaim(bytes32 job, uint256 player) internal watched returns (bool) {
        Moment memory m = _moment(job);
        bool open = m.phase == IEscrow.Phase.Seats && !m.fresh;
        Ticket memory t = _ticket(job, player, m.view_);
        uint256 seat = m.view_.seats;
        vm.prank(players[player].worker);
        if (!(open && t.eligible && t.wins)) {
            try escrow.claim(job, players[player].node, t.unit) {
                assertTrue(false, "claimed a seat that is not its own");
            } catch {
                _forget();
            }
            ++seen["claim refused"];
            return false;
        }
        escrow.claim(job, players[player].node, t.unit);
        GhostSeat storage s = seats[job].push();
        (s.player, s.early) = (player, t.early);
        ++seen[t.early ? "early seat" : "seat"];
        assertEq(escrow.seatNode(job, uint8(seat)), players[player].node, "seats are numbered in the order of claims");
        return true;
    }

    function _ticket(bytes32 job, uint256 player, IEscrow.JobView memory v) private view returns (Ticket memory t) {
        uint32 node = players[player].node;
        IEscrow.NodeView memory n = escrow.nodeView(node);
        IEscrow.Order storage o = orders[job];
        t.eligible = n.since < ghost[job].postedAt && n.reputation >= o.minReputation && n.locked + o.bond <= n.cap
            && harness.lanesOf(node) != type(uint32).max && !_isParty(job, player);
        for (uint256 i = 0; i < seats[job].length; ++i) {
            if (seats[job][i].player == player) t.eligible = false;
        }
        (bytes32 seed, bool ready) = escrow.seedOf(job);
        uint256 threshold = escrow.thresholdAt(job, vm.getBlockNumber());
        for (; ready && t.unit < n.cap / UNIT && !t.wins; ++t.unit) {
            uint256 hash = uint256(keccak256(abi.encode(seed, job, uint256(v.round), node, t.unit)));
            t.wins = hash < threshold || threshold == type(uint256).max;
        }
        if (t.wins) --t.unit;
        uint256 places = v.round == 0 ? o.replicas : 2;
        t.early = vm.getBlockNumber() <= v.openedBlock + 4 || 4 * places >= v.units;
    }

    function _isParty(bytes32 job, uint256 player) private view returns (bool) {
        (address c, address p) = (orders[job].client, orders[job].payer);
        (address a, address w) = (players[player].account, players[player].worker);
        return c == a || c == w || p == a || p == w;
    }

    /// @notice Some seats of a job commit.
    function commit(uint256 which, uint256 mask, uint256 answers) public {
        (bytes32 job, Moment memory m) = _find(which, IEscrow.Phase.Run);
        if (job == 0) return;
        uint256 mood = uint256(job) % 12;
        if (mood == 1) _waitForLimit(job, m);
        for (uint256 i = 0; i < seats[job].length; ++i) {
            bool skips = mask >> 2 * i & 3 == 0 || seats[job][i].player == 6 && mask >> 16 & 3 != 0;
            // In some jobs all say `unavailable`, or `limit`, or each something else.
            uint256 taste = [uint256(11), 14, 256 + i, answers >> 8 * i & 255][mood < 3 ? mood : 3];
            if (!skips) _tryCommit(job, i, m, taste);
        }
    }

    /// @dev Goes on to where `limit` may be committed, most of the time.
    function _waitForLimit(bytes32 job, Moment memory m) private {
        uint256 wall = orders[job].wallLimit;
        uint256 late = m.deadline - _runWindow(wall) + 2 * wall + 1;
        uint256 time = vm.getBlockTimestamp();
        if (time < late && time % 4 != 0) _pass(late - time);
    }

    /// @dev Commits, once; a seat of another round or one that has committed must be refused.
    function _tryCommit(bytes32 job, uint256 seat, Moment memory m, uint256 taste) internal watched {
        GhostSeat storage s = seats[job][seat];
        bool allowed = s.deed == Deed.Nothing && _roundOf(job, seat) == m.round;
        (bytes32 answer, uint8 result) = _answer(job, s.player, taste);
        bytes27 c = bytes27(keccak256(abi.encode(job, m.round, players[s.player].node, answer, _salt(s.player))));
        vm.prank(players[s.player].worker);
        if (!allowed) {
            try escrow.commit(job, uint8(seat), c) {
                assertTrue(false, "committed twice, or out of its round");
            } catch {
                _forget();
            }
            return;
        }
        escrow.commit(job, uint8(seat), c);
        (s.deed, s.commitment, s.answer, s.result) = (Deed.Committed, c, answer, result);
        uint256 start = m.deadline - _runWindow(orders[job].wallLimit);
        s.tooEarly = answer == LIMIT && vm.getBlockTimestamp() <= start + 2 * orders[job].wallLimit;
        ++seen["commit"];
    }

    function _answer(bytes32 job, uint256 player, uint256 taste) private view returns (bytes32, uint8) {
        uint8 k = player == 5 ? 1 : 0;
        if (taste >= 256) return (_digest(job, taste - 252), uint8(taste - 252));
        if (taste % 32 == 11) return (UNAVAILABLE, 0);
        if (taste % 32 >= 14 && taste % 32 < 16) return (LIMIT, 0);
        if (taste % 32 > 11 && taste % 32 < 14) k = uint8(taste % 32 - 10);
        if (player == 7) k = uint8(taste % 3);
        return (_digest(job, k), k);
    }

    /// @notice Some commits of a job are opened.
    function reveal(uint256 which, uint256 mask, uint256 how) public {
        (bytes32 job,) = _find(which, IEscrow.Phase.Reveal);
        if (job == 0 && jobs.length != 0) job = jobs[which % jobs.length];
        for (uint256 i = 0; i < seats[job].length; ++i) {
            if (mask >> 2 * i & 3 != 0) _tryReveal(job, i, how >> i);
        }
    }

    /// @notice All reveal in time but the last who has committed.
    function revealLate(uint256 which, uint256 how) public {
        (bytes32 job, Moment memory m) = _find(which, IEscrow.Phase.Reveal);
        if (job == 0 || m.over) return;
        uint256 last;
        for (uint256 i = 0; i < seats[job].length; ++i) {
            if (seats[job][i].deed == Deed.Committed) last = i;
        }
        for (uint256 i = 0; i < last; ++i) {
            _tryReveal(job, i, how >> i);
        }
        _pass(m.deadline - vm.getBlockTimestamp() + 1);
        _tryReveal(job, last, how);
    }

    /// @dev Opens a commit, by its worker or by anybody; in the window it must be taken, with `limit` only if it may.
    function _tryReveal(bytes32 job, uint256 seat, uint256 how) internal watched {
        GhostSeat storage s = seats[job][seat];
        if (s.deed != Deed.Committed || s.ends != 0) return;
        Moment memory m = _moment(job);
        expectTimely = _isTimely(job, seat, m);
        address caller = how & 1 == 0 ? players[s.player].worker : keeper;
        uint256 tips = escrow.balanceOf(address(0), caller);
        bool opened = _open(job, seat, caller, how & 6 == 0);
        assertEq(escrow.balanceOf(address(0), caller), tips, "no tip in a transaction that reveals");
        assertFalse(opened && s.tooEarly, "limit was revealed from an early commit");
        assertTrue(opened || s.tooEarly || !expectTimely, "a timely reveal was refused");
        if (!opened) return;
        bool counted = escrow.jobOf(job).revealed >> seat & 1 != 0;
        assertEq(counted, expectTimely, "a reveal counts exactly when it is timely");
    }

    /// @dev Whether a commit could be opened; digests with their result, or short where `short` and that is enough.
    function _open(bytes32 job, uint256 seat, address caller, bool short) private returns (bool) {
        GhostSeat storage s = seats[job][seat];
        bool soft = s.answer == UNAVAILABLE || s.answer == LIMIT;
        if (soft || short) {
            vm.prank(caller);
            try escrow.reveal(job, _opening(seat, s.player, s.answer)) {
                return true;
            } catch {
                _forget();
                if (soft) return false;
            }
        }
        vm.prank(caller);
        try escrow.revealResult(job, uint8(seat), _result(s.result), _salt(s.player)) {
            return true;
        } catch {
            _forget();
            return false;
        }
    }

    /// @notice What is due, by a keeper; must come through when a deadline is over.
    function poke(uint256 which) public {
        for (uint256 i = 0; i < jobs.length; ++i) {
            bytes32 job = jobs[addmod(which, i, jobs.length)];
            IEscrow.JobView memory v = escrow.jobOf(job);
            if (v.phase == IEscrow.Phase.Closed) continue;
            _poke(job, v);
            return;
        }
    }

    function _poke(bytes32 job, IEscrow.JobView memory v) internal watched {
        uint256 before = escrow.balanceOf(address(0), keeper);
        uint256 lost = slashed;
        vm.prank(keeper);
        try escrow.poke(job) {
            ++seen["poke"];
        } catch {
            _forget();
            assertLe(vm.getBlockTimestamp(), v.deadline, "nothing was done although a deadline is over");
        }
        _takeIn();
        lost = slashed - lost;
        assertLe(escrow.balanceOf(address(0), keeper) - before, lost / 20, "tips are at most 5 % of the slashes");
    }
}
