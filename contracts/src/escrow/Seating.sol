// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IStakeUser} from "../interfaces/IRegistry.sol";
import {Account, AccountLib} from "../types/Account.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Terms} from "../types/Terms.sol";
import {Settlement} from "./Settlement.sol";

/// @title  Who may sit, and who wins a seat
/// @notice docs/protocol.md, "Claim", "Seed", "Ticket".
abstract contract Seating is Settlement, IStakeUser {
    function claim(bytes32 job, uint32 node, uint32 unit) external notEntered {
        Terms t = _terms[job];
        Seats s = _seats[job];
        if (Seats.unwrap(s) == 0 || block.timestamp > s.deadline()) (t, s) = _advanced(job);
        require(s.stage() != Stage.Run, SeatsFull(job));
        require(s.stage() == Stage.Seats, WrongPhase(job, _phase(s)));

        uint256 worker = _workers[node];
        require(address(uint160(worker)) == msg.sender, NotWorker(node, msg.sender));
        Account a = _accounts[node];
        uint256 lane = _checkEligible(t, s, a, node, worker);
        require(unit < a.cap() / UNIT, NoTicket(job, unit));
        bool early = _checkTicket(job, t, s, node, unit);

        uint256 seat = s.taken();
        s = s.take(node, lane);
        if (seat + 1 - s.first() == _places(s)) s = s.enter(Stage.Run, block.timestamp + _runWindow(s.wall()));
        _accounts[node] = a.seated(t.bond(), lane, early);
        _seats[job] = s;
        emit SeatClaimed(job, node, uint8(seat), uint64(s.deadline()));
    }

    function onOptIn(uint32 node, address account, address worker, uint256 cap, bytes32[] calldata classes)
        external
        notEntered
    {
        require(msg.sender == address(REGISTRY), OnlyRegistry(msg.sender));
        require(node <= SeatsLib.MAX_NODE && classes.length <= 8, NotEligible(node, "node"));
        uint256 tags;
        for (uint256 i = 0; i < classes.length; ++i) {
            tags |= _classTag(classes[i]) << 32 * i;
        }
        uint256 present = cap / GWEI;
        // More could not be counted; what is above simply earns no tickets here.
        if (present > AccountLib.AMOUNT_MAX) present = AccountLib.AMOUNT_MAX;

        uint256 word = uint256(uint160(worker)) | tags << 160;
        Account a = _accounts[node];
        if (present > a.cap() || word != _workers[node] || tags >> 96 != _moreClasses[node]) a = a.renewed();
        _accounts[node] = _setCap(a, present);
        _workers[node] = word;
        _moreClasses[node] = tags >> 96;
        _roles[account] = _roles[account] & ~uint256(type(uint32).max) | node;
        _roles[worker] = uint32(_roles[worker]) | uint256(node) << 32;
    }

    function lockedOf(uint32 node) external view returns (uint256) {
        return _accounts[node].locked() * GWEI;
    }

    function seedOf(bytes32 job) external view returns (bytes32 seed, bool ready) {
        return _seed(job, _terms[job]);
    }

    function thresholdAt(bytes32 job, uint256 blockNumber) external view returns (uint256) {
        Terms t = _terms[job];
        Seats s = _seats[job];
        if (Seats.unwrap(s) == 0) s = SeatsLib.create(t.size(), 0, 0);
        return _threshold(job, t, s, blockNumber);
    }

    /// @dev Everything about the node that does not depend on the lottery; the lane for its commit.
    function _checkEligible(Terms t, Seats s, Account a, uint32 node, uint256 worker) private view returns (uint256 lane) {
        uint256 tag = t.classTag();
        if (uint32(worker >> 160) != tag && uint32(worker >> 192) != tag && uint32(worker >> 224) != tag) {
            uint256 more = _moreClasses[node];
            while (more != 0 && uint32(more) != tag) more >>= 32;
            require(more != 0, NotEligible(node, "class"));
        }
        require(a.since() < t.postedAt(), NotEligible(node, "since"));
        require(a.reputation() >= t.minReputation(), NotEligible(node, "reputation"));
        require(a.locked() + t.bond() <= a.cap(), NotEligible(node, "bond"));
        lane = a.freeLane();
        require(lane < 32, NotEligible(node, "lanes"));
        for (uint256 i = s.taken(); i != 0; --i) {
            require(s.node(i - 1) != node, NotEligible(node, "seat"));
        }
    }

    /// @dev Whether the threshold was still so low that the seat counts for reputation; reverts without a winning ticket.
    function _checkTicket(bytes32 job, Terms t, Seats s, uint256 node, uint32 unit) private view returns (bool) {
        (bytes32 seed, bool ready) = _seed(job, t);
        require(ready, SeedNotReady(job));
        uint256 ticket = uint256(keccak256(abi.encode(seed, job, s.first() == 0 ? 0 : 1, node, unit)));
        uint256 threshold = _threshold(job, t, s, block.number);
        require(ticket < threshold || threshold == type(uint256).max, NoTicket(job, unit));
        return threshold <= _doubled(t, s, 2);
    }

    /// @dev The ticket threshold: places / U of 2^256 where it starts, doubled with each block after.
    function _threshold(bytes32 job, Terms t, Seats s, uint256 blockNumber) private view returns (uint256) {
        uint256 start =
            address(SEED_SOURCE) == address(0) ? t.openedBlock() + 2 : uint256(_seedRequests[job].readyBlock);
        if (blockNumber < start || start == 0) return 0;
        return _doubled(t, s, blockNumber - start);
    }

    function _doubled(Terms t, Seats s, uint256 doublings) private pure returns (uint256) {
        uint256 places = _places(s);
        uint256 units = t.units();
        if (units <= places || doublings > 255) return type(uint256).max;
        uint256 base = type(uint256).max / units * places;
        return base > type(uint256).max >> doublings ? type(uint256).max : base << doublings;
    }
}
