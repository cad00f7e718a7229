//! `withdraw`: pays a balance out of the escrow.

use clap::Args;
use sandrun_chain::{MarketReader, Sender, SenderConfig};
use sandrun_types::{Address, Amount, Token};
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs};
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
    /// The ERC-20; the native coin when not given
    #[arg(long, value_name = "ADDRESS")]
    token: Option<Address>,
    /// Where to; the account itself when not given
    #[arg(long, value_name = "ADDRESS", conflicts_with = "node")]
    to: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Withdrawn {
    amount: Amount,
    token: Token,
    to: Address,
    transaction: String,
}

impl Report for Withdrawn {
    fn human(&self) -> String {
        match self.token {
            Token::Native => format!("{} coin to {}\n", self.amount, self.to),
            Token::Erc20(token) => format!(
                "{} base units of {token} to {}\n",
                self.amount.display(0),
                self.to
            ),
        }
    }
}

/// Pays out.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let token = arguments.token.map_or(Token::Native, Token::from);
    if arguments.node {
        let operator = super::stake::operator(&arguments.chain, &arguments.key).await?;
        let earnings = operator
            .withdraw_earnings(Some(token))
            .await
            .status(Status::Refused)?;
        output.result(&Amounts::of(&earnings))?;
        return Ok(Status::Success);
    }
    let key = arguments.key.load()?;
    let market = arguments.chain.market().await?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let owner = key.address();
    let amount = reader.credit(owner, token).await.status(Status::Unreachable)?;
    if amount.is_zero() {
        let text = format!("the escrow owes {owner} nothing; a node's earnings are paid out with --node");
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
        amount,
        token,
        to,
        transaction: transaction.hash.to_string(),
    })?;
    Ok(Status::Success)
}
