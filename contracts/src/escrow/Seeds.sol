// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

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
            return SEED_SOURCE.seed(request.round);
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
        (, ready) = SEED_SOURCE.seed(_seedRequests[job].round);
    }

    /// @dev Interaction: asks an external source for a seed.
    function _requestSeed(bytes32 job) internal {
        if (address(SEED_SOURCE) != address(0)) _request(job);
    }

    function _request(bytes32 job) private callsOut {
        _seedRequests[job] = SeedRequest({round: SEED_SOURCE.request(job), readyBlock: 0});
    }

    /// @dev Notes that an external seed has become known: the threshold starts to rise now.
    function _recordSeed(bytes32 job) internal returns (bool) {
        if (address(SEED_SOURCE) == address(0)) return false;
        SeedRequest storage request = _seedRequests[job];
        if (request.readyBlock != 0) return false;
        (, bool ready) = SEED_SOURCE.seed(request.round);
        if (ready) request.readyBlock = uint64(block.number);
        return ready;
    }
}
