// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  Escrow: orders, seats, money
/// @notice The rules are in docs/protocol.md; each function names the section that it implements.
interface IEscrow {
    /// @notice A job as its client signs it. The job id is its EIP-712 hash, chain and contract in the domain.
    ///         Domain: name "Sandrun Escrow", version "1", chain id, this contract. Type: `Order(address client,address
    ///         payer,uint256 nonce,bytes32 bundle,bytes32 manifest,bytes32 classId,uint256 requirements,address
    ///         token,uint256 price,uint8 replicas,uint8 quorum,uint256 bond,uint32 wallLimit,uint16 minReputation,bytes32
    ///         clientKey,uint8 version,bytes32 extensions)` on one line.
    /// @param client         Who may cancel, and who never gets a seat in its own job.
    /// @param payer          Whose money is locked, who gets the rest, who never gets a seat either.
    /// @param nonce          Makes equal jobs of one client different.
    /// @param bundle         sha2-256 digest of the bundle's root block (CIDv1, dag-pb).
    /// @param manifest       sha2-256 of the canonical manifest, the bundle's `job.json`.
    /// @param classId        Exact execution class; first byte 0 `native`, 1 `det`.
    /// @param requirements   Packed hardware requirements, so that nodes can filter before they fetch.
    /// @param token          ERC-20 that pays, or zero for the native coin.
    /// @param price          Payment for each replica; a multiple of the token's granule.
    /// @param replicas       n: 1, 2, 3 or 5.
    /// @param quorum         q: 1, 2, 2 or 3.
    /// @param bond           Stake locked per seat, wei, a multiple of 1e12; at least the token's minimum for this price.
    /// @param wallLimit      Seconds of real time that a run may take.
    /// @param minReputation  Consecutive valid answers that a node must have behind it; at most 255.
    /// @param clientKey      X25519 key that the result is sealed to; zero for a plain result.
    /// @param version        1.
    /// @param extensions     Hash of extensions; zero in version 1.
    struct Order {
        address client;
        address payer;
        uint256 nonce;
        bytes32 bundle;
        bytes32 manifest;
        bytes32 classId;
        uint256 requirements;
        address token;
        uint256 price;
        uint8 replicas;
        uint8 quorum;
        uint256 bond;
        uint32 wallLimit;
        uint16 minReputation;
        bytes32 clientKey;
        uint8 version;
        bytes32 extensions;
    }

    /// @notice What a result digest is the hash of, but for what the job itself fixes.
    /// @param classId     Class that ran it.
    /// @param exitStatus  Exit code 0..255, 256 + signal, or 65536 for a memory kill.
    /// @param outputRoot  Merkle root over the outputs.
    /// @param traceRoot   Merkle root over the trace.
    /// @param content     sha2-256 digest of the packed result's root block (CIDv1, dag-pb).
    struct Result {
        bytes32 classId;
        uint32 exitStatus;
        bytes32 outputRoot;
        bytes32 traceRoot;
        bytes32 content;
    }

    /// @notice One opened commit. `node` is found from the seat.
    /// @param answer  A result digest, or one of the soft answers: 1 `unavailable`, 2 `limit`.
    struct Opening {
        uint8 seat;
        bytes32 answer;
        bytes32 salt;
    }

    /// @notice Where a job stands.
    enum Phase {
        None, // never posted
        Seats, // seats are being taken
        Run, // seats are taken, commits come in
        Reveal, // commits are being opened
        Closed // every seat is finished, the rest can be refunded
    }

    /// @notice How a job ended.
    enum Outcome {
        Open,
        Digest, // a result won
        Limit, // `limit` won
        Unavailable, // `unavailable` won
        NoneWins, // not deterministic
        Expired, // fewer than q seats
        Cancelled
    }

    /// @notice What became of a seat.
    enum SeatEnd {
        Released, // bond back, nothing or a claim's gas paid
        Paid, // revealed the winner
        AttemptFee,
        Shared, // none wins: a share of the locked sum
        Unpaid, // none wins, soft answer: bond back, nothing paid
        SlashedWrong, // revealed another answer
        SlashedLate, // revealed the winner after the window
        SlashedUnrevealed, // committed, never revealed, or revealed another answer late
        SlashedUncommitted // never committed
    }

    /// @notice A job's state, as a whole.
    /// @param deadline  Unix seconds; acting in the present phase is valid up to and including it.
    /// @param answer    The winner, else the leading answer: a soft answer as it is, of a digest the leading bits (216 until
    ///                  the job is decided, then 54); zero if there is none.
    struct JobView {
        Phase phase;
        Outcome outcome;
        uint8 round; // 0, or 1 after the extra round was opened
        uint8 seats; // taken so far, both rounds
        uint8 seatsFirst; // of them in round 0
        uint8 committed; // bitmap over seats
        uint8 revealed; // bitmap over seats, timely
        uint8 finished; // bitmap over seats
        uint64 deadline;
        uint64 openedBlock; // block that opened the present round's seat phase; known in Seats only
        uint32 units; // U, active units when the round opened; known in Seats only
        uint256 remaining; // locked money not yet paid, in the order's token
        bytes32 answer;
    }

    /// @notice A node as this escrow sees it.
    struct NodeView {
        address account;
        address worker;
        uint256 cap; // wei that it may lock
        uint256 locked; // wei locked in bonds
        uint256 earned; // native coin credited, wei
        uint64 since; // units count only for jobs posted after this time
        uint16 reputation;
    }

    event JobPosted(bytes32 indexed job, address indexed client, Order order, uint64 deadline, uint32 units);
    /// @dev In SeatClaimed and Committed, `deadline` is that of the phase that the job is in afterwards: the claim of the
    ///      last seat opens the run, the last commit opens the reveal.
    event SeatClaimed(bytes32 indexed job, uint32 indexed node, uint8 seat, uint64 deadline);
    event Committed(bytes32 indexed job, uint32 indexed node, uint8 seat, uint64 deadline);
    event Revealed(bytes32 indexed job, uint32 indexed node, uint8 seat, bytes32 answer);
    event ResultPublished(bytes32 indexed job, bytes32 indexed digest, Result result);
    event RoundOpened(bytes32 indexed job, uint64 deadline, uint32 units);
    /// @dev Only for changes that no other event tells: a deadline was over. A job is closed when it is decided and every seat
    ///      that was claimed has its SeatFinished.
    event PhaseChanged(bytes32 indexed job, Phase phase, uint64 deadline);
    /// @dev `answer` is a soft answer, or the leading 216 bits of the winning digest, or zero.
    event JobDecided(bytes32 indexed job, Outcome outcome, bytes32 answer);
    event SeatFinished(
        bytes32 indexed job, uint32 indexed node, uint8 seat, SeatEnd end, uint256 paid, uint256 slashed
    );
    event Refunded(bytes32 indexed job, address indexed payer, uint256 amount);
    /// @dev The attempt fee of a job that was cancelled late. What is slashed is told by SeatFinished and the registry.
    event Burnt(bytes32 indexed job, uint256 amount);
    event Withdrawn(address indexed owner, address indexed token, address to, uint256 amount);
    event NodeWithdrawn(uint32 indexed node, address indexed token, address to, uint256 amount);

    error BadParameters(bytes32 field);
    error BadOrder(bytes32 field);
    error UnknownToken(address token);
    error PriceTooLow(uint256 price, uint256 minimum);
    error PriceTooHigh(uint256 price, uint256 maximum);
    error BondTooLow(uint256 bond, uint256 minimum);
    error WrongPayment(uint256 sent, uint256 due);
    error AlreadyPosted(bytes32 job);
    error UnknownJob(bytes32 job);
    error NotClient(address caller);
    error NotPayer(address caller);
    error NotWorker(uint32 node, address caller);
    error WrongPhase(bytes32 job, Phase phase);
    error WindowOver(bytes32 job, uint64 deadline);
    error TooLateToCancel(bytes32 job);
    error SeedNotReady(bytes32 job);
    error NoTicket(bytes32 job, uint32 unit);
    error NotEligible(uint32 node, bytes32 why);
    error SeatsFull(bytes32 job);
    error NoSuchSeat(bytes32 job, uint8 seat);
    error AlreadyCommitted(bytes32 job, uint8 seat);
    error NotCommitted(bytes32 job, uint8 seat);
    error CommitMismatch(bytes32 job, uint8 seat);
    error ResultUnpublished(bytes32 job, bytes32 digest);
    error LimitTooEarly(bytes32 job, uint8 seat);
    error NothingDue(bytes32 job);
    error NothingToWithdraw();
    error NotClosed(bytes32 job);
    error TransferFailed(address token, address to, uint256 amount);
    error OnlyRegistry(address caller);

    /// @notice Posts a job and locks `price × n` (one more for 2-of-2). The caller is the payer.
    function post(Order calldata order) external payable returns (bytes32 job);

    /// @notice Takes a job back: all before the seed is known; less the attempt fee while no seat is taken.
    function cancel(Order calldata order) external;

    /// @notice Takes a seat with a unit of stake whose ticket is below the threshold. The caller is the node's worker.
    function claim(bytes32 job, uint32 node, uint32 unit) external;

    /// @notice Commits to an answer: the upper 216 bits of
    ///         keccak256(abi.encode(job, round, node, answer, salt)), round of the seat.
    function commit(bytes32 job, uint8 seat, bytes27 commitment) external;

    /// @notice Opens commits whose digest is published already (or soft answers). Anyone who knows them may; what is
    ///         revealed already is skipped.
    function reveal(bytes32 job, Opening[] calldata openings) external;

    /// @notice Publishes a result, unless it is published already, and opens a commit on its digest.
    function revealResult(bytes32 job, uint8 seat, Result calldata result, bytes32 salt) external;

    /// @notice Does what is due: ends phases, opens the extra round, finishes silent seats, decides, expires. Anyone
    ///         may; a slash tips the caller. Reverts with NothingDue when there is nothing to do.
    function poke(bytes32 job) external;

    /// @notice Credits what is left of a closed job to its payer. Anyone may.
    function refund(Order calldata order) external;

    /// @notice Pays out the caller's balance.
    function withdraw(address token, address to) external;

    /// @notice Pays out a node's earnings to its payout address; worker, account or payout may call.
    function withdrawNode(uint32 node, address token) external;

    function jobId(Order calldata order) external view returns (bytes32);
    function jobOf(bytes32 job) external view returns (JobView memory);
    function seatNode(bytes32 job, uint8 seat) external view returns (uint32);
    function nodeView(uint32 node) external view returns (NodeView memory);
    function balanceOf(address token, address owner) external view returns (uint256);
    function nodeBalanceOf(address token, uint32 node) external view returns (uint256);
    /// @notice Seed of the job's present round, once it is known.
    function seedOf(bytes32 job) external view returns (bytes32 seed, bool ready);
    /// @notice Ticket threshold at `blockNumber`; a claim wins when its ticket is below it.
    function thresholdAt(bytes32 job, uint256 blockNumber) external view returns (uint256);
    /// @notice sha256("sandrun-result-v1" ‖ chain id ‖ contract ‖ job ‖ class ‖ exit status ‖ output root ‖ trace root ‖
    ///         content), each in 32 bytes, the contract left-padded as in abi.encode.
    function digestOf(bytes32 job, Result calldata result) external view returns (bytes32);

    /// @notice A deployment's parameters, fixed for ever. Windows in seconds, amounts in wei of the stake asset.
    struct Parameters {
        uint256 unit; // unit of stake
        uint32 seatWindow;
        uint32 maxWall;
        uint32 runMultiple; // run window = runMultiple × wall limit + runSlack
        uint32 runSlack;
        uint32 revealWindow;
        uint256 tip; // fixed tip per slash, at most 5 % of it
        address registry;
        address seedSource; // zero: block hash
    }

    /// @notice A token that may pay. `token` zero is the native coin.
    struct TokenTerms {
        address token;
        uint256 granule; // amounts are multiples of this; native 1 gwei
        uint256 attemptFee;
        uint256 minPrice; // at least ten attempt fees
        uint256 maxSinglePrice; // price cap for n = 1
        uint256 bondPerPrice; // minimum bond in wei per 1e18 base units of price
    }

    function parameters() external view returns (Parameters memory);
    function tokenTerms() external view returns (TokenTerms[] memory);
}
