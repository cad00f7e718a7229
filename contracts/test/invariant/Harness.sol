// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Escrow} from "../../src/Escrow.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Seats} from "../../src/types/Seats.sol";

/// @title  The escrow, and a look at what it stores but shows nobody
contract EscrowHarness is Escrow {
    constructor(Parameters memory parameters_, TokenTerms[] memory tokens_) Escrow(parameters_, tokens_) {}

    /// @notice Bitmap of the lanes that a node's seats hold.
    function lanesOf(uint32 node) external view returns (uint256) {
        return _accounts[node].lanes();
    }

    /// @notice The lane in which a seat keeps its commit.
    function laneOfSeat(bytes32 job, uint256 seat) external view returns (uint256) {
        (, Seats s) = _read(job);
        return s.lane(seat);
    }

    /// @notice Upper 216 bits of a lane: the commit until it is opened.
    function laneTop(uint32 node, uint256 lane) external view returns (bytes27) {
        return bytes27(bytes32(_lanes[_laneOf(_workerOf(node), lane)]));
    }
}

/// @title  A payout address that posts a job of its own whenever money arrives
/// @notice It may do that at any other time; in the middle of a withdrawal it must not.
contract Reenterer {
    Escrow private immutable ESCROW;
    bytes32 private immutable CLASS;
    uint256 private immutable PRICE;

    /// @notice Calls that came through.
    uint256 public entered;
    /// @notice Calls that were tried.
    uint256 public tried;

    constructor(Escrow escrow, bytes32 classId, uint256 price) payable {
        (ESCROW, CLASS, PRICE) = (escrow, classId, price);
    }

    receive() external payable {
        IEscrow.Order memory o;
        o.client = address(this);
        o.payer = address(this);
        o.nonce = ++tried;
        o.classId = CLASS;
        o.price = PRICE;
        o.replicas = 1;
        o.quorum = 1;
        o.bond = 1 ether;
        o.wallLimit = 1;
        o.version = 1;
        try ESCROW.post{value: PRICE}(o) {
            ++entered;
        } catch {}
    }
}
