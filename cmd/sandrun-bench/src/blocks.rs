//! `chain.blocks_to_paid`: how many blocks of a second lie between a job's posting and its settlement, on a whole local
//! market of the released binary with three nodes.
//!
//! The run itself does not count: the job is a program that ends in milliseconds, so it costs no block of its own and
//! nothing is taken off.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use client_sdk::{Client, PreparedJob, Wish, prepare};
use sandrun_chain::Key;
use sandrun_content::KuboClient;
use sandrun_core::market::Outcome;
use sandrun_testnet::{Lines, LocalMarket, Ports, Role, Store, TestnetConfig};
use sandrun_types::{Amount, Redundancy, Token, U256};

use crate::statistics::median;

/// Jobs that are measured, one after the other.
const JOBS: usize = 7;
/// Coins that each locks.
const PAYMENT: &str = "0.09";

/// Median number of blocks.
///
/// # Errors
/// A market that does not start, a job that is not agreed on.
pub(crate) async fn to_paid(program: &Path) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let market = LocalMarket::start(
        TestnetConfig {
            program: program.to_owned(),
            directory: directory.path().join("market"),
            publish: None,
            nodes: vec![Role::Honest; 3],
            block_time: Some(1),
            ports: Ports::Free,
            manager: true,
            store: Store::Embedded,
            lines: Lines::default(),
            agent_arguments: Vec::new(),
        },
        |_| (),
    )
    .await?;
    let figures = measure(&market, directory.path()).await;
    market.stop().await;
    median(&figures?).context("no job was measured")
}

async fn measure(market: &LocalMarket, directory: &Path) -> anyhow::Result<Vec<f64>> {
    let store = KuboClient::new(&market.ipfs_api)?;
    let client = Client::new(market.reader().await?, Arc::new(store));
    let key = Key::load(&market.client_key, None)?;
    let code = directory.join("run.sh");
    std::fs::write(&code, "echo done\n").with_context(|| format!("writing {}", code.display()))?;
    let job = prepare(&code, None)?;
    // nodes and client have worked before
    one(&client, &key, &job).await?;
    let mut figures = Vec::new();
    for _ in 0..JOBS {
        figures.push(f64::from(u32::try_from(one(&client, &key, &job).await?)?));
    }
    Ok(figures)
}

/// Blocks from the posting to the settlement of one job.
async fn one(client: &Client, key: &Key, job: &PreparedJob) -> anyhow::Result<u64> {
    let wish = Wish {
        client: key.address(),
        nonce: U256::from_be_bytes(Key::random().address().into_word().0),
        token: Token::Native,
        payment: Amount::parse(PAYMENT, Amount::COIN_DECIMALS)?,
        redundancy: Redundancy::Three,
        class: None,
        min_reputation: 0,
        bond: None,
        force: false,
    };
    let order = client.order(job, &wish).await?;
    let posted = client.post(key, job, order).await?;
    let windows = client.windows().await?;
    let entry = client.follow(posted.job, windows, |_| ()).await?;
    anyhow::ensure!(
        entry.facts.outcome() == Some(Outcome::Digest),
        "job {} ended with {:?} instead of an agreed result",
        posted.job,
        entry.facts.outcome()
    );
    Ok(entry.last.block.number.saturating_sub(entry.posted.block.number))
}
