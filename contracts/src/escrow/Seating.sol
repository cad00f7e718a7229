// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {IStakeUser} from "../interfaces/IRegistry.sol";
import {Account, AccountLib} from "../types/Account.sol";
import {Seats, SeatsLib, Stage} from "../types/Seats.sol";
import {Terms} from "../types/Terms.sol";
import {Settlement} from "./Settlement.sol";

/// @title  Who may sit, and who wins a seat
/// @notice docs/protocol.md, "Claim", "Seed", "Ticket".
abstract contract Seating is Settlement, IStakeUser {
    /// @inheritdoc IEscrow
    function claim(bytes32 job, uint32 node, uint32 unit) external guarded {
        (Terms t, Seats s) = _read(job);
        if (block.timestamp > s.deadline()) (t, s) = _advanced(job);
        if (s.stage() == Stage.RUN) revert SeatsFull(job);
        if (s.stage() != Stage.SEATS) revert WrongPhase(job, _phase(s));

        uint256 worker = _workers[node];
        if (address(uint160(worker)) != msg.sender) revert NotWorker(node, msg.sender);
        Account a = _accounts[node];
        uint256 lane = _checkEligible(t, s, a, node, worker);
        if (unit >= a.cap() / UNIT) revert NoTicket(job, unit);
        bool early = _checkTicket(job, t, s, node, unit);

        uint256 seat = s.taken();
        s = s.take(node, lane);
        if (s.taken() == s.first() + _places(t, s)) s = s.enter(Stage.RUN, block.timestamp + _runWindow(t.wall()));
        _accounts[node] = a.seated(t.bond(), lane, early);
        _write(job, t, s);
        emit SeatClaimed(job, node, uint8(seat), uint64(s.deadline()));
    }

    /// @inheritdoc IStakeUser
    function onOptIn(uint32 node, address account, address worker, uint256 cap, bytes32[] calldata classes)
        external
        guarded
    {
        if (msg.sender != address(REGISTRY)) revert OnlyRegistry(msg.sender);
        if (node > SeatsLib.MAX_NODE || classes.length > 8) revert NotEligible(node, "node");
        uint256 tags;
        for (uint256 i = 0; i < classes.length; ++i) {
            tags |= _classTag(classes[i]) << 16 * i;
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

    /// @inheritdoc IStakeUser
    function lockedOf(uint32 node) external view returns (uint256) {
        return _accounts[node].locked() * GWEI;
    }

    /// @inheritdoc IEscrow
    function seedOf(bytes32 job) external view returns (bytes32 seed, bool ready) {
        (Terms t,) = _read(job);
        return _seed(job, t);
    }

    /// @inheritdoc IEscrow
    function thresholdAt(bytes32 job, uint256 blockNumber) external view returns (uint256 threshold) {
        (Terms t, Seats s) = _read(job);
        (threshold,) = _threshold(job, t, s, blockNumber);
    }

    /// @dev Everything about the node that does not depend on the lottery; the lane for its commit.
    function _checkEligible(Terms t, Seats s, Account a, uint32 node, uint256 worker)
        private
        view
        returns (uint256 lane)
    {
        if (!_serves(node, worker >> 160, t.classTag())) revert NotEligible(node, "class");
        if (a.since() >= t.postedAt()) revert NotEligible(node, "since");
        if (a.reputation() < t.minReputation()) revert NotEligible(node, "reputation");
        if (a.locked() + t.bond() > a.cap()) revert NotEligible(node, "bond");
        lane = a.freeLane();
        if (lane >= 32) revert NotEligible(node, "lanes");
        unchecked {
            for (uint256 i = s.taken(); i != 0; --i) {
                if (s.node(i - 1) == node) revert NotEligible(node, "seat");
            }
        }
    }

    /// @dev Whether a class tag is among the node's.
    function _serves(uint256 node, uint256 tags, uint256 tag) private view returns (bool) {
        for (uint256 word = tags; word != 0; word >>= 16) {
            if (uint16(word) == tag) return true;
        }
        for (uint256 word = tags >> 80 == 0 ? 0 : _moreClasses[node]; word != 0; word >>= 16) {
            if (uint16(word) == tag) return true;
        }
        return false;
    }

    /// @dev Whether the threshold was still so low that the seat counts for reputation; reverts without a winning ticket.
    function _checkTicket(bytes32 job, Terms t, Seats s, uint256 node, uint32 unit) private view returns (bool) {
        (bytes32 seed, bool ready) = _seed(job, t);
        if (!ready) revert SeedNotReady(job);
        uint256 ticket = uint256(keccak256(abi.encode(seed, job, s.first() == 0 ? 0 : 1, node, unit)));
        (uint256 threshold, bool low) = _threshold(job, t, s, block.number);
        if (ticket >= threshold && threshold != type(uint256).max) revert NoTicket(job, unit);
        return low;
    }

    /// @dev The ticket threshold: places / U of 2^256 where it starts, doubled with each block after. `low` while it is at
    ///      most four times that.
    function _threshold(bytes32 job, Terms t, Seats s, uint256 blockNumber)
        private
        view
        returns (uint256 threshold, bool low)
    {
        uint256 start =
            address(SEED_SOURCE) == address(0) ? t.openedBlock() + 2 : uint256(_seedRequests[job].readyBlock);
        if (blockNumber < start || start == 0) return (0, true);
        unchecked {
            uint256 doublings = blockNumber - start;
            uint256 places = _places(t, s);
            uint256 units = t.units();
            if (units <= places) return (type(uint256).max, true);
            uint256 base = type(uint256).max / units * places;
            bool all = doublings > 255 || base > type(uint256).max >> doublings;
            low = doublings <= 2 || base > type(uint256).max >> 2;
            threshold = all ? type(uint256).max : base << doublings;
        }
    }
}
