//! A look at what events don't tell: balances, fees, earnings, thresholds, and whether the executor lives. One at a
//! time, once a block at most, as a task of its own.

use std::sync::Arc;

use futures::StreamExt as _;
use sandrun_chain::{Fees, MarketReader, NodeRecord, ReadError, RpcError};
use sandrun_core::market::{Phase, Round};
use sandrun_types::{Amount, B256, JobId, Token, U256};
use thiserror::Error;
use tracing::{debug, warn};

use super::{Agent, Done, holding::free_disk};
use crate::error::Report as _;
use crate::node::Node;

/// Jobs that are looked at side by side.
const CONCURRENCY: usize = 8;

/// What was seen.
#[derive(Debug)]
pub(super) struct Survey {
    /// Native coin of the hot key.
    pub(super) gas_money: Amount,
    /// What gas costs now.
    pub(super) fees: Fees,
    /// Stake, bonds, reputation.
    pub(super) record: NodeRecord,
    /// Whether the executor answers as the one that was registered.
    pub(super) executor_lives: bool,
    /// Bytes that are free in the data folder; `None` where that cannot be found out.
    pub(super) free_disk: Option<u64>,
    /// The lottery of each job that was asked for, where seats are to be had.
    pub(super) lotteries: Vec<(JobId, Lottery)>,
    /// What the escrow owes the node; empty if it was not asked for.
    pub(super) earnings: Vec<(Token, Amount)>,
}

/// A lottery that runs now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lottery {
    pub(super) round: Round,
    pub(super) seed: B256,
    /// In the block after the head.
    pub(super) threshold: U256,
}

/// Why nothing was seen.
#[derive(Debug, Error)]
pub(super) enum SurveyError {
    /// A view failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The RPC failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The registry has lost the node: the chain is another one than at the start.
    #[error("the registry does not know this node any more")]
    NodeGone,
}

impl Agent {
    /// Starts a survey, or notes that one is due after the one under way.
    pub(super) fn start_survey(&mut self) {
        let Some(seen) = &self.seen else { return };
        if self.surveying {
            self.survey_due = true;
            return;
        }
        self.surveying = true;
        self.survey_due = false;
        let head = seen.head.block.number;
        let wanted = self
            .jobs
            .iter()
            .filter(|(_, tracked)| *tracked.seat.state() == sandrun_core::seat::State::Accepted)
            .map(|(job, _)| *job)
            .collect();
        // what changes while it is under way is looked at by the next one
        let earnings = std::mem::take(&mut self.earnings_due);
        let node = self.node.clone();
        self.tasks
            .spawn(async move { Done::Surveyed(Box::new(look(node, head, wanted, earnings).await)) });
    }

    pub(super) fn surveyed(&mut self, outcome: Result<Survey, SurveyError>) -> Result<(), crate::AgentError> {
        self.surveying = false;
        match outcome {
            Ok(survey) => {
                self.withdraw(&survey);
                self.look_at_itself(&survey);
                self.survey = Some(survey);
                self.consider_all()?;
            }
            Err(error) => {
                warn!(error = error.report(), "cannot look at balances and tickets");
                self.earnings_due = true;
            }
        }
        if self.survey_due {
            self.start_survey();
        }
        Ok(())
    }

    /// Takes out earnings above the operator's threshold.
    fn withdraw(&mut self, survey: &Survey) {
        if self.withdrawing {
            self.earnings_due |= !survey.earnings.is_empty();
            return;
        }
        let thresholds = self.node.config.withdraw_thresholds();
        let due: Vec<Token> = survey
            .earnings
            .iter()
            .filter(|(_, amount)| !amount.is_zero())
            .filter(|(token, amount)| {
                thresholds
                    .iter()
                    .any(|(known, least)| known == token && amount >= least)
            })
            .map(|(token, _)| *token)
            .collect();
        if !due.is_empty() {
            self.withdrawing = true;
            self.tasks.spawn(super::work::withdraw(self.node.clone(), due));
        }
    }
}

async fn look(node: Arc<Node>, head: u64, wanted: Vec<JobId>, earnings: bool) -> Result<Survey, SurveyError> {
    let reader = &node.reader;
    let (gas_money, fees, record, executor_lives) = tokio::join!(
        reader.chain().balance(node.worker),
        reader.chain().fees(),
        reader.node(node.index),
        node.executor_lives(),
    );
    let record = record?.ok_or(SurveyError::NodeGone)?;
    let lotteries = futures::stream::iter(wanted)
        .map(|job| async move { (job, lottery(reader, job, head).await) })
        .buffer_unordered(CONCURRENCY)
        .filter_map(|(job, found)| async move {
            match found {
                Ok(found) => found.map(|lottery| (job, lottery)),
                Err(error) => {
                    debug!(%job, %error, "the lottery cannot be read");
                    None
                }
            }
        })
        .collect()
        .await;
    let mut owed = Vec::new();
    if earnings {
        for (token, _) in node.config.withdraw_thresholds() {
            owed.push((token, reader.earnings(node.index, token).await?));
        }
    }
    let (gas_money, fees) = (gas_money?, fees?);
    Ok(Survey {
        gas_money,
        fees,
        record,
        executor_lives,
        free_disk: free_disk(&node.config.data_dir),
        lotteries,
        earnings: owed,
    })
}

async fn lottery(reader: &MarketReader, job: JobId, head: u64) -> Result<Option<Lottery>, ReadError> {
    let (state, seed) = tokio::try_join!(reader.job(job), reader.seed(job))?;
    let (Some(state), Some(seed)) = (state, seed) else {
        return Ok(None);
    };
    if state.phase != Phase::Seats || state.outcome.is_some() {
        return Ok(None);
    }
    let threshold = reader.threshold(job, head.saturating_add(1)).await?;
    Ok(Some(Lottery {
        round: state.round,
        seed,
        threshold,
    }))
}
