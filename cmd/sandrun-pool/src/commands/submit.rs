//! `submit`: posts a job on the market, follows it, downloads its result and checks it; or hands it to a service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use client_sdk::{Client, JobEntry, PreparedJob, VerifiedResult, Wish, fetch_result, prepare};
use sandrun_chain::{Key, MarketReader};
use sandrun_core::market::Outcome;
use sandrun_types::{Address, Amount, ClassRequest, JobId, Redundancy, ResultDigest, Token, U256};
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs, StoreArgs};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::progress::Progress;
use crate::remote::{self, RemoteArgs, ServiceArgs, Wanted};

/// Arguments of `submit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool submit --code ./my-script.py --payment 0.1 --redundancy 3\n  \
    sandrun-pool submit --code ./project --manifest job.json --payment 0.1 --redundancy 2 --out results\n  \
    sandrun-pool submit --code ./project --payment 0.1 --detach --json\n  \
    sandrun-pool submit --code ./my-script.py --to http://127.0.0.1:8000 --follow\n  \
    sandrun-pool submit --code ./project --to http://127.0.0.1:8000 --redundancy 3 --require memory_mib=4096 --out results")]
pub(crate) struct Arguments {
    /// A file or a directory of code
    #[arg(long, value_name = "PATH")]
    code: PathBuf,
    /// The manifest; the directory's own job.json when not given
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// What is locked, and the most that the job can cost: coins, or whole tokens of --token; needed on the market
    #[arg(long, value_name = "AMOUNT")]
    payment: Option<String>,
    /// How many nodes run it: 1 (nobody checks), 2 (2-of-2), 3 (2-of-3) or 5 (3-of-5); when not given 3 on the market,
    /// 1 with --to
    #[arg(long, value_name = "N", value_parser = redundancy)]
    redundancy: Option<Redundancy>,
    /// ERC-20 that pays, by address or by its symbol in the deployments file; the native coin when not given
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Execution class: native, det, or an exact class id; the manifest's when not given
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Option<ClassRequest>,
    /// Consecutive valid answers that a node needs behind it
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_reputation: u16,
    /// Stake that each seat locks, in coins; the least allowed when not given
    #[arg(long, value_name = "COINS", value_parser = super::agent::coins)]
    bond: Option<Amount>,
    /// Where the result goes; ./results/JOB when not given
    #[arg(long, visible_alias = "output", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Return after posting
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    key: KeyArgs,
}

fn redundancy(text: &str) -> Result<Redundancy, String> {
    let replicas: u8 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number: choose 1, 2, 3 or 5"))?;
    Redundancy::try_from(replicas).map_err(|error| error.to_string())
}

fn class(text: &str) -> Result<ClassRequest, String> {
    match text {
        "native" => Ok(ClassRequest::Native),
        "det" => Ok(ClassRequest::Det),
        exact => exact
            .parse()
            .map(ClassRequest::Exact)
            .map_err(|error| format!("{error}, or `native` or `det`")),
    }
}

/// What `--detach` says.
#[derive(Debug, Serialize)]
struct Detached {
    job: JobId,
    locked: String,
    transaction: String,
}

impl Report for Detached {
    fn human(&self) -> String {
        format!("{}\n", self.job)
    }
}

/// What a job that ended says.
#[derive(Debug, Serialize)]
pub(super) struct Finished {
    job: JobId,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<ResultDigest>,
    payments: Vec<NodePayment>,
    refunded: String,
    gas: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<VerifiedResult>,
}

/// What one seat's node got or lost.
#[derive(Debug, Serialize)]
struct NodePayment {
    node: u32,
    end: sandrun_core::market::SeatEnd,
    paid: String,
    slashed: String,
}

impl Report for Finished {
    fn human(&self) -> String {
        let mut text = format!("job        {}\noutcome    {:?}\n", self.job, self.outcome);
        if let Some(digest) = &self.digest {
            text += &format!("digest     {digest}\n");
        }
        for it in &self.payments {
            text += &format!("node {:<5} {:?}: paid {}", it.node, it.end, it.paid);
            text += &if it.slashed == "0" {
                "\n".to_owned()
            } else {
                format!(", slashed {}\n", it.slashed)
            };
        }
        text += &format!("refunded   {}\ngas        {}\n", self.refunded, self.gas);
        if let Some(result) = &self.result {
            text += &format!(
                "program    {}\nresult     {}\n",
                result.exit,
                result.directory.display()
            );
            for file in &result.files {
                text += &format!("  {}  {}  verified\n", file.sha256, file.path);
            }
        }
        text
    }
}

/// Posts the job; waits for its end unless detached.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        let wanted = Wanted {
            code: &arguments.code,
            manifest: arguments.manifest.as_deref(),
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
    let job = prepare(&arguments.code, arguments.manifest.as_deref()).status(Status::BadInput)?;
    let key = arguments.key.load()?;
    let store = arguments.store.client()?;
    let market = arguments.chain.market().await?;
    let token = token(arguments.token.as_deref(), &market.deployment.tokens)?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let decimals = match token {
        Token::Native => Amount::COIN_DECIMALS,
        Token::Erc20(_) => reader.decimals(token).await.status(Status::Refused)?,
    };
    let payment = Amount::parse(payment, decimals).status(Status::BadInput)?;
    let wish = Wish {
        client: key.address(),
        nonce: nonce(),
        token,
        payment,
        redundancy: arguments.redundancy.unwrap_or(Redundancy::Three),
        class: arguments.class,
        min_reputation: arguments.min_reputation,
        bond: arguments.bond,
    };
    let client = Client::new(reader, Arc::new(store));
    let progress = Progress::new(output);
    let posted = post(&client, &key, &job, &wish, &progress).await?;
    if arguments.detach {
        progress.finish();
        output.result(&Detached {
            job: posted.job,
            locked: posted.locked.display(decimals),
            transaction: posted.transaction.hash.to_string(),
        })?;
        return Ok(Status::Success);
    }
    let windows = client.windows().await.status(Status::Unreachable)?;
    let entry = client
        .follow(posted.job, windows, |facts| progress.facts(facts))
        .await
        .status(Status::Unreachable)?;
    let out = arguments
        .out
        .unwrap_or_else(|| Path::new("results").join(posted.job.short()));
    settle(&client, &key, entry, &out, decimals, &progress, output).await
}

fn nonce() -> U256 {
    U256::from_be_bytes(Key::random().address().into_word().0)
}

/// A token by address or symbol.
fn token(text: Option<&str>, known: &std::collections::BTreeMap<String, Address>) -> anyhow::Result<Token> {
    let Some(text) = text else {
        return Ok(Token::Native);
    };
    if let Some(address) = known.get(text) {
        return Ok(Token::Erc20(*address));
    }
    text.parse::<Address>().map(Token::from).map_err(|_| {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        Failure::new(
            Status::BadInput,
            format!(
                "--token {text} is neither an address nor a symbol of this deployment ({})",
                names.join(", ")
            ),
        )
    })
}

async fn post(
    client: &Client,
    key: &Key,
    job: &PreparedJob,
    wish: &Wish,
    progress: &Progress,
) -> anyhow::Result<client_sdk::Posted> {
    use client_sdk::ClientError as E;
    let status = |error: &E| match error {
        E::Plan(_) | E::Overflow | E::UnknownJob(_) => Status::BadInput,
        E::Balance { .. } | E::Send(_) => Status::Refused,
        E::Store(_) | E::Rpc(_) | E::Read(_) | E::Snapshot(_) | E::NotRefunded(_) => Status::Unreachable,
    };
    let failed = |error: E| {
        let status = status(&error);
        Failure::new(status, error.to_string())
    };
    progress.say("storing the bundle and posting the job");
    let order = client.order(job, wish).await.map_err(failed)?;
    let posted = client.post(key, job, order).await.map_err(failed)?;
    progress.say(&format!("escrowed: job {}", posted.job.short()));
    Ok(posted)
}

/// Gets the rest back, downloads the result and reports.
async fn settle(
    client: &Client,
    key: &Key,
    entry: JobEntry,
    out: &Path,
    decimals: u8,
    progress: &Progress,
    output: &Output,
) -> anyhow::Result<Status> {
    let job = entry.facts.job;
    let entry = client.refunded(key, entry).await.status(Status::Unreachable)?;
    let mut result = None;
    if let Some((digest, Some(published))) = entry.facts.winner() {
        progress.say("downloading and verifying the result");
        let parts = published.parts().status(Status::VerificationFailed)?;
        let at = client.reader().deployment().escrow_ref();
        let fetched = fetch_result(client.store(), at, job, digest, &parts, out).await;
        result = Some(fetched.map_err(|error| {
            let status = match error {
                client_sdk::ResultError::Fetch { .. } | client_sdk::ResultError::Io { .. } => {
                    Status::Unreachable
                }
                client_sdk::ResultError::Digest { .. }
                | client_sdk::ResultError::OutputRoot { .. }
                | client_sdk::ResultError::Layout(_) => Status::VerificationFailed,
            };
            Failure::new(status, error.to_string())
        })?);
    }
    let gas = client.gas_of(&entry).await.status(Status::Unreachable)?;
    progress.finish();
    let finished = finished(&entry, result, gas, decimals)?;
    let status = match (&finished.outcome, &finished.result) {
        (Outcome::Digest, Some(result)) if result.exit.is_success() => Status::Success,
        (Outcome::Digest, Some(_)) => Status::JobFailed,
        (
            Outcome::Digest
            | Outcome::Limit
            | Outcome::Unavailable
            | Outcome::NoneWins
            | Outcome::Expired
            | Outcome::Cancelled,
            _,
        ) => Status::NoAgreement,
    };
    output.result(&finished)?;
    if status == Status::NoAgreement {
        output.note(no_agreement(finished.outcome));
    }
    Ok(status)
}

fn finished(
    entry: &JobEntry,
    result: Option<VerifiedResult>,
    gas: u64,
    decimals: u8,
) -> anyhow::Result<Finished> {
    let facts = &entry.facts;
    let payments = facts.seats.iter().filter_map(|seat| {
        seat.end.map(|end| NodePayment {
            node: seat.node.0,
            end: end.end,
            paid: end.paid.0.display(decimals),
            slashed: end.slashed.0.display(Amount::COIN_DECIMALS),
        })
    });
    Ok(Finished {
        job: facts.job,
        outcome: facts.outcome().ok_or_else(|| {
            Failure::new(
                Status::Unreachable,
                "the job is closed, but the RPC does not say how it ended",
            )
        })?,
        digest: facts.winner().map(|(digest, _)| digest),
        payments: payments.collect(),
        refunded: facts.refunded.unwrap_or_default().0.display(decimals),
        gas,
        result,
    })
}

const fn no_agreement(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Digest => "the result is not to be had",
        Outcome::Limit => {
            "the nodes agree that the job takes longer than its limit: raise the manifest's timeout"
        }
        Outcome::Unavailable => {
            "the nodes agree that the bundle can't be had: keep the content store running"
        }
        Outcome::NoneWins => "the nodes do not agree: the program is not deterministic, or too few answered",
        Outcome::Expired => "too few nodes took the job: `sandrun-pool nodes` shows who is there",
        Outcome::Cancelled => "the job was cancelled",
    }
}
