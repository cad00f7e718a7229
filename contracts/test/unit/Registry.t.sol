// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Registry} from "../../src/Registry.sol";
import {Base} from "../utils/Base.sol";

/// @dev Takes part in nothing; lets a test play an escrow.
contract PlainEscrow {
    Registry private immutable REGISTRY;
    uint256 public cap;
    uint256 public locked;

    constructor(Registry registry_) {
        REGISTRY = registry_;
    }

    receive() external payable {}

    function onOptIn(uint32, address, address, uint256 cap_, bytes32[] calldata) external {
        cap = cap_;
    }

    function setLocked(uint256 locked_) external {
        locked = locked_;
    }

    function lockedOf(uint32) external view returns (uint256) {
        return locked;
    }

    function seize(uint32 node, uint256 amount, uint256 tip) external {
        REGISTRY.seize(node, amount, tip);
    }
}

/// @title registry.tree
contract RegistryTest is Base {
    address private account = makeAddr("new account");
    address private payout = makeAddr("new payout");
    address private worker;
    uint256 private key;
    PlainEscrow private plain;
    uint32 private node;

    function setUp() public override {
        super.setUp();
        (worker, key) = makeAddrAndKey("new worker");
        vm.deal(account, 100 ether);
        plain = new PlainEscrow(registry);
    }

    function _register(uint256 value) private returns (uint32) {
        bytes memory signature = _workerSignature(key, account);
        vm.prank(account);
        return registry.register{value: value}(worker, signature, payout, _profile());
    }

    function _opted() private {
        node = _register(5 ether);
        vm.prank(account);
        registry.optIn(node, address(plain), 3 ether, _classes());
    }

    function test_Register_RevertWhen_DepositTooLow() public {
        bytes memory signature = _workerSignature(key, account);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, UNIT, UNIT - 1));
        vm.prank(account);
        registry.register{value: UNIT - 1}(worker, signature, payout, _profile());
    }

    function test_Register_RevertWhen_NoPayout() public {
        bytes memory signature = _workerSignature(key, account);
        vm.expectRevert(IRegistry.ZeroAddress.selector);
        vm.prank(account);
        registry.register{value: UNIT}(worker, signature, address(0), _profile());
    }

    function test_Register_RevertWhen_KeyIsANodes() public {
        _register(UNIT);
        bytes memory signature = _workerSignature(key, account);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.AlreadyRegistered.selector, account));
        vm.prank(account);
        registry.register{value: UNIT}(worker, signature, payout, _profile());

        signature = _workerSignature(key, client);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.AlreadyRegistered.selector, worker));
        vm.prank(client);
        registry.register{value: UNIT}(worker, signature, payout, _profile());
    }

    function test_Register_RevertWhen_WorkerDidNotSign() public {
        // Signed for somebody else, by somebody else, cut short, and in its other form.
        bytes memory good = _workerSignature(key, account);
        (bytes32 r, bytes32 s) = abi.decode(good, (bytes32, bytes32));
        uint8 v = uint8(good[64]);
        bytes32 n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes[5] memory bad = [
            _workerSignature(key, client),
            _workerSignature(key + 1, account),
            abi.encodePacked(r, s),
            abi.encodePacked(r, uint256(n) - uint256(s), v == 27 ? uint8(28) : uint8(27)),
            abi.encodePacked(r, s, uint8(0))
        ];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IRegistry.BadWorkerSignature.selector, worker));
            vm.prank(account);
            registry.register{value: UNIT}(worker, bad[i], payout, _profile());
        }
        vm.expectRevert(abi.encodeWithSelector(IRegistry.BadWorkerSignature.selector, address(0)));
        vm.prank(account);
        registry.register{value: UNIT}(address(0), abi.encodePacked(r, s, uint8(0)), payout, _profile());
    }

    function test_Register() public {
        uint32 count = registry.nodeCount();
        vm.expectEmit();
        emit IRegistry.NodeRegistered(count + 1, account, worker, payout);
        vm.expectEmit();
        emit IRegistry.ProfileChanged(count + 1, _profile());
        vm.expectEmit();
        emit IRegistry.StakeAdded(count + 1, 2 ether, 2 ether);
        node = _register(2 ether);
        assertEq(node, count + 1);
        assertEq(registry.nodeCount(), node);
        assertEq(registry.nodeByAccount(account), node);
        assertEq(registry.nodeByWorker(worker), node);
        IRegistry.Node memory n = registry.nodeOf(node);
        assertEq(n.account, account);
        assertEq(n.worker, worker);
        assertEq(n.payout, payout);
        assertEq(n.stake, 2 ether);
        assertEq(n.reserved, 0);
        bytes32 message =
            sha256(abi.encodePacked("sandrun-worker-key-v1", uint256(block.chainid), address(registry), account));
        assertEq(registry.workerKeyMessage(account), message);
    }

    function test_AddStake() public {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.UnknownNode.selector, 99));
        registry.addStake{value: 1}(99);
        node = _register(UNIT);
        vm.expectEmit();
        emit IRegistry.StakeAdded(node, 1 ether, UNIT + 1 ether);
        vm.prank(client);
        registry.addStake{value: 1 ether}(node);
        assertEq(registry.nodeOf(node).stake, UNIT + 1 ether);
    }

    function test_OnlyAccount() public {
        node = _register(UNIT);
        bytes memory err = abi.encodeWithSelector(IRegistry.NotAccount.selector, node, worker);
        vm.startPrank(worker);
        vm.expectRevert(err);
        registry.setProfile(node, _profile());
        vm.expectRevert(err);
        registry.setPayout(node, worker);
        vm.expectRevert(err);
        registry.optIn(node, address(plain), UNIT, _classes());
        vm.expectRevert(err);
        registry.leave(node, address(plain), UNIT);
        vm.expectRevert(err);
        registry.withdrawStake(node, UNIT, worker);
    }

    function test_Profile() public {
        node = _register(UNIT);
        IRegistry.Profile memory p = _profile();
        p.capabilities = new bytes(4096);
        vm.startPrank(account);
        vm.expectEmit();
        emit IRegistry.ProfileChanged(node, p);
        registry.setProfile(node, p);
        p.capabilities = new bytes(4097);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.CapabilitiesTooLong.selector, 4097));
        registry.setProfile(node, p);
        vm.expectRevert(IRegistry.ZeroAddress.selector);
        registry.setPayout(node, address(0));
        vm.expectEmit();
        emit IRegistry.PayoutChanged(node, client);
        registry.setPayout(node, client);
        assertEq(registry.nodeOf(node).payout, client);
    }

    function test_OptIn() public {
        node = _register(5 ether);
        vm.startPrank(account);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.TooManyClasses.selector, 9));
        registry.optIn(node, address(plain), 1 ether, new bytes32[](9));
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 5 ether + 1, 5 ether));
        registry.optIn(node, address(plain), 5 ether + 1, _classes());
        vm.expectEmit();
        emit IRegistry.OptedIn(node, address(plain), 3 ether, _classes());
        registry.optIn(node, address(plain), 3 ether, _classes());
        assertEq(plain.cap(), 3 ether);
        assertEq(registry.optInOf(node, address(plain)).cap, 3 ether);
        assertEq(registry.classesOf(node, address(plain)), _classes());
        assertEq(registry.nodeOf(node).reserved, 3 ether);

        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 3 ether, 3 ether - 1));
        registry.optIn(node, address(plain), 3 ether - 1, _classes());
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 2 ether + 1, 2 ether));
        registry.optIn(node, address(escrow), 2 ether + 1, _classes());
        registry.optIn(node, address(escrow), 2 ether, _classes());
        assertEq(registry.nodeOf(node).reserved, 5 ether);
    }

    function test_Leave() public {
        _opted();
        vm.startPrank(account);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 0, 3 ether));
        registry.leave(node, address(plain), 0);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 3 ether + 1, 3 ether));
        registry.leave(node, address(plain), 3 ether + 1);
        uint64 at = uint64(vm.getBlockTimestamp()) + EXIT_DELAY;
        vm.expectEmit();
        emit IRegistry.Leaving(node, address(plain), 2 ether, at);
        registry.leave(node, address(plain), 2 ether);
        assertEq(plain.cap(), 1 ether);
        IRegistry.OptIn memory o = registry.optInOf(node, address(plain));
        assertEq(o.cap, 1 ether);
        assertEq(o.leaving, 2 ether);
        assertEq(o.leaveAt, at);
        assertEq(registry.nodeOf(node).reserved, 3 ether);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.ExitPending.selector, at));
        registry.leave(node, address(plain), 1 ether);
    }

    function test_Release() public {
        _opted();
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotOptedIn.selector, node, address(plain)));
        registry.release(node, address(plain));
        vm.prank(account);
        registry.leave(node, address(plain), 2 ether);
        uint64 at = uint64(vm.getBlockTimestamp()) + EXIT_DELAY;
        vm.warp(at - 1);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.ExitNotDue.selector, at));
        registry.release(node, address(plain));
        vm.warp(at);
        plain.setLocked(1 ether + 1);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.BondsLocked.selector, 1 ether + 1, 1 ether));
        registry.release(node, address(plain));
        plain.setLocked(1 ether);
        vm.expectEmit();
        emit IRegistry.Released(node, address(plain), 2 ether);
        vm.prank(client);
        registry.release(node, address(plain));
        assertEq(registry.nodeOf(node).reserved, 1 ether);
        assertEq(registry.optInOf(node, address(plain)).leaving, 0);
        assertEq(registry.optInOf(node, address(plain)).leaveAt, 0);
    }

    function test_WithdrawStake() public {
        _opted();
        vm.startPrank(account);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 0, 2 ether));
        registry.withdrawStake(node, 0, payout);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 2 ether + 1, 2 ether));
        registry.withdrawStake(node, 2 ether + 1, payout);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.TransferFailed.selector, address(token), 1 ether));
        registry.withdrawStake(node, 1 ether, address(token));
        vm.expectEmit();
        emit IRegistry.StakeWithdrawn(node, payout, 2 ether);
        registry.withdrawStake(node, 2 ether, payout);
        assertEq(payout.balance, 2 ether);
        assertEq(registry.nodeOf(node).stake, 3 ether);
    }

    function test_WithdrawStake_KeepsTheLeastForOneDelay() public {
        node = _register(1 ether);
        uint64 until = uint64(vm.getBlockTimestamp()) + EXIT_DELAY;
        vm.startPrank(account);
        registry.withdrawStake(node, 1 ether - UNIT, payout);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.ExitNotDue.selector, until));
        registry.withdrawStake(node, 1, payout);
        vm.warp(until);
        registry.withdrawStake(node, UNIT, payout);
        assertEq(registry.nodeOf(node).stake, 0);
    }

    function test_Seize_RevertWhen_NotOptedIn() public {
        _opted();
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotOptedIn.selector, node, client));
        vm.prank(client);
        registry.seize(node, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotOptedIn.selector, node, address(plain)));
        plain.seize(node, 3 ether + 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotEnoughStake.selector, 2, 1));
        plain.seize(node, 1, 2);
    }

    function test_Seize_FromCapThenFromWhatLeaves() public {
        _opted();
        vm.prank(account);
        registry.leave(node, address(plain), 2 ether);
        uint256 burnt = BURN.balance;
        vm.expectEmit();
        emit IRegistry.Seized(node, address(plain), 1.4 ether, 0.1 ether);
        plain.seize(node, 1.5 ether, 0.1 ether);
        IRegistry.OptIn memory o = registry.optInOf(node, address(plain));
        assertEq(o.cap, 0);
        assertEq(o.leaving, 1.5 ether);
        assertEq(registry.nodeOf(node).stake, 3.5 ether);
        assertEq(registry.nodeOf(node).reserved, 1.5 ether);
        assertEq(BURN.balance - burnt, 1.4 ether);
        assertEq(address(plain).balance, 0.1 ether);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotOptedIn.selector, node, address(plain)));
        plain.seize(node, 1.5 ether + 1, 0);
    }

    /// @dev Whatever is done, an escrow never has more than the node gave it, and the registry never less than it owes.
    function testFuzz_Stake(uint96 stake, uint96 cap, uint96 leaving, uint96 seized) public {
        stake = uint96(bound(stake, UNIT, 50 ether));
        cap = uint96(bound(cap, 1, stake));
        leaving = uint96(bound(leaving, 1, cap));
        seized = uint96(bound(seized, 1, cap));
        node = _register(stake);
        uint256 others = address(registry).balance - stake;
        vm.startPrank(account);
        registry.optIn(node, address(plain), cap, _classes());
        registry.leave(node, address(plain), leaving);
        vm.stopPrank();
        plain.seize(node, seized, 0);
        IRegistry.OptIn memory o = registry.optInOf(node, address(plain));
        assertEq(o.cap + o.leaving, cap - seized);
        IRegistry.Node memory n = registry.nodeOf(node);
        assertEq(n.reserved, cap - seized);
        assertEq(n.stake, stake - seized);
        assertEq(address(registry).balance - others, n.stake);
    }
}
