// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Answer} from "../types/Answer.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Terms, TermsLib} from "../types/Terms.sol";
import {Payout} from "./Payout.sol";

/// @title  A job's transitions: ends of phases, the extra round, the decision
/// @notice docs/protocol.md, "Phases". Everything works on a copy of the job in memory; `_finishCall` stores it.
abstract contract Settlement is Payout {
    function poke(bytes32 job) external nonReentrant {
        Job memory j = _load(job);
        _advance(j);
        bool recorded = j.s.stage() == Stage.Seats && !j.seedWanted && _recordSeed(job);
        if (j.s.stage() == Stage.Decided) _finishSilent(j);
        bool changed = Seats.unwrap(j.s) != Seats.unwrap(j.storedS) || Terms.unwrap(j.t) != Terms.unwrap(j.storedT);
        require(changed || recorded, NothingDue(job));
        _finishCall(j, msg.sender);
    }

    /// @dev The job after every transition that is due, for a caller that goes on only in Seats or Run. Those two are
    ///      reached without any other effect, unless the extra round opens: then there is nothing to do for the caller yet.
    function _advanced(bytes32 job) internal returns (Terms, Seats) {
        Job memory j = _load(job);
        _advance(j);
        Terms t = _loadTerms(j);
        require(Terms.unwrap(t) == Terms.unwrap(j.storedT), WrongPhase(job, _phase(j.s)));
        return (t, j.s);
    }

    /// @dev Makes the transitions whose deadlines have passed, each at its deadline.
    function _advance(Job memory j) internal {
        while (block.timestamp > j.s.deadline()) {
            Stage stage = j.s.stage();
            uint256 at = j.s.deadline();
            if (stage == Stage.Seats) _endSeats(j, at);
            else if (stage == Stage.Run) _endRun(j, at);
            else if (stage == Stage.Reveal) _resolve(j, at);
            else break;
        }
    }

    /// @dev Takes in an answer that was checked against the commit of `seat`.
    function _reveal(Job memory j, uint256 seat, uint256 tag, bytes32 answer) internal {
        Seats s = j.s;
        Stage stage = s.stage();
        bool timely = stage >= Stage.Reveal && block.timestamp <= s.deadline() && s.revealing() >> seat & 1 != 0;
        j.s = s = timely ? s.setRevealed(seat) : s.setLate(seat);
        _setTag(j, seat, tag);
        emit Revealed(j.id, uint32(s.node(seat)), uint8(seat), answer);

        if (stage == Stage.Decided) {
            _settleSeat(j, seat);
        } else if (timely) {
            uint256 votes = _votes(j, tag);
            if (votes >= TermsLib.quorum(s.size()) && 2 * votes > s.taken()) _decide(j, tag);
            else if (s.unrevealed() & s.revealing() == 0) _resolve(j, block.timestamp);
        }
    }

    /// @dev The answer with the most timely reveals, the earliest seat's if there are several; zero if there are none.
    function _leading(Job memory j) internal view returns (uint256 winner, uint256 best) {
        uint256 timely = j.s.timely();
        for (uint256 i = 0; timely >> i != 0; ++i) {
            if (timely >> i & 1 == 0) continue;
            uint256 votes = _votes(j, _tag(j, i));
            if (votes > best) (winner, best) = (_tag(j, i), votes);
        }
    }

    function _endSeats(Job memory j, uint256 at) private {
        Seats s = j.s;
        bool enough = s.first() == 0 ? s.taken() >= TermsLib.quorum(s.size()) : s.taken() > s.first();
        if (enough) {
            j.s = s.enter(Stage.Run, at + _runWindow(s.wall()));
            emit PhaseChanged(j.id, Phase.Run, uint64(j.s.deadline()));
        } else if (s.first() == 0) {
            _expire(j);
        } else if (s.together()) {
            _enterReveal(j, at);
        } else {
            _resolve(j, at);
        }
    }

    function _endRun(Job memory j, uint256 at) private {
        Seats s = j.s;
        bool few = SeatsLib.count(s.committed()) < TermsLib.quorum(s.size());
        if (few && s.first() == 0 && s.size() != 0) _openExtra(j, at);
        else _enterReveal(j, at);
    }

    function _enterReveal(Job memory j, uint256 at) private {
        j.s = j.s.enter(Stage.Reveal, at + REVEAL_WINDOW);
        emit PhaseChanged(j.id, Phase.Reveal, uint64(j.s.deadline()));
        if (j.s.unrevealed() & j.s.revealing() == 0) _resolve(j, at);
    }

    function _openExtra(Job memory j, uint256 at) private {
        uint256 units = _activeUnits;
        j.t = _loadTerms(j).withRound(units);
        j.s = j.s.openExtra().enter(Stage.Seats, at + SEAT_WINDOW);
        j.seedWanted = true;
        emit RoundOpened(j.id, uint64(j.s.deadline()), uint32(units));
    }

    /// @dev All seats have acted at `at`: decides, opens the extra round, or finds that none wins.
    function _resolve(Job memory j, uint256 at) private {
        Seats s = j.s;
        uint256 total = SeatsLib.count(s.timely());
        (uint256 winner, uint256 best) = _leading(j);
        uint256 quorum = TermsLib.quorum(s.size());
        if (best >= quorum && 2 * best > total) _decide(j, winner);
        else if (s.first() == 0 && s.size() != 0 && best + 2 >= quorum && 2 * best + 2 > total) _openExtra(j, at);
        else _noneWins(j);
    }

    /// @dev Number of timely reveals of an answer.
    function _votes(Job memory j, uint256 tag) private view returns (uint256 n) {
        uint256 timely = j.s.timely();
        for (uint256 i = 0; timely >> i != 0; ++i) {
            if (timely >> i & 1 != 0 && _tag(j, i) == tag) ++n;
        }
    }

    function _decide(Job memory j, uint256 tag) private {
        Outcome outcome = Answer.isSoft(tag) ? (tag == 1 ? Outcome.Unavailable : Outcome.Limit) : Outcome.Digest;
        j.t = _loadTerms(j).withOutcome(outcome, Answer.short(tag));
        j.s = j.s.decide();
        emit JobDecided(j.id, outcome, Answer.show(Answer.short(tag)));
        uint256 revealed = j.s.revealed();
        for (uint256 i = 0; revealed >> i != 0; ++i) {
            if (revealed >> i & 1 != 0) _settleSeat(j, i);
        }
    }

    /// @dev Slashes the seats of a decided job that can't act any more.
    function _finishSilent(Job memory j) private {
        Seats s = j.s;
        uint256 waiting = block.timestamp > s.deadline() ? 0 : s.unrevealed() & s.revealing();
        uint256 due = s.all() & ~s.finished() & ~s.revealed() & ~waiting;
        for (uint256 i = 0; due >> i != 0; ++i) {
            if (due >> i & 1 != 0) _slashSilent(j, i);
        }
    }
}
