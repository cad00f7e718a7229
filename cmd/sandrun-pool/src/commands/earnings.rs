//! `earnings`: what a node has earned and not withdrawn.

use clap::Args;
use node_agent::Earning;
use sandrun_chain::MarketReader;
use sandrun_types::Token;
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs};
use crate::coins::Coins;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};

/// Arguments of `earnings`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sandrun-pool earnings --key node.key")]
pub(crate) struct Arguments {
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
pub(super) struct Amounts {
    earnings: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    token: Token,
    /// What the token is called.
    symbol: String,
    /// Whole coins or tokens.
    amount: String,
}

impl Amounts {
    pub(super) async fn of(reader: &MarketReader, earnings: &[Earning]) -> anyhow::Result<Self> {
        let coins = Coins::of(reader, earnings.iter().map(|it| it.token)).await?;
        let row = |it: &Earning| Row {
            token: it.token,
            symbol: coins.name(it.token),
            amount: coins.amount(it.token, it.amount),
        };
        Ok(Self {
            earnings: earnings.iter().map(row).collect(),
        })
    }
}

impl Report for Amounts {
    fn human(&self) -> String {
        if self.earnings.is_empty() {
            return "nothing\n".to_owned();
        }
        let line = |row: &Row| format!("{} {}\n", row.amount, row.symbol);
        self.earnings.iter().map(line).collect()
    }
}

/// Shows them.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let (operator, reader) = super::stake::operator(&arguments.chain, &arguments.key).await?;
    let earnings = operator.earnings().await.status(Status::Refused)?;
    output.result(&Amounts::of(&reader, &earnings).await?)?;
    Ok(Status::Success)
}
