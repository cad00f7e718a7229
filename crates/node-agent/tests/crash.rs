//! An agent that dies between any two steps goes on with the same salt and keeps its bond.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use node_agent::CRASH_POINTS;
use sandrun_chain::anvil::Anvil;
use sandrun_core::market::{Outcome, SeatEnd};
use sandrun_core::seat::{Record, SealedAnswer};
use sandrun_store::Journal;
use sandrun_types::{JobId, NodeIndex, Redundancy};
use support::{Market, PATIENCE};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

const PROGRAM: (&str, &str) = ("main.py", "print('the same')\n");

/// The same key as [`Anvil::key`] 1, which can be printed nowhere.
const KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

struct Agent<'a> {
    market: &'a Market,
    executor: &'a str,
    data: &'a Path,
}

impl Agent<'_> {
    /// Starts the process; it aborts at `point`.
    fn start(&self, point: Option<&str>) -> Result<Child> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-test-process"));
        command
            .arg("agent")
            .args([self.executor, self.market.anvil.url(), &self.market.ipfs])
            .args([self.data, &self.market.folder.path().join("deployments.json")])
            .env("AGENT_TEST_KEY", KEY)
            .env_remove("SANDRUN_CRASH_AT")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(point) = point {
            command.env("SANDRUN_CRASH_AT", point);
        }
        Ok(command.spawn()?)
    }

    /// Answers in the journal of the dead agent.
    fn answers(&self, job: JobId) -> Result<Vec<SealedAnswer>> {
        let at = self.market.deployment().escrow_ref();
        let journal = Journal::open(self.data, at, Anvil::key(1)?.address())?;
        let records: Vec<Record> = journal.records(job)?;
        Ok(records
            .into_iter()
            .filter_map(|record| {
                if let Record::Answered(sealed) = record {
                    Some(sealed)
                } else {
                    None
                }
            })
            .collect())
    }
}

/// Waits until the process has died, reading what it says.
async fn death(mut child: Child) -> Result<String> {
    let mut said = String::new();
    let mut stderr = child.stderr.take().context("no pipe")?;
    let ended = async {
        stderr.read_to_string(&mut said).await?;
        child.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, ended)
        .await
        .context("the agent did not die")??;
    ensure!(
        !status.success(),
        "the agent ended well instead of aborting: {said}"
    );
    Ok(said)
}

/// Ends the process as a supervisor does and returns what it said.
async fn end(mut child: Child) -> Result<String> {
    drop(child.stdin.take());
    let mut said = String::new();
    let mut stderr = child.stderr.take().context("no pipe")?;
    let ended = async {
        stderr.read_to_string(&mut said).await?;
        child.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, ended)
        .await
        .context("the agent did not end")??;
    ensure!(status.success(), "{said}");
    Ok(said)
}

async fn opted_in(market: &Market) -> Result<NodeIndex> {
    let account = Anvil::key(1)?.address();
    market
        .wait_for("the node to opt in", || async {
            let Some(node) = market.reader.node_by_account(account).await? else {
                return Ok(None);
            };
            let record = market.reader.node(node).await?;
            Ok(record.filter(|record| !record.classes.is_empty()).map(|_| node))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_any_two_steps_costs_nothing() -> Result<()> {
    let mut market = Market::new().await?;
    let executor = market.executor().await?;
    let data = market.folder.path().join("agent");
    let first = Agent {
        market: &market,
        executor: &executor,
        data: &data,
    }
    .start(None)?;
    let node = opted_in(&market).await?;
    end(first).await?;

    let mut salts = BTreeSet::new();
    for point in CRASH_POINTS {
        let doomed = Agent {
            market: &market,
            executor: &executor,
            data: &data,
        }
        .start(Some(point))?;
        let (job, order) = market
            .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
            .await?;
        let agent = Agent {
            market: &market,
            executor: &executor,
            data: &data,
        };
        death(doomed).await.with_context(|| format!("at {point}"))?;
        let before = agent.answers(job)?;
        ensure!(before.len() <= 1, "{point}: two answers");

        let survivor = agent.start(None)?;
        let story = market
            .until_closed(job)
            .await
            .with_context(|| format!("after {point}"))?;
        assert_eq!(story.outcome(), Some(Outcome::Digest), "{point}: {story:#?}");
        assert_eq!(story.end_of(node), Some(SeatEnd::Paid), "{point}");
        assert_eq!(story.commits_of(node), 1, "{point}");
        let record = market.reader.node(node).await?.context("the node is gone")?;
        assert!(record.escrow.locked.is_zero(), "{point}: a bond is still locked");
        assert!(record.registry.stake >= order.bond, "{point}");
        end(survivor).await.with_context(|| format!("after {point}"))?;

        let after = agent.answers(job)?;
        ensure!(after.len() == 1, "{point}: {} answers", after.len());
        if let Some(sealed) = before.first() {
            assert_eq!(sealed.salt, after[0].salt, "{point}: another salt");
            assert_eq!(sealed.answer, after[0].answer, "{point}: another answer");
        }
        assert!(salts.insert(after[0].salt.0), "{point}: a salt was used twice");
    }
    Ok(())
}
