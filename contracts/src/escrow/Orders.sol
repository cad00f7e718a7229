// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {SafeToken} from "../libraries/SafeToken.sol";
import {Account} from "../types/Account.sol";
import {Seats, Stage} from "../types/Seats.sol";
import {Ending, Terms, TermsLib} from "../types/Terms.sol";
import {Settlement} from "./Settlement.sol";

/// @title  Posting a job, taking it back, getting the rest
/// @notice docs/protocol.md, "Terms", "Money" and the last table. The order itself is not stored: who cancels or refunds
///         brings it again, its hash is the job.
abstract contract Orders is Settlement {
    /// @dev Bonds are multiples of this, so that 30 % of one is a whole number of gwei.
    uint256 private constant BOND_GRANULE = 1e12;
    /// @dev Bytes of an encoded order: 17 words.
    uint256 private constant ORDER_SIZE = 0x220;
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant ORDER_TYPEHASH = keccak256(
        "Order(address client,address payer,uint256 nonce,bytes32 bundle,bytes32 manifest,bytes32 classId,uint256 requirements,address token,uint256 price,uint8 replicas,uint8 quorum,uint256 bond,uint32 wallLimit,uint16 minReputation,bytes32 clientKey,uint8 version,bytes32 extensions)"
    );
    bytes32 private immutable DOMAIN_SEPARATOR = _domain();
    uint256 private immutable CHAIN_ID = block.chainid;

    /// @inheritdoc IEscrow
    function post(Order calldata order) external payable guarded returns (bytes32 job) {
        if (order.payer != msg.sender) revert NotPayer(msg.sender);
        job = jobId(order);
        if (_isPosted(job)) revert AlreadyPosted(job);
        uint256 index = _tokenNumber(order.token);
        TokenTerms memory terms = _token(index);
        Terms t = _check(order, index, terms);
        uint256 due = t.locked() * terms.granule;
        if (msg.value != (order.token == address(0) ? due : 0)) revert WrongPayment(msg.value, due);
        _keepOut(order.client, order.payer);

        uint256 units = _units();
        Seats s = Seats.wrap(0).enter(Stage.SEATS, block.timestamp + SEAT_WINDOW);
        _write(job, t.withRound(units), s);
        _emitPosted(job, order, s.deadline(), units);

        if (order.token != address(0)) _pull(order.token, msg.sender, due);
        if (!_requestSeed(job)) revert SeedNotReady(job);
    }

    /// @inheritdoc IEscrow
    function cancel(Order calldata order) external guarded {
        if (order.client != msg.sender) revert NotClient(msg.sender);
        Job memory j;
        _load(j, jobId(order));
        if (j.s.stage() != Stage.SEATS || j.s.taken() != 0 || block.timestamp > j.s.deadline()) {
            revert TooLateToCancel(j.id);
        }
        TokenTerms memory terms = _token(j.t.token());
        uint256 fee = _isSeedOpen(j.id, j.t) ? terms.attemptFee : 0;
        uint256 amount = j.t.locked() * terms.granule - fee;

        _write(j.id, j.t.withOutcome(Ending.CANCELLED, 0).withRest(0), j.s.become(Stage.CLOSED));
        _credit(order.token, order.payer, amount);
        emit JobDecided(j.id, Outcome.Cancelled, 0);
        emit Refunded(j.id, order.payer, amount);
        if (fee != 0) {
            emit Burnt(j.id, fee);
            _send(order.token, SafeToken.BURN, fee);
        }
    }

    /// @inheritdoc IEscrow
    function refund(Order calldata order) external guarded {
        Job memory j;
        _load(j, jobId(order));
        _advance(j);
        if (j.s.stage() != Stage.CLOSED) revert NotClosed(j.id);
        uint256 rest = _rest(j);
        if (rest == 0) revert NothingDue(j.id);
        uint256 amount = rest * _token(j.t.token()).granule;

        j.t = j.t.withRest(0);
        _credit(order.token, order.payer, amount);
        emit Refunded(j.id, order.payer, amount);
        _finishCall(j, address(0));
    }

    /// @inheritdoc IEscrow
    /// @dev An order whose words have more than their type's bits hashes to a job that can't be posted: `post` reads every
    ///      short field, which reverts then.
    function jobId(Order calldata order) public view returns (bytes32 job) {
        bytes32 separator = block.chainid == CHAIN_ID ? DOMAIN_SEPARATOR : _domain();
        bytes32 typeHash = ORDER_TYPEHASH;
        // keccak256(0x1901 . separator . keccak256(abi.encode(typeHash, order))): an order is encoded as it was sent.
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            calldatacopy(add(free, 0x20), order, ORDER_SIZE)
            mstore(0x22, keccak256(free, add(ORDER_SIZE, 0x20)))
            mstore(0x02, separator)
            mstore(0x00, or(shl(240, 0x1901), shr(16, separator)))
            job := keccak256(0x00, 0x42)
            mstore(0x40, free)
        }
    }

    /// @dev JobPosted, from the order as it was sent.
    function _emitPosted(bytes32 job, Order calldata order, uint256 deadline, uint256 units) private {
        bytes32 topic = JobPosted.selector;
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, order, ORDER_SIZE)
            mstore(add(free, ORDER_SIZE), deadline)
            mstore(add(free, add(ORDER_SIZE, 0x20)), units)
            log3(free, add(ORDER_SIZE, 0x40), topic, job, calldataload(order))
        }
    }

    /// @dev Bounds of every field; the terms without the round.
    function _check(Order calldata order, uint256 index, TokenTerms memory terms) private view returns (Terms) {
        uint256 n = order.replicas;
        _bound(n == 5 || (n != 0 && n <= 3), "replicas");
        uint256 size = n == 5 ? 3 : n - 1;
        uint256 kind = uint256(order.classId) >> 248;
        _bound(order.quorum == TermsLib.quorumOf(size), "quorum");
        _bound(order.client != address(0), "client");
        _bound(kind <= 1, "classId");
        _bound(order.wallLimit != 0 && order.wallLimit <= MAX_WALL, "wallLimit");
        _bound(order.minReputation <= TermsLib.MAX_REPUTATION, "minReputation");
        _bound(order.version == 1, "version");
        _bound(order.extensions == 0, "extensions");

        if (order.price < terms.minPrice) revert PriceTooLow(order.price, terms.minPrice);
        if (n == 1 && order.price > terms.maxSinglePrice) revert PriceTooHigh(order.price, terms.maxSinglePrice);
        uint256 price = order.price / terms.granule;
        _bound(price * terms.granule == order.price && price <= TermsLib.MAX_PRICE, "price");
        uint256 bond = order.bond / BOND_GRANULE;
        _bound(bond * BOND_GRANULE == order.bond && bond <= TermsLib.MAX_BOND, "bond");
        uint256 minimum = order.price * terms.bondPerPrice / 1e18;
        if (order.bond < minimum || bond == 0) revert BondTooLow(order.bond, minimum);

        return TermsLib.create(price, bond, index, size, kind)
            .withSeating(order.wallLimit, _classTag(order.classId), order.minReputation);
    }

    /// @dev Neither client nor payer gets a seat. A payer that is a node has its units renewed, so that they are too young
    ///      for this job. A client can't name somebody else's node so: it has to pay itself.
    function _keepOut(address client, address payer) private {
        uint256 roles = _roles[payer];
        if (roles != 0) {
            uint256 node = uint32(roles);
            if (node != 0) _accounts[node] = _accounts[node].renewed();
            node = roles >> 32;
            if (node != 0) _accounts[node] = _accounts[node].renewed();
        }
        if (client != payer) if (_roles[client] != 0) revert BadOrder("client");
    }

    function _bound(bool ok, bytes32 field) private pure {
        if (!ok) revert BadOrder(field);
    }

    function _domain() private view returns (bytes32) {
        return keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Sandrun Escrow"), keccak256("1"), block.chainid, address(this))
        );
    }
}
