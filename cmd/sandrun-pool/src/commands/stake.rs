//! `stake`: shows or changes a node's stake.

use clap::{Args, Subcommand};
use node_agent::Operator;
use sandrun_chain::{MarketReader, Sender, SenderConfig};
use sandrun_types::{Address, Amount, NodeIndex};
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs};
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};

use super::agent::coins;

/// Arguments of `stake`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool stake --key node.key\n  \
    sandrun-pool stake add 2 --key node.key\n  \
    sandrun-pool stake leave --key node.key        # then, after the exit delay:\n  \
    sandrun-pool stake release --key node.key\n  \
    sandrun-pool stake withdraw --key node.key")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show it
    #[command(after_help = "Example:\n  sandrun-pool stake show --key node.key")]
    Show,
    /// Deposit more, and let it win seats
    #[command(after_help = "Example:\n  sandrun-pool stake add 2 --key node.key")]
    Add {
        /// How much, in coins
        #[arg(value_parser = coins)]
        coins: Amount,
    },
    /// Start the exit: it wins no more seats, and can be released after the delay
    #[command(after_help = "Examples:\n  \
        sandrun-pool stake leave --key node.key\n  \
        sandrun-pool stake leave 1.5 --key node.key")]
    Leave {
        /// How much, in coins; all when not given
        #[arg(value_parser = coins)]
        coins: Option<Amount>,
    },
    /// Release what has left
    #[command(after_help = "Example:\n  sandrun-pool stake release --key node.key")]
    Release,
    /// Pay out what no escrow has a claim on
    #[command(after_help = "Example:\n  sandrun-pool stake withdraw --key node.key")]
    Withdraw {
        /// How much, in coins; all when not given
        #[arg(value_parser = coins)]
        coins: Option<Amount>,
        /// Where to; the account itself when not given
        #[arg(long, value_name = "ADDRESS", value_parser = crate::coins::address)]
        to: Option<Address>,
    },
}

#[derive(Debug, Serialize)]
struct Shown {
    node: NodeIndex,
    account: Address,
    stake: String,
    cap: String,
    locked: String,
    leaving: String,
    leave_at: Option<u64>,
    reputation: u16,
}

impl Report for Shown {
    fn human(&self) -> String {
        let mut text = format!(
            "node        {}\naccount     {}\nstake       {}\nwins seats  {}\nin bonds    {}\nreputation  {}\n",
            self.node, self.account, self.stake, self.cap, self.locked, self.reputation
        );
        if let Some(at) = self.leave_at {
            text += &format!("leaving     {} from unix time {at}\n", self.leaving);
        }
        text
    }
}

/// Shows or changes the stake, then shows it.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let (operator, _) = operator(&arguments.chain, &arguments.key).await?;
    match &arguments.what {
        None | Some(What::Show) => {}
        Some(What::Add { coins }) => {
            operator.add_stake(*coins).await.status(Status::Refused)?;
            let record = operator.node().await.status(Status::Unreachable)?;
            let cap = record.opt_in.cap.checked_add(*coins).unwrap_or(record.opt_in.cap);
            operator
                .opt_in(cap, &record.classes)
                .await
                .status(Status::Refused)?;
        }
        Some(What::Leave { coins }) => {
            operator.leave(*coins).await.status(Status::Refused)?;
        }
        Some(What::Release) => {
            operator.release().await.status(Status::Refused)?;
        }
        Some(What::Withdraw { coins, to }) => {
            let to = to.unwrap_or_else(|| operator.account());
            operator
                .withdraw_stake(*coins, to)
                .await
                .status(Status::Refused)?;
        }
    }
    let it = operator.node().await.status(Status::Refused)?;
    output.result(&Shown {
        node: it.index,
        account: it.registry.account,
        stake: it.registry.stake.to_string(),
        cap: it.escrow.cap.to_string(),
        locked: it.escrow.locked.to_string(),
        leaving: it.opt_in.leaving.to_string(),
        leave_at: it.opt_in.leave_at.map(|at| at.0),
        reputation: it.escrow.reputation,
    })?;
    Ok(Status::Success)
}

/// The owner of a node, with their key, and the market.
pub(super) async fn operator(chain: &ChainArgs, key: &KeyArgs) -> anyhow::Result<(Operator, MarketReader)> {
    let key = key.load()?;
    let market = chain.market().await?;
    let sender = Sender::new(
        market.chain.clone(),
        key,
        Some(market.deployment.clone()),
        SenderConfig::default(),
    );
    let reader = MarketReader::new(market.chain, market.deployment);
    Ok((Operator::new(reader.clone(), sender), reader))
}
