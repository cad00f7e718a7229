//! `quote`: what a job would cost.

use std::path::PathBuf;

use clap::Args;
use client_sdk::{PreparedJob, announced, prepare_for_market};
use sandrun_chain::MarketReader;
use sandrun_core::pricing::{Dollars, Gas, PriceList, Resources, quote};
use sandrun_types::{Amount, Redundancy, Token};
use serde::Serialize;

use crate::args::{ChainArgs, EnvironmentListArgs};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::remote::RemoteArgs;

/// Gas of a posting, as measured (contracts/README.md).
const POST_GAS: u64 = 65_000;
/// Gas of claim, commit and reveal, as measured (contracts/README.md).
const SEAT_GAS: u64 = 140_000;

/// Arguments of `quote`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool quote --code ./my-script.py --seconds 20\n  \
    sandrun-pool quote --code ./project --redundancy 5 --dollars-per-coin 3000")]
pub(crate) struct Arguments {
    /// A file or a directory of code
    #[arg(long, value_name = "PATH")]
    code: PathBuf,
    /// The manifest; the directory's own job.json when not given
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Seconds that the job will run; the manifest's timeout when not given
    #[arg(long)]
    seconds: Option<u32>,
    /// How many nodes run it
    #[arg(long, value_name = "N", default_value_t = 3)]
    redundancy: u8,
    /// Twice the price, to be taken first
    #[arg(id = "taken_first", long = "priority")]
    priority: bool,
    /// What a coin costs, in dollars; 1000 on the local testnet
    #[arg(
        long,
        value_name = "DOLLARS",
        env = "SANDRUN_DOLLARS_PER_COIN",
        default_value = "1000"
    )]
    dollars_per_coin: String,
    #[command(flatten)]
    environments: EnvironmentListArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Amounts are whole coins.
#[derive(Debug, Serialize)]
struct Shown {
    /// What one replica's resources cost, in dollars.
    resources: String,
    /// The same in coins.
    resources_coins: String,
    /// A node's gas for one replica.
    node_gas: String,
    /// What resources and gas come to for each replica.
    cost: String,
    /// The least price that the escrow takes.
    least_price: String,
    /// What to pay for each replica: the larger of the two.
    price: String,
    /// The sum to lock for it: what `submit --payment` takes.
    payment: String,
    /// Gas of the posting, paid to the chain.
    client_gas: String,
    redundancy: u8,
    seconds: u32,
    /// Why `submit` would refuse the job now.
    warnings: Vec<String>,
}

impl Report for Shown {
    fn human(&self) -> String {
        let least = if self.price == self.cost {
            ""
        } else {
            " (the least that this escrow takes)"
        };
        format!(
            "resources  {} for {} s = {} coin per replica\nnode's gas {} coin per replica\nprice      {} coin per \
             replica{least}\npayment    {} coin for redundancy {} (--payment)\nposting    {} coin of gas\n",
            self.resources,
            self.seconds,
            self.resources_coins,
            self.node_gas,
            self.price,
            self.payment,
            self.redundancy,
            self.client_gas
        )
    }
}

/// Why too few nodes would run the job now.
async fn warnings(
    reader: &MarketReader,
    job: &PreparedJob,
    redundancy: Redundancy,
) -> anyhow::Result<Vec<String>> {
    let nodes = reader.nodes().await.status(Status::Unreachable)?;
    let head = reader.chain().head().await.status(Status::Unreachable)?;
    let events = reader
        .events(reader.deployment().deployed_block, head.block.number)
        .await
        .status(Status::Unreachable)?;
    let refused = client_sdk::runnable(job, redundancy, &nodes, &announced(&events)).err();
    Ok(refused.iter().map(ToString::to_string).collect())
}

/// Says what the job would cost.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if arguments.remote.address().is_some() {
        let text = "a broker, a coordinator or an executor takes no payment, so there is nothing to quote: `submit` runs the \
                    job there. For the market leave --to out and SANDRUN_TO empty";
        return Err(Failure::new(Status::BadInput, text));
    }
    let list = arguments.environments.list()?;
    let job =
        prepare_for_market(&arguments.code, arguments.manifest.as_deref(), &list).status(Status::BadInput)?;
    let redundancy = Redundancy::try_from(arguments.redundancy).status(Status::BadInput)?;
    let per_coin: Dollars = arguments.dollars_per_coin.parse().status(Status::BadInput)?;
    let market = arguments.chain.market().await?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let tokens = reader.token_terms().await.status(Status::Unreachable)?;
    let native = tokens
        .iter()
        .find(|it| it.token == Token::Native)
        .ok_or_else(|| Failure::new(Status::Refused, "this escrow takes no payment in the native coin"))?;
    let fees = reader.chain().fees().await.status(Status::Unreachable)?;
    let seconds = arguments.seconds.unwrap_or(job.wall_limit);
    let memory = job.requirements.memory_mib.into();
    let resources = Resources::of(&job.requirements, memory, seconds.into(), arguments.priority);
    let price = Amount(sandrun_types::U256::from(fees.max_fee_per_gas));
    let gas = Gas {
        client: POST_GAS,
        node: SEAT_GAS,
        price,
    };
    let quote = quote(
        &PriceList::default(),
        &resources,
        redundancy,
        gas,
        per_coin,
        native.granule,
    )
    .status(Status::BadInput)?;
    let price = quote.price.max(native.min_price);
    let payment = price
        .checked_mul(redundancy.locked_prices().into())
        .ok_or_else(|| {
            Failure::new(
                Status::BadInput,
                "the job is beyond all bounds: its price does not fit a number",
            )
        })?;
    let warnings = warnings(&reader, &job, redundancy).await?;
    for warning in &warnings {
        output.note(&format!("warning: {warning}"));
    }
    output.result(&Shown {
        resources: quote.resources.to_string(),
        resources_coins: quote.resources_wei.to_string(),
        node_gas: quote.node_gas.to_string(),
        cost: quote.price.to_string(),
        least_price: native.min_price.to_string(),
        price: price.to_string(),
        payment: payment.to_string(),
        client_gas: quote.client_gas.to_string(),
        redundancy: arguments.redundancy,
        seconds,
        warnings,
    })?;
    Ok(Status::Success)
}
