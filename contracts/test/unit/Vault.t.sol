// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IStakeUser} from "../../src/interfaces/IRegistry.sol";
import {EscrowBase} from "../../src/escrow/EscrowBase.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {TestToken} from "../../src/testnet/TestToken.sol";
import {Scenes} from "../flaws/Scenes.sol";

/// @dev Keeps a hundredth of every transfer.
contract FeeToken is TestToken("Fee", "FEE", 6) {
    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        super.transferFrom(from, to, value);
        _move(to, address(this), value / 100);
        return true;
    }
}

/// @dev Fails without a word of it, when told to.
contract FalseToken is TestToken("False", "FLS", 6) {
    bool public broken;

    function setBroken(bool broken_) external {
        broken = broken_;
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        return broken ? false : super.transferFrom(from, to, value);
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        return broken ? false : super.transfer(to, value);
    }
}

/// @dev Returns nothing at all, as some old tokens do.
contract SilentToken is TestToken("Silent", "SIL", 6) {
    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        super.transferFrom(from, to, value);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        super.transfer(to, value);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }
}

/// @dev Calls somebody in the middle of every transfer, and notes how that ended.
contract CallingToken is TestToken("Calling", "CAL", 6) {
    address public target;
    bytes public data;
    bytes public answer;
    bool public done;

    function setCall(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        (done, answer) = target.call(data);
        return super.transferFrom(from, to, value);
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        (done, answer) = target.call(data);
        return super.transfer(to, value);
    }
}

/// @dev Refuses money until told otherwise; calls the escrow when it gets some.
contract Payee {
    bool public refusing = true;
    address public target;
    bytes public data;
    bytes public answer;
    bool public done;

    receive() external payable {
        require(!refusing, "no");
        if (target != address(0)) (done, answer) = target.call(data);
    }

    function setRefusing(bool refusing_) external {
        refusing = refusing_;
    }

    function setCall(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    function run(address target_, bytes calldata data_) external payable {
        (bool ok, bytes memory err) = target_.call{value: msg.value}(data_);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(err, 0x20), mload(err))
            }
        }
    }
}

/// @title vault.tree
contract VaultTest is Scenes {
    FeeToken private feeToken = new FeeToken();
    FalseToken private falseToken = new FalseToken();
    SilentToken private silentToken = new SilentToken();
    CallingToken private callingToken = new CallingToken();

    bytes private reentered = abi.encodeWithSelector(EscrowBase.Reentered.selector);

    function _tokenTerms() internal view override returns (IEscrow.TokenTerms[] memory terms) {
        IEscrow.TokenTerms[] memory plain = super._tokenTerms();
        terms = new IEscrow.TokenTerms[](6);
        terms[0] = plain[0];
        address[5] memory tokens =
            [address(token), address(feeToken), address(falseToken), address(silentToken), address(callingToken)];
        for (uint256 i = 1; i < 6; ++i) {
            terms[i] = IEscrow.TokenTerms(tokens[i - 1], 10, 300_000, 3_000_000, 100_000_000, 1e27);
        }
    }

    function _orderIn(TestToken t) private returns (IEscrow.Order memory o) {
        o = _order(2);
        (o.token, o.price) = (address(t), 3_000_000);
        t.mint(client, 9_000_000);
        vm.prank(client);
        t.approve(address(escrow), type(uint256).max);
    }

    function _paidJob() private {
        bytes32 job = _seated(_order(2));
        _answerAll(job, _two(0, 0));
    }

    function test_Withdraw_RevertWhen_NothingIsOwed() public {
        vm.expectRevert(IEscrow.NothingToWithdraw.selector);
        escrow.withdraw(address(0), client);
        vm.expectRevert(IEscrow.NothingToWithdraw.selector);
        vm.prank(players[0].worker);
        escrow.withdrawNode(1, address(0));
        vm.expectRevert(IEscrow.NothingToWithdraw.selector);
        vm.prank(players[0].worker);
        escrow.withdrawNode(1, address(token));
    }

    function test_Withdraw_RevertWhen_ToNobody() public {
        IEscrow.Order memory o = _order(3);
        _post(o);
        vm.startPrank(client);
        escrow.cancel(o);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BadOrder.selector, bytes32("to")));
        escrow.withdraw(address(0), address(0));
        escrow.withdraw(address(0), client);
        vm.stopPrank();
    }

    function test_Withdraw_RevertWhen_ReceiverRefuses() public {
        IEscrow.Order memory o = _order(2);
        _post(o);
        vm.startPrank(client);
        escrow.cancel(o);
        Payee payee = new Payee();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(0), address(payee), 3 * PRICE));
        escrow.withdraw(address(0), address(payee));
        assertEq(escrow.balanceOf(address(0), client), 3 * PRICE);
        vm.expectEmit();
        emit IEscrow.Withdrawn(client, address(0), keeper, 3 * PRICE);
        escrow.withdraw(address(0), keeper);
        assertEq(keeper.balance, 3 * PRICE);
        vm.expectRevert(IEscrow.NothingToWithdraw.selector);
        escrow.withdraw(address(0), keeper);
    }

    function test_WithdrawNode_PaysThePayoutAddress() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotWorker.selector, 1, keeper));
        vm.prank(keeper);
        escrow.withdrawNode(1, address(0));
        address[3] memory callers = [players[0].worker, players[0].account, players[0].payout];
        for (uint256 i = 0; i < 3; ++i) {
            _paidJob();
            vm.expectEmit();
            emit IEscrow.NodeWithdrawn(1, address(0), players[0].payout, PRICE);
            vm.prank(callers[i]);
            escrow.withdrawNode(1, address(0));
            assertEq(players[0].payout.balance, (i + 1) * PRICE);
            assertEq(_earned(0), 0);
        }
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotWorker.selector, 99, address(0)));
        vm.prank(address(0));
        escrow.withdrawNode(99, address(0));
    }

    function test_Receive_OnlyFromTheRegistry() public {
        vm.deal(client, 1 ether);
        vm.prank(client);
        (bool done,) = address(escrow).call{value: 1}("");
        assertFalse(done);
    }

    function test_Token_RevertWhen_ItTakesAFee() public {
        IEscrow.Order memory o = _orderIn(feeToken);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(feeToken), address(escrow), 9_000_000)
        );
        _post(o);
    }

    function test_Token_RevertWhen_ItReturnsFalse() public {
        IEscrow.Order memory o = _orderIn(falseToken);
        falseToken.setBroken(true);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(falseToken), address(escrow), 9_000_000)
        );
        _post(o);
        falseToken.setBroken(false);
        bytes32 job = _seated(o);
        _answerAll(job, _two(0, 0));
        falseToken.setBroken(true);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(falseToken), players[0].payout, 3_000_000)
        );
        vm.prank(players[0].worker);
        escrow.withdrawNode(1, address(falseToken));
        assertEq(escrow.nodeBalanceOf(address(falseToken), 1), 3_000_000);
        falseToken.setBroken(false);
        vm.prank(players[0].worker);
        escrow.withdrawNode(1, address(falseToken));
        assertEq(falseToken.balanceOf(players[0].payout), 3_000_000);
    }

    function test_Token_RevertWhen_ItHasNoAllowance() public {
        IEscrow.Order memory o = _orderIn(token);
        vm.prank(client);
        token.approve(address(escrow), 8_999_999);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TransferFailed.selector, address(token), address(escrow), 9_000_000)
        );
        _post(o);
    }

    function test_Token_MayReturnNothing() public {
        IEscrow.Order memory o = _orderIn(silentToken);
        _post(o);
        vm.startPrank(client);
        escrow.cancel(o);
        escrow.withdraw(address(silentToken), keeper);
        assertEq(silentToken.balanceOf(keeper), 9_000_000);
    }

    /// @dev Every entry that changes state, called from within a posting and from within a withdrawal.
    function test_Token_ReentersNowhere() public {
        IEscrow.Order memory o = _orderIn(callingToken);
        bytes32 job = _seated(_order(2));
        IEscrow.Opening[] memory none;
        bytes[11] memory calls = [
            abi.encodeCall(IEscrow.post, (o)),
            abi.encodeCall(IEscrow.cancel, (o)),
            abi.encodeCall(IEscrow.claim, (job, 1, 0)),
            abi.encodeCall(IEscrow.commit, (job, 0, bytes27("x"))),
            abi.encodeCall(IEscrow.reveal, (job, none)),
            abi.encodeCall(IEscrow.revealResult, (job, 0, _result(0), 0)),
            abi.encodeCall(IEscrow.poke, (job)),
            abi.encodeCall(IEscrow.refund, (o)),
            abi.encodeCall(IEscrow.withdraw, (address(0), client)),
            abi.encodeCall(IEscrow.withdrawNode, (1, address(0))),
            abi.encodeCall(IStakeUser.onOptIn, (1, client, client, 1, new bytes32[](0)))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            o = _orderIn(callingToken);
            callingToken.setCall(address(escrow), calls[i]);
            _post(o);
            assertFalse(callingToken.done());
            assertEq(callingToken.answer(), reentered);
            vm.startPrank(client);
            escrow.cancel(o);
            escrow.withdraw(address(callingToken), keeper);
            vm.stopPrank();
            assertEq(callingToken.answer(), reentered);
            assertEq(callingToken.balanceOf(keeper), (i + 1) * 9_000_000);
        }
    }

    function test_Payee_ReentersNowhere() public {
        Payee payee = new Payee();
        payee.setRefusing(false);
        vm.prank(players[0].account);
        registry.setPayout(1, address(payee));
        _paidJob();
        payee.setCall(address(escrow), abi.encodeCall(IEscrow.withdrawNode, (1, address(0))));
        vm.prank(players[0].worker);
        escrow.withdrawNode(1, address(0));
        assertFalse(payee.done());
        assertEq(payee.answer(), reentered);
        assertEq(address(payee).balance, PRICE);

        // A payer that withdraws while it is paid.
        IEscrow.Order memory o = _order(2);
        (o.client, o.payer) = (address(payee), address(payee));
        vm.deal(address(this), 1 ether);
        payee.run{value: 3 * PRICE}(address(escrow), abi.encodeCall(IEscrow.post, (o)));
        payee.run(address(escrow), abi.encodeCall(IEscrow.cancel, (o)));
        payee.setCall(address(escrow), abi.encodeCall(IEscrow.withdraw, (address(0), address(payee))));
        payee.run(address(escrow), abi.encodeCall(IEscrow.withdraw, (address(0), address(payee))));
        assertEq(payee.answer(), reentered);
        assertEq(address(payee).balance, 4 * PRICE);
    }

    /// @dev What no longer fits the node's word is kept beside it and paid with it.
    function test_Earnings_BeyondTheWord() public {
        uint256 most = (1 << 48) - 1;
        // The account's word: `earned` lies above two amounts of 48 bits.
        bytes32 slot = keccak256(abi.encode(uint256(1), uint256(2)));
        uint256 word = uint256(vm.load(address(escrow), slot));
        assertEq(word & most, STAKE / 1 gwei, "the account is where this test looks for it");
        vm.store(address(escrow), slot, bytes32(word | most << 96));
        vm.deal(address(escrow), most * 1 gwei);
        _paidJob();
        assertEq(_earned(0), most * 1 gwei + PRICE);
        vm.prank(players[0].worker);
        escrow.withdrawNode(1, address(0));
        assertEq(players[0].payout.balance, most * 1 gwei + PRICE);
        assertEq(_earned(0), 0);
    }
}
