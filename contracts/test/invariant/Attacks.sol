// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Stakes} from "./Stakes.sol";

/// @title  Calls that must be refused whatever has happened before
abstract contract Attacks is Stakes {
    /// @notice One call out of eight kinds.
    function attack(uint256 kind, uint256 which, uint256 who) public watched {
        if (jobs.length == 0) return;
        bytes32 job = jobs[which % jobs.length];
        uint32 node = players[who % 8].node;
        bytes memory call;
        address caller = keeper;
        uint256 value;
        kind %= 8;
        if (kind == 0) {
            call = abi.encodeCall(escrow.claim, (job, node, 0));
        } else if (kind == 1) {
            call = abi.encodeCall(escrow.commit, (job, uint8(who % 7), bytes27("mine")));
        } else if (kind == 2) {
            call = abi.encodeCall(escrow.revealResult, (job, uint8(who % 7), _result(9), _salt(9)));
            if (_isDone(job, who % 7)) return;
        } else if (kind == 3) {
            call = abi.encodeCall(escrow.onOptIn, (node, keeper, keeper, 100 ether, _classes()));
        } else if (kind == 4) {
            (call, caller) = (abi.encodeCall(escrow.withdraw, (address(0), sink)), sink);
        } else if (kind == 5) {
            call = abi.encodeCall(escrow.post, (orders[job]));
            caller = orders[job].payer;
            value = orders[job].token == address(0) ? ghost[job].locked : 0;
        } else if (kind == 6) {
            IEscrow.Order memory o = orders[job];
            o.price *= 2;
            call = abi.encodeCall(escrow.refund, (o));
        } else {
            _seize(node);
            return;
        }
        _refused(caller, address(escrow), value, call);
    }

    function _seize(uint32 node) private {
        _refused(keeper, address(registry), 0, abi.encodeCall(registry.seize, (node, 1, 1)));
        _refused(keeper, address(registry), 0, abi.encodeCall(registry.leave, (node, address(escrow), 1)));
        _refused(keeper, address(registry), 0, abi.encodeCall(registry.withdrawStake, (node, 1, keeper)));
    }

    /// @dev A seat that has revealed or is finished is skipped, not refused.
    function _isDone(bytes32 job, uint256 seat) private view returns (bool) {
        if (seat >= seats[job].length) return false;
        return seats[job][seat].ends != 0 || uint8(seats[job][seat].deed) >= uint8(Deed.Timely);
    }

    function _refused(address caller, address to, uint256 value, bytes memory data) private {
        vm.prank(caller);
        (bool done,) = to.call{value: value}(data);
        _forget();
        assertFalse(done, "a call that must be refused came through");
        ++seen["attack"];
    }
}
