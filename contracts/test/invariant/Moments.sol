// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Ghosts} from "./Ghosts.sol";

/// @title  Where a job stands now, with the transitions that are due but that nobody has made yet
/// @notice docs/protocol.md, "Phases", once more and apart from the contract.
abstract contract Moments is Ghosts {
    /// @param fresh  The extra round is due: it opens with the next call, and there is nothing else to do in that call.
    /// @param over   The Reveal window is over; what follows depends on the answers.
    struct Moment {
        IEscrow.Phase phase;
        uint256 round;
        uint256 deadline;
        bool together;
        bool fresh;
        bool over;
        IEscrow.JobView view_;
    }

    function _moment(bytes32 job) internal view returns (Moment memory m) {
        IEscrow.JobView memory v = escrow.jobOf(job);
        (m.view_, m.phase, m.round, m.deadline) = (v, v.phase, v.round, v.deadline);
        uint256 q = orders[job].quorum;
        m.together = v.round == 1 && _count(v.committed & ((1 << v.seatsFirst) - 1)) < q;
        while (vm.getBlockTimestamp() > m.deadline && m.phase != IEscrow.Phase.Closed && !m.over) {
            if (m.phase == IEscrow.Phase.Seats) _afterSeats(m, v, q, orders[job].wallLimit);
            else if (m.phase == IEscrow.Phase.Run) _afterRun(m, v, orders[job].replicas, q);
            else m.over = true;
        }
    }

    function _afterSeats(Moment memory m, IEscrow.JobView memory v, uint256 q, uint256 wall) private pure {
        bool enough = m.round == 0 ? v.seats >= q : !m.fresh && v.seats > v.seatsFirst;
        if (enough) (m.phase, m.deadline) = (IEscrow.Phase.Run, m.deadline + _runWindow(wall));
        else if (m.together) (m.phase, m.deadline) = (IEscrow.Phase.Reveal, m.deadline + REVEAL_WINDOW);
        else m.phase = IEscrow.Phase.Closed;
    }

    function _afterRun(Moment memory m, IEscrow.JobView memory v, uint256 n, uint256 q) private pure {
        if (m.round == 0 && n > 1 && _count(v.committed) < q) {
            (m.phase, m.round, m.fresh, m.together) = (IEscrow.Phase.Seats, 1, true, true);
            m.deadline += SEAT_WINDOW;
        } else {
            (m.phase, m.deadline) = (IEscrow.Phase.Reveal, m.deadline + REVEAL_WINDOW);
        }
    }

    /// @dev Whether a commit of `seat` that is opened now counts.
    function _isTimely(bytes32 job, uint256 seat, Moment memory m) internal view returns (bool) {
        if (m.phase != IEscrow.Phase.Reveal || m.over) return false;
        return m.together || _roundOf(job, seat) == m.round;
    }

    function _roundOf(bytes32 job, uint256 seat) internal view returns (uint256) {
        return ghost[job].extra && seat >= ghost[job].first ? 1 : 0;
    }

    function _runWindow(uint256 wall) internal pure returns (uint256) {
        return 3 * wall + RUN_SLACK;
    }

    function _count(uint256 bits) internal pure returns (uint256 n) {
        for (; bits != 0; bits &= bits - 1) {
            ++n;
        }
    }
}
