// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Account} from "../types/Account.sol";
import {Answer} from "../types/Answer.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Ending, Terms, TermsLib} from "../types/Terms.sol";
import {Seeds} from "./Seeds.sol";

/// @title  What becomes of a seat: prices, fees, shares, slashes
/// @notice docs/protocol.md, "What becomes of a seat".
abstract contract Payout is Seeds {
    /// @dev A job in memory while a call works on it.
    /// @param known    Bitmap of the seats whose tag is in `tags`.
    /// @param slashes  What is to be seized: 34 bits for each seat, in units of 100 gwei (bonds are multiples of 1e12 wei).
    /// @param worker   Whose lane was opened last.
    struct Job {
        bytes32 id;
        Terms t;
        Seats s;
        uint256 known;
        uint256 slashes;
        address worker;
        bool seedWanted;
        uint256[7] tags;
    }

    /// @dev Gas of a claim, intrinsic cost included: what a claimant of an expired job gets back at the base fee.
    uint256 internal constant CLAIM_GAS = 42_000;

    function _load(Job memory j, bytes32 job) internal view {
        j.id = job;
        (j.t, j.s) = _read(job);
    }

    /// @dev Closes the job if nothing is open, stores it, and only then calls out.
    /// @param tipTo  Who is tipped for slashes; zero for nobody.
    function _finishCall(Job memory j, address tipTo) internal {
        if (j.s.stage() == Stage.DECIDED && j.s.all() & ~(j.s.finished() | j.s.timely()) == 0) _close(j);
        Seats s = j.s;
        _write(j.id, j.t, s);
        if (j.slashes != 0) _seize(j, tipTo);
        if (j.seedWanted && s.stage() == Stage.SEATS) _requestSeed(j.id);
    }

    /// @dev A seat of a decided job that has revealed: finished at once, unless it gets an attempt fee when the job closes.
    function _settleSeat(Job memory j, uint256 seat) internal {
        Seats s = j.s;
        uint256 tag = _tag(j, seat);
        bool wins = _wins(j, tag);
        uint256 outcome = j.t.outcome();
        if (s.timely() >> seat & 1 == 0) {
            if (wins) _finish(j, seat, SeatEnd.SlashedLate, 0, _part(j), false);
            else _finish(j, seat, SeatEnd.SlashedUnrevealed, 0, _whole(j), false);
        } else if (outcome == Ending.UNAVAILABLE) {
            return;
        } else if (wins) {
            j.t = j.t.withPaid();
            _finish(j, seat, SeatEnd.Paid, j.t.price(), 0, true);
        } else if (Answer.isSoft(tag)) {
            _finish(j, seat, SeatEnd.SlashedWrong, 0, _part(j), false);
        } else if (outcome == Ending.DIGEST) {
            _finish(j, seat, SeatEnd.SlashedWrong, 0, _whole(j), false);
        }
    }

    /// @dev A seat that never revealed and can't any more.
    function _slashSilent(Job memory j, uint256 seat) internal {
        if (j.s.committed() >> seat & 1 == 0) _finish(j, seat, SeatEnd.SlashedUncommitted, 0, _part(j), false);
        else _finish(j, seat, SeatEnd.SlashedUnrevealed, 0, _whole(j), false);
    }

    /// @dev None wins: everything is known, so everything is finished.
    function _noneWins(Job memory j) internal {
        j.t = j.t.withOutcome(Ending.NONE_WINS, 0);
        j.s = j.s.become(Stage.DECIDED);
        emit JobDecided(j.id, Outcome.NoneWins, 0);
        Seats s = j.s;
        (uint256 sharing, uint256 charging) = _sharing(j);
        uint256 rest = j.t.locked();
        uint256 fee = _equal(_fee(j), rest, SeatsLib.count(charging));
        rest -= fee * SeatsLib.count(charging);
        uint256 share = _equal(j.t.price(), rest, SeatsLib.count(sharing));
        rest -= share * SeatsLib.count(sharing);
        for (uint256 i = 0; i < s.taken(); ++i) {
            if (sharing >> i & 1 != 0) _finish(j, i, SeatEnd.Shared, share, 0, false);
            else if (charging >> i & 1 != 0) _finish(j, i, SeatEnd.AttemptFee, fee, 0, false);
            else if (s.timely() >> i & 1 != 0) _finish(j, i, SeatEnd.Unpaid, 0, 0, false);
            else _slashSilent(j, i);
        }
        _closeWith(j, rest);
    }

    /// @dev Fewer than q seats were taken.
    function _expire(Job memory j) internal {
        j.t = j.t.withOutcome(Ending.EXPIRED, 0);
        emit JobDecided(j.id, Outcome.Expired, 0);
        TokenTerms memory terms = _token(j.t.token());
        uint256 pay = terms.attemptFee / 3;
        uint256 cost = CLAIM_GAS * block.basefee;
        if (terms.token == address(0) && cost < pay) pay = cost;
        pay /= terms.granule;
        uint256 taken = j.s.taken();
        for (uint256 i = 0; i < taken; ++i) {
            _finish(j, i, SeatEnd.Released, pay, 0, false);
        }
        _closeWith(j, j.t.locked() - taken * pay);
    }

    /// @dev Granules of the locked sum that are not paid out.
    function _rest(Job memory j) internal pure returns (uint256) {
        Terms t = j.t;
        return t.isSettled() ? t.rest() : t.locked() - t.paid() * t.price();
    }

    function _workerOf(uint256 node) internal view returns (address) {
        return address(uint160(_workers[node]));
    }

    /// @dev The lane of a seat that is being opened. Its worker is most likely the caller: then its lane says so.
    function _openLane(Job memory j, uint256 seat) internal view returns (uint256 word) {
        uint256 lane = j.s.lane(seat);
        uint256 node = j.s.node(seat);
        j.worker = msg.sender;
        word = _lanes[_laneOf(msg.sender, lane)];
        if (Answer.node(word) == node) return word;
        j.worker = _workerOf(node);
        return _lanes[_laneOf(j.worker, lane)];
    }

    /// @dev 216-bit tag of what a seat has revealed.
    function _tag(Job memory j, uint256 seat) internal view returns (uint256 tag) {
        if (j.known >> seat & 1 != 0) return j.tags[seat];
        tag = Answer.top(_lanes[_laneOf(_workerOf(j.s.node(seat)), j.s.lane(seat))]);
        j.tags[seat] = tag;
        j.known |= 1 << seat;
    }

    /// @dev Whether a tag is the winner's of a decided job.
    function _wins(Job memory j, uint256 tag) internal pure returns (bool) {
        uint256 outcome = j.t.outcome();
        if (outcome == Ending.DIGEST) return !Answer.isSoft(tag) && Answer.short(tag) == j.t.winner();
        return tag == (outcome == Ending.UNAVAILABLE ? 1 : 2);
    }

    /// @dev Whether round 0 ended without a Reveal of its own, so that both rounds reveal together.
    function _together(Job memory j) internal pure returns (bool) {
        uint256 first = j.s.first();
        return first != 0 && SeatsLib.count(j.s.committed() & ((1 << first) - 1)) < j.t.quorum();
    }

    /// @dev Bitmap of the seats whose reveal window is that of the present round.
    function _revealing(Job memory j) internal pure returns (uint256) {
        return _together(j) ? j.s.all() : j.s.present();
    }

    /// @dev Seats that the round has.
    function _places(Terms t, Seats s) internal pure returns (uint256) {
        return s.first() == 0 ? t.replicas() : 2;
    }

    /// @dev Active units of stake, as many as a job can note.
    function _units() internal view returns (uint256) {
        return _activeUnits < TermsLib.MAX_UNITS ? _activeUnits : TermsLib.MAX_UNITS;
    }

    /// @dev 16 bits of a class id's hash, never zero. A check against mistakes: a node may register any class anyway.
    function _classTag(bytes32 classId) internal pure returns (uint256 tag) {
        tag = uint256(keccak256(abi.encode(classId))) >> 240;
        if (tag == 0) tag = 1;
    }

    function _phase(Seats s) internal pure returns (Phase) {
        uint256 stage = s.stage();
        if (stage == Stage.SEATS) return Phase.Seats;
        if (stage == Stage.RUN) return Phase.Run;
        return stage == Stage.CLOSED ? Phase.Closed : Phase.Reveal;
    }

    /// @dev Pays the attempt fees of a decided job, all of whose other seats are finished.
    function _close(Job memory j) private {
        uint256 charging = j.s.all() & ~j.s.finished();
        // Nothing is left to pay; that every seat is finished says that the job is closed.
        if (charging == 0) {
            j.s = j.s.become(Stage.CLOSED);
            return;
        }
        uint256 seats = SeatsLib.count(charging);
        uint256 rest = _rest(j);
        uint256 fee = _equal(_fee(j), rest, seats);
        for (uint256 bits = charging; bits != 0; bits &= bits - 1) {
            uint256 seat = SeatsLib.lowest(bits);
            _finish(j, seat, SeatEnd.AttemptFee, fee, 0, _wins(j, _tag(j, seat)));
        }
        _closeWith(j, rest - seats * fee);
    }

    function _closeWith(Job memory j, uint256 rest) private pure {
        j.t = j.t.withRest(rest);
        j.s = j.s.become(Stage.CLOSED);
    }

    /// @dev None wins: who shares the locked sum, and who gets an attempt fee.
    function _sharing(Job memory j) private view returns (uint256 sharing, uint256 charging) {
        uint256 soft;
        for (uint256 bits = j.s.timely(); bits != 0; bits &= bits - 1) {
            uint256 seat = SeatsLib.lowest(bits);
            if (Answer.isSoft(_tag(j, seat))) soft |= 1 << seat;
            else if (_repeats(j, seat)) charging |= 1 << seat;
            else sharing |= 1 << seat;
        }
        if (sharing == 0) charging |= soft;
    }

    /// @dev Whether a digest of round 1 was revealed in time in round 0: that could have been copied.
    function _repeats(Job memory j, uint256 seat) private view returns (bool) {
        uint256 first = j.s.first();
        if (first == 0 || seat < first) return false;
        for (uint256 i = 0; i < first; ++i) {
            if (j.s.timely() >> i & 1 != 0 && _tag(j, i) == _tag(j, seat)) return true;
        }
        return false;
    }

    /// @dev Ends a seat: bond, lane, pay, reputation. The slash is only noted; it is seized when all is stored.
    /// @param granules  Paid to the node.
    /// @param slash     Gwei of the bond that are lost.
    /// @param valid     Whether the answer was the winner.
    function _finish(Job memory j, uint256 seat, SeatEnd end, uint256 granules, uint256 slash, bool valid) private {
        Seats s = j.s;
        uint256 node = s.node(seat);
        uint256 lane = s.lane(seat);
        uint256 index = j.t.token();
        uint256 amount;
        Account a = _accounts[node].unseated(j.t.bond(), lane);
        if (granules != 0) (a, amount) = _creditNode(a, node, index, granules);
        if (slash != 0) {
            a = _setCap(a, a.cap() > slash ? a.cap() - slash : 0).withReputation(0);
            j.slashes |= slash / 100 << 34 * seat;
        } else if (valid && j.t.size() != 0 && a.isEarly(lane) && a.reputation() != type(uint16).max) {
            a = a.withReputation(a.reputation() + 1);
        }
        _accounts[node] = a;
        j.s = j.s.setFinished(seat);
        emit SeatFinished(j.id, uint32(node), uint8(seat), end, amount, slash * GWEI);
    }

    /// @dev Interaction, with its one effect before: the tips, all to one caller.
    function _seize(Job memory j, address tipTo) private callsOut {
        uint256 tips;
        for (uint256 rest = j.slashes; tipTo != address(0) && rest != 0; rest >>= 34) {
            tips += _tip(_slash(rest));
        }
        if (tips != 0) _credit(address(0), tipTo, tips);
        uint256 seat;
        for (uint256 rest = j.slashes; rest != 0; (rest >>= 34, ++seat)) {
            uint256 amount = _slash(rest);
            if (amount != 0) REGISTRY.seize(uint32(j.s.node(seat)), amount, tipTo == address(0) ? 0 : _tip(amount));
        }
    }

    /// @dev Wei of the lowest entry of `slashes`.
    function _slash(uint256 slashes) private pure returns (uint256) {
        unchecked {
            return (slashes & (1 << 34) - 1) * 100 * GWEI;
        }
    }

    function _tip(uint256 slash) private view returns (uint256) {
        return slash / 20 < TIP ? slash / 20 : TIP;
    }

    /// @dev `wanted` for each of `count` seats, or equal shares of `rest` where that is too little.
    function _equal(uint256 wanted, uint256 rest, uint256 count) private pure returns (uint256) {
        if (count == 0) return 0;
        return wanted * count <= rest ? wanted : rest / count;
    }

    /// @dev Attempt fee in granules.
    function _fee(Job memory j) private view returns (uint256) {
        TokenTerms memory terms = _token(j.t.token());
        return terms.attemptFee / terms.granule;
    }

    /// @dev What silence and wrong digests cost, gwei: the whole bond in class `det`. In `native` a client can write a
    ///      program that makes honest nodes differ.
    function _whole(Job memory j) private pure returns (uint256) {
        return j.t.kind() == 1 ? j.t.bond() : _part(j);
    }

    /// @dev 30 % of the bond, gwei.
    function _part(Job memory j) private pure returns (uint256) {
        return j.t.bond() * 3 / 10;
    }
}
