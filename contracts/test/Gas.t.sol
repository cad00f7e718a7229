// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../src/interfaces/IEscrow.sol";
import {Base} from "./utils/Base.sol";
import {console} from "forge-std/console.sol";

/// @title  What a job costs on chain, intrinsic gas and calldata included
/// @notice In isolation every call is a transaction of its own, so `lastCallGas` is what a receipt would say.
/// forge-config: default.isolate = true
contract GasTest is Base {
    uint256 private total;

    /// forge-config: default.isolate = true
    function test_Gas_ThreeReplicas() public {
        _job(3);
        uint256 gas = _job(3);
        console.log("r3", gas);
        assertLe(gas, 450_000);
    }

    function _add(string memory what) private {
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        console.log(what, gas);
        total += gas;
    }

    function _job(uint8 n) private returns (uint256) {
        total = 0;
        IEscrow.Order memory o = _order(n);
        bytes32 job = _post(o);
        _add("post");
        _pass(2);
        _openLottery();
        for (uint256 i = 0; i < n; ++i) {
            _claim(job, i);
            _add("claim");
        }
        bytes32 digest = _digest(job, 0);
        for (uint256 i = 0; i < n; ++i) {
            _pass(1);
            bytes27 c = _commitment(job, 0, i, digest);
            vm.prank(players[i].worker);
            escrow.commit(job, uint8(i), c);
            _add("commit");
        }
        for (uint256 i = 0; i < n; ++i) {
            _pass(1);
            if (i == 0) _revealResult(job, i, i, 0);
            else _reveal(job, i, i, digest);
            _add("reveal");
        }
        assertEq(uint8(escrow.jobOf(job).phase), uint8(IEscrow.Phase.Closed));
        return total;
    }
}
