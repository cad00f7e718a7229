// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {Scenes} from "../flaws/Scenes.sol";

/// @title orders.tree
contract OrdersTest is Scenes {
    function _expectField(IEscrow.Order memory o, bytes32 field) private {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BadOrder.selector, field));
        _post(o);
    }

    function test_Post_RevertWhen_CallerIsNotPayer() public {
        IEscrow.Order memory o = _order(3);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotPayer.selector, keeper));
        vm.prank(keeper);
        escrow.post(o);
    }

    function test_Post_RevertWhen_TokenUnknown() public {
        IEscrow.Order memory o = _order(3);
        o.token = address(registry);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, address(registry)));
        _post(o);
    }

    function test_Post_RevertWhen_FieldOutOfBounds() public {
        IEscrow.Order memory o = _order(3);
        (o.replicas, o.quorum) = (0, 0);
        _expectField(o, "replicas");
        (o.replicas, o.quorum) = (4, 3);
        _expectField(o, "replicas");
        (o.replicas, o.quorum) = (6, 3);
        _expectField(o, "replicas");
        (o.replicas, o.quorum) = (3, 3);
        _expectField(o, "quorum");
        o = _order(3);
        o.classId = bytes32(uint256(2) << 248);
        _expectField(o, "classId");
        o = _order(3);
        o.wallLimit = 0;
        _expectField(o, "wallLimit");
        o.wallLimit = 91;
        _expectField(o, "wallLimit");
        o = _order(3);
        o.minReputation = 256;
        _expectField(o, "minReputation");
        o = _order(3);
        o.version = 2;
        _expectField(o, "version");
        o = _order(3);
        o.extensions = bytes32(uint256(1));
        _expectField(o, "extensions");
        o = _order(3);
        o.price += 1;
        _expectField(o, "price");
        o = _order(3);
        o.bond += 1e12 - 1;
        _expectField(o, "bond");
        o.bond = 1e12 << 30;
        _expectField(o, "bond");
        o = _order(3);
        o.price = 1 gwei << 36;
        o.bond = 1e12 * uint256((1 << 30) - 1);
        _expectField(o, "price");
        o = _order(3);
        o.client = address(0);
        _expectField(o, "client");
    }

    function test_Post_RevertWhen_PriceOrBondOutOfBounds() public {
        IEscrow.Order memory o = _order(3);
        o.price = 10 * FEE - 1 gwei;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.PriceTooLow.selector, o.price, 10 * FEE));
        _post(o);
        o = _order(1);
        o.price = 1 ether + 1 gwei;
        o.bond = 6 ether;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.PriceTooHigh.selector, o.price, 1 ether));
        _post(o);
        o = _order(3);
        o.bond = 5 * PRICE - 1e12;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BondTooLow.selector, o.bond, 5 * PRICE));
        _post(o);
    }

    function test_Post_RevertWhen_WrongPayment() public {
        IEscrow.Order memory o = _order(3);
        uint256[2] memory sent = [3 * PRICE - 1, 3 * PRICE + 1];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.WrongPayment.selector, sent[i], 3 * PRICE));
            vm.prank(client);
            escrow.post{value: sent[i]}(o);
        }
        (o.token, o.price) = (address(token), 3_000_000);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.WrongPayment.selector, 1, 9_000_000));
        vm.prank(client);
        escrow.post{value: 1}(o);
    }

    function test_Post_LocksOnePriceMoreForTwo() public {
        uint8[4] memory sizes = [1, 2, 3, 5];
        uint8[4] memory prices = [1, 3, 3, 5];
        for (uint256 i = 0; i < 4; ++i) {
            uint256 before = address(escrow).balance;
            bytes32 job = _post(_order(sizes[i]));
            assertEq(address(escrow).balance - before, prices[i] * PRICE);
            assertEq(escrow.jobOf(job).remaining, prices[i] * PRICE);
        }
    }

    function test_Post_AnnouncesTheOrderUnderItsHash() public {
        IEscrow.Order memory o = _order(3);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Sandrun Escrow"),
                keccak256("1"),
                block.chainid,
                address(escrow)
            )
        );
        bytes32 typeHash = keccak256(
            "Order(address client,address payer,uint256 nonce,bytes32 bundle,bytes32 manifest,bytes32 classId,uint256 requirements,address token,uint256 price,uint8 replicas,uint8 quorum,uint256 bond,uint32 wallLimit,uint16 minReputation,bytes32 clientKey,uint8 version,bytes32 extensions)"
        );
        bytes32 expected = keccak256(abi.encodePacked(hex"1901", domain, keccak256(abi.encode(typeHash, o))));
        vm.expectEmit();
        emit IEscrow.JobPosted(expected, client, o, uint64(vm.getBlockTimestamp()) + SEAT_WINDOW, 800);
        bytes32 job = _post(o);
        assertEq(job, expected);
        assertEq(escrow.jobId(o), expected);
        IEscrow.JobView memory v = escrow.jobOf(job);
        assertEq(uint8(v.phase), uint8(IEscrow.Phase.Seats));
        assertEq(v.deadline, vm.getBlockTimestamp() + SEAT_WINDOW);
        assertEq(v.openedBlock, vm.getBlockNumber());
        assertEq(v.units, 800);
    }

    function test_Post_RevertWhen_FieldHasDirtyBits() public {
        bytes memory data = abi.encodeCall(IEscrow.post, (_order(3)));
        data[4] = 0x01; // above the client's address
        vm.prank(client);
        (bool done,) = address(escrow).call{value: 3 * PRICE}(data);
        assertFalse(done);
    }

    function test_JobId_FollowsTheChain() public {
        IEscrow.Order memory o = _order(3);
        bytes32 here = escrow.jobId(o);
        vm.chainId(5);
        bytes32 there = escrow.jobId(o);
        assertNotEq(here, there);
        vm.chainId(31_337);
        assertEq(escrow.jobId(o), here);
    }

    function test_Cancel_RevertWhen_NotClientOrTooLate() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = escrow.jobId(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotClient.selector, keeper));
        vm.prank(keeper);
        escrow.cancel(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownJob.selector, job));
        vm.prank(client);
        escrow.cancel(o);

        _post(o);
        vm.prank(client);
        escrow.cancel(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TooLateToCancel.selector, job));
        vm.prank(client);
        escrow.cancel(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AlreadyPosted.selector, job));
        _post(o);

        o = _order(3);
        job = _postOpen(o);
        _claim(job, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TooLateToCancel.selector, job));
        vm.prank(client);
        escrow.cancel(o);

        o = _order(3);
        job = _post(o);
        _pass(SEAT_WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TooLateToCancel.selector, job));
        vm.prank(client);
        escrow.cancel(o);
    }

    function test_Cancel_AllBackWhileTheSeedIsUnknown() public {
        IEscrow.Order memory o = _order(2);
        o.payer = keeper;
        vm.deal(keeper, 1 ether);
        bytes32 job = _post(o);
        vm.roll(vm.getBlockNumber() + 1);
        vm.expectEmit();
        emit IEscrow.JobDecided(job, IEscrow.Outcome.Cancelled, 0);
        vm.expectEmit();
        emit IEscrow.Refunded(job, keeper, 3 * PRICE);
        vm.prank(client);
        escrow.cancel(o);
        assertEq(escrow.balanceOf(address(0), keeper), 3 * PRICE);
        assertEq(escrow.jobOf(job).remaining, 0);
        _assertOutcome(job, IEscrow.Outcome.Cancelled);
        _assertPhase(job, IEscrow.Phase.Closed);
    }

    function test_Cancel_LessTheFeeLater() public {
        IEscrow.Order memory o = _order(3);
        bytes32 job = _post(o);
        vm.roll(vm.getBlockNumber() + 2);
        vm.warp(vm.getBlockTimestamp() + SEAT_WINDOW);
        uint256 burnt = BURN.balance;
        vm.expectEmit();
        emit IEscrow.Burnt(job, FEE);
        vm.prank(client);
        escrow.cancel(o);
        assertEq(BURN.balance - burnt, FEE);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE - FEE);
    }

    function test_Refund() public {
        IEscrow.Order memory o = _order(2);
        bytes32 job = _seated(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotClosed.selector, job));
        escrow.refund(o);
        _answerAll(job, _two(0, 0));
        assertEq(escrow.jobOf(job).remaining, PRICE);
        vm.expectEmit();
        emit IEscrow.Refunded(job, client, PRICE);
        vm.prank(keeper);
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), client), PRICE);
        assertEq(escrow.jobOf(job).remaining, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingDue.selector, job));
        escrow.refund(o);
    }

    function test_Refund_ClosesWhatIsOver() public {
        IEscrow.Order memory o = _order(3);
        _post(o);
        _pass(SEAT_WINDOW + 1);
        escrow.refund(o);
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
    }
}

/// @title orders.tree: a token that asks for no bond
contract UnbondedOrdersTest is Scenes {
    function _tokenTerms() internal view override returns (IEscrow.TokenTerms[] memory terms) {
        terms = super._tokenTerms();
        terms[0].bondPerPrice = 0;
    }

    function test_Post_RevertWhen_NothingIsAtStake() public {
        IEscrow.Order memory o = _order(1);
        o.bond = 0;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BondTooLow.selector, 0, 0));
        _post(o);
        o.bond = 1e12;
        _post(o);
    }
}
