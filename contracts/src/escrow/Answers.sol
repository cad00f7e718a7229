// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Answer} from "../types/Answer.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Settlement} from "./Settlement.sol";

/// @title  Commits and reveals
/// @notice docs/protocol.md, "Commit", "Reveal", "Decision".
abstract contract Answers is Settlement {
    function commit(bytes32 job, uint8 seat, bytes27 commitment) external notEntered {
        Seats s = _seats[job];
        if (Seats.unwrap(s) == 0 || block.timestamp > s.deadline()) (, s) = _advanced(job);
        require(s.stage() == Stage.Run, WrongPhase(job, _phase(s)));
        require(s.present() >> seat & 1 != 0, NoSuchSeat(job, seat));
        require(s.committed() >> seat & 1 == 0, AlreadyCommitted(job, seat));
        uint256 node = s.node(seat);
        require(address(uint160(_workers[node])) == msg.sender, NotWorker(uint32(node), msg.sender));
        uint256 start = s.deadline() - _runWindow(s.wall());
        bool late = block.timestamp > start + 2 * s.wall();

        _lanes[node][s.lane(seat)] = Answer.sealedWord(commitment, late);
        s = s.setCommitted(seat);
        if (s.present() & ~s.committed() == 0) s = s.enter(Stage.Reveal, block.timestamp + REVEAL_WINDOW);
        _seats[job] = s;
        emit Committed(job, uint32(node), seat, uint64(s.deadline()));
    }

    function reveal(bytes32 job, Opening[] calldata openings) external nonReentrant {
        Job memory j = _beginReveal(job);
        for (uint256 i = 0; i < openings.length; ++i) {
            Opening calldata o = openings[i];
            if (!_open(j, o.seat, o.answer, o.salt)) continue;
            uint256 tag = Answer.tagOf(o.answer);
            require(Answer.isSoft(tag) || _isPublished(j, o.seat, tag), ResultUnpublished(job, o.answer));
            _reveal(j, o.seat, tag, o.answer);
        }
        _finishCall(j, address(0));
    }

    function revealResult(bytes32 job, uint8 seat, Result calldata result, bytes32 salt) external nonReentrant {
        Job memory j = _beginReveal(job);
        bytes32 digest = digestOf(job, result);
        if (_open(j, seat, digest, salt)) {
            emit ResultPublished(job, digest, result);
            _reveal(j, seat, Answer.tagOf(digest), digest);
        }
        _finishCall(j, address(0));
    }

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
        j = _load(job);
        _advance(j);
        Stage stage = j.s.stage();
        // In round 1 a seat of round 0 that missed its window may still open its commit, late.
        bool afterReveal = j.s.first() != 0 && !j.s.together() && stage != Stage.Closed;
        require(stage == Stage.Reveal || stage == Stage.Decided || afterReveal, WrongPhase(job, _phase(j.s)));
    }

    /// @dev Checks one opening against its commit; false if the seat has nothing more to reveal.
    function _open(Job memory j, uint8 seat, bytes32 answer, bytes32 salt) private view returns (bool) {
        Seats s = j.s;
        require(seat < s.taken(), NoSuchSeat(j.id, seat));
        if ((s.revealed() | s.finished()) >> seat & 1 != 0) return false;
        require(s.committed() >> seat & 1 != 0, NotCommitted(j.id, seat));
        bool second = s.first() != 0 && seat >= s.first();
        if (second && s.stage() <= Stage.Run) revert WrongPhase(j.id, _phase(s));
        uint256 node = s.node(seat);
        uint256 word = _lanes[node][s.lane(seat)];
        bytes32 sealedAnswer = keccak256(abi.encode(j.id, second ? 1 : 0, node, answer, salt));
        require(uint256(sealedAnswer) >> 40 == Answer.top(word), CommitMismatch(j.id, seat));
        require(answer != Answer.LIMIT || Answer.isLate(word), LimitTooEarly(j.id, seat));
        return true;
    }

    /// @dev Whether a digest is known in full: somebody revealed it here before.
    function _isPublished(Job memory j, uint256 seat, uint256 tag) private view returns (bool) {
        if (j.s.stage() == Stage.Decided && _wins(j, tag)) return true;
        uint256 others = j.s.revealed() & ~j.s.finished() & ~(1 << seat);
        for (uint256 i = 0; others >> i != 0; ++i) {
            if (others >> i & 1 != 0 && _tag(j, i) == tag) return true;
        }
        return false;
    }
}
