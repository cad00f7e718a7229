//! `withdraw`: pays a balance out of the escrow.

use clap::Args;
use sandrun_chain::{MarketReader, Sender, SenderConfig};
use sandrun_types::{Address, Token};
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs};
use crate::coins::{self, Coins};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};

use super::earnings::Amounts;

/// Arguments of `withdraw`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool withdraw --key client.key            # a client's refunds\n  \
    sandrun-pool withdraw --key node.key --node       # a node's earnings, to its payout address")]
pub(crate) struct Arguments {
    /// A node's earnings instead of the key's own balance
    #[arg(long)]
    node: bool,
    /// The ERC-20, by address or by its symbol in the deployments file; the native coin when not given
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Where to; the account itself when not given
    #[arg(long, value_name = "ADDRESS", value_parser = coins::address, conflicts_with = "node")]
    to: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Withdrawn {
    /// Whole coins or tokens.
    amount: String,
    token: Token,
    symbol: String,
    to: Address,
    transaction: String,
}

impl Report for Withdrawn {
    fn human(&self) -> String {
        format!("{} {} to {}\n", self.amount, self.symbol, self.to)
    }
}

/// Pays out.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if arguments.node {
        let (operator, reader) = super::stake::operator(&arguments.chain, &arguments.key).await?;
        let token = coins::token(&reader, arguments.token.as_deref()).await?;
        let earnings = operator
            .withdraw_earnings(Some(token))
            .await
            .status(Status::Refused)?;
        output.result(&Amounts::of(&reader, &earnings).await?)?;
        return Ok(Status::Success);
    }
    let key = arguments.key.load()?;
    let market = arguments.chain.market().await?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let token = coins::token(&reader, arguments.token.as_deref()).await?;
    let coins = Coins::of(&reader, [token]).await?;
    let owner = key.address();
    let amount = reader.credit(owner, token).await.status(Status::Unreachable)?;
    if amount.is_zero() {
        let text = format!(
            "the escrow owes {owner} nothing in {}; a node's earnings are paid out with --node",
            coins.name(token)
        );
        return Err(Failure::new(Status::Refused, text));
    }
    let to = arguments.to.unwrap_or(owner);
    let call = reader.deployment().withdraw(token, to);
    let sender = Sender::new(
        reader.chain().clone(),
        key,
        Some(reader.deployment().clone()),
        SenderConfig::default(),
    );
    let transaction = sender.send(call).await.status(Status::Refused)?;
    output.result(&Withdrawn {
        amount: coins.amount(token, amount),
        token,
        symbol: coins.name(token),
        to,
        transaction: transaction.hash.to_string(),
    })?;
    Ok(Status::Success)
}
