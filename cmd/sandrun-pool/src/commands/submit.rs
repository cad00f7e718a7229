//! `submit`: posts a job on the market, follows it, downloads its result and checks it; or hands it to a service.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use client_sdk::{Client, Wish, prepare_for_market};
use sandrun_chain::{Key, MarketReader};
use sandrun_types::{Amount, ClassRequest, Redundancy, Token, U256};

use super::place;
use super::posting::Posting;
use crate::args::{ChainArgs, EnvironmentListArgs, KeyArgs, StoreArgs};
use crate::coins;
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::Output;
use crate::remote::{self, RemoteArgs, ServiceArgs, Wanted};

/// Arguments of `submit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool submit --code ./my-script.py --payment 0.1 --redundancy 3\n  \
    sandrun-pool submit --code ./project --manifest job.json --payment 0.1 --redundancy 2 --out results\n  \
    sandrun-pool submit --code ./project --payment 0.1 --detach --json\n  \
    sandrun-pool submit --code ./my-script.py --to http://127.0.0.1:8000 --follow\n  \
    sandrun-pool submit --code ./project --to http://127.0.0.1:8000 --redundancy 3 --require memory_mib=4096")]
pub(crate) struct Arguments {
    /// A file or a directory of code
    #[arg(long, value_name = "PATH")]
    code: PathBuf,
    /// The manifest; the directory's own job.json when not given
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// What is locked, and the most that the job can cost: coins, or whole tokens of --token; needed on the market
    #[arg(long, value_name = "AMOUNT", value_parser = coins::decimal, allow_hyphen_values = true)]
    payment: Option<String>,
    /// How many nodes run it: 1 (nobody checks), 2 (2-of-2), 3 (2-of-3) or 5 (3-of-5); when not given 3 on the market,
    /// 1 with --to
    #[arg(long, value_name = "N", value_parser = redundancy)]
    redundancy: Option<Redundancy>,
    /// ERC-20 that pays, by address or by its symbol in the deployments file; the native coin when not given
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Execution class: native, det, det-soft, or an exact class id; the manifest's when not given, else det,
    /// or det-soft where too few nodes serve det
    #[arg(long, value_name = "CLASS")]
    class: Option<ClassRequest>,
    /// Consecutive valid answers that a node needs behind it, at most 255
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=255))]
    min_reputation: u16,
    /// Post the job even where too few nodes have --min-reputation: unless they get there in time it expires, and the
    /// payment comes back
    #[arg(long)]
    force: bool,
    /// Stake that each seat locks, in coins; the least allowed when not given
    #[arg(long, value_name = "COINS", value_parser = super::agent::coins, allow_hyphen_values = true)]
    bond: Option<Amount>,
    /// Where the result goes; ./results/JOB when not given
    #[arg(long, visible_alias = "output", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Return after posting
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    environments: EnvironmentListArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    key: KeyArgs,
    // the last: what follows would stand under its heading
    #[command(flatten)]
    service: ServiceArgs,
}

fn redundancy(text: &str) -> Result<Redundancy, String> {
    let replicas: u8 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number: choose 1, 2, 3 or 5"))?;
    Redundancy::try_from(replicas).map_err(|error| error.to_string())
}

/// Posts the job; waits for its end unless detached.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        let wanted = Wanted {
            code: &arguments.code,
            manifest: arguments.manifest.as_deref(),
            environments: arguments.environments.list()?,
            redundancy: arguments.redundancy,
            out: arguments.out.as_deref(),
            detach: arguments.detach,
        };
        return remote::submit(to, &wanted, arguments.service, output).await;
    }
    let Some(payment) = &arguments.payment else {
        let text = "a job on the market needs --payment AMOUNT; --to URL submits to a broker or a coordinator instead";
        return Err(Failure::new(Status::BadInput, text));
    };
    // all that needs no network, before the first connection
    if !arguments.detach {
        place::check(arguments.out.as_deref())?;
    }
    let list = arguments.environments.list()?;
    let job =
        prepare_for_market(&arguments.code, arguments.manifest.as_deref(), &list).status(Status::BadInput)?;
    let key = arguments.key.load()?;
    let store = arguments.store.client()?;
    let market = arguments.chain.market().await?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let token = coins::token(&reader, arguments.token.as_deref()).await?;
    let decimals = match token {
        Token::Native => Amount::COIN_DECIMALS,
        Token::Erc20(_) => reader.decimals(token).await.status(Status::Unreachable)?,
    };
    let payment = Amount::parse(payment, decimals)
        .context("--payment")
        .status(Status::BadInput)?;
    let wish = Wish {
        client: key.address(),
        nonce: nonce(),
        token,
        payment,
        redundancy: arguments.redundancy.unwrap_or(Redundancy::Three),
        class: arguments.class,
        min_reputation: arguments.min_reputation,
        bond: arguments.bond,
        force: arguments.force,
    };
    let client = Client::new(reader, Arc::new(store));
    let posting = Posting {
        client: &client,
        key: &key,
        job: &job,
        wish: &wish,
        decimals,
        detach: arguments.detach,
        out: arguments.out,
    };
    posting.carry_out(output).await
}

fn nonce() -> U256 {
    U256::from_be_bytes(Key::random().address().into_word().0)
}
