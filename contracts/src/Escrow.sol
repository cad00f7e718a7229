// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "./interfaces/IEscrow.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {Account} from "./types/Account.sol";
import {Answer} from "./types/Answer.sol";
import {Seats} from "./types/Seats.sol";
import {Answers} from "./escrow/Answers.sol";
import {EscrowBase} from "./escrow/EscrowBase.sol";
import {Orders} from "./escrow/Orders.sol";
import {Seating} from "./escrow/Seating.sol";

/// @title  Escrow: orders, seats, money
/// @notice The parts are in `escrow/`; here are withdrawals and what can be read.
contract Escrow is Orders, Seating, Answers {
    constructor(Parameters memory parameters_, TokenTerms[] memory tokens_) EscrowBase(parameters_, tokens_) {}

    /// @dev Tips for slashes come this way.
    receive() external payable {
        if (msg.sender != address(REGISTRY)) revert OnlyRegistry(msg.sender);
    }

    /// @inheritdoc IEscrow
    function withdraw(address token, address to) external guarded {
        if (to == address(0)) revert BadOrder("to");
        uint256 amount = _balances[token][msg.sender];
        if (amount == 0) revert NothingToWithdraw();
        _balances[token][msg.sender] = 0;
        emit Withdrawn(msg.sender, token, to, amount);
        _send(token, to, amount);
    }

    /// @inheritdoc IEscrow
    function withdrawNode(uint32 node, address token) external guarded {
        IRegistry.Node memory n = REGISTRY.nodeOf(node);
        bool known = msg.sender == n.worker || msg.sender == n.account || msg.sender == n.payout;
        if (!known || msg.sender == address(0)) revert NotWorker(node, msg.sender);
        uint256 amount = nodeBalanceOf(token, node);
        if (amount == 0) revert NothingToWithdraw();
        _nodeBalances[token][node] = 0;
        if (token == address(0)) _accounts[node] = _accounts[node].withEarned(0);
        emit NodeWithdrawn(node, token, n.payout, amount);
        _send(token, n.payout, amount);
    }

    /// @inheritdoc IEscrow
    function jobOf(bytes32 job) external view returns (JobView memory v) {
        if (!_isPosted(job)) return v;
        Job memory j;
        _load(j, job);
        v.phase = _phase(j.s);
        v.outcome = Outcome(j.t.outcome());
        v.round = j.s.first() == 0 ? 0 : 1;
        v.seats = uint8(j.s.taken());
        v.seatsFirst = uint8(j.s.first() == 0 ? j.s.taken() : j.s.first());
        v.committed = uint8(j.s.committed());
        v.revealed = uint8(j.s.timely());
        v.finished = uint8(j.s.finished());
        v.deadline = uint64(j.s.deadline());
        v.remaining = _rest(j) * _token(j.t.token()).granule;
        if (v.outcome == Outcome.Digest) {
            v.answer = bytes32(j.t.winner() << 202);
        } else if (v.outcome == Outcome.Open) {
            v.openedBlock = uint64(j.t.openedBlock());
            v.units = uint32(j.t.units());
            (uint256 tag,) = _leading(j);
            v.answer = Answer.show(tag);
        } else if (v.outcome == Outcome.Limit || v.outcome == Outcome.Unavailable) {
            v.answer = bytes32(uint256(v.outcome == Outcome.Limit ? 2 : 1));
        }
    }

    /// @inheritdoc IEscrow
    function seatNode(bytes32 job, uint8 seat) external view returns (uint32) {
        (, Seats s) = _read(job);
        return seat < 7 ? uint32(s.node(seat)) : 0;
    }

    /// @inheritdoc IEscrow
    function nodeView(uint32 node) external view returns (NodeView memory v) {
        Account a = _accounts[node];
        v.account = REGISTRY.nodeOf(node).account;
        v.worker = address(uint160(_workers[node]));
        v.cap = a.cap() * GWEI;
        v.locked = a.locked() * GWEI;
        v.earned = nodeBalanceOf(address(0), node);
        v.since = uint64(a.since());
        v.reputation = uint16(a.reputation());
    }

    /// @inheritdoc IEscrow
    function balanceOf(address token, address owner) external view returns (uint256) {
        return _balances[token][owner];
    }

    /// @inheritdoc IEscrow
    function nodeBalanceOf(address token, uint32 node) public view returns (uint256) {
        return _nodeBalances[token][node] + (token == address(0) ? _accounts[node].earned() * GWEI : 0);
    }

    /// @inheritdoc IEscrow
    function parameters() external view returns (Parameters memory) {
        return Parameters({
            unit: UNIT * GWEI,
            seatWindow: uint32(SEAT_WINDOW),
            maxWall: uint32(MAX_WALL),
            runMultiple: uint32(RUN_MULTIPLE),
            runSlack: uint32(RUN_SLACK),
            revealWindow: uint32(REVEAL_WINDOW),
            tip: TIP,
            registry: address(REGISTRY),
            seedSource: address(SEED_SOURCE)
        });
    }

    /// @inheritdoc IEscrow
    function tokenTerms() external view returns (TokenTerms[] memory) {
        return _tokens;
    }
}
