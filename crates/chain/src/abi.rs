//! Bindings of the contracts' committed ABI. Owns nothing of its own; other modules turn these words into the
//! workspace's. Never leaves this crate.

#![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all)]

use alloy::sol;

sol!(
    #[sol(rpc, all_derives)]
    Escrow,
    "../../contracts/artifacts/Escrow.json"
);

sol!(
    #[sol(rpc, all_derives)]
    Registry,
    "../../contracts/artifacts/Registry.json"
);

sol! {
    #[sol(rpc, all_derives)]
    interface Erc20 {
        function balanceOf(address owner) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function approve(address spender, uint256 amount) external returns (bool);
        function transfer(address to, uint256 amount) external returns (bool);
        function decimals() external view returns (uint8);
        function symbol() external view returns (string);
        function mint(address to, uint256 value) external;
    }
}

sol! {
    /// What a worker key signs so that nobody else can register it. See `IRegistry.register`.
    struct WorkerKey { address account; }
}

/// The committed artifacts as text: ABI and bytecode, for what is looked up by selector and for deploying.
pub const ESCROW: &str = include_str!("../../../contracts/artifacts/Escrow.json");
/// As [`ESCROW`].
pub const REGISTRY: &str = include_str!("../../../contracts/artifacts/Registry.json");
/// As [`ESCROW`].
pub const TEST_TOKEN: &str = include_str!("../../../contracts/artifacts/TestToken.json");
