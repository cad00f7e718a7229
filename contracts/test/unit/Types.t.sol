// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {Account as Word, AccountLib} from "../../src/types/Account.sol";
import {Answer} from "../../src/types/Answer.sol";
import {JobStore} from "../../src/types/JobStore.sol";
import {Seats, SeatsLib, Stage} from "../../src/types/Seats.sol";
import {Ending, Terms, TermsLib} from "../../src/types/Terms.sol";

/// @title types.tree
contract TypesTest is Test {
    uint256 private constant SEAT_WINDOW = 600;

    struct Shape {
        uint256 price;
        uint256 bond;
        uint256 token;
        uint256 size;
        uint256 kind;
        uint256 wall;
        uint256 class;
        uint256 reputation;
        uint256 units;
        uint256 seed;
        uint256 deeds;
        uint256 life;
        uint256 stage;
        bool extra;
    }

    function _terms(Shape memory x) private view returns (Terms) {
        return TermsLib.create(
                bound(x.price, 0, TermsLib.MAX_PRICE),
                bound(x.bond, 0, TermsLib.MAX_BOND),
                bound(x.token, 0, TermsLib.MAX_TOKENS - 1),
                x.size,
                bound(x.kind, 0, 1)
            )
            .withSeating(
                bound(x.wall, 0, TermsLib.MAX_WALL),
                bound(x.class, 0, type(uint16).max),
                bound(x.reputation, 0, TermsLib.MAX_REPUTATION)
            );
    }

    /// @dev Seats with random holders; what a seat did depends on the stage.
    function _seats(Shape memory x, uint256 stage) private view returns (Seats s) {
        uint256 n = 0x05030201 >> (x.size << 3) & 7;
        bool extra = x.extra && x.size != 0;
        // Before its last claim the first Seats phase has a seat less.
        uint256 taken = stage == Stage.SEATS && !extra ? x.seed % n : n;
        for (uint256 i = 0; i < taken; ++i) {
            s = _take(s, x.seed, i);
        }
        if (extra) {
            s = s.openExtra();
            uint256 more = x.seed % (stage == Stage.SEATS ? 2 : 3);
            for (uint256 i = 0; i < more; ++i) {
                s = _take(s, x.seed, taken + i);
            }
        }
        uint256 deadline = vm.getBlockTimestamp() + SEAT_WINDOW;
        if (stage != Stage.SEATS || extra) deadline = vm.getBlockTimestamp() + x.life % (JobStore.MAX_LIFE + 1);
        s = s.enter(stage, deadline);
        if (stage == Stage.SEATS && !extra) return s;
        for (uint256 i = 0; i < s.taken(); ++i) {
            uint256 deed = x.deeds >> 4 * i & 3;
            if (deed > 0) s = s.setCommitted(i);
            if (deed == 2) s = s.setRevealed(i);
            if (deed == 3) s = s.setLate(i);
            if (stage >= Stage.DECIDED && x.deeds >> 4 * i & 4 != 0) s = s.setFinished(i);
        }
    }

    function _take(Seats s, uint256 seed, uint256 i) private pure returns (Seats) {
        uint256 r = uint256(keccak256(abi.encode(seed, i)));
        return s.take(r & SeatsLib.MAX_NODE, r >> 20 & 31);
    }

    function _assertKept(Terms t, Seats s) private pure {
        bool more = JobStore.needsMore(t, s);
        uint256 word = JobStore.pack(t, s, more);
        assertEq(JobStore.hasMore(word), more, "more");
        assertNotEq(word, 0);
        (Terms t2, Seats s2) = JobStore.unpack(word, more ? JobStore.packMore(t, s) : 0, SEAT_WINDOW);
        assertEq(Terms.unwrap(t2), Terms.unwrap(t), "terms");
        assertEq(Seats.unwrap(s2), Seats.unwrap(s), "seats");
    }

    function testFuzz_JobStore_GivesBackWhatWasPacked(Shape memory x) public {
        vm.warp(1_800_000_000);
        x.size = bound(x.size, 0, 3);
        x.stage = bound(x.stage, Stage.SEATS, Stage.CLOSED);
        Terms t = _terms(x);
        Seats s = _seats(x, x.stage);
        assertEq(JobStore.needsMore(t, s), x.size == 3 || (x.extra && x.size != 0));
        if (x.stage == Stage.SEATS) {
            t = t.withRound(bound(x.units, 0, TermsLib.MAX_UNITS));
        } else if (x.stage >= Stage.DECIDED) {
            t = t.withOutcome(bound(x.seed, Ending.DIGEST, Ending.CANCELLED), x.seed >> 202);
            for (uint256 i = 0; i < x.seed % 6; ++i) {
                t = t.withPaid();
            }
            if (x.stage == Stage.CLOSED) t = t.withRest(x.seed >> 190);
        }
        _assertKept(t, s);
    }

    function testFuzz_Terms_FieldsAreApart(Shape memory x) public {
        vm.warp(1_800_000_000);
        vm.roll(77_777_777);
        x.size = bound(x.size, 0, 3);
        x.units = bound(x.units, 0, TermsLib.MAX_UNITS);
        Terms t = _terms(x).withRound(x.units);
        assertEq(t.price(), bound(x.price, 0, TermsLib.MAX_PRICE));
        assertEq(t.bond(), bound(x.bond, 0, TermsLib.MAX_BOND) * 1000);
        assertEq(t.token(), bound(x.token, 0, TermsLib.MAX_TOKENS - 1));
        assertEq(t.size(), x.size);
        assertEq(t.kind(), bound(x.kind, 0, 1));
        assertEq(t.wall(), bound(x.wall, 0, TermsLib.MAX_WALL));
        assertEq(t.classTag(), bound(x.class, 0, type(uint16).max));
        assertEq(t.minReputation(), bound(x.reputation, 0, TermsLib.MAX_REPUTATION));
        assertEq(t.postedAt(), 1_800_000_000);
        assertEq(t.openedBlock(), 77_777_777);
        assertEq(t.units(), x.units);
        assertEq(t.outcome(), Ending.OPEN);
        t = t.withOutcome(Ending.LIMIT, x.seed >> 202).withPaid();
        assertEq(t.winner(), x.seed >> 202);
        assertEq(t.outcome(), Ending.LIMIT);
        assertEq(t.paid(), 1);
        assertEq(t.price(), bound(x.price, 0, TermsLib.MAX_PRICE));
        assertFalse(t.isSettled());
        uint256 n = t.replicas();
        assertEq(t.locked(), t.price() * (n == 2 ? 3 : n));
        t = t.withRest(x.seed >> 190);
        assertTrue(t.isSettled());
        assertEq(t.rest(), x.seed >> 190);
        assertEq(t.winner(), bound(x.seed, x.seed, x.seed) >> 202);
    }

    function testFuzz_Account_SeatedAndUnseatedUndoEachOther(uint256 word, uint48 bond, bool early) public pure {
        Word a = Word.wrap(word);
        uint256 lane = a.freeLane();
        if (lane == 32 || a.locked() + bond > AccountLib.AMOUNT_MAX) return;
        assertEq(a.lanes() >> lane & 1, 0);
        Word b = a.seated(bond, lane, early);
        assertEq(b.lanes(), a.lanes() | 1 << lane);
        assertEq(b.locked(), a.locked() + bond);
        assertEq(b.isEarly(lane), early);
        assertEq(b.cap(), a.cap());
        assertEq(b.earned(), a.earned());
        assertEq(b.since(), a.since());
        assertEq(b.reputation(), a.reputation());
        Word c = b.unseated(bond, lane);
        assertEq(c.lanes(), a.lanes());
        assertEq(c.locked(), a.locked());
    }

    function testFuzz_Account_FieldsAreApart(uint256 word, uint48 cap, uint48 earned, uint16 reputation) public {
        vm.warp(1_800_000_000);
        Word a = Word.wrap(word).withCap(cap).withEarned(earned).withReputation(reputation).renewed();
        assertEq(a.cap(), cap);
        assertEq(a.earned(), earned);
        assertEq(a.reputation(), reputation);
        assertEq(a.since(), 1_800_000_000);
        assertEq(a.locked(), Word.wrap(word).locked());
        assertEq(a.lanes(), Word.wrap(word).lanes());
    }

    function testFuzz_Seats_Bitmaps(uint256 seed, uint8 taken, uint16 deeds) public pure {
        taken = uint8(bound(taken, 0, 7));
        Seats s;
        uint256 committed;
        uint256 timely;
        uint256 late;
        for (uint256 i = 0; i < taken; ++i) {
            s = _take(s, seed, i);
            uint256 deed = deeds >> 2 * i & 3;
            if (deed == 0) continue;
            committed |= 1 << i;
            s = s.setCommitted(i);
            if (deed == 2) (s, timely) = (s.setRevealed(i), timely | 1 << i);
            if (deed == 3) (s, late) = (s.setLate(i), late | 1 << i);
        }
        assertEq(s.taken(), taken);
        assertEq(s.all(), (1 << uint256(taken)) - 1);
        assertEq(s.committed(), committed);
        assertEq(s.timely(), timely);
        assertEq(s.revealed(), timely | late);
        assertEq(s.unrevealed(), committed & ~(timely | late));
        for (uint256 i = 0; i < taken; ++i) {
            uint256 r = uint256(keccak256(abi.encode(seed, i)));
            assertEq(s.node(i), r & SeatsLib.MAX_NODE);
            assertEq(s.lane(i), r >> 20 & 31);
        }
    }

    function testFuzz_Seats_CountAndLowest(uint8 bits) public pure {
        uint256 n;
        uint256 low = 8;
        for (uint256 i = 8; i != 0; --i) {
            if (bits >> i - 1 & 1 != 0) (n, low) = (n + 1, i - 1);
        }
        assertEq(SeatsLib.count(bits), n);
        if (bits != 0) assertEq(SeatsLib.lowest(bits), low);
    }

    function testFuzz_Answer_DigestsAreNoSoftAnswers(bytes32 answer) public pure {
        uint256 tag = Answer.tagOf(answer);
        bool soft = answer == bytes32(uint256(1)) || answer == bytes32(uint256(2));
        assertEq(Answer.isSoft(tag), soft);
        assertEq(Answer.isSoft(Answer.tagOf(answer >> 200)), uint256(answer >> 200) == 1 || uint256(answer >> 200) == 2);
        assertEq(Answer.show(tag), soft ? answer : answer >> 40 << 40);
    }

    function testFuzz_Answer_LanesKeepThreeThings(bytes27 commitment, uint256 node, bool late) public pure {
        node = bound(node, 0, SeatsLib.MAX_NODE);
        uint256 word = Answer.sealedWord(commitment, node, late);
        assertEq(Answer.top(word), uint256(bytes32(commitment)) >> 40);
        assertEq(Answer.node(word), node);
        assertEq(Answer.isLate(word), late);
        word = Answer.openWord(Answer.tagOf(bytes32(commitment)), node);
        assertEq(Answer.top(word), Answer.tagOf(bytes32(commitment)));
        assertEq(Answer.node(word), node);
    }
}
