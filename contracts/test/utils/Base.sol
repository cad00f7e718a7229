// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {Escrow} from "../../src/Escrow.sol";
import {Registry} from "../../src/Registry.sol";
import {IEscrow} from "../../src/interfaces/IEscrow.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {TestToken} from "../../src/testnet/TestToken.sol";

/// @title  A deployment with nodes, and short words for what is done to it
abstract contract Base is Test {
    /// @dev A seat as a test sees it: who holds it and what it committed.
    struct Player {
        address account;
        address worker;
        address payout;
        uint256 key;
        uint32 node;
    }

    uint256 internal constant UNIT = 0.1 ether;
    uint256 internal constant STAKE = 10 ether;
    uint256 internal constant FEE = 0.0003 ether;
    uint256 internal constant PRICE = 0.01 ether;
    uint256 internal constant BOND = 0.05 ether;
    uint256 internal constant TIP = 0.0005 ether;
    uint32 internal constant SEAT_WINDOW = 60;
    uint32 internal constant RUN_SLACK = 30;
    uint32 internal constant REVEAL_WINDOW = 60;
    uint32 internal constant WALL = 20;
    uint64 internal constant EXIT_DELAY = 900;
    bytes32 internal constant NATIVE = bytes32(uint256(keccak256("native")) >> 8);
    bytes32 internal constant DET = bytes32(uint256(keccak256("det")) >> 8 | 1 << 248);
    bytes32 internal constant UNAVAILABLE = bytes32(uint256(1));
    bytes32 internal constant LIMIT = bytes32(uint256(2));
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;

    Registry internal registry;
    Escrow internal escrow;
    TestToken internal token;
    Player[] internal players;
    address internal client = makeAddr("client");
    uint256 internal nonce;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(1_000_000);
        registry = _deployRegistry();
        token = new TestToken("Test", "TST", 6);
        escrow = _deployEscrow();
        vm.deal(client, 1000 ether);
        for (uint256 i = 0; i < 8; ++i) {
            _addNode(STAKE);
        }
        _pass(12);
    }

    /// @dev Whether the bytecode is that of `artifacts/`, as it is deployed, and not of this build. `tools/artifacts.sh --check`
    ///      says whether it is that of the sources.
    function _asDeployed() internal pure virtual returns (bool) {
        return false;
    }

    /// @dev Mutants are tested from their sources.
    function _fromArtifacts() private view returns (bool) {
        return _asDeployed() && !vm.envOr("FROM_SOURCE", false);
    }

    function _deployRegistry() private returns (Registry) {
        if (!_fromArtifacts()) return new Registry(EXIT_DELAY, UNIT);
        return Registry(_create("artifacts/Registry.json", abi.encode(EXIT_DELAY, UNIT)));
    }

    function _deployEscrow() private returns (Escrow) {
        if (!_fromArtifacts()) return new Escrow(_parameters(), _tokenTerms());
        return Escrow(payable(_create("artifacts/Escrow.json", abi.encode(_parameters(), _tokenTerms()))));
    }

    function _create(string memory artifact, bytes memory arguments) private returns (address at) {
        bytes memory code = bytes.concat(vm.parseJsonBytes(vm.readFile(artifact), ".bytecode"), arguments);
        assembly ("memory-safe") {
            at := create(0, add(code, 0x20), mload(code))
        }
        require(at != address(0), "the artifact can't be deployed");
    }

    function _parameters() internal view virtual returns (IEscrow.Parameters memory) {
        return IEscrow.Parameters({
            unit: UNIT,
            seatWindow: SEAT_WINDOW,
            maxWall: 90,
            runMultiple: 3,
            runSlack: RUN_SLACK,
            revealWindow: REVEAL_WINDOW,
            tip: TIP,
            registry: address(registry),
            seedSource: address(0)
        });
    }

    function _tokenTerms() internal view virtual returns (IEscrow.TokenTerms[] memory terms) {
        terms = new IEscrow.TokenTerms[](2);
        terms[0] = IEscrow.TokenTerms({
            token: address(0),
            granule: 1 gwei,
            attemptFee: FEE,
            minPrice: 10 * FEE,
            maxSinglePrice: 1 ether,
            bondPerPrice: 5e18
        });
        terms[1] = IEscrow.TokenTerms({
            token: address(token),
            granule: 10,
            attemptFee: 300_000,
            minPrice: 3_000_000,
            maxSinglePrice: 100_000_000,
            bondPerPrice: 1e27
        });
    }

    function _addNode(uint256 stake) internal returns (uint32 node) {
        uint256 i = players.length;
        Player memory p;
        p.account = makeAddr(string.concat("account", vm.toString(i)));
        p.payout = makeAddr(string.concat("payout", vm.toString(i)));
        (p.worker, p.key) = makeAddrAndKey(string.concat("worker", vm.toString(i)));
        vm.deal(p.account, stake + 1 ether);
        vm.deal(p.worker, 1 ether);
        vm.startPrank(p.account);
        p.node = registry.register{value: stake}(p.worker, _workerSignature(p.key, p.account), p.payout, _profile());
        registry.optIn(p.node, address(escrow), stake, _classes());
        vm.stopPrank();
        players.push(p);
        return p.node;
    }

    function _classes() internal pure returns (bytes32[] memory classes) {
        classes = new bytes32[](2);
        (classes[0], classes[1]) = (NATIVE, DET);
    }

    function _profile() internal pure returns (IRegistry.Profile memory) {
        return IRegistry.Profile({
            workerKey: bytes32(uint256(7)), workerKeyProof: hex"00", sealKey: 0, capabilities: '{"cpu":4}'
        });
    }

    function _workerSignature(uint256 key, address account) internal view returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Sandrun Registry"),
                keccak256("1"),
                block.chainid,
                address(registry)
            )
        );
        bytes32 message = keccak256(abi.encode(keccak256("WorkerKey(address account)"), account));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, message)));
        return abi.encodePacked(r, s, v);
    }

    function _order(uint8 n) internal returns (IEscrow.Order memory o) {
        o.client = client;
        o.payer = client;
        o.nonce = ++nonce;
        o.bundle = keccak256("bundle");
        o.manifest = keccak256("manifest");
        o.classId = NATIVE;
        o.requirements = 0x0102;
        o.price = PRICE;
        o.replicas = n;
        o.quorum = n == 5 ? 3 : n == 1 ? 1 : 2;
        o.bond = BOND;
        o.wallLimit = WALL;
        o.version = 1;
    }

    function _locked(IEscrow.Order memory o) internal pure returns (uint256) {
        return o.price * (o.replicas == 2 ? 3 : o.replicas);
    }

    function _post(IEscrow.Order memory o) internal returns (bytes32 job) {
        vm.prank(o.payer);
        return escrow.post{value: o.token == address(0) ? _locked(o) : 0}(o);
    }

    /// @dev Posts and goes on to where the seed is known and everybody's ticket wins.
    function _postOpen(IEscrow.Order memory o) internal returns (bytes32 job) {
        job = _post(o);
        _openLottery();
    }

    /// @dev The seed is known and the threshold takes everybody in, in the same second.
    function _openLottery() internal {
        vm.roll(vm.getBlockNumber() + 2 + 40);
    }

    /// @dev Seconds go by, a block each. (Tests ask the VM for the time: the compiler takes `block.timestamp` for a constant
    ///      of the call and would read it anew after a warp.)
    function _pass(uint256 s) internal {
        vm.warp(vm.getBlockTimestamp() + s);
        vm.roll(vm.getBlockNumber() + s);
    }

    function _claim(bytes32 job, uint256 player) internal {
        vm.prank(players[player].worker);
        escrow.claim(job, players[player].node, 0);
    }

    function _salt(uint256 player) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", player));
    }

    function _commitment(bytes32 job, uint256 round, uint256 player, bytes32 answer) internal view returns (bytes27) {
        return bytes27(keccak256(abi.encode(job, round, players[player].node, answer, _salt(player))));
    }

    function _commit(bytes32 job, uint256 seat, uint256 player, bytes32 answer) internal {
        IEscrow.JobView memory v = escrow.jobOf(job);
        uint256 round = v.round == 0 || seat < v.seatsFirst ? 0 : 1;
        bytes27 c = _commitment(job, round, player, answer);
        vm.prank(players[player].worker);
        escrow.commit(job, uint8(seat), c);
    }

    function _result(uint256 k) internal pure returns (IEscrow.Result memory) {
        return IEscrow.Result({
            classId: NATIVE,
            exitStatus: 0,
            outputRoot: keccak256(abi.encode("output", k)),
            traceRoot: keccak256("trace"),
            content: keccak256(abi.encode("content", k))
        });
    }

    function _digest(bytes32 job, uint256 k) internal view returns (bytes32) {
        return escrow.digestOf(job, _result(k));
    }

    function _opening(uint256 seat, uint256 player, bytes32 answer)
        internal
        pure
        returns (IEscrow.Opening[] memory openings)
    {
        openings = new IEscrow.Opening[](1);
        openings[0] = IEscrow.Opening({seat: uint8(seat), answer: answer, salt: _salt(player)});
    }

    function _reveal(bytes32 job, uint256 seat, uint256 player, bytes32 answer) internal {
        vm.prank(players[player].worker);
        escrow.reveal(job, _opening(seat, player, answer));
    }

    function _revealResult(bytes32 job, uint256 seat, uint256 player, uint256 k) internal {
        vm.prank(players[player].worker);
        escrow.revealResult(job, uint8(seat), _result(k), _salt(player));
    }
}
