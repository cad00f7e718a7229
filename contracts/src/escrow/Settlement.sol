// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {Answer} from "../types/Answer.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Ending, Terms} from "../types/Terms.sol";
import {Payout} from "./Payout.sol";

/// @title  A job's transitions: ends of phases, the extra round, the decision
/// @notice docs/protocol.md, "Phases". Everything works on a copy of the job in memory; `_finishCall` stores it.
abstract contract Settlement is Payout {
    /// @inheritdoc IEscrow
    function poke(bytes32 job) external guarded {
        Job memory j;
        _load(j, job);
        (Terms t, Seats s) = (j.t, j.s);
        _advance(j);
        bool recorded = j.s.stage() == Stage.SEATS && !j.seedWanted && _recordSeed(job);
        if (j.s.stage() == Stage.DECIDED) _finishSilent(j);
        bool changed = Seats.unwrap(j.s) != Seats.unwrap(s) || Terms.unwrap(j.t) != Terms.unwrap(t);
        if (!changed && !recorded) revert NothingDue(job);
        _finishCall(j, msg.sender);
    }

    /// @dev The job after every transition that is due, for a caller that goes on only in Seats or Run. Those two are
    ///      reached without any other effect, unless the extra round opens: then there is nothing to do for the caller yet.
    function _advanced(bytes32 job) internal returns (Terms, Seats) {
        Job memory j;
        _load(j, job);
        Terms t = j.t;
        _advance(j);
        if (Terms.unwrap(t) != Terms.unwrap(j.t)) revert WrongPhase(job, _phase(j.s));
        return (t, j.s);
    }

    /// @dev Makes the transitions whose deadlines have passed, each at its deadline.
    function _advance(Job memory j) internal {
        while (block.timestamp > j.s.deadline()) {
            uint256 stage = j.s.stage();
            uint256 at = j.s.deadline();
            if (stage == Stage.SEATS) _endSeats(j, at);
            else if (stage == Stage.RUN) _endRun(j, at);
            else if (stage == Stage.REVEAL) _resolve(j, at);
            else break;
        }
    }

    /// @dev Takes in an answer that was checked against the commit of `seat`, with the votes that it has already.
    function _reveal(Job memory j, uint256 seat, uint256 tag, bytes32 answer, uint256 votes) internal {
        Seats s = j.s;
        uint256 stage = s.stage();
        bool timely = stage >= Stage.REVEAL && block.timestamp <= s.deadline() && _revealing(j) >> seat & 1 != 0;
        j.s = s = timely ? s.setRevealed(seat) : s.setLate(seat);
        j.tags[seat] = tag;
        j.known |= 1 << seat;
        emit Revealed(j.id, uint32(s.node(seat)), uint8(seat), answer);

        if (stage == Stage.DECIDED) {
            _settleSeat(j, seat);
        } else if (timely) {
            ++votes;
            if (votes >= j.t.quorum() && 2 * votes > s.taken()) _decide(j, tag);
            else if (s.unrevealed() & _revealing(j) == 0) _resolve(j, block.timestamp);
        }
        // Others, or the end of the job, will have to know what this seat said.
        if (j.s.finished() >> seat & 1 == 0) {
            _lanes[_laneOf(j.worker, s.lane(seat))] = Answer.openWord(tag, s.node(seat));
        }
    }

    /// @dev The answer with the most timely reveals, the earliest seat's if there are several; zero if there are none.
    function _leading(Job memory j) internal view returns (uint256 winner, uint256 best) {
        for (uint256 bits = j.s.timely(); bits != 0; bits &= bits - 1) {
            uint256 tag = _tag(j, SeatsLib.lowest(bits));
            uint256 votes = _votes(j, tag);
            if (votes > best) (winner, best) = (tag, votes);
        }
    }

    function _endSeats(Job memory j, uint256 at) private {
        Seats s = j.s;
        bool enough = s.first() == 0 ? s.taken() >= j.t.quorum() : s.taken() > s.first();
        if (enough) {
            j.s = s.enter(Stage.RUN, at + _runWindow(j.t.wall()));
            emit PhaseChanged(j.id, Phase.Run, uint64(j.s.deadline()));
        } else if (s.first() == 0) {
            _expire(j);
        } else if (_together(j)) {
            _enterReveal(j, at);
        } else {
            _resolve(j, at);
        }
    }

    function _endRun(Job memory j, uint256 at) private {
        Seats s = j.s;
        bool few = SeatsLib.count(s.committed()) < j.t.quorum();
        if (few && s.first() == 0 && j.t.size() != 0) _openExtra(j, at);
        else _enterReveal(j, at);
    }

    function _enterReveal(Job memory j, uint256 at) private {
        j.s = j.s.enter(Stage.REVEAL, at + REVEAL_WINDOW);
        emit PhaseChanged(j.id, Phase.Reveal, uint64(j.s.deadline()));
        if (j.s.unrevealed() & _revealing(j) == 0) _resolve(j, at);
    }

    function _openExtra(Job memory j, uint256 at) private {
        uint256 units = _units();
        j.t = j.t.withRound(units);
        j.s = j.s.openExtra().enter(Stage.SEATS, at + SEAT_WINDOW);
        j.seedWanted = true;
        emit RoundOpened(j.id, uint64(j.s.deadline()), uint32(units));
    }

    /// @dev All seats have acted at `at`: decides, opens the extra round, or finds that none wins.
    function _resolve(Job memory j, uint256 at) private {
        Seats s = j.s;
        uint256 total = SeatsLib.count(s.timely());
        (uint256 winner, uint256 best) = _leading(j);
        uint256 quorum = j.t.quorum();
        if (best >= quorum && 2 * best > total) _decide(j, winner);
        else if (s.first() == 0 && j.t.size() != 0 && best + 2 >= quorum && 2 * best + 2 > total) _openExtra(j, at);
        else _noneWins(j);
    }

    /// @dev Number of timely reveals of an answer; zero once the job is decided.
    function _votes(Job memory j, uint256 tag) internal view returns (uint256) {
        return j.s.stage() == Stage.DECIDED ? 0 : _count(j, j.s.timely(), tag);
    }

    /// @dev Number of seats among `bits` that revealed an answer.
    function _count(Job memory j, uint256 bits, uint256 tag) internal view returns (uint256 n) {
        unchecked {
            for (; bits != 0; bits &= bits - 1) {
                if (_tag(j, SeatsLib.lowest(bits)) == tag) ++n;
            }
        }
    }

    function _decide(Job memory j, uint256 tag) private {
        uint256 outcome = Answer.isSoft(tag) ? (tag == 1 ? Ending.UNAVAILABLE : Ending.LIMIT) : Ending.DIGEST;
        j.t = j.t.withOutcome(outcome, Answer.short(tag));
        j.s = j.s.become(Stage.DECIDED);
        emit JobDecided(j.id, Outcome(outcome), Answer.show(tag));
        for (uint256 bits = j.s.revealed(); bits != 0; bits &= bits - 1) {
            _settleSeat(j, SeatsLib.lowest(bits));
        }
    }

    /// @dev Slashes the seats of a decided job that can't act any more.
    function _finishSilent(Job memory j) private {
        Seats s = j.s;
        uint256 waiting = block.timestamp > s.deadline() ? 0 : s.unrevealed() & _revealing(j);
        for (uint256 bits = s.all() & ~s.finished() & ~s.revealed() & ~waiting; bits != 0; bits &= bits - 1) {
            _slashSilent(j, SeatsLib.lowest(bits));
        }
    }
}
