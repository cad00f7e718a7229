//! The demo: real jobs on a local market, and a liar that loses its bond. Owns what is posted and the summary; the market
//! is the real one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use client_sdk::{Client, JobEntry, VerifiedResult, Wish, fetch_result, prepare};
use sandrun_chain::Key;
use sandrun_content::KuboClient;
use sandrun_core::market::rules::Standing;
use sandrun_core::market::{JobFacts, Outcome};
use sandrun_store::LockFile;
use sandrun_types::{Address, Amount, Answer, JobId, NodeIndex, Redundancy, Token, U256};
use serde::{Deserialize, Serialize};

use crate::market::LocalMarket;

/// Coins that each job locks.
const PAYMENT: &str = "0.09";
/// How often a job is posted until the lottery has seated the liar: with one liar among four equal nodes it misses a job
/// one time in four.
const BAIT_LIMIT: usize = 40;

/// What the demo says, as it stands in `target/demo/summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The jobs that were agreed on.
    pub jobs: Vec<JobSummary>,
    /// What nodes lost.
    pub slashes: Vec<Slash>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// What ran.
    pub code: String,
    /// A digest for each node that revealed.
    pub digests: Vec<String>,
    /// Equal digests that win.
    pub quorum: u8,
    /// Who was paid.
    pub payments: Vec<NodePayment>,
    /// Gas of all its transactions.
    pub gas: u64,
    /// The result, every file checked against the output root on chain.
    pub files: Vec<FileSummary>,
}

/// A payment to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePayment {
    /// The node's account.
    pub node: Address,
    /// Coins.
    pub amount: String,
}

/// A file of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSummary {
    /// Its path in the result.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// That it is part of what the nodes agreed on.
    pub verified: bool,
}

/// What a node lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slash {
    /// The node's account.
    pub node: Address,
    /// Coins.
    pub amount: String,
    /// What for.
    pub reason: String,
}

/// Posts the example jobs on `market` and follows them to their ends.
#[derive(Debug)]
pub struct Demo<'a> {
    market: &'a LocalMarket,
    client: Client,
    key: Key,
    results: PathBuf,
    /// Held, not read: nobody else empties the results.
    _folder: LockFile,
}

impl<'a> Demo<'a> {
    /// A demo that leaves results in `results`, which is emptied if it is of an earlier demo.
    ///
    /// # Errors
    /// A market that does not answer, a directory that can't be emptied.
    pub async fn new(market: &'a LocalMarket, results: &Path) -> anyhow::Result<Self> {
        let folder = crate::folder::take(results)?;
        let store = KuboClient::new(&market.ipfs_api)?;
        let client = Client::new(market.reader().await?, Arc::new(store));
        Ok(Self {
            market,
            client,
            key: Key::load(&market.client_key, None)?,
            results: results.to_owned(),
            _folder: folder,
        })
    }

    /// Runs every job of `jobs` (directories), then posts the last one again until a liar was slashed.
    ///
    /// # Errors
    /// A job that does not end as it should.
    pub async fn run(&self, jobs: &[PathBuf], mut say: impl FnMut(&str)) -> anyhow::Result<Summary> {
        let mut summary = Summary {
            jobs: Vec::new(),
            slashes: Vec::new(),
        };
        for code in jobs {
            let entry = self.job(code, &mut say).await?;
            self.report(&entry, code, &mut summary, &mut say).await?;
        }
        let bait = jobs.last().context("a job to post")?;
        for attempt in 1..=BAIT_LIMIT {
            if !summary.slashes.is_empty() {
                return Ok(summary);
            }
            say(&format!(
                "\nthe liar had no seat so far: posting {} once more ({attempt})",
                name(bait)
            ));
            let entry = self.job(bait, &mut say).await?;
            self.report(&entry, bait, &mut summary, &mut say).await?;
        }
        anyhow::ensure!(
            !summary.slashes.is_empty(),
            "the liar won no seat in {BAIT_LIMIT} jobs"
        );
        Ok(summary)
    }

    async fn job(&self, code: &Path, say: &mut impl FnMut(&str)) -> anyhow::Result<JobEntry> {
        let job = prepare(code, None)?;
        let wish = Wish {
            client: self.key.address(),
            nonce: U256::from_be_bytes(Key::random().address().into_word().0),
            token: Token::Native,
            payment: Amount::parse(PAYMENT, Amount::COIN_DECIMALS)?,
            redundancy: Redundancy::Three,
            class: None,
            min_reputation: 0,
            bond: None,
            force: false,
        };
        let order = self.client.order(&job, &wish).await?;
        let posted = self.client.post(&self.key, &job, order).await?;
        say(&format!("\n{}: job {}", name(code), posted.job));
        say(&format!(
            "  escrowed   {} coin, bundle {}",
            posted.locked,
            job.bundle.root()
        ));
        let windows = self.client.windows().await?;
        let mut stages = Stages::default();
        Ok(self
            .client
            .follow(posted.job, windows, |facts| stages.say(facts, say))
            .await?)
    }

    async fn report(
        &self,
        entry: &JobEntry,
        code: &Path,
        summary: &mut Summary,
        say: &mut impl FnMut(&str),
    ) -> anyhow::Result<()> {
        let facts = &entry.facts;
        anyhow::ensure!(
            facts.outcome() == Some(Outcome::Digest),
            "job {} ended with {:?} instead of an agreed result; the logs of the nodes say why",
            facts.job,
            facts.outcome()
        );
        let result = self.result(facts, &name(code)).await?;
        let gas = self.client.gas_of(entry).await?;
        let job = self.summary(facts, &name(code), &result, gas);
        for payment in &job.payments {
            say(&format!(
                "  paid       {} coin to {}",
                payment.amount, payment.node
            ));
        }
        for slash in self.slashes(facts) {
            say(&format!(
                "  slashed    {} coin of {}: {}",
                slash.amount, slash.node, slash.reason
            ));
            summary.slashes.push(slash);
        }
        say(&format!(
            "  quorum     {} of {}, gas {gas}",
            facts.order.redundancy.quorum(),
            facts.seats.len()
        ));
        for file in &result.files {
            say(&format!("  verified   {}  {}", file.sha256, file.path));
        }
        summary.jobs.push(job);
        Ok(())
    }

    async fn result(&self, facts: &JobFacts, name: &str) -> anyhow::Result<VerifiedResult> {
        let (digest, published) = facts.winner().context("a digest won")?;
        let parts = published.context("the result was published")?.parts()?;
        let into = self.results.join(format!("{name}-{}", &facts.job.short()[2..]));
        let at = self.market.deployment.escrow_ref();
        Ok(fetch_result(self.client.store(), at, facts.job, digest, &parts, &into).await?)
    }

    fn account(&self, node: sandrun_types::NodeIndex) -> Address {
        let found = self.market.nodes.iter().find(|it| it.index == node);
        found.map_or(Address::ZERO, |it| it.account)
    }

    fn summary(&self, facts: &JobFacts, code: &str, result: &VerifiedResult, gas: u64) -> JobSummary {
        let digests = facts.seats.iter().filter_map(|seat| match seat.standing {
            Standing::Revealed(Answer::Digest(digest)) => Some(digest.to_string()),
            Standing::Revealed(Answer::Unavailable | Answer::Limit)
            | Standing::Uncommitted
            | Standing::Committed
            | Standing::Late(_) => None,
        });
        let payments = facts.seats.iter().filter_map(|seat| {
            let paid = seat.end.filter(|end| !end.paid.is_zero())?.paid;
            Some(NodePayment {
                node: self.account(seat.node),
                amount: paid.0.to_string(),
            })
        });
        let files = result.files.iter().map(|file| FileSummary {
            path: file.path.clone(),
            sha256: file.sha256.to_string(),
            verified: file.verified,
        });
        JobSummary {
            id: facts.job,
            code: code.to_owned(),
            digests: digests.collect(),
            quorum: facts.order.redundancy.quorum(),
            payments: payments.collect(),
            gas,
            files: files.collect(),
        }
    }

    fn slashes(&self, facts: &JobFacts) -> Vec<Slash> {
        let slash = |seat: &sandrun_core::market::SeatFacts| {
            let end = seat.end.filter(|end| !end.slashed.is_zero())?;
            Some(Slash {
                node: self.account(seat.node),
                amount: end.slashed.0.to_string(),
                reason: format!("{:?}", end.end),
            })
        };
        facts.seats.iter().filter_map(slash).collect()
    }
}

fn name(code: &Path) -> String {
    code.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Says each stage of a job once.
#[derive(Debug, Default)]
struct Stages {
    seats: usize,
    committed: usize,
    revealed: BTreeSet<NodeIndex>,
}

impl Stages {
    fn say(&mut self, facts: &JobFacts, say: &mut impl FnMut(&str)) {
        let committed = facts
            .seats
            .iter()
            .filter(|it| !matches!(it.standing, Standing::Uncommitted))
            .count();
        for seat in facts.seats.iter().skip(self.seats) {
            say(&format!("  seat       node {}", seat.node));
        }
        if committed > self.committed {
            say(&format!("  committed  {committed} of {}", facts.seats.len()));
        }
        for seat in &facts.seats {
            let answer = match seat.standing {
                Standing::Revealed(answer) | Standing::Late(answer) => answer,
                Standing::Uncommitted | Standing::Committed => continue,
            };
            if !self.revealed.insert(seat.node) {
                continue;
            }
            let text = match answer {
                Answer::Digest(digest) => digest.to_string(),
                Answer::Unavailable => "unavailable".to_owned(),
                Answer::Limit => "limit".to_owned(),
            };
            say(&format!("  revealed   node {}: {text}", seat.node));
        }
        (self.seats, self.committed) = (facts.seats.len(), committed);
    }
}
