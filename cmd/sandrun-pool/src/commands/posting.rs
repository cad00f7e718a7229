//! The way of a job from an order to its result: posted, followed, settled. Owns what is said on the way, and what a
//! signal does to it: the job goes on without this program.

use std::path::PathBuf;

use client_sdk::{Client, ClientError, Posted, PreparedJob, Wish};
use sandrun_chain::{Key, SendError};
use sandrun_types::{JobId, Order, Token};
use serde::Serialize;
use serde_json::json;

use super::finished::{self, Packed};
use super::place;
use crate::coins::symbol;
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::progress::Progress;
use crate::signals::Signals;

/// A job that is ready to be posted.
#[derive(Debug)]
pub(super) struct Posting<'a> {
    pub(super) client: &'a Client,
    pub(super) key: &'a Key,
    pub(super) job: &'a PreparedJob,
    pub(super) wish: &'a Wish,
    /// Decimals of the token that pays.
    pub(super) decimals: u8,
    /// Return after posting.
    pub(super) detach: bool,
    /// Where the result goes; `./results/JOB` when not given.
    pub(super) out: Option<PathBuf>,
}

/// What `--detach` says.
#[derive(Debug, Serialize)]
struct Detached {
    job: JobId,
    locked: String,
    transaction: String,
    packed: Packed,
}

impl Report for Detached {
    fn human(&self) -> String {
        format!("{}\n", self.job)
    }
}

impl Posting<'_> {
    /// Posts the job; waits for its end and fetches its result unless detached.
    pub(super) async fn carry_out(self, output: &Output) -> anyhow::Result<Status> {
        let progress = Progress::new(output);
        progress.say("storing the bundle and posting the job");
        let order = self.client.order(self.job, self.wish).await;
        let order = order.map_err(|error| self.failed(&error, ""))?;
        let id = order.job_id(self.client.reader().deployment().escrow_ref());
        let mut signals = Signals::watch();
        let posted = tokio::select! {
            posted = self.post(order, &progress, output) => posted?,
            status = signals.asked() => {
                progress.finish();
                interrupted(output, id, "may be posted already; if it is, it goes on");
                return Ok(status);
            }
        };
        if self.detach {
            return self.detached(&posted, &progress, output);
        }
        tokio::select! {
            status = self.settle(&posted, &progress, output) => status,
            status = signals.asked() => {
                progress.finish();
                interrupted(output, id, "goes on");
                Ok(status)
            }
        }
    }

    async fn post(&self, order: Order, progress: &Progress, output: &Output) -> anyhow::Result<Posted> {
        let packed = Packed::of(self.job);
        tracing::info!(?packed, "the code is packed");
        let id = order.job_id(self.client.reader().deployment().escrow_ref());
        let posted = self.client.post(self.key, self.job, order).await;
        let posted = posted.map_err(|error| {
            let more = if may_be_posted(&error) {
                format!("; job {id} may be posted all the same: `sandrun-pool job {id}` says whether it is")
            } else {
                String::new()
            };
            self.failed(&error, &more)
        })?;
        let job = posted.job;
        progress.above(|| {
            let document = json!({ "posted": job, "packed": packed });
            output.at_once(&format!("posted {job}"), &document);
        });
        progress.say("escrowed");
        Ok(posted)
    }

    /// The error with its exit code, and what more there is to say of it; a token by its symbol.
    fn failed(&self, error: &ClientError, more: &str) -> anyhow::Error {
        use ClientError as E;
        let status = match error {
            E::Plan(_) | E::Overflow | E::UnknownJob(_) | E::Environment { .. } => Status::BadInput,
            E::Send(SendError::Rpc { .. } | SendError::Unsure { .. }) => Status::Unreachable,
            E::Balance { .. } | E::Undone(_) | E::Send(_) => Status::Refused,
            E::Store(_) | E::Rpc(_) | E::Read(_) | E::Snapshot(_) | E::NotRefunded(_) => Status::Unreachable,
        };
        let text = format!("{error}{more}");
        let known = &self.client.reader().deployment().tokens;
        match self.wish.token {
            Token::Erc20(address) => match symbol(known, address) {
                Some(symbol) => Failure::new(status, text.replace(&self.wish.token.to_string(), symbol)),
                None => Failure::new(status, text),
            },
            Token::Native => Failure::new(status, text),
        }
    }

    fn detached(&self, posted: &Posted, progress: &Progress, output: &Output) -> anyhow::Result<Status> {
        progress.finish();
        output.result(&Detached {
            job: posted.job,
            locked: posted.locked.display(self.decimals),
            transaction: posted.transaction.hash.to_string(),
            packed: Packed::of(self.job),
        })?;
        output.note(&format!(
            "`sandrun-pool job {0}` says how it stands, `sandrun-pool fetch {0}` downloads its result",
            posted.job.short()
        ));
        Ok(Status::Success)
    }

    /// Follows the job to its end, gets the rest back and fetches the result.
    async fn settle(&self, posted: &Posted, progress: &Progress, output: &Output) -> anyhow::Result<Status> {
        let client = self.client;
        let windows = client.windows().await.status(Status::Unreachable)?;
        let entry = client
            .follow(posted.job, windows, |facts| progress.facts(facts))
            .await
            .map_err(|error| self.failed(&error, ""))?;
        let entry = client
            .refunded(self.key, entry)
            .await
            .status(Status::Unreachable)?;
        let out = place::of(self.out.clone(), posted.job);
        let packed = Some(Packed::of(self.job));
        finished::report(client, &entry, &out, packed, progress, output).await
    }
}

/// Whether the order may have been sent, or may be mined later, although posting it failed.
fn may_be_posted(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Send(SendError::Dropped { .. } | SendError::Rpc { .. } | SendError::Unsure { .. })
    )
}

/// Says what becomes of a job whose `submit` ends before it; said even with --quiet: nobody knows the id otherwise.
fn interrupted(output: &Output, job: JobId, goes_on: &str) {
    let text = format!(
        "interrupted; job {job} {goes_on}; see `sandrun-pool job {0}`, `sandrun-pool fetch {0}`",
        job.short()
    );
    output.last_word(&text, &json!({ "interrupted": job, "note": text }));
}

#[cfg(test)]
mod tests {
    use client_sdk::ClientError;
    use node_agent::AgentConfig;
    use sandrun_chain::{Key, SendError};
    use sandrun_types::Address;

    use super::may_be_posted;

    #[test]
    fn what_was_sent_and_not_mined_may_still_be_a_job() {
        let what = || "post the job".to_owned();
        let dropped = SendError::Dropped {
            what: what(),
            hash: sandrun_chain::TxHash(sandrun_types::B256::ZERO),
            nonce: 1,
            blocks: 60,
        };
        assert!(may_be_posted(&ClientError::Send(dropped)));
        let poor = SendError::NotEnoughCoin {
            what: what(),
            from: Address::ZERO,
            balance: sandrun_types::Amount::ZERO,
            value: sandrun_types::Amount::ZERO,
        };
        assert!(!may_be_posted(&ClientError::Send(poor)));
    }

    /// A bundle that is posted has to be one that agents fetch.
    #[test]
    fn the_largest_bundle_is_the_agents() {
        let url = String::new;
        let agent = AgentConfig::new(url(), url(), url(), Key::random(), "".into());
        assert_eq!(client_sdk::MAX_BUNDLE_BYTES, agent.max_bundle_bytes);
    }
}
