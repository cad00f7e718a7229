// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../src/interfaces/IEscrow.sol";
import {Base} from "./utils/Base.sol";

/// @title  What a job costs on chain: intrinsic gas and calldata included, withdrawal apart
/// @notice In isolation every call is a transaction of its own, and `lastCallGas` is what its receipt would say. The bytecode
///         is the deployed one; the nodes have worked before. `snapshots/GasTest.json` keeps the figures.
/// forge-config: default.isolate = true
contract GasTest is Base {
    uint256 private total;
    /// @dev Nodes' first job only warms their words up.
    bool private measuring;

    function _asDeployed() internal pure override returns (bool) {
        return true;
    }

    /// @dev Fields as real orders have them: ids are hashes, requirements are set.
    function _realOrder(uint8 n) private returns (IEscrow.Order memory o) {
        o = _order(n);
        o.nonce = uint256(keccak256(abi.encode(o.nonce)));
        o.requirements = uint256(keccak256("requirements")) >> 128;
    }

    function _note(string memory what) private {
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        if (measuring) vm.snapshotValue(what, gas);
        total += gas;
    }

    function _name(uint8 n, string memory what, uint256 i) private pure returns (string memory) {
        return string.concat("r", vm.toString(n), " ", what, " ", vm.toString(i));
    }

    function _job(uint8 n) private returns (uint256) {
        total = 0;
        bytes32 job = _post(_realOrder(n));
        _note(_name(n, "post", 0));
        _pass(2);
        _openLottery();
        for (uint256 i = 0; i < n; ++i) {
            _claim(job, i);
            _note(_name(n, "claim", i));
        }
        bytes32 digest = _digest(job, 0);
        for (uint256 i = 0; i < n; ++i) {
            _pass(1);
            bytes27 c = _commitment(job, 0, i, digest);
            vm.prank(players[i].worker);
            escrow.commit(job, uint8(i), c);
            _note(_name(n, "commit", i));
        }
        for (uint256 i = 0; i < n; ++i) {
            _pass(1);
            if (i == 0) _revealResult(job, i, i, 0);
            else _reveal(job, i, i, digest);
            _note(_name(n, "reveal", i));
        }
        assertEq(uint8(escrow.jobOf(job).phase), uint8(IEscrow.Phase.Closed));
        return total;
    }

    function _measure(uint8 n, uint256 goal) private {
        _job(n);
        measuring = true;
        uint256 gas = _job(n);
        vm.snapshotValue(string.concat("r", vm.toString(n)), gas);
        assertLe(gas, goal);
    }

    /// forge-config: default.isolate = true
    function test_Gas_OneReplica() public {
        _measure(1, 200_000);
    }

    /// forge-config: default.isolate = true
    function test_Gas_TwoReplicas() public {
        _measure(2, 330_000);
    }

    /// @dev Ten transactions: post, three claims, three commits, three reveals.
    /// forge-config: default.isolate = true
    function test_Gas_ThreeReplicas() public {
        _measure(3, 450_000);
    }

    /// @dev Nodes that reveal at the same time, each with its result, since none is published yet.
    /// forge-config: default.isolate = true
    function test_Gas_ThreeReplicasAtOnce() public {
        _job(3);
        bytes32 job = _postOpen(_realOrder(3));
        for (uint256 i = 0; i < 3; ++i) {
            _claim(job, i);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _commit(job, i, i, _digest(job, 0));
        }
        total = 0;
        measuring = true;
        for (uint256 i = 0; i < 3; ++i) {
            _revealResult(job, i, i, 0);
            _note(_name(3, "reveal at once", i));
        }
        assertLe(total, 165_000);
    }

    /// @dev A silent seat of a decided job, slashed by a keeper that is tipped, not for the first time.
    /// forge-config: default.isolate = true
    function test_Gas_Slash() public {
        for (uint256 round = 0; round < 2; ++round) {
            bytes32 job = _postOpen(_realOrder(3));
            for (uint256 i = 0; i < 3; ++i) {
                _claim(job, i);
            }
            bytes32 digest = _digest(job, 0);
            for (uint256 i = 0; i < 3; ++i) {
                _commit(job, i, i, digest);
            }
            _revealResult(job, 0, 0, 0);
            _revealResult(job, 1, 1, 0);
            _pass(REVEAL_WINDOW + 1);
            vm.prank(client);
            escrow.poke(job);
            total = 0;
            measuring = round == 1;
            _note("slash");
            assertEq(uint8(escrow.jobOf(job).phase), uint8(IEscrow.Phase.Closed));
        }
        assertLe(total, 100_000);
    }
}
