// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Registry} from "../../src/Registry.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {TestToken} from "../../src/testnet/TestToken.sol";
import {Base} from "../utils/Base.sol";
import {EscrowHarness, Reenterer} from "./Harness.sol";
import {Vm} from "forge-std/Vm.sol";

/// @title  A market, and what a bystander who sees calls and events has noted of it
/// @notice Holds the deployment and the ghost stores; never acts on the market and never judges it.
abstract contract Ghosts is Base {
    enum Deed {
        Nothing,
        Committed,
        Timely,
        Late
    }

    struct GhostSeat {
        uint256 player;
        bool early;
        bool tooEarly; // `limit`, committed too early for it
        uint8 result; // which result the answer is the digest of, if it is one
        Deed deed;
        uint8 ends;
        IEscrow.SeatEnd end;
        bytes27 commitment;
        bytes32 answer;
        uint256 paid;
        uint256 slashed;
    }

    struct GhostJob {
        uint256 locked;
        uint256 postedAt;
        uint256 first; // seats of round 0 once round 1 has opened
        bool extra;
        uint8 decisions;
        IEscrow.Outcome outcome;
        uint8 refunds;
        uint256 refunded;
        uint256 burnt;
    }

    uint256 internal constant NODE_STAKE = 2 ether;

    EscrowHarness internal harness;
    Reenterer internal reenterer;
    address internal second = makeAddr("second client");
    address internal keeper = makeAddr("keeper");
    address internal sink = makeAddr("sink");

    bytes32[] internal jobs;
    mapping(bytes32 job => GhostJob) internal ghost;
    mapping(bytes32 job => IEscrow.Order) internal orders;
    mapping(bytes32 job => GhostSeat[]) internal seats;
    mapping(address token => uint256) internal posted;
    mapping(address token => uint256) internal burntFees;
    mapping(uint32 node => uint256) internal reputation;
    uint256 internal deposited;
    uint256 internal stakeOut;
    uint256 internal seizedBurnt;
    uint256 internal seizedTips;
    uint256 internal slashed;
    /// @dev Whether the reveal that is under way is in time.
    bool internal expectTimely;

    /// @notice How often something was seen.
    mapping(string what => uint256) public seen;

    /// @notice How often money that was on its way out tried to come back in.
    function reentriesTried() external view returns (uint256) {
        return reenterer.tried();
    }

    /// @dev Calls whose events are taken in.
    modifier watched() {
        vm.recordLogs();
        _;
        _takeIn();
    }

    function setUp() public override {
        vm.warp(1_800_000_000);
        vm.roll(1_000_000);
        vm.fee(1 gwei);
        registry = new Registry(EXIT_DELAY, UNIT);
        token = new TestToken("Test", "TST", 6);
        harness = new EscrowHarness(_parameters(), _tokenTerms());
        escrow = harness;
        vm.deal(address(this), 10 ether);
        reenterer = new Reenterer{value: 10 ether}(escrow, NATIVE, 10 * FEE);
        for (uint256 i = 0; i < 8; ++i) {
            _addNode(NODE_STAKE);
            deposited += NODE_STAKE;
        }
        players[7].payout = address(reenterer);
        vm.prank(players[7].account);
        registry.setPayout(players[7].node, address(reenterer));
        _fund(client);
        _fund(second);
        _fund(players[2].account);
        _fund(players[3].worker);
        _pass(12);
    }

    function _fund(address who) private {
        vm.deal(who, 1000 ether);
        token.mint(who, 1e15);
        vm.prank(who);
        token.approve(address(escrow), type(uint256).max);
    }

    /// @dev Takes in the events since the last time.
    function _takeIn() internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            _take(logs[i]);
        }
    }

    /// @dev What a refused call emitted never happened; the recorder keeps it all the same.
    function _forget() internal {
        vm.getRecordedLogs();
    }

    function _take(Vm.Log memory log) private {
        bytes32 topic = log.topics[0];
        if (topic == IRegistry.Seized.selector) {
            (uint256 burnt, uint256 tip) = abi.decode(log.data, (uint256, uint256));
            (seizedBurnt, seizedTips) = (seizedBurnt + burnt, seizedTips + tip);
            if (tip != 0) ++seen["tip"];
            return;
        }
        if (log.emitter != address(escrow) || log.topics.length < 2) return;
        GhostJob storage g = ghost[log.topics[1]];
        if (topic == IEscrow.SeatFinished.selector) {
            _takeEnd(log.topics[1], uint32(uint256(log.topics[2])), log.data);
        } else if (topic == IEscrow.Revealed.selector) {
            (uint8 seat,) = abi.decode(log.data, (uint8, bytes32));
            seats[log.topics[1]][seat].deed = expectTimely ? Deed.Timely : Deed.Late;
            ++seen[expectTimely ? "timely" : "late"];
        } else if (topic == IEscrow.JobDecided.selector) {
            (g.outcome,) = abi.decode(log.data, (IEscrow.Outcome, bytes32));
            ++g.decisions;
            ++seen[string.concat("outcome ", vm.toString(uint256(g.outcome)))];
        } else if (topic == IEscrow.RoundOpened.selector) {
            (g.extra, g.first) = (true, seats[log.topics[1]].length);
            ++seen["extra round"];
        } else if (topic == IEscrow.Refunded.selector) {
            ++g.refunds;
            g.refunded += abi.decode(log.data, (uint256));
            ++seen["refund"];
        } else if (topic == IEscrow.Burnt.selector) {
            uint256 amount = abi.decode(log.data, (uint256));
            g.burnt += amount;
            burntFees[orders[log.topics[1]].token] += amount;
        }
    }

    function _takeEnd(bytes32 job, uint32 node, bytes memory data) private {
        (uint8 seat, IEscrow.SeatEnd end, uint256 paid, uint256 slash) =
            abi.decode(data, (uint8, IEscrow.SeatEnd, uint256, uint256));
        GhostSeat storage s = seats[job][seat];
        assertEq(players[s.player].node, node, "a seat ends with the node that took it");
        ++s.ends;
        s.end = end;
        s.paid += paid;
        s.slashed += slash;
        slashed += slash;
        ++seen[string.concat("end ", vm.toString(uint256(end)))];
        if (end == IEscrow.SeatEnd.Shared && paid < orders[job].price) ++seen["short share"];
        bool valid = end == IEscrow.SeatEnd.Paid
            || (ghost[job].outcome == IEscrow.Outcome.Unavailable && s.answer == UNAVAILABLE && slash == 0);
        if (slash != 0) reputation[node] = 0;
        else if (valid && s.early && orders[job].quorum >= 2 && ++reputation[node] != 0) ++seen["reputation"];
    }
}
