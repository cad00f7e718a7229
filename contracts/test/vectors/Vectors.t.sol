// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Vm} from "forge-std/Vm.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Base} from "../utils/Base.sol";

/// @title  Scripts that the pure model produced, replayed on the contract
/// @notice `outcomes.json`, one script a line, is written by crates/core, whose `market_vectors` test says what the fields
///         mean. Seats, money and stake have to end as in the model, to the gwei. All scripts of one redundancy run on one
///         deployment, one after the other, so that each meets what the earlier ones left in storage.
contract VectorsTest is Base {
    /// @dev What becomes of a seat; money in gwei.
    struct SeatExpectation {
        string end;
        uint256 paid;
        uint256 slashed;
    }

    struct Expectation {
        string outcome;
        uint256 refund;
        SeatExpectation[] seats;
    }

    /// @dev A call that is accepted: `at` in seconds since the posting, `answer` 1, 2 or 10 + k, `action` the script's `do`.
    struct Step {
        uint256 answer;
        uint256 at;
        string action;
        uint256 seat;
    }

    /// @dev Fields in the order of their names, as forge hands over the fields of an object.
    struct Script {
        uint256 bond;
        Expectation expect;
        uint256 fee;
        string kind;
        uint256 n;
        string name;
        uint256 price;
        uint256 q;
        Step[] steps;
        uint256 wall;
    }

    /// @dev What the world holds, before a script or after it.
    struct Holdings {
        uint256 escrow;
        uint256 burnt;
        uint256 tips;
        uint256 client;
        uint256[7] earned;
        uint256[7] stake;
    }

    string private constant FILE = "test/vectors/outcomes.json";
    uint256 private constant MODEL_FEE = 1000 gwei;
    /// @dev More than the blocks that the threshold needs to double from 1 / U to everybody.
    uint256 private constant BLOCKS_A_STEP = 50;

    string[7] private outcomes = ["Open", "Digest", "Limit", "Unavailable", "NoneWins", "Expired", "Cancelled"];
    string[9] private ends = [
        "Released",
        "Paid",
        "AttemptFee",
        "Shared",
        "Unpaid",
        "SlashedWrong",
        "SlashedLate",
        "SlashedUnrevealed",
        "SlashedUncommitted"
    ];
    address private keeper = makeAddr("keeper");
    uint256 private clock;
    uint256 private height;

    function setUp() public override {
        super.setUp();
        vm.fee(0);
        (clock, height) = (vm.getBlockTimestamp(), vm.getBlockNumber());
    }

    /// @dev The model's deployment: as on the testnet, with a smaller attempt fee.
    /// @dev On the bytecode that is deployed.
    function _asDeployed() internal pure override returns (bool) {
        return true;
    }

    function _tokenTerms() internal view override returns (IEscrow.TokenTerms[] memory terms) {
        terms = super._tokenTerms();
        terms[0].attemptFee = MODEL_FEE;
        terms[0].minPrice = 10 * MODEL_FEE;
    }

    function test_Vectors_OneReplica() public {
        assertGt(_replayAll(1), 10);
    }

    function test_Vectors_TwoReplicas() public {
        assertGt(_replayAll(2), 100);
    }

    function test_Vectors_ThreeReplicas() public {
        assertGt(_replayAll(3), 100);
    }

    function test_Vectors_FiveReplicas() public {
        assertGt(_replayAll(5), 100);
    }

    function test_Vectors_NoneIsLeftOut() public {
        string[] memory lines = vm.split(vm.readFile(FILE), "\n");
        uint256 scripts;
        uint256 sized;
        for (uint256 i = 0; i < lines.length; ++i) {
            if (vm.contains(lines[i], '"steps":')) ++scripts;
            for (uint256 n = 1; n <= 5; ++n) {
                if (n != 4 && vm.contains(lines[i], _sizeField(n))) ++sized;
            }
        }
        assertGt(scripts, 400);
        assertEq(sized, scripts);
    }

    /// @notice Replays one script, given as a line of the file; a call of its own gives its memory back.
    function replay(string calldata line) external {
        require(msg.sender == address(this), "tests only");
        Script memory script = abi.decode(vm.parseJson(line), (Script));
        assertEq(script.fee * 1 gwei, MODEL_FEE, script.name);
        Holdings memory before = _holdings();
        IEscrow.Order memory o = _orderOf(script);
        vm.recordLogs();

        bytes32 job = _post(o);
        uint256 postedAt = clock;
        for (uint256 i = 0; i < script.steps.length; ++i) {
            clock = postedAt + script.steps[i].at;
            height += BLOCKS_A_STEP;
            vm.warp(clock);
            vm.roll(height);
            _play(job, script, i);
        }
        _checkJob(job, script);
        _refund(o, script);
        _checkSeats(job, script, vm.getRecordedLogs());
        _checkMoney(script, before);
    }

    /// @dev Replays the scripts with `n` replicas; how many there were.
    function _replayAll(uint256 n) private returns (uint256 count) {
        string[] memory lines = vm.split(vm.readFile(FILE), "\n");
        for (uint256 i = 0; i < lines.length; ++i) {
            if (!vm.contains(lines[i], _sizeField(n))) continue;
            this.replay(_withoutComma(lines[i]));
            ++count;
            clock += 1000;
            height += BLOCKS_A_STEP;
            vm.warp(clock);
            vm.roll(height);
        }
    }

    function _sizeField(uint256 n) private pure returns (string memory) {
        return string.concat('"n":', vm.toString(n), ",");
    }

    function _orderOf(Script memory script) private returns (IEscrow.Order memory o) {
        o = _order(uint8(script.n));
        o.quorum = uint8(script.q);
        o.classId = _is(script.kind, "det") ? DET : NATIVE;
        o.price = script.price * 1 gwei;
        o.bond = script.bond * 1 gwei;
        o.wallLimit = uint32(script.wall);
    }

    /// @dev Makes the call of a step. A seat's own worker claims and commits; reveals come from it or from anybody else.
    function _play(bytes32 job, Script memory script, uint256 index) private {
        Step memory step = script.steps[index];
        uint256 seat = step.seat;
        address caller = players[seat].worker;
        bytes memory call;
        if (_is(step.action, "claim")) {
            assertEq(escrow.jobOf(job).seats, seat, script.name);
            call = abi.encodeCall(escrow.claim, (job, players[seat].node, 0));
        } else if (_is(step.action, "commit")) {
            call = abi.encodeCall(
                escrow.commit,
                (job, uint8(seat), _commitment(job, _roundOf(job, seat), seat, _answer(job, step.answer)))
            );
        } else if (_is(step.action, "reveal")) {
            if (index % 2 == 0) caller = keeper;
            call = step.answer < 10
                ? abi.encodeCall(escrow.reveal, (job, _opening(seat, seat, _answer(job, step.answer))))
                : abi.encodeCall(escrow.revealResult, (job, uint8(seat), _result(step.answer), _salt(seat)));
        } else {
            assertEq(step.action, "poke");
            caller = keeper;
            call = abi.encodeCall(escrow.poke, (job));
        }
        vm.prank(caller);
        (bool accepted, bytes memory why) = address(escrow).call(call);
        assertTrue(accepted, string.concat(script.name, ": step ", vm.toString(index), ": ", vm.toString(why)));
    }

    function _answer(bytes32 job, uint256 code) private view returns (bytes32) {
        return code < 10 ? bytes32(code) : _digest(job, code);
    }

    function _roundOf(bytes32 job, uint256 seat) private view returns (uint256) {
        return seat < escrow.jobOf(job).seatsFirst ? 0 : 1;
    }

    function _checkJob(bytes32 job, Script memory script) private view {
        IEscrow.JobView memory v = escrow.jobOf(job);
        assertEq(uint8(v.phase), uint8(IEscrow.Phase.Closed), script.name);
        assertEq(outcomes[uint8(v.outcome)], script.expect.outcome, script.name);
        assertEq(v.remaining, script.expect.refund * 1 gwei, script.name);
        assertEq(v.finished, (1 << v.seats) - 1, script.name);
        assertEq(v.seats, script.expect.seats.length, script.name);
    }

    function _refund(IEscrow.Order memory o, Script memory script) private {
        bytes32 job = escrow.jobId(o);
        if (script.expect.refund == 0) vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.refund(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.refund(o);
    }

    /// @dev One SeatFinished for every seat, with the end that the model gives it.
    function _checkSeats(bytes32 job, Script memory script, Vm.Log[] memory logs) private view {
        SeatExpectation[] memory seats = script.expect.seats;
        uint256 finished;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IEscrow.SeatFinished.selector) continue;
            (uint8 seat, uint8 end, uint256 paid, uint256 slashed) =
                abi.decode(logs[i].data, (uint8, uint8, uint256, uint256));
            string memory subject = string.concat(script.name, ": seat ", vm.toString(seat));
            assertEq(logs[i].topics[1], job, subject);
            assertEq(uint256(logs[i].topics[2]), players[seat].node, subject);
            assertLt(seat, seats.length, subject);
            assertEq(ends[end], seats[seat].end, subject);
            assertEq(paid, seats[seat].paid * 1 gwei, subject);
            assertEq(slashed, seats[seat].slashed * 1 gwei, subject);
            assertEq(finished >> seat & 1, 0, subject);
            finished |= 1 << seat;
        }
        assertEq(finished, (1 << seats.length) - 1, script.name);
    }

    /// @dev What was locked is with those whom the script names, what was slashed is burnt or a tip, no bond is left.
    function _checkMoney(Script memory script, Holdings memory before) private view {
        Holdings memory later = _holdings();
        uint256 owed = script.expect.refund;
        uint256 slashed;
        for (uint256 i = 0; i < 7; ++i) {
            bool seated = i < script.expect.seats.length;
            uint256 paid = seated ? script.expect.seats[i].paid : 0;
            uint256 lost = seated ? script.expect.seats[i].slashed : 0;
            assertEq(later.earned[i] - before.earned[i], paid * 1 gwei, script.name);
            assertEq(before.stake[i] - later.stake[i], lost * 1 gwei, script.name);
            assertEq(escrow.lockedOf(players[i].node), 0, script.name);
            owed += paid;
            slashed += lost;
        }
        uint256 tips = later.tips - before.tips;
        assertEq(later.client - before.client, script.expect.refund * 1 gwei, script.name);
        assertEq(owed, script.price * (script.n == 2 ? 3 : script.n), script.name);
        assertEq(later.escrow - before.escrow, owed * 1 gwei + tips, script.name);
        assertEq(later.burnt - before.burnt + tips, slashed * 1 gwei, script.name);
        assertLe(tips, slashed * 1 gwei / 20, script.name);
    }

    function _holdings() private view returns (Holdings memory h) {
        h.escrow = address(escrow).balance;
        h.burnt = BURN.balance;
        h.tips = escrow.balanceOf(address(0), keeper);
        h.client = escrow.balanceOf(address(0), client);
        for (uint256 i = 0; i < 7; ++i) {
            h.earned[i] = escrow.nodeBalanceOf(address(0), players[i].node);
            h.stake[i] = registry.nodeOf(players[i].node).stake;
        }
    }

    /// @dev The object of a line of the file, without what separates it from the next.
    function _withoutComma(string memory line) private pure returns (string memory) {
        bytes memory text = bytes(line);
        if (text[text.length - 1] != ",") return line;
        bytes memory object = new bytes(text.length - 1);
        for (uint256 i = 0; i < object.length; ++i) {
            object[i] = text[i];
        }
        return string(object);
    }

    function _is(string memory a, string memory b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }
}
