// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {IRegistry} from "../interfaces/IRegistry.sol";
import {ISeedSource} from "../interfaces/ISeedSource.sol";
import {SafeToken} from "../libraries/SafeToken.sol";
import {Account, AccountLib} from "../types/Account.sol";
import {JobStore} from "../types/JobStore.sol";
import {Seats} from "../types/Seats.sol";
import {Terms, TermsLib} from "../types/Terms.sol";

/// @title  The escrow's parameters and storage
/// @notice Everything that is stored is declared here; the parts that inherit add rules, no state.
abstract contract EscrowBase is IEscrow {
    /// @dev What an external source was asked for, and when its answer was first seen.
    struct SeedRequest {
        uint64 round;
        uint64 readyBlock;
    }

    /// @dev Unit of the stake's and the native coin's amounts in storage.
    uint256 internal constant GWEI = 1e9;

    uint256 internal immutable UNIT; // gwei
    uint256 internal immutable SEAT_WINDOW;
    uint256 internal immutable MAX_WALL;
    uint256 internal immutable RUN_MULTIPLE;
    uint256 internal immutable RUN_SLACK;
    uint256 internal immutable REVEAL_WINDOW;
    uint256 internal immutable TIP;
    /// @dev Terms of the first token: the one that most jobs are paid in costs no reads.
    address private immutable FIRST_TOKEN;
    uint256 private immutable FIRST_GRANULE;
    uint256 private immutable FIRST_FEE;
    uint256 private immutable FIRST_MIN_PRICE;
    uint256 private immutable FIRST_MAX_SINGLE_PRICE;
    uint256 private immutable FIRST_BOND_PER_PRICE;
    IRegistry internal immutable REGISTRY;
    ISeedSource internal immutable SEED_SOURCE;

    /// @dev Jobs, and the second words of those that need one; see `JobStore`. Never zeroed: a job is posted once.
    mapping(bytes32 job => uint256) private _jobs;
    mapping(bytes32 job => uint256) private _more;
    mapping(uint256 node => Account) internal _accounts;
    /// @dev worker 160 | six class tags of 16 bits.
    mapping(uint256 node => uint256) internal _workers;
    /// @dev More class tags of 16 bits, of nodes that serve more than six.
    mapping(uint256 node => uint256) internal _moreClasses;
    /// @dev A seat's commit, later its answer; see `Answer`. Never zeroed, so that the next commit there is cheap. Nothing
    ///      is ever read from a lane before the seat that holds it has written there.
    mapping(uint256 workerAndLane => uint256) internal _lanes;
    /// @dev Node that an address is the account of (lower 32 bits), and the worker of (upper 32 bits).
    mapping(address key => uint256) internal _roles;
    /// @dev In base units of the token.
    mapping(address token => mapping(address owner => uint256)) internal _balances;
    mapping(address token => mapping(uint256 node => uint256)) internal _nodeBalances;
    /// @dev Only where there is an external source.
    mapping(bytes32 job => SeedRequest) internal _seedRequests;
    TokenTerms[] internal _tokens;
    /// @dev Index in `_tokens` plus one.
    mapping(address token => uint256) internal _tokenIndex;
    /// @dev Sum over nodes of the whole units in their caps.
    uint256 internal _activeUnits;
    uint256 private transient _entered;

    error Reentered();

    /// @dev On every entry that changes state.
    modifier guarded() {
        if (_entered != 0) revert Reentered();
        _;
    }

    /// @dev On everything that calls out: until it returns no guarded entry can be entered.
    modifier callsOut() {
        _entered = 1;
        _;
        _entered = 0;
    }

    constructor(Parameters memory p, TokenTerms[] memory tokens) {
        if (p.unit == 0 || p.unit % GWEI != 0) revert BadParameters("unit");
        if (p.seatWindow == 0) revert BadParameters("seatWindow");
        if (p.maxWall == 0 || p.maxWall > TermsLib.MAX_WALL) revert BadParameters("maxWall");
        if (p.runMultiple < 3) revert BadParameters("runMultiple");
        if (p.revealWindow == 0) revert BadParameters("revealWindow");
        if (p.registry.code.length == 0) revert BadParameters("registry");
        if (tokens.length == 0 || tokens.length > TermsLib.MAX_TOKENS) revert BadParameters("tokens");
        uint256 life = 2 * (uint256(p.seatWindow) + uint256(p.runMultiple) * p.maxWall + p.runSlack + p.revealWindow);
        if (life > JobStore.MAX_LIFE) revert BadParameters("life");
        UNIT = p.unit / GWEI;
        SEAT_WINDOW = p.seatWindow;
        MAX_WALL = p.maxWall;
        RUN_MULTIPLE = p.runMultiple;
        RUN_SLACK = p.runSlack;
        REVEAL_WINDOW = p.revealWindow;
        TIP = p.tip;
        REGISTRY = IRegistry(p.registry);
        SEED_SOURCE = ISeedSource(p.seedSource);
        FIRST_TOKEN = tokens[0].token;
        FIRST_GRANULE = tokens[0].granule;
        FIRST_FEE = tokens[0].attemptFee;
        FIRST_MIN_PRICE = tokens[0].minPrice;
        FIRST_MAX_SINGLE_PRICE = tokens[0].maxSinglePrice;
        FIRST_BOND_PER_PRICE = tokens[0].bondPerPrice;
        for (uint256 i = 0; i < tokens.length; ++i) {
            TokenTerms memory t = tokens[i];
            if (t.granule == 0 || t.token == address(0) && t.granule != GWEI) revert BadParameters("granule");
            if (t.attemptFee % t.granule != 0) revert BadParameters("attemptFee");
            if (t.minPrice < 10 * t.attemptFee || t.minPrice == 0) revert BadParameters("minPrice");
            if (_tokenIndex[t.token] != 0) revert BadParameters("token");
            _tokens.push(t);
            _tokenIndex[t.token] = i + 1;
        }
    }

    /// @dev A job; reverts if it was never posted.
    function _read(bytes32 job) internal view returns (Terms t, Seats s) {
        uint256 word = _jobs[job];
        if (word == 0) revert UnknownJob(job);
        return JobStore.unpack(word, JobStore.hasMore(word) ? _more[job] : 0, SEAT_WINDOW);
    }

    function _write(bytes32 job, Terms t, Seats s) internal {
        bool more = JobStore.needsMore(t, s);
        _jobs[job] = JobStore.pack(t, s, more);
        if (more) _more[job] = JobStore.packMore(t, s);
    }

    function _isPosted(bytes32 job) internal view returns (bool) {
        return _jobs[job] != 0;
    }

    /// @dev Terms of token number `index`.
    function _token(uint256 index) internal view returns (TokenTerms memory) {
        if (index != 0) return _tokens[index];
        return TokenTerms({
            token: FIRST_TOKEN,
            granule: FIRST_GRANULE,
            attemptFee: FIRST_FEE,
            minPrice: FIRST_MIN_PRICE,
            maxSinglePrice: FIRST_MAX_SINGLE_PRICE,
            bondPerPrice: FIRST_BOND_PER_PRICE
        });
    }

    /// @dev Number of a token; reverts if it may not pay.
    function _tokenNumber(address token) internal view returns (uint256 index) {
        if (token == FIRST_TOKEN) return 0;
        index = _tokenIndex[token];
        if (index == 0) revert UnknownToken(token);
        --index;
    }

    /// @dev Seconds that nodes have for a run.
    function _runWindow(uint256 wall) internal view returns (uint256) {
        unchecked {
            return RUN_MULTIPLE * wall + RUN_SLACK;
        }
    }

    /// @dev Writes a node's account and keeps the number of active units in step.
    function _setCap(Account a, uint256 cap) internal returns (Account) {
        uint256 before = a.cap() / UNIT;
        uint256 present = cap / UNIT;
        if (before != present) _activeUnits = _activeUnits + present - before;
        return a.withCap(cap);
    }

    /// @dev Key of a worker's lane.
    function _laneOf(address worker, uint256 lane) internal pure returns (uint256) {
        return uint256(uint160(worker)) << 5 | lane;
    }

    /// @dev Interaction.
    function _send(address token, address to, uint256 amount) internal callsOut {
        SafeToken.send(token, to, amount);
    }

    /// @dev Interaction.
    function _pull(address token, address from, uint256 amount) internal callsOut {
        SafeToken.pull(token, from, amount);
    }

    /// @dev Owes `amount` base units of `token` to `owner`.
    function _credit(address token, address owner, uint256 amount) internal {
        _balances[token][owner] += amount;
    }

    /// @dev Owes `granules` of token number `index` to `node`, whose account the caller holds and writes.
    function _creditNode(Account a, uint256 node, uint256 index, uint256 granules)
        internal
        returns (Account, uint256 amount)
    {
        // The native coin is the common case and stays within the account's word.
        if (index == 0 && FIRST_TOKEN == address(0)) {
            uint256 earned = a.earned() + granules;
            if (earned <= AccountLib.AMOUNT_MAX) return (a.withEarned(earned), granules * GWEI);
        }
        TokenTerms memory t = _token(index);
        amount = granules * t.granule;
        _nodeBalances[t.token][node] += amount;
        return (a, amount);
    }
}
