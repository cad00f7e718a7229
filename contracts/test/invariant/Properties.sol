// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Attacks} from "./Attacks.sol";

/// @title  What holds after every call: money, stake, lanes
/// @notice Each compares what the contracts store with what the ghosts noted.
abstract contract Properties is Attacks {
    /// @notice Money in = paid out + burnt + still there; and what is there is owed to somebody, to the last unit.
    function checkMoney() public view {
        _checkMoney(address(0), seizedTips);
        _checkMoney(address(token), 0);
        assertEq(token.balanceOf(BURN), burntFees[address(token)], "burnt tokens");
    }

    function _checkMoney(address token_, uint256 tips) private view {
        uint256 held = _balance(token_, address(escrow));
        uint256 owed;
        uint256 out = _balance(token_, sink) - (token_ == address(0) ? stakeOut : 0);
        for (uint256 i = 0; i < players.length; ++i) {
            owed += escrow.nodeBalanceOf(token_, players[i].node);
            out += _balance(token_, players[i].payout);
        }
        if (token_ == address(0)) out -= 10 ether; // the reenterer's own
        for (uint256 i = 0; i < jobs.length; ++i) {
            if (orders[jobs[i]].token == token_) owed += escrow.jobOf(jobs[i]).remaining;
        }
        address[5] memory owners = [client, second, players[2].account, players[3].worker, keeper];
        for (uint256 i = 0; i < owners.length; ++i) {
            owed += escrow.balanceOf(token_, owners[i]);
        }
        assertEq(held, owed, "what the escrow holds is what it owes");
        assertEq(posted[token_] + tips, held + out + burntFees[token_], "money in = out + burnt + held");
    }

    /// @notice A job gives out what was locked in it, in all, and never more; its rest goes back once.
    function checkJobs() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            GhostJob storage g = ghost[jobs[i]];
            uint256 out = g.refunded + g.burnt;
            for (uint256 k = 0; k < seats[jobs[i]].length; ++k) {
                out += seats[jobs[i]][k].paid;
            }
            IEscrow.JobView memory v = escrow.jobOf(jobs[i]);
            assertEq(out + v.remaining, g.locked, "locked = paid + refunded + burnt + remaining");
            assertLe(g.refunds, 1, "refunded once");
            assertLe(g.decisions, 1, "decided once");
            if (g.refunds != 0) assertEq(v.remaining, 0, "nothing is left after the refund");
        }
    }

    /// @notice Each seat ends once, with at most its price.
    function checkPaidOnce() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            IEscrow.Order storage o = orders[jobs[i]];
            uint256 finished = escrow.jobOf(jobs[i]).finished;
            for (uint256 k = 0; k < seats[jobs[i]].length; ++k) {
                GhostSeat storage s = seats[jobs[i]][k];
                assertEq(s.ends, finished >> k & 1, "a seat ends once");
                assertLe(s.paid, o.price, "a seat costs at most the price");
                if (s.end == IEscrow.SeatEnd.Paid && s.ends != 0) assertEq(s.paid, o.price, "paid is the price");
                assertTrue(s.paid == 0 || s.slashed == 0, "nobody is paid and slashed");
            }
        }
    }

    /// @notice What a node has locked is the sum of its open bonds, and stake covers it.
    function checkBonds() public view {
        for (uint256 i = 0; i < players.length; ++i) {
            uint256 open;
            for (uint256 k = 0; k < jobs.length; ++k) {
                for (uint256 l = 0; l < seats[jobs[k]].length; ++l) {
                    GhostSeat storage s = seats[jobs[k]][l];
                    if (s.player == i && s.ends == 0) open += orders[jobs[k]].bond;
                }
            }
            assertEq(escrow.nodeView(players[i].node).locked, open, "locked = sum of open bonds");
            IRegistry.OptIn memory o = registry.optInOf(players[i].node, address(escrow));
            assertLe(open, o.cap + o.leaving, "stake covers the bonds");
        }
    }

    /// @notice Cap and leaving part are within the stake, and both contracts know the same cap.
    function checkCaps() public view {
        for (uint256 i = 0; i < players.length; ++i) {
            uint32 node = players[i].node;
            IRegistry.OptIn memory o = registry.optInOf(node, address(escrow));
            IRegistry.Node memory n = registry.nodeOf(node);
            assertLe(n.reserved, n.stake, "reserved is within the stake");
            assertEq(n.reserved, o.cap + o.leaving, "reserved = cap + leaving");
            assertEq(escrow.nodeView(node).cap, o.cap / 1 gwei * 1 gwei, "the escrow's cap is the registry's");
        }
    }

    /// @notice The registry holds the stakes and nothing else; what is slashed is burnt but for the tips.
    function checkRegistry() public view {
        uint256 stakes;
        for (uint256 i = 0; i < players.length; ++i) {
            stakes += registry.nodeOf(players[i].node).stake;
        }
        assertEq(address(registry).balance, stakes, "the registry holds the stakes");
        assertEq(deposited, stakes + stakeOut + slashed, "deposits = stakes + withdrawn + slashed");
    }

    /// @notice Slashes are burnt, but for tips of at most 5 %.
    function checkSlashes() public view {
        assertEq(seizedBurnt + seizedTips, slashed, "what seats lose is seized");
        assertEq(BURN.balance, seizedBurnt + burntFees[address(0)], "what is seized is burnt");
        assertLe(seizedTips * 20, slashed, "tips are at most 5 %");
    }

    /// @notice No two live seats share a lane, and only live seats hold one.
    function checkLanes() public view {
        for (uint256 i = 0; i < players.length; ++i) {
            uint256 used;
            for (uint256 k = 0; k < jobs.length; ++k) {
                for (uint256 l = 0; l < seats[jobs[k]].length; ++l) {
                    GhostSeat storage s = seats[jobs[k]][l];
                    if (s.player != i || s.ends != 0) continue;
                    uint256 lane = harness.laneOfSeat(jobs[k], l);
                    assertEq(used >> lane & 1, 0, "two live seats share a lane");
                    used |= 1 << lane;
                }
            }
            assertEq(harness.lanesOf(players[i].node), used, "lanes that are held are those of live seats");
        }
    }

    /// @notice A commit stays what it was until it is opened.
    function checkCommits() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            for (uint256 k = 0; k < seats[jobs[i]].length; ++k) {
                GhostSeat storage s = seats[jobs[i]][k];
                if (s.deed != Deed.Committed || s.ends != 0) continue;
                uint256 lane = harness.laneOfSeat(jobs[i], k);
                assertEq(harness.laneTop(players[s.player].node, lane), s.commitment, "a commit has changed");
            }
        }
    }

    /// @notice Reputation: one more for a valid early answer, nothing left after a slash.
    function checkReputation() public view {
        for (uint256 i = 0; i < players.length; ++i) {
            uint32 node = players[i].node;
            assertEq(escrow.nodeView(node).reputation, reputation[node], "reputation follows the ends of seats");
        }
    }

    /// @notice Nothing is entered while money is on its way out.
    function checkReentry() public view {
        assertEq(reenterer.entered(), 0, "a call came through in the middle of a withdrawal");
    }

    /// @notice Lanes, seats and deeds: the bitmaps say what was done.
    function checkDeeds() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            IEscrow.JobView memory v = escrow.jobOf(jobs[i]);
            assertEq(v.seats, seats[jobs[i]].length, "seats that were claimed");
            for (uint256 k = 0; k < seats[jobs[i]].length; ++k) {
                Deed deed = seats[jobs[i]][k].deed;
                assertEq(v.committed >> k & 1, deed == Deed.Nothing ? 0 : 1, "committed");
                assertEq(v.revealed >> k & 1, deed == Deed.Timely ? 1 : 0, "revealed in time");
            }
        }
    }
}
