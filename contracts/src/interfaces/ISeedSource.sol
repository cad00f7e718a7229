// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  Where the lottery's randomness comes from; pinned per deployment.
/// @notice A deployment with the zero address uses the hash of the block after the posting, which is sound only where
///         `block.number` is the chain's own and producers gain less from biasing it than a job is worth.
interface ISeedSource {
    /// @notice Asks for a seed that nobody can know yet. Only the escrow calls.
    function request(bytes32 job) external returns (uint64 round);

    /// @notice The seed of `round` once it is ready.
    function seed(uint64 round) external view returns (bytes32 value, bool ready);
}
