// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  Node registry: stake, keys, capabilities
/// @notice Holds the stake of every node and knows which escrow may lock or seize how much of it. A node opts in to an
///         escrow with a cap; only an escrow that it opted in to can seize, and only up to that cap. So a later escrow
///         can stand beside an earlier one without anybody's stake being moved, and no administrator is needed.
/// @dev    The registry never holds payments. Amounts are in wei of the deployment's stake asset, the native coin.
interface IRegistry {
    /// @notice A registered node.
    /// @param account   Owner of the stake; signs registration, opt-in and exit.
    /// @param worker    Hot key (secp256k1); signs claims and commits. One node per worker.
    /// @param payout    Where earnings go.
    /// @param stake     Everything that the node has deposited and not taken out, the leaving part included.
    /// @param reserved  Sum of the caps of all opted-in escrows, plus what is leaving.
    struct Node {
        address account;
        address worker;
        address payout;
        uint256 stake;
        uint256 reserved;
    }

    /// @notice A node's relation to one escrow.
    /// @param cap      Stake that the escrow may lock or seize and that wins seats.
    /// @param leaving  Stake that is on its way out: still seizable, wins no seats.
    /// @param leaveAt  Unix seconds from which the leaving part can be released; 0 when nothing leaves.
    struct OptIn {
        uint256 cap;
        uint256 leaving;
        uint64 leaveAt;
    }

    /// @notice Keys and capabilities as announced; all that needs no check on chain.
    /// @param workerKey       Ed25519 public key that signs receipts.
    /// @param workerKeyProof  Its 64-byte signature over `workerKeyMessage(account)`; checked off chain.
    /// @param sealKey         X25519 public key that receives job keys; zero when the node takes no sealed jobs.
    /// @param capabilities    UTF-8 JSON of the node's capabilities, at most 4096 bytes.
    struct Profile {
        bytes32 workerKey;
        bytes workerKeyProof;
        bytes32 sealKey;
        bytes capabilities;
    }

    event NodeRegistered(uint32 indexed node, address indexed account, address indexed worker, address payout);
    event ProfileChanged(uint32 indexed node, Profile profile);
    event PayoutChanged(uint32 indexed node, address payout);
    event StakeAdded(uint32 indexed node, uint256 amount, uint256 stake);
    event OptedIn(uint32 indexed node, address indexed escrow, uint256 cap, bytes32[] classes);
    event Leaving(uint32 indexed node, address indexed escrow, uint256 amount, uint64 leaveAt);
    event Released(uint32 indexed node, address indexed escrow, uint256 amount);
    event StakeWithdrawn(uint32 indexed node, address indexed to, uint256 amount);
    event Seized(uint32 indexed node, address indexed escrow, uint256 burnt, uint256 tip);

    error AlreadyRegistered(address key);
    error BadWorkerSignature(address worker);
    error NotAccount(uint32 node, address caller);
    error UnknownNode(uint32 node);
    error CapabilitiesTooLong(uint256 length);
    error TooManyClasses(uint256 count);
    error NotEnoughStake(uint256 wanted, uint256 available);
    error NotOptedIn(uint32 node, address escrow);
    error ExitNotDue(uint64 leaveAt);
    error BondsLocked(uint256 locked, uint256 cap);
    error ExitPending(uint64 leaveAt);
    error TransferFailed(address to, uint256 amount);
    error ZeroAddress();

    /// @notice Registers the caller as a node and deposits `msg.value` as stake.
    /// @dev    The deposit has to be at least `minStake` and stays for one exit delay: node numbers are finite.
    /// @param worker           Hot key; must not be used by another node.
    /// @param workerSignature  65-byte EIP-712 signature (r, s, v) of the worker: nobody can register another one's key.
    ///                         Domain: name "Sandrun Registry", version "1", chain id, this contract.
    ///                         Type: `WorkerKey(address account)`.
    /// @return node  Index of the node, from 1.
    function register(address worker, bytes calldata workerSignature, address payout, Profile calldata profile)
        external
        payable
        returns (uint32 node);

    /// @notice Adds `msg.value` to the stake of `node`; anyone may.
    function addStake(uint32 node) external payable;

    /// @notice Announces new keys or capabilities.
    function setProfile(uint32 node, Profile calldata profile) external;

    /// @notice Changes where earnings go.
    function setPayout(uint32 node, address payout) external;

    /// @notice Opts in to `escrow`, or raises the cap, or changes the classes served. Every unit of stake is younger
    ///         than jobs that are already posted, so a raise never helps in a lottery that has begun.
    /// @param cap      New cap in wei, at least the present one.
    /// @param classes  Class ids that the node serves there; at most 8.
    function optIn(uint32 node, address escrow, uint256 cap, bytes32[] calldata classes) external;

    /// @notice Starts the exit of `amount` from `escrow`: it wins no more seats from now on, stays seizable, and can be
    ///         released after the exit delay.
    function leave(uint32 node, address escrow, uint256 amount) external;

    /// @notice Releases what has left, once the delay is over and the escrow holds no bond against it; anyone may.
    function release(uint32 node, address escrow) external;

    /// @notice Pays out stake that no escrow has a claim on.
    function withdrawStake(uint32 node, uint256 amount, address to) external;

    /// @notice Takes `amount` from the node's stake: burns it, but for `tip`, which goes to the calling escrow.
    /// @dev    Only an escrow that the node opted in to; never more than cap plus leaving.
    function seize(uint32 node, uint256 amount, uint256 tip) external;

    function nodeCount() external view returns (uint32);
    function nodeOf(uint32 node) external view returns (Node memory);
    function nodeByWorker(address worker) external view returns (uint32);
    function nodeByAccount(address account) external view returns (uint32);
    function optInOf(uint32 node, address escrow) external view returns (OptIn memory);
    function classesOf(uint32 node, address escrow) external view returns (bytes32[] memory);
    function exitDelay() external view returns (uint64);
    /// @notice Least deposit of a registration, wei.
    function minStake() external view returns (uint256);
    /// @notice What the Ed25519 worker key signs to bind itself to an account:
    ///         sha256("sandrun-worker-key-v1" ‖ chain id (32 bytes) ‖ registry (20) ‖ account (20)).
    function workerKeyMessage(address account) external view returns (bytes32);
}

/// @title What the registry needs of an escrow.
interface IStakeUser {
    /// @notice The cap or the classes of a node have changed. Only the registry may call.
    function onOptIn(uint32 node, address account, address worker, uint256 cap, bytes32[] calldata classes) external;

    /// @notice Stake that is locked as bonds of unfinished seats, in wei.
    function lockedOf(uint32 node) external view returns (uint256);
}
