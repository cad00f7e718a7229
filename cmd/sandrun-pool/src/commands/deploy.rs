//! `deploy`: brings the contracts to a chain.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sandrun_chain::{Deployment, MarketTerms, Sender, SenderConfig};
use sandrun_types::{Address, ChainId};
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs};
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};

/// Arguments of `deploy`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    sandrun-pool deploy --blockchain-rpc https://… --key deployer.key --preset mainnet --save deployments.json\n\n\
    Parameters are fixed for ever with the deployment; docs/protocol.md explains them.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// Windows and amounts
    #[arg(long, value_enum, default_value = "mainnet")]
    preset: Preset,
    /// File that gets the addresses, for --deployments
    #[arg(long, value_name = "FILE", default_value = "deployments.json")]
    save: PathBuf,
}

/// Windows and amounts of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// Short windows, for local test networks.
    Testnet,
    /// For chains with real money.
    Mainnet,
}

#[derive(Debug, Serialize)]
struct Deployed {
    chain: ChainId,
    registry: Address,
    escrow: Address,
    block: u64,
    file: PathBuf,
    tokens: BTreeMap<String, Address>,
}

impl Report for Deployed {
    fn human(&self) -> String {
        format!(
            "chain     {}\nregistry  {}\nescrow    {}\nblock     {}\nwritten to {}\n",
            self.chain,
            self.registry,
            self.escrow,
            self.block,
            self.file.display()
        )
    }
}

/// Deploys registry and escrow.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let key = arguments.key.load()?;
    let chain = arguments.chain.connect().await?;
    let terms = match arguments.preset {
        Preset::Testnet => MarketTerms::testnet(),
        Preset::Mainnet => MarketTerms::standard(),
    };
    let sender = Sender::new(chain, key, None, SenderConfig::default());
    let Deployment {
        chain,
        registry,
        escrow,
        deployed_block,
        tokens,
    } = sandrun_chain::deploy(&sender, &terms)
        .await
        .status(Status::Refused)?;
    let deployment = Deployment {
        chain,
        registry,
        escrow,
        deployed_block,
        tokens: tokens.clone(),
    };
    deployment.save(&arguments.save).status(Status::BadInput)?;
    output.result(&Deployed {
        chain,
        registry,
        escrow,
        block: deployed_block,
        file: arguments.save.clone(),
        tokens,
    })?;
    Ok(Status::Success)
}
