// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {SafeToken} from "../libraries/SafeToken.sol";
import {Account} from "../types/Account.sol";
import {Seats, Stage} from "../types/Seats.sol";
import {Terms, TermsLib} from "../types/Terms.sol";
import {Settlement} from "./Settlement.sol";

/// @title  Posting a job, taking it back, getting the rest
/// @notice docs/protocol.md, "Terms", "Money" and the last table. The order itself is not stored: who cancels or refunds
///         brings it again, its hash is the job.
abstract contract Orders is Settlement {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant ORDER_TYPEHASH = keccak256(
        "Order(address client,address payer,uint256 nonce,bytes32 bundle,bytes32 manifest,bytes32 classId,uint256 requirements,address token,uint256 price,uint8 replicas,uint8 quorum,uint256 bond,uint32 wallLimit,uint16 minReputation,bytes32 clientKey,uint8 version,bytes32 extensions)"
    );
    bytes32 private immutable DOMAIN_SEPARATOR = _domain();
    uint256 private immutable CHAIN_ID = block.chainid;

    function post(Order calldata order) external payable nonReentrant returns (bytes32 job) {
        require(order.payer == msg.sender, NotPayer(msg.sender));
        job = jobId(order);
        require(Terms.unwrap(_terms[job]) == 0, AlreadyPosted(job));
        uint256 index = _tokenNumber(order.token);
        TokenTerms memory terms = _token(index);
        Terms t = _check(order, index, terms);
        uint256 due = t.locked() * terms.granule;
        require(msg.value == (order.token == address(0) ? due : 0), WrongPayment(msg.value, due));
        _keepOut(order.client, order.payer);

        uint256 units = _activeUnits;
        _terms[job] = t.withRound(units);
        emit JobPosted(job, order.client, order, uint64(block.timestamp + SEAT_WINDOW), uint32(units));

        if (order.token != address(0)) SafeToken.pull(order.token, msg.sender, due);
        _requestSeed(job);
    }

    function cancel(Order calldata order) external nonReentrant {
        require(order.client == msg.sender, NotClient(msg.sender));
        Job memory j = _load(jobId(order));
        require(j.s.stage() == Stage.Seats && j.s.taken() == 0 && block.timestamp <= j.s.deadline(), TooLateToCancel(j.id));
        TokenTerms memory terms = _token(_loadTerms(j).token());
        uint256 fee = _isSeedOpen(j.id, j.t) ? terms.attemptFee : 0;
        uint256 amount = j.t.locked() * terms.granule - fee;

        _terms[j.id] = j.t.withOutcome(Outcome.Cancelled, 0).withRest(0);
        _credit(order.token, order.payer, amount);
        emit JobDecided(j.id, Outcome.Cancelled, 0);
        emit Refunded(j.id, order.payer, amount);
        if (fee != 0) {
            emit Burnt(j.id, fee);
            SafeToken.send(order.token, SafeToken.BURN, fee);
        }
    }

    function refund(Order calldata order) external nonReentrant {
        Job memory j = _load(jobId(order));
        _advance(j);
        require(j.s.stage() == Stage.Closed, NotClosed(j.id));
        uint256 rest = _rest(j);
        require(rest != 0, NothingDue(j.id));
        uint256 amount = rest * _token(j.t.token()).granule;

        j.t = j.t.withRest(0);
        _credit(order.token, order.payer, amount);
        emit Refunded(j.id, order.payer, amount);
        _finishCall(j, address(0));
    }

    function jobId(Order calldata order) public view returns (bytes32) {
        bytes32 separator = block.chainid == CHAIN_ID ? DOMAIN_SEPARATOR : _domain();
        return keccak256(abi.encodePacked(hex"1901", separator, keccak256(abi.encode(ORDER_TYPEHASH, order))));
    }

    /// @dev Bounds of every field; the terms without the round.
    function _check(Order calldata order, uint256 index, TokenTerms memory terms) private view returns (Terms) {
        uint256 n = order.replicas;
        uint256 size = n == 5 ? 3 : n - 1;
        require(n == 5 || (n != 0 && n <= 3), BadOrder("replicas"));
        require(order.quorum == TermsLib.quorum(size), BadOrder("quorum"));
        require(order.client != address(0), BadOrder("client"));
        require(uint8(order.classId[0]) <= 1, BadOrder("classId"));
        require(order.wallLimit != 0 && order.wallLimit <= MAX_WALL, BadOrder("wallLimit"));
        require(order.version == 1, BadOrder("version"));
        require(order.extensions == 0, BadOrder("extensions"));

        uint256 price = order.price / terms.granule;
        require(order.price >= terms.minPrice, PriceTooLow(order.price, terms.minPrice));
        require(n != 1 || order.price <= terms.maxSinglePrice, PriceTooHigh(order.price, terms.maxSinglePrice));
        require(price * terms.granule == order.price && price < 1 << TermsLib.PRICE_BITS, BadOrder("price"));
        uint256 bond = order.bond / GWEI;
        require(bond * GWEI == order.bond && bond < 1 << TermsLib.BOND_BITS, BadOrder("bond"));
        uint256 minimum = order.price * terms.bondPerPrice / 1e18;
        require(order.bond >= minimum, BondTooLow(order.bond, minimum));

        return TermsLib.create(price, bond, index, size, uint8(order.classId[0])).withSeating(
            order.wallLimit, _classTag(order.classId), order.minReputation
        );
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
        if (client != payer) require(_roles[client] == 0, BadOrder("client"));
    }

    function _domain() private view returns (bytes32) {
        return keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Sandrun Escrow"), keccak256("1"), block.chainid, address(this))
        );
    }
}
