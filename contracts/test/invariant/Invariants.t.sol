// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {World} from "./World.sol";
import {Test} from "forge-std/Test.sol";

/// @title  What holds after any history of calls
contract InvariantsTest is Test {
    World private world;

    function setUp() public {
        // Not `new`: the compiler would take the whole market in once more.
        world = World(deployCode("World.sol:World"));
        world.setUp();
        targetContract(address(world));
        targetSelector(FuzzSelector({addr: address(world), selectors: world.actions()}));
    }

    /// @dev After each history: all jobs end, the market still works, and everything can be taken out. So each history has
    ///      jobs that were decided, paid and refunded.
    function afterInvariant() public {
        world.lastDay();
        assertGe(world.seen("posted"), 1);
        assertGe(world.seen("outcome 1"), 1);
        assertGe(world.seen("end 1"), 3);
    }

    function invariant_MoneyInIsOwedPaidOrBurnt() public view {
        world.checkMoney();
    }

    function invariant_JobGivesOutWhatWasLocked() public view {
        world.checkJobs();
    }

    function invariant_NobodyIsPaidTwice() public view {
        world.checkPaidOnce();
    }

    function invariant_LockedIsTheSumOfOpenBonds() public view {
        world.checkBonds();
    }

    function invariant_CapsAreWithinTheStake() public view {
        world.checkCaps();
    }

    function invariant_RegistryHoldsTheStakes() public view {
        world.checkRegistry();
    }

    function invariant_SlashesAreBurnt() public view {
        world.checkSlashes();
    }

    function invariant_LanesAreNotShared() public view {
        world.checkLanes();
    }

    function invariant_CommitsNeverChange() public view {
        world.checkCommits();
    }

    function invariant_NoHonestSeatIsSlashed() public view {
        world.checkHonest();
    }

    function invariant_ReputationFollowsTheEnds() public view {
        world.checkReputation();
    }

    function invariant_NobodyReenters() public view {
        world.checkReentry();
    }

    function invariant_SeatsDidWhatTheyAreSaidToHaveDone() public view {
        world.checkDeeds();
    }

    function invariant_DecisionsAreMajorities() public view {
        world.checkDecisions();
    }

    function invariant_SeatsEndAsTheTableSays() public view {
        world.checkEnds();
    }
}
