//! `earnings`: what a node has earned and not withdrawn.

use clap::Args;
use node_agent::Earning;
use sandrun_types::{Amount, Token};
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs};
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
    /// Base units.
    amount: Amount,
}

impl Amounts {
    pub(super) fn of(earnings: &[Earning]) -> Self {
        Self {
            earnings: earnings
                .iter()
                .map(|it| Row {
                    token: it.token,
                    amount: it.amount,
                })
                .collect(),
        }
    }
}

impl Report for Amounts {
    fn human(&self) -> String {
        let line = |row: &Row| match row.token {
            Token::Native => format!("{} coin\n", row.amount),
            Token::Erc20(token) => format!("{} base units of {token}\n", row.amount.display(0)),
        };
        if self.earnings.is_empty() {
            "nothing\n".to_owned()
        } else {
            self.earnings.iter().map(line).collect()
        }
    }
}

/// Shows them.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let operator = super::stake::operator(&arguments.chain, &arguments.key).await?;
    let earnings = operator.earnings().await.status(Status::Refused)?;
    output.result(&Amounts::of(&earnings))?;
    Ok(Status::Success)
}
