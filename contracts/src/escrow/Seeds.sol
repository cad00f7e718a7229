// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ISeedSource} from "../interfaces/ISeedSource.sol";
import {Terms} from "../types/Terms.sol";
import {EscrowBase} from "./EscrowBase.sol";

/// @title  The lottery's randomness
/// @notice docs/protocol.md, "Seed". A block hash is never recorded: when its 256 blocks have passed the threshold takes
///         everybody in anyway, so the seed block may simply move on.
abstract contract Seeds is EscrowBase {
    /// @dev The seed of the round that opened last, if it is known.
    function _seed(bytes32 job, Terms t) internal view returns (bytes32 seed, bool ready) {
        if (address(SEED_SOURCE) != address(0)) {
            SeedRequest storage request = _seedRequests[job];
            if (request.readyBlock == 0) return (0, false);
            return _ask(request.round);
        }
        unchecked {
            uint256 first = t.openedBlock() + 1;
            if (block.number <= first) return (0, false);
            // The latest of first, first + 256, ... whose hash is known.
            return (blockhash(first + ((block.number - first - 1) & ~uint256(255))), true);
        }
    }

    /// @dev Whether the seed may be known to somebody already: from then on taking the job back has its price.
    function _isSeedOpen(bytes32 job, Terms t) internal view returns (bool ready) {
        if (address(SEED_SOURCE) == address(0)) return block.number > t.openedBlock() + 1;
        (, ready) = _ask(_seedRequests[job].round);
    }

    /// @dev Interaction: asks an external source for a seed; whether it took the request. One that has broken since the
    ///      posting must not hold the money of a job: its extra round goes on with the first round's seed.
    function _requestSeed(bytes32 job) internal returns (bool taken) {
        return address(SEED_SOURCE) == address(0) || _request(job);
    }

    function _request(bytes32 job) private callsOut returns (bool taken) {
        bytes memory answer;
        (taken, answer) = address(SEED_SOURCE).call(abi.encodeCall(ISeedSource.request, (job)));
        taken = taken && answer.length == 32;
        if (taken) _seedRequests[job] = SeedRequest({round: uint64(uint256(bytes32(answer))), readyBlock: 0});
    }

    /// @dev What an external source says; a source that fails has nothing ready.
    function _ask(uint64 round) private view returns (bytes32 seed, bool ready) {
        (bool done, bytes memory answer) = address(SEED_SOURCE).staticcall(abi.encodeCall(ISeedSource.seed, (round)));
        if (!done || answer.length != 64) return (0, false);
        uint256 word;
        (seed, word) = abi.decode(answer, (bytes32, uint256));
        ready = word != 0;
    }

    /// @dev Notes that an external seed has become known: the threshold starts to rise now.
    function _recordSeed(bytes32 job) internal returns (bool) {
        if (address(SEED_SOURCE) == address(0)) return false;
        SeedRequest storage request = _seedRequests[job];
        if (request.readyBlock != 0) return false;
        (, bool ready) = _ask(request.round);
        if (ready) request.readyBlock = uint64(block.number);
        return ready;
    }
}
