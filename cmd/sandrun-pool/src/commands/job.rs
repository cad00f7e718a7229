//! `job`: how one job stands, and why.

use clap::Args;
use sandrun_core::market::rules::Standing;
use sandrun_core::market::{JobFacts, Owes, WaitsFor, Why, why};
use sandrun_types::{Answer, JobId, UnixSeconds};
use serde::Serialize;

use crate::args::ChainArgs;
use crate::coins::Coins;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::remote::{self, RemoteArgs};
use crate::view::{PoolArgs, View, unknown};
use crate::words;

/// Arguments of `job`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool job 0x1234…\n  \
    sandrun-pool job 0x1234… --why\n  \
    sandrun-pool job 0x12345678          # the first digits are enough where they are unique\n  \
    sandrun-pool job 0123456789abcdef --to http://127.0.0.1:8000")]
pub(crate) struct Arguments {
    /// The job's id; on the market its first digits are enough
    job: String,
    /// Say only what it waits for, who owes the next step, and until when
    #[arg(long)]
    why: bool,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    job: JobId,
    facts: JobFacts,
    /// Whole coins or tokens per replica; within `facts` amounts are base units, as on chain.
    price: String,
    /// What the token is called.
    symbol: String,
    why: Why,
    /// The same in a sentence.
    explanation: String,
    now: UnixSeconds,
    #[serde(skip)]
    decimals: u8,
    #[serde(skip)]
    only_why: bool,
}

impl Report for Shown {
    fn human(&self) -> String {
        let why = &self.explanation;
        if self.only_why {
            return format!("{why}\n");
        }
        let facts = &self.facts;
        let order = &facts.order;
        let mut text = format!(
            "job        {}\nclient     {}\nprice      {} {} per replica\nredundancy {} (quorum {})\nclass      {}\n",
            facts.job,
            order.client,
            self.price,
            self.symbol,
            order.redundancy.replicas(),
            order.redundancy.quorum(),
            order.class,
        );
        text += &format!("stage      {}\n", crate::progress::line(facts));
        for (seat, it) in facts.seats.iter().enumerate() {
            let end = it.end.map_or_else(String::new, |end| {
                let paid = end.paid.0.display(self.decimals);
                let slashed = end.slashed.0;
                format!(", {}: paid {paid}, slashed {slashed}", words::seat_end(end.end))
            });
            text += &format!(
                "seat {seat}     node {}: {}{end}\n",
                it.node,
                standing(it.standing)
            );
        }
        if let Some(outcome) = facts.outcome() {
            text += &format!("outcome    {}\n", words::outcome(outcome));
            if facts.winner().is_some() {
                text += &format!(
                    "result     `sandrun-pool fetch {}` downloads it\n",
                    facts.job.short()
                );
            }
        }
        text + &format!("why        {why}\n")
    }
}

/// What a seat did, in words.
fn standing(standing: Standing) -> String {
    let words = |answer| match answer {
        Answer::Digest(digest) => digest.short(),
        Answer::Unavailable => "`unavailable`".to_owned(),
        Answer::Limit => "`limit`".to_owned(),
    };
    match standing {
        Standing::Uncommitted => "took the seat".to_owned(),
        Standing::Committed => "committed".to_owned(),
        Standing::Revealed(answer) => format!("revealed {}", words(answer)),
        Standing::Late(answer) => format!("revealed {} too late", words(answer)),
    }
}

/// What a job waits for, in a sentence.
fn explain(why: &Why, now: UnixSeconds) -> String {
    let what = match &why.waits_for {
        WaitsFor::Seats { taken, wanted } => format!("it waits for seats: {taken} of {wanted} are taken"),
        WaitsFor::Commits(seats) => format!("it runs: seats {} have to commit", list(seats)),
        WaitsFor::Reveals(seats) => format!("seats {} have to reveal", list(seats)),
        WaitsFor::Poke(transition) => format!("a transition is due ({transition:?}) and wants a transaction"),
        WaitsFor::Refund => "the rest has to be credited to the payer".to_owned(),
        WaitsFor::Nothing => "it is over; it waits for nothing".to_owned(),
    };
    let who = match &why.owes {
        Owes::AnyNode => "any eligible node owes the next step".to_owned(),
        Owes::Nodes(nodes) => format!("nodes {} owe the next step", list(nodes)),
        Owes::Anyone => "anyone may do it (a manager does)".to_owned(),
        Owes::Nobody => return what,
    };
    let until = why
        .until
        .map_or_else(String::new, |until| format!(", within {} s", now.until(until)));
    format!("{what}; {who}{until}")
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Shows the job.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::show(to, &arguments.job, arguments.why, output).await;
    }
    let view = View::open(&arguments.chain, &arguments.pool, output).await?;
    let job = view.resolve(&arguments.job).await?;
    let Some(entry) = view.job(job).await? else {
        return Err(unknown(&arguments.job));
    };
    let now = view
        .reader()
        .chain()
        .head()
        .await
        .status(Status::Unreachable)?
        .timestamp;
    let token = entry.facts.order.token;
    let coins = Coins::of(view.reader(), [token]).await?;
    let reason = why(&entry.facts, now);
    let shown = Shown {
        job,
        price: coins.amount(token, entry.facts.order.price),
        symbol: coins.name(token),
        decimals: coins.decimals(token),
        explanation: explain(&reason, now),
        why: reason,
        facts: entry.facts,
        now,
        only_why: arguments.why,
    };
    output.result(&shown)?;
    Ok(Status::Success)
}
