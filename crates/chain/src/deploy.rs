//! Deploying a market. Owns the committed bytecode and the usual parameters; never touches a market that exists.

use std::collections::BTreeMap;

use alloy::primitives::Bytes;
use alloy::sol_types::SolValue as _;
use sandrun_types::{Address, Amount, Token, U256};
use serde::Deserialize;

use crate::abi;
use crate::calls::Call;
use crate::deployment::Deployment;
use crate::reader::{Parameters, TokenTerms};
use crate::send::{SendError, Sender};

/// What a market is deployed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketTerms {
    /// The escrow's parameters; the registry's address is filled in.
    pub parameters: Parameters,
    /// Tokens that may pay.
    pub tokens: Vec<TokenTerms>,
    /// Seconds that stake takes to leave.
    pub exit_delay: u64,
    /// Least stake of a new node, wei.
    pub min_stake: Amount,
}

/// Why there is no market.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The committed file has no bytecode.
    #[error(
        "contracts/artifacts/{contract}.json holds no bytecode: build the contracts (`make contracts`) and try again"
    )]
    NoBytecode {
        /// The contract.
        contract: &'static str,
    },
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A transaction that should create a contract created none.
    #[error("the transaction that should deploy the {contract} created no contract")]
    NothingCreated {
        /// The contract.
        contract: &'static str,
    },
}

impl MarketTerms {
    /// The parameters that docs/protocol.md names for a local testnet.
    pub fn testnet() -> Self {
        Self::with(
            Parameters {
                seat_window: 60,
                max_wall: 90,
                run_slack: 30,
                reveal_window: 60,
                ..Self::usual()
            },
            900,
            Amount::from_gwei(1_000_000_000),
        )
    }

    /// The parameters that docs/protocol.md names for a public chain.
    pub fn standard() -> Self {
        Self::with(Self::usual(), 7 * 24 * 3600, Amount::from_gwei(50_000_000))
    }

    fn usual() -> Parameters {
        Parameters {
            unit: Amount::from_gwei(100_000_000),
            seat_window: 600,
            max_wall: 24 * 3600,
            run_multiple: 3,
            run_slack: 300,
            reveal_window: 600,
            tip: Amount::from_gwei(1_000_000),
            registry: Address::ZERO,
            seed_source: None,
        }
    }

    fn with(parameters: Parameters, exit_delay: u64, max_single_price: Amount) -> Self {
        let native = TokenTerms {
            token: Token::Native,
            granule: Amount::from_gwei(1),
            // gas of claim, commit and reveal (about 200,000) at 5 gwei
            attempt_fee: Amount::from_gwei(1_000_000),
            min_price: Amount::from_gwei(10_000_000),
            max_single_price,
            bond_per_price: Amount(U256::from(5).saturating_mul(U256::from(Amount::GWEI).pow(U256::from(2)))),
        };
        Self {
            parameters,
            tokens: vec![native],
            exit_delay,
            min_stake: Amount::from_gwei(100_000_000),
        }
    }

    /// Terms of an ERC-20 whose whole token is worth about as much as a coin: the native terms, in its base units.
    pub fn token_like_coin(token: Address, decimals: u8) -> TokenTerms {
        let whole = U256::from(10).pow(U256::from(decimals));
        let part = |divisor: u64| Amount((whole / U256::from(divisor)).max(U256::ONE));
        TokenTerms {
            token: Token::Erc20(token),
            granule: part(1_000_000),
            attempt_fee: part(1_000),
            min_price: part(100),
            max_single_price: Amount(whole),
            // five coins of bond for a whole token of price
            bond_per_price: Amount(
                U256::from(5).saturating_mul(U256::from(10).pow(U256::from(36))) / whole.max(U256::ONE),
            ),
        }
    }
}

/// Deploys registry and escrow with the sender's key.
///
/// # Errors
/// No bytecode, or a transaction that failed.
pub async fn deploy(sender: &Sender, terms: &MarketTerms) -> Result<Deployment, DeployError> {
    let arguments = (terms.exit_delay, terms.min_stake.0).abi_encode_params();
    let (registry, block) = create(sender, "Registry", abi::REGISTRY, arguments).await?;
    let parameters = Parameters {
        registry,
        ..terms.parameters.clone()
    };
    let tokens: Vec<_> = terms.tokens.iter().map(TokenTerms::abi).collect();
    let arguments = (parameters.abi(), tokens).abi_encode_params();
    let (escrow, _) = create(sender, "Escrow", abi::ESCROW, arguments).await?;
    Ok(Deployment {
        chain: sender.chain().id(),
        registry,
        escrow,
        deployed_block: block,
        tokens: BTreeMap::new(),
    })
}

/// Deploys a token for tests that anyone may mint (see [`Call::mint`]).
///
/// # Errors
/// As [`deploy`].
pub async fn deploy_test_token(
    sender: &Sender,
    name: &str,
    symbol: &str,
    decimals: u8,
) -> Result<Address, DeployError> {
    let arguments = (name.to_owned(), symbol.to_owned(), U256::from(decimals)).abi_encode_params();
    create(sender, "TestToken", abi::TEST_TOKEN, arguments)
        .await
        .map(|(address, _)| address)
}

/// What an artifact holds that a deployment needs.
#[derive(Debug, Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

async fn create(
    sender: &Sender,
    contract: &'static str,
    artifact: &str,
    arguments: Vec<u8>,
) -> Result<(Address, u64), DeployError> {
    let code = serde_json::from_str::<Artifact>(artifact)
        .map(|it| it.bytecode)
        .unwrap_or_default();
    if code.is_empty() {
        return Err(DeployError::NoBytecode { contract });
    }
    let input = [code.as_ref(), &arguments].concat().into();
    let call = Call {
        to: None,
        input,
        value: Amount::ZERO,
        what: format!("deploy the {contract}"),
    };
    let outcome = sender.send(call).await?;
    let address = outcome.created.ok_or(DeployError::NothingCreated { contract })?;
    Ok((address, outcome.block.number))
}
