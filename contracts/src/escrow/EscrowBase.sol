// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {IRegistry} from "../interfaces/IRegistry.sol";
import {ISeedSource} from "../interfaces/ISeedSource.sol";
import {Account, AccountLib} from "../types/Account.sol";
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

    /// @dev Each word's layout is told by its type.
    mapping(bytes32 job => Terms) internal _terms;
    mapping(bytes32 job => Seats) internal _seats;
    mapping(uint256 node => Account) internal _accounts;
    /// @dev worker 160 | three class tags of 32 bits.
    mapping(uint256 node => uint256) internal _workers;
    /// @dev Five more class tags of 32 bits, of nodes that serve more than three.
    mapping(uint256 node => uint256) internal _moreClasses;
    /// @dev A seat's commit, later its answer; see `Answer`. Never zeroed, so that the next commit there is cheap. Nothing
    ///      is ever read from a lane before the seat that holds it has written there.
    mapping(uint256 node => uint256[32]) internal _lanes;
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

    /// @dev For entries that call out.
    modifier nonReentrant() {
        require(_entered == 0, Reentered());
        _entered = 1;
        _;
        _entered = 0;
    }

    /// @dev For entries that change state and never call out.
    modifier notEntered() {
        require(_entered == 0, Reentered());
        _;
    }

    constructor(Parameters memory p, TokenTerms[] memory tokens) {
        require(p.unit != 0 && p.unit % GWEI == 0, BadParameters("unit"));
        require(p.seatWindow != 0, BadParameters("seatWindow"));
        require(p.maxWall != 0 && p.maxWall < 1 << TermsLib.WALL_BITS, BadParameters("maxWall"));
        require(p.runMultiple >= 3, BadParameters("runMultiple"));
        require(p.revealWindow != 0, BadParameters("revealWindow"));
        require(p.registry.code.length != 0, BadParameters("registry"));
        require(tokens.length != 0 && tokens.length <= 64, BadParameters("tokens"));
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
            require(t.granule != 0 && (t.token != address(0) || t.granule == GWEI), BadParameters("granule"));
            require(t.attemptFee % t.granule == 0, BadParameters("attemptFee"));
            require(t.minPrice >= 10 * t.attemptFee && t.minPrice != 0, BadParameters("minPrice"));
            require(_tokenIndex[t.token] == 0, BadParameters("token"));
            _tokens.push(t);
            _tokenIndex[t.token] = i + 1;
        }
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
        require(index != 0, UnknownToken(token));
        --index;
    }

    /// @dev Seconds that nodes have for a run.
    function _runWindow(uint256 wall) internal view returns (uint256) {
        return RUN_MULTIPLE * wall + RUN_SLACK;
    }

    /// @dev Writes a node's account and keeps the number of active units in step.
    function _setCap(Account a, uint256 cap) internal returns (Account) {
        uint256 before = a.cap() / UNIT;
        uint256 present = cap / UNIT;
        if (before != present) _activeUnits = _activeUnits + present - before;
        return a.withCap(cap);
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
        if (index == 0 && FIRST_TOKEN == address(0) && a.earned() + granules <= AccountLib.AMOUNT_MAX) {
            return (a.withEarned(a.earned() + granules), granules * GWEI);
        }
        TokenTerms memory t = _token(index);
        amount = granules * t.granule;
        _nodeBalances[t.token][node] += amount;
        return (a, amount);
    }
}
