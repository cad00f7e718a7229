// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {World} from "./World.sol";
import {Test} from "forge-std/Test.sol";

/// @title  That the invariants are asked where something happens
/// @notice Long histories from fixed seeds; together they must have reached every state, every outcome and every end of a
///         seat. A property that nothing ever tested would pass.
contract HistoriesTest is Test {
    uint256 private constant HISTORIES = 16;
    uint256 private constant STEPS = 180;

    function test_HistoriesReachEveryState() public {
        string[] memory names = _names();
        uint256[] memory total = new uint256[](names.length);
        // Each history begins in the same state; what memory holds stays.
        uint256 start = vm.snapshotState();
        for (uint256 h = 0; h < HISTORIES; ++h) {
            _add(total, names, _live(uint256(keccak256(abi.encode("history", h)))));
            vm.revertToState(start);
        }
        for (uint256 i = 0; i < names.length; ++i) {
            emit log_named_uint(names[i], total[i]);
        }
        for (uint256 i = 0; i < names.length; ++i) {
            assertGt(total[i], 0, string.concat("never seen: ", names[i]));
        }
    }

    function _live(uint256 seed) private returns (World world) {
        world = World(deployCode("World.sol:World"));
        world.setUp();
        for (uint256 i = 1; i <= STEPS; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            world.step(seed);
            if (i % 15 == 0) world.checkAll();
        }
        world.lastDay();
    }

    function _add(uint256[] memory total, string[] memory names, World world) private view {
        for (uint256 i = 0; i < names.length; ++i) {
            total[i] += world.seen(names[i]);
        }
        total[names.length - 1] += world.reentriesTried();
    }

    function _names() private pure returns (string[] memory names) {
        names = new string[](36);
        uint256 k;
        // Outcomes: digest, limit, unavailable, none wins, expired, cancelled.
        for (uint256 i = 1; i <= 6; ++i) {
            names[k++] = string.concat("outcome ", vm.toString(i));
        }
        // Ends of seats, in the order of IEscrow.SeatEnd.
        for (uint256 i = 0; i <= 8; ++i) {
            names[k++] = string.concat("end ", vm.toString(i));
        }
        string[21] memory others = [
            "posted",
            "token",
            "seat",
            "early seat",
            "claim refused",
            "commit",
            "timely",
            "late",
            "extra round",
            "poke",
            "tip",
            "reputation",
            "refund",
            "leave",
            "left seated",
            "short share",
            "release",
            "stake out",
            "node withdrawal",
            "attack",
            "re-entry tried"
        ];
        for (uint256 i = 0; i < others.length; ++i) {
            names[k++] = others[i];
        }
    }
}
