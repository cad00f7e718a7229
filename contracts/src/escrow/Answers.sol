// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {Answer} from "../types/Answer.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Terms} from "../types/Terms.sol";
import {Settlement} from "./Settlement.sol";

/// @title  Commits and reveals
/// @notice docs/protocol.md, "Commit", "Reveal", "Decision".
abstract contract Answers is Settlement {
    /// @inheritdoc IEscrow
    function commit(bytes32 job, uint8 seat, bytes27 commitment) external guarded {
        (Terms t, Seats s) = _read(job);
        if (block.timestamp > s.deadline()) (t, s) = _advanced(job);
        if (s.stage() != Stage.RUN) revert WrongPhase(job, _phase(s));
        if (s.present() >> seat & 1 == 0) revert NoSuchSeat(job, seat);
        if (s.committed() >> seat & 1 != 0) revert AlreadyCommitted(job, seat);
        uint256 node = s.node(seat);
        uint256 lane = _laneOf(msg.sender, s.lane(seat));
        // A lane that says whose it is was written after this very check.
        bool known = Answer.node(_lanes[lane]) == node;
        if (!known && _workerOf(node) != msg.sender) revert NotWorker(uint32(node), msg.sender);

        _lanes[lane] = Answer.sealedWord(commitment, node, _isLate(t, s));
        s = s.setCommitted(seat);
        if (s.present() & ~s.committed() == 0) s = s.enter(Stage.REVEAL, block.timestamp + REVEAL_WINDOW);
        _write(job, t, s);
        emit Committed(job, uint32(node), seat, uint64(s.deadline()));
    }

    /// @inheritdoc IEscrow
    function reveal(bytes32 job, Opening[] calldata openings) external guarded {
        Job memory j = _beginReveal(job);
        for (uint256 i = 0; i < openings.length; ++i) {
            Opening calldata o = openings[i];
            if (!_open(j, o.seat, o.answer, o.salt)) continue;
            uint256 tag = Answer.tagOf(o.answer);
            uint256 votes = _votes(j, tag);
            bool published = votes != 0 || Answer.isSoft(tag) || _isPublished(j, tag);
            if (!published) revert ResultUnpublished(job, o.answer);
            _reveal(j, o.seat, tag, o.answer, votes);
        }
        _finishCall(j, address(0));
    }

    /// @inheritdoc IEscrow
    function revealResult(bytes32 job, uint8 seat, Result calldata result, bytes32 salt) external guarded {
        Job memory j = _beginReveal(job);
        bytes32 digest = digestOf(job, result);
        if (_open(j, seat, digest, salt)) {
            uint256 tag = Answer.tagOf(digest);
            uint256 votes = _votes(j, tag);
            // Of those who reveal at the same time, the first publishes.
            if (votes == 0 && !_isPublished(j, tag)) emit ResultPublished(job, digest, result);
            _reveal(j, seat, tag, digest, votes);
        }
        _finishCall(j, address(0));
    }

    /// @inheritdoc IEscrow
    function digestOf(bytes32 job, Result calldata result) public view returns (bytes32) {
        return sha256(
            abi.encode(
                bytes32("sandrun-result-v1"),
                block.chainid,
                address(this),
                job,
                result.classId,
                result.exitStatus,
                result.outputRoot,
                result.traceRoot,
                result.content
            )
        );
    }

    /// @dev The job, brought up to date, if anything may be revealed now.
    function _beginReveal(bytes32 job) private returns (Job memory j) {
        _load(j, job);
        _advance(j);
        uint256 stage = j.s.stage();
        if (stage == Stage.REVEAL || stage == Stage.DECIDED) return j;
        // In round 1 a seat of round 0 that missed its window may still open its commit, late.
        bool afterReveal = j.s.first() != 0 && !_together(j) && stage != Stage.CLOSED;
        if (!afterReveal) revert WrongPhase(job, _phase(j.s));
    }

    /// @dev Checks one opening against its commit; false if the seat has nothing more to reveal.
    function _open(Job memory j, uint256 seat, bytes32 answer, bytes32 salt) private view returns (bool) {
        Seats s = j.s;
        uint256 bit = 1 << seat;
        if (bit & s.all() == 0) revert NoSuchSeat(j.id, uint8(seat));
        if ((s.revealed() | s.finished()) & bit != 0) return false;
        if (s.committed() & bit == 0) revert NotCommitted(j.id, uint8(seat));
        uint256 round = s.first() != 0 && bit & s.present() != 0 ? 1 : 0;
        if (round != 0 && s.stage() <= Stage.RUN) revert WrongPhase(j.id, _phase(s));
        uint256 word = _openLane(j, seat);
        uint256 commitment = uint256(keccak256(abi.encode(j.id, round, s.node(seat), answer, salt)));
        if (commitment >> 40 != Answer.top(word)) revert CommitMismatch(j.id, uint8(seat));
        if (answer == Answer.LIMIT && !Answer.isLate(word)) revert LimitTooEarly(j.id, uint8(seat));
        return true;
    }

    /// @dev Whether a digest without timely reveals is known in full: it has won, or was revealed late.
    function _isPublished(Job memory j, uint256 tag) private view returns (bool) {
        if (j.s.stage() == Stage.DECIDED) return _wins(j, tag);
        return _count(j, j.s.revealed(), tag) != 0;
    }

    /// @dev Whether a commit made now is late enough for `limit`.
    function _isLate(Terms t, Seats s) private view returns (bool) {
        unchecked {
            return block.timestamp > s.deadline() - _runWindow(t.wall()) + 2 * t.wall();
        }
    }
}
