// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Properties} from "./Properties.sol";

/// @title  What becomes of a seat, once more
/// @notice The table of docs/protocol.md over what the ghosts noted, apart from the contract.
abstract contract Outcomes is Properties {
    struct Tally {
        IEscrow.Outcome outcome;
        bytes32 winner;
        uint256 timely;
        uint256 payees;
        uint256 charging;
        uint256 sharing;
        bool anyDigest;
    }

    /// @notice A decision is a majority of at least q; without a decision there is none.
    function checkDecisions() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            IEscrow.Outcome outcome = ghost[jobs[i]].outcome;
            if (outcome == IEscrow.Outcome.Open || outcome == IEscrow.Outcome.Cancelled) continue;
            (bytes32 best, uint256 votes, uint256 timely) = _best(jobs[i]);
            bool won = votes >= orders[jobs[i]].quorum && 2 * votes > timely;
            if (outcome == IEscrow.Outcome.Expired) {
                assertEq(timely, 0, "an expired job has no answers");
                assertLt(seats[jobs[i]].length, orders[jobs[i]].quorum, "a job that has its seats does not expire");
            } else if (outcome == IEscrow.Outcome.NoneWins) {
                assertFalse(won, "an answer had won");
            } else {
                assertTrue(won, "what has won has no majority");
                assertEq(uint8(outcome), uint8(_outcomeOf(best)), "another kind of answer has won");
                bytes32 shown = escrow.jobOf(jobs[i]).answer;
                assertEq(shown >> 202, _isSoft(best) ? bytes32(0) : best >> 202, "another digest has won");
            }
        }
    }

    /// @notice Who revealed in time what the majority revealed loses nothing, and is paid the price if that is a result.
    function checkHonest() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            (bytes32 best, uint256 votes, uint256 timely) = _best(jobs[i]);
            if (votes < orders[jobs[i]].quorum || 2 * votes <= timely) continue;
            for (uint256 k = 0; k < seats[jobs[i]].length; ++k) {
                GhostSeat storage s = seats[jobs[i]][k];
                if (s.deed != Deed.Timely || s.answer != best) continue;
                assertEq(s.slashed, 0, "an honest seat was slashed");
                uint256 due = s.ends == 0 || best == UNAVAILABLE ? s.paid : orders[jobs[i]].price;
                assertEq(s.paid, due, "an honest seat was not paid");
            }
        }
    }

    /// @notice Every seat ends as its row says, and is paid what is due to the granule.
    function checkEnds() public view {
        for (uint256 i = 0; i < jobs.length; ++i) {
            bytes32 job = jobs[i];
            Tally memory t = _tally(job);
            for (uint256 k = 0; k < seats[job].length; ++k) {
                GhostSeat storage s = seats[job][k];
                if (s.ends == 0) continue;
                (IEscrow.SeatEnd end, uint256 slash) = _row(job, k, t);
                assertEq(uint8(s.end), uint8(end), "a seat ended otherwise than its row says");
                assertEq(s.slashed, slash, "a slash that the row does not say");
            }
            if (escrow.jobOf(job).phase == IEscrow.Phase.Closed) _checkPay(job, t);
        }
    }

    function _checkPay(bytes32 job, Tally memory t) private view {
        IEscrow.Order storage o = orders[job];
        bool native = o.token == address(0);
        uint256 granule = native ? 1 gwei : 10;
        uint256 wanted = native ? FEE : 300_000;
        uint256 rest = ghost[job].locked - t.payees * o.price;
        uint256 fee = t.charging * wanted <= rest ? wanted : rest / t.charging / granule * granule;
        rest -= t.charging * fee;
        uint256 share = t.sharing * o.price <= rest ? o.price : rest / t.sharing / granule * granule;
        for (uint256 k = 0; k < seats[job].length; ++k) {
            GhostSeat storage s = seats[job][k];
            if (s.end == IEscrow.SeatEnd.Released) assertLe(s.paid, wanted / 3, "a claim's gas");
            else if (s.end == IEscrow.SeatEnd.AttemptFee) assertEq(s.paid, fee, "an attempt fee");
            else if (s.end == IEscrow.SeatEnd.Shared) assertEq(s.paid, share, "a share");
            else if (s.end != IEscrow.SeatEnd.Paid) assertEq(s.paid, 0, "slashed and unpaid seats get nothing");
        }
    }

    function _tally(bytes32 job) private view returns (Tally memory t) {
        t.outcome = ghost[job].outcome;
        if (t.outcome == IEscrow.Outcome.Open || t.outcome == IEscrow.Outcome.Cancelled) return t;
        (t.winner,, t.timely) = _best(job);
        for (uint256 k = 0; k < seats[job].length; ++k) {
            GhostSeat storage s = seats[job][k];
            if (s.deed == Deed.Timely && !_isSoft(s.answer)) t.anyDigest = true;
        }
        for (uint256 k = 0; k < seats[job].length; ++k) {
            (IEscrow.SeatEnd end,) = _row(job, k, t);
            if (end == IEscrow.SeatEnd.Paid) ++t.payees;
            else if (end == IEscrow.SeatEnd.AttemptFee) ++t.charging;
            else if (end == IEscrow.SeatEnd.Shared) ++t.sharing;
        }
    }

    function _row(bytes32 job, uint256 seat, Tally memory t) private view returns (IEscrow.SeatEnd, uint256) {
        GhostSeat storage s = seats[job][seat];
        uint256 bond = orders[job].bond;
        uint256 part = bond * 3 / 10;
        uint256 whole = orders[job].classId == DET ? bond : part;
        bool wins = t.outcome != IEscrow.Outcome.NoneWins && s.answer == t.winner;
        if (t.outcome == IEscrow.Outcome.Expired) return (IEscrow.SeatEnd.Released, 0);
        if (s.deed == Deed.Nothing) return (IEscrow.SeatEnd.SlashedUncommitted, part);
        if (s.deed == Deed.Late && wins) return (IEscrow.SeatEnd.SlashedLate, part);
        if (s.deed != Deed.Timely) return (IEscrow.SeatEnd.SlashedUnrevealed, whole);
        if (t.outcome == IEscrow.Outcome.NoneWins) return (_undecided(job, seat, t), 0);
        if (t.outcome == IEscrow.Outcome.Unavailable) return (IEscrow.SeatEnd.AttemptFee, 0);
        if (wins) return (IEscrow.SeatEnd.Paid, 0);
        if (_isSoft(s.answer)) return (IEscrow.SeatEnd.SlashedWrong, part);
        if (t.outcome == IEscrow.Outcome.Digest) return (IEscrow.SeatEnd.SlashedWrong, whole);
        return (IEscrow.SeatEnd.AttemptFee, 0);
    }

    function _undecided(bytes32 job, uint256 seat, Tally memory t) private view returns (IEscrow.SeatEnd) {
        bytes32 answer = seats[job][seat].answer;
        if (_isSoft(answer)) return t.anyDigest ? IEscrow.SeatEnd.Unpaid : IEscrow.SeatEnd.AttemptFee;
        if (_roundOf(job, seat) == 1) {
            for (uint256 k = 0; k < ghost[job].first; ++k) {
                bool same = seats[job][k].deed == Deed.Timely && seats[job][k].answer == answer;
                if (same) return IEscrow.SeatEnd.AttemptFee;
            }
        }
        return IEscrow.SeatEnd.Shared;
    }

    function _best(bytes32 job) private view returns (bytes32 best, uint256 votes, uint256 timely) {
        for (uint256 i = 0; i < seats[job].length; ++i) {
            if (seats[job][i].deed != Deed.Timely) continue;
            ++timely;
            uint256 n;
            for (uint256 k = 0; k < seats[job].length; ++k) {
                bool same = seats[job][k].answer == seats[job][i].answer;
                if (same && seats[job][k].deed == Deed.Timely) ++n;
            }
            if (n > votes) (best, votes) = (seats[job][i].answer, n);
        }
    }

    function _outcomeOf(bytes32 answer) private pure returns (IEscrow.Outcome) {
        if (answer == UNAVAILABLE) return IEscrow.Outcome.Unavailable;
        return answer == LIMIT ? IEscrow.Outcome.Limit : IEscrow.Outcome.Digest;
    }

    function _isSoft(bytes32 answer) private pure returns (bool) {
        return uint256(answer) <= 2;
    }
}
