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
    /// @inheritdoc IRegistry
    mapping(address worker => uint32) public nodeByWorker;
    /// @inheritdoc IRegistry
    mapping(address account => uint32) public nodeByAccount;
    mapping(uint32 node => Record) private _nodes;
    mapping(uint32 node => mapping(address escrow => Opted)) private _opted;
    mapping(uint32 node => mapping(address escrow => bytes32[])) private _classes;
    uint256 private transient _entered;

    error Reentered();

    modifier nonReentrant() {
        if (_entered != 0) revert Reentered();
        _entered = 1;
        _;
        _entered = 0;
    }

    /// @dev The caller owns the node's stake.
    modifier onlyAccount(uint32 node) {
        if (_nodes[node].account != msg.sender) revert NotAccount(node, msg.sender);
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
        if (msg.value < minStake) revert NotEnoughStake(minStake, msg.value);
        if (payout == address(0)) revert ZeroAddress();
        if (nodeByAccount[msg.sender] != 0) revert AlreadyRegistered(msg.sender);
        if (nodeByWorker[worker] != 0) revert AlreadyRegistered(worker);
        if (!_isSignedBy(worker, workerSignature)) revert BadWorkerSignature(worker);
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
        if (n.account == address(0)) revert UnknownNode(node);
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
        if (payout == address(0)) revert ZeroAddress();
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
        if (classes.length > MAX_CLASSES) revert TooManyClasses(classes.length);
        if (cap < o.cap) revert NotEnoughStake(o.cap, cap);
        uint256 raise = cap - o.cap;
        uint256 available = n.stake - n.reserved;
        if (raise > available || cap > type(uint96).max) revert NotEnoughStake(raise, available);

        n.reserved += uint128(raise);
        o.cap = uint96(cap);
        _classes[node][escrow] = classes;
        emit OptedIn(node, escrow, cap, classes);
        IStakeUser(escrow).onOptIn(node, n.account, n.worker, cap, classes);
    }

    /// @inheritdoc IRegistry
    function leave(uint32 node, address escrow, uint256 amount) external nonReentrant onlyAccount(node) {
        Opted storage o = _opted[node][escrow];
        if (o.leaving != 0) revert ExitPending(o.leaveAt);
        if (amount == 0 || amount > o.cap) revert NotEnoughStake(amount, o.cap);

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
        if (amount == 0) revert NotOptedIn(node, escrow);
        if (block.timestamp < o.leaveAt) revert ExitNotDue(o.leaveAt);
        uint256 locked = IStakeUser(escrow).lockedOf(node);
        if (locked > o.cap) revert BondsLocked(locked, o.cap);

        o.leaving = 0;
        o.leaveAt = 0;
        _nodes[node].reserved -= uint128(amount);
        emit Released(node, escrow, amount);
    }

    /// @inheritdoc IRegistry
    function withdrawStake(uint32 node, uint256 amount, address to) external nonReentrant onlyAccount(node) {
        Record storage n = _nodes[node];
        uint256 available = n.stake - n.reserved;
        if (amount == 0 || amount > available) revert NotEnoughStake(amount, available);
        bool early = block.timestamp < n.depositUntil;
        if (early && n.stake - amount < minStake) revert ExitNotDue(n.depositUntil);

        n.stake -= uint128(amount);
        emit StakeWithdrawn(node, to, amount);
        _send(to, amount);
    }

    /// @inheritdoc IRegistry
    function seize(uint32 node, uint256 amount, uint256 tip) external nonReentrant {
        Opted storage o = _opted[node][msg.sender];
        uint256 cap = o.cap;
        if (amount == 0 || amount > cap + o.leaving) revert NotOptedIn(node, msg.sender);
        if (tip > amount) revert NotEnoughStake(tip, amount);

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
        if (length > MAX_CAPABILITIES) revert CapabilitiesTooLong(length);
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
        if (!done) revert TransferFailed(to, amount);
    }
}
