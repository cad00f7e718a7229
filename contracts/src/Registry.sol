// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IRegistry, IStakeUser} from "./interfaces/IRegistry.sol";
import {SafeToken} from "./libraries/SafeToken.sol";

/// @title  Node registry: stake, keys, capabilities
/// @notice Every amount of stake is either free, or in the cap of one escrow, or leaving one. Escrows are chosen by each
///         node for itself, so a broken one can hurt only those who opted in to it.
contract Registry is IRegistry {
    struct Record {
        uint128 stake;
        uint128 reserved;
        address account;
        uint64 depositUntil; // the least stake stays until then
        address worker;
        address payout;
    }

    struct Opted {
        uint96 cap;
        uint96 leaving;
        uint64 leaveAt;
    }

    uint256 private constant MAX_CAPABILITIES = 4096;
    uint256 private constant MAX_CLASSES = 8;
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant WORKER_TYPEHASH = keccak256("WorkerKey(address account)");
    /// @dev Half of secp256k1's order: the upper half is refused, so that a signature has one form (EIP-2).
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @inheritdoc IRegistry
    uint64 public immutable exitDelay;
    /// @inheritdoc IRegistry
    uint256 public immutable minStake;

    /// @inheritdoc IRegistry
    uint32 public nodeCount;
    mapping(address worker => uint32) public nodeByWorker;
    mapping(address account => uint32) public nodeByAccount;
    mapping(uint32 node => Record) private _nodes;
    mapping(uint32 node => mapping(address escrow => Opted)) private _opted;
    mapping(uint32 node => mapping(address escrow => bytes32[])) private _classes;
    uint256 private transient _entered;

    error Reentered();

    modifier nonReentrant() {
        require(_entered == 0, Reentered());
        _entered = 1;
        _;
        _entered = 0;
    }

    /// @dev The caller owns the node's stake.
    modifier onlyAccount(uint32 node) {
        require(_nodes[node].account == msg.sender, NotAccount(node, msg.sender));
        _;
    }

    constructor(uint64 exitDelay_, uint256 minStake_) {
        exitDelay = exitDelay_;
        minStake = minStake_;
    }

    /// @inheritdoc IRegistry
    function register(address worker, bytes calldata workerSignature, address payout, Profile calldata profile)
        external
        payable
        nonReentrant
        returns (uint32 node)
    {
        require(msg.value >= minStake, NotEnoughStake(minStake, msg.value));
        require(payout != address(0), ZeroAddress());
        require(nodeByAccount[msg.sender] == 0, AlreadyRegistered(msg.sender));
        require(nodeByWorker[worker] == 0, AlreadyRegistered(worker));
        require(_isSignedBy(worker, workerSignature), BadWorkerSignature(worker));
        _checkProfile(profile);

        node = ++nodeCount;
        nodeByAccount[msg.sender] = node;
        nodeByWorker[worker] = node;
        _nodes[node] = Record({
            stake: uint128(msg.value),
            reserved: 0,
            account: msg.sender,
            depositUntil: uint64(block.timestamp) + exitDelay,
            worker: worker,
            payout: payout
        });
        emit NodeRegistered(node, msg.sender, worker, payout);
        emit ProfileChanged(node, profile);
        emit StakeAdded(node, msg.value, msg.value);
    }

    /// @inheritdoc IRegistry
    function addStake(uint32 node) external payable nonReentrant {
        Record storage n = _nodes[node];
        require(n.account != address(0), UnknownNode(node));
        n.stake += uint128(msg.value);
        emit StakeAdded(node, msg.value, n.stake);
    }

    /// @inheritdoc IRegistry
    function setProfile(uint32 node, Profile calldata profile) external nonReentrant onlyAccount(node) {
        _checkProfile(profile);
        emit ProfileChanged(node, profile);
    }

    /// @inheritdoc IRegistry
    function setPayout(uint32 node, address payout) external nonReentrant onlyAccount(node) {
        require(payout != address(0), ZeroAddress());
        _nodes[node].payout = payout;
        emit PayoutChanged(node, payout);
    }

    /// @inheritdoc IRegistry
    function optIn(uint32 node, address escrow, uint256 cap, bytes32[] calldata classes)
        external
        nonReentrant
        onlyAccount(node)
    {
        Record storage n = _nodes[node];
        Opted storage o = _opted[node][escrow];
        require(classes.length <= MAX_CLASSES, TooManyClasses(classes.length));
        require(cap >= o.cap, NotEnoughStake(o.cap, cap));
        uint256 raise = cap - o.cap;
        uint256 available = n.stake - n.reserved;
        require(raise <= available && cap <= type(uint96).max, NotEnoughStake(raise, available));

        n.reserved += uint128(raise);
        o.cap = uint96(cap);
        _classes[node][escrow] = classes;
        emit OptedIn(node, escrow, cap, classes);
        IStakeUser(escrow).onOptIn(node, n.account, n.worker, cap, classes);
    }

    /// @inheritdoc IRegistry
    function leave(uint32 node, address escrow, uint256 amount) external nonReentrant onlyAccount(node) {
        Opted storage o = _opted[node][escrow];
        require(o.leaving == 0, ExitPending(o.leaveAt));
        require(amount != 0 && amount <= o.cap, NotEnoughStake(amount, o.cap));

        o.cap -= uint96(amount);
        o.leaving = uint96(amount);
        o.leaveAt = uint64(block.timestamp) + exitDelay;
        emit Leaving(node, escrow, amount, o.leaveAt);
        bytes32[] memory classes = _classes[node][escrow];
        IStakeUser(escrow).onOptIn(node, _nodes[node].account, _nodes[node].worker, o.cap, classes);
    }

    /// @inheritdoc IRegistry
    function release(uint32 node, address escrow) external nonReentrant {
        Opted storage o = _opted[node][escrow];
        uint256 amount = o.leaving;
        require(amount != 0, NotOptedIn(node, escrow));
        require(block.timestamp >= o.leaveAt, ExitNotDue(o.leaveAt));
        uint256 locked = IStakeUser(escrow).lockedOf(node);
        require(locked <= o.cap, BondsLocked(locked, o.cap));

        o.leaving = 0;
        o.leaveAt = 0;
        _nodes[node].reserved -= uint128(amount);
        emit Released(node, escrow, amount);
    }

    /// @inheritdoc IRegistry
    function withdrawStake(uint32 node, uint256 amount, address to) external nonReentrant onlyAccount(node) {
        Record storage n = _nodes[node];
        uint256 available = n.stake - n.reserved;
        require(amount != 0 && amount <= available, NotEnoughStake(amount, available));
        bool early = block.timestamp < n.depositUntil;
        require(!early || n.stake - amount >= minStake, ExitNotDue(n.depositUntil));

        n.stake -= uint128(amount);
        emit StakeWithdrawn(node, to, amount);
        _send(to, amount);
    }

    /// @inheritdoc IRegistry
    function seize(uint32 node, uint256 amount, uint256 tip) external nonReentrant {
        Opted storage o = _opted[node][msg.sender];
        uint256 cap = o.cap;
        require(amount != 0 && amount <= cap + o.leaving, NotOptedIn(node, msg.sender));
        require(tip <= amount, NotEnoughStake(tip, amount));

        uint256 ofCap = amount < cap ? amount : cap;
        o.cap = uint96(cap - ofCap);
        if (ofCap != amount) o.leaving -= uint96(amount - ofCap);
        Record storage n = _nodes[node];
        (n.stake, n.reserved) = (n.stake - uint128(amount), n.reserved - uint128(amount));
        emit Seized(node, msg.sender, amount - tip, tip);
        _send(SafeToken.BURN, amount - tip);
        if (tip != 0) _send(msg.sender, tip);
    }

    /// @inheritdoc IRegistry
    function nodeOf(uint32 node) external view returns (Node memory) {
        Record storage n = _nodes[node];
        return Node({account: n.account, worker: n.worker, payout: n.payout, stake: n.stake, reserved: n.reserved});
    }

    /// @inheritdoc IRegistry
    function optInOf(uint32 node, address escrow) external view returns (OptIn memory) {
        Opted storage o = _opted[node][escrow];
        return OptIn({cap: o.cap, leaving: o.leaving, leaveAt: o.leaveAt});
    }

    /// @inheritdoc IRegistry
    function classesOf(uint32 node, address escrow) external view returns (bytes32[] memory) {
        return _classes[node][escrow];
    }

    /// @inheritdoc IRegistry
    function workerKeyMessage(address account) external view returns (bytes32) {
        return sha256(abi.encodePacked("sandrun-worker-key-v1", block.chainid, address(this), account));
    }

    function _checkProfile(Profile calldata profile) private pure {
        uint256 length = profile.capabilities.length;
        require(length <= MAX_CAPABILITIES, CapabilitiesTooLong(length));
    }

    function _isSignedBy(address worker, bytes calldata signature) private view returns (bool) {
        if (worker == address(0) || signature.length != 65) return false;
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Sandrun Registry"), keccak256("1"), block.chainid, address(this))
        );
        bytes32 message = keccak256(abi.encode(WORKER_TYPEHASH, msg.sender));
        bytes32 s = bytes32(signature[32:64]);
        if (uint256(s) > HALF_ORDER) return false;
        bytes32 hash = keccak256(abi.encodePacked(hex"1901", domain, message));
        return ecrecover(hash, uint8(signature[64]), bytes32(signature[:32]), s) == worker;
    }

    function _send(address to, uint256 amount) private {
        (bool done,) = to.call{value: amount}("");
        require(done, TransferFailed(to, amount));
    }
}
