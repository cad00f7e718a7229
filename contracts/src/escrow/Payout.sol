// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Account} from "../types/Account.sol";
import {Answer} from "../types/Answer.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Terms, TermsLib} from "../types/Terms.sol";
import {Seeds} from "./Seeds.sol";

/// @title  What becomes of a seat: prices, fees, shares, slashes
/// @notice docs/protocol.md, "What becomes of a seat".
abstract contract Payout is Seeds {
    /// @dev A job in memory while a call works on it.
    /// @param storedT  What storage holds; zero while the terms have not been needed.
    /// @param known    Bitmap of the seats whose tag is in `tags`.
    /// @param dirty    Bitmap of the seats whose tag their lane does not hold yet.
    /// @param slashes  Gwei to be seized, by seat.
    struct Job {
        bytes32 id;
        Terms t;
        Seats s;
        Terms storedT;
        Seats storedS;
        uint256 known;
        uint256 dirty;
        bool seedWanted;
        bool slashed;
        uint256[7] tags;
        uint256[7] slashes;
    }

    /// @dev Gas of a claim, intrinsic cost included: what a claimant of an expired job gets back at the base fee.
    uint256 internal constant CLAIM_GAS = 60_000;

    function _load(bytes32 job) internal view returns (Job memory j) {
        j.id = job;
        j.storedS = j.s = _seats[job];
        if (Seats.unwrap(j.s) != 0) return j;
        Terms t = _loadTerms(j);
        j.s = SeatsLib.create(t.size(), t.wall(), t.postedAt() + SEAT_WINDOW);
        if (t.outcome() != Outcome.Open) j.s = j.s.close();
        j.storedS = j.s;
    }

    function _loadTerms(Job memory j) internal view returns (Terms t) {
        t = j.t;
        if (Terms.unwrap(t) != 0) return t;
        j.storedT = j.t = t = _terms[j.id];
        require(Terms.unwrap(t) != 0, UnknownJob(j.id));
    }

    /// @dev Closes the job if nothing is open, stores it, and only then calls out.
    /// @param tipTo  Who is tipped for slashes; zero for nobody.
    function _finishCall(Job memory j, address tipTo) internal {
        if (j.s.stage() == Stage.Decided && j.s.all() & ~j.s.finished() & ~j.s.timely() == 0) _close(j);
        Seats s = j.s;
        if (Seats.unwrap(s) != Seats.unwrap(j.storedS)) _seats[j.id] = s;
        if (Terms.unwrap(j.t) != Terms.unwrap(j.storedT)) _terms[j.id] = j.t;
        uint256 dirty = j.dirty & ~s.finished();
        for (uint256 i = 0; dirty >> i != 0; ++i) {
            if (dirty >> i & 1 != 0) _lanes[s.node(i)][s.lane(i)] = Answer.openWord(j.tags[i]);
        }
        if (j.slashed) _seize(j, tipTo);
        if (j.seedWanted && s.stage() == Stage.Seats) _requestSeed(j.id);
    }

    /// @dev A seat of a decided job that has revealed: finished at once, unless it gets an attempt fee when the job closes.
    function _settleSeat(Job memory j, uint256 seat) internal {
        Seats s = j.s;
        uint256 tag = _tag(j, seat);
        bool wins = _wins(j, tag);
        Outcome outcome = j.t.outcome();
        if (s.timely() >> seat & 1 == 0) {
            if (wins) _finish(j, seat, SeatEnd.SlashedLate, 0, _part(j), false);
            else _finish(j, seat, SeatEnd.SlashedUnrevealed, 0, _whole(j), false);
        } else if (outcome == Outcome.Unavailable) {
            return;
        } else if (wins) {
            j.s = s.setPaid(seat);
            _finish(j, seat, SeatEnd.Paid, j.t.price(), 0, true);
        } else if (Answer.isSoft(tag)) {
            _finish(j, seat, SeatEnd.SlashedWrong, 0, _part(j), false);
        } else if (outcome == Outcome.Digest) {
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
        j.t = _loadTerms(j).withOutcome(Outcome.NoneWins, 0);
        j.s = j.s.decide();
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
        j.t = _loadTerms(j).withOutcome(Outcome.Expired, 0);
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
    function _rest(Job memory j) internal view returns (uint256) {
        Terms t = _loadTerms(j);
        if (t.isSettled()) return t.rest();
        uint256 paid = j.s.stage() >= Stage.Decided ? SeatsLib.count(j.s.paid()) : 0;
        return t.locked() - paid * t.price();
    }

    /// @dev 216-bit tag of what a seat has revealed.
    function _tag(Job memory j, uint256 seat) internal view returns (uint256 tag) {
        if (j.known >> seat & 1 != 0) return j.tags[seat];
        tag = Answer.top(_lanes[j.s.node(seat)][j.s.lane(seat)]);
        j.tags[seat] = tag;
        j.known |= 1 << seat;
    }

    function _setTag(Job memory j, uint256 seat, uint256 tag) internal pure {
        j.tags[seat] = tag;
        j.known |= 1 << seat;
        j.dirty |= 1 << seat;
    }

    /// @dev Whether a tag is the winner's of a decided job.
    function _wins(Job memory j, uint256 tag) internal view returns (bool) {
        return Answer.short(tag) == _loadTerms(j).winner();
    }

    /// @dev Seats that the round has.
    function _places(Seats s) internal pure returns (uint256) {
        return s.first() == 0 ? TermsLib.replicas(s.size()) : 2;
    }

    /// @dev 32 bits of a class id's hash, never zero. A check against mistakes: a node may register any class anyway.
    function _classTag(bytes32 classId) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(classId))) >> 224 | 1;
    }

    function _phase(Seats s) internal pure returns (Phase) {
        Stage stage = s.stage();
        if (stage == Stage.Seats) return Phase.Seats;
        if (stage == Stage.Run) return Phase.Run;
        return stage == Stage.Closed ? Phase.Closed : Phase.Reveal;
    }

    /// @dev Pays the attempt fees of a decided job, all of whose other seats are finished.
    function _close(Job memory j) private {
        uint256 charging = j.s.all() & ~j.s.finished();
        uint256 seats = SeatsLib.count(charging);
        uint256 rest = _rest(j);
        if (seats == 0) {
            j.s = j.s.close();
            emit PhaseChanged(j.id, Phase.Closed, uint64(j.s.deadline()));
            return;
        }
        uint256 fee = _equal(_fee(j), rest, seats);
        for (uint256 i = 0; charging >> i != 0; ++i) {
            if (charging >> i & 1 != 0) _finish(j, i, SeatEnd.AttemptFee, fee, 0, _wins(j, _tag(j, i)));
        }
        _closeWith(j, rest - seats * fee);
    }

    function _closeWith(Job memory j, uint256 rest) private {
        j.t = j.t.withRest(rest);
        j.s = j.s.close();
        emit PhaseChanged(j.id, Phase.Closed, uint64(j.s.deadline()));
    }

    /// @dev None wins: who shares the locked sum, and who gets an attempt fee.
    function _sharing(Job memory j) private view returns (uint256 sharing, uint256 charging) {
        uint256 timely = j.s.timely();
        uint256 soft;
        for (uint256 i = 0; timely >> i != 0; ++i) {
            if (timely >> i & 1 == 0) continue;
            if (Answer.isSoft(_tag(j, i))) soft |= 1 << i;
            else if (_repeats(j, i)) charging |= 1 << i;
            else sharing |= 1 << i;
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
            j.slashes[seat] = slash;
            j.slashed = true;
        } else if (valid && s.size() != 0 && a.isEarly(lane) && a.reputation() != type(uint16).max) {
            a = a.withReputation(a.reputation() + 1);
        }
        _accounts[node] = a;
        j.s = j.s.setFinished(seat);
        emit SeatFinished(j.id, uint32(node), uint8(seat), end, amount, slash * GWEI);
    }

    /// @dev Interaction, with its one effect before: the tips, all to one caller.
    function _seize(Job memory j, address tipTo) private {
        uint256 tips;
        uint256 taken = j.s.taken();
        for (uint256 i = 0; tipTo != address(0) && i < taken; ++i) {
            tips += _tip(j.slashes[i] * GWEI);
        }
        if (tips != 0) _credit(address(0), tipTo, tips);
        for (uint256 i = 0; i < taken; ++i) {
            uint256 amount = j.slashes[i] * GWEI;
            if (amount != 0) REGISTRY.seize(uint32(j.s.node(i)), amount, tipTo == address(0) ? 0 : _tip(amount));
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
