//! What a job that ended says: how, who was paid, and its verified result. Shared by `submit` and `fetch`.

use std::path::Path;

use client_sdk::{Client, JobEntry, PreparedJob, VerifiedResult, fetch_result};
use sandrun_core::market::Outcome;
use sandrun_types::{Amount, JobId, ResultDigest};
use serde::Serialize;

use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::progress::Progress;
use crate::words;

/// What was packed into a bundle.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Packed {
    files: u64,
    bytes: u64,
    left_out: u64,
}

impl Packed {
    pub(super) fn of(job: &PreparedJob) -> Self {
        Self {
            files: job.bundle.files(),
            bytes: job.bundle.bytes(),
            left_out: job.left_out,
        }
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
    packed: Option<Packed>,
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
        let mut text = format!(
            "job        {}\noutcome    {}\n",
            self.job,
            words::outcome(self.outcome)
        );
        if let Some(digest) = &self.digest {
            text += &format!("digest     {digest}\n");
        }
        for it in &self.payments {
            text += &format!(
                "node {:<5} {}: paid {}",
                it.node,
                words::seat_end(it.end),
                it.paid
            );
            text += &if it.slashed == "0" {
                "\n".to_owned()
            } else {
                format!(", slashed {}\n", it.slashed)
            };
        }
        let way_out = if self.refunded == "0" {
            ""
        } else {
            " (in the escrow, until `sandrun-pool withdraw`; a token with --token)"
        };
        text += &format!("refunded   {}{way_out}\ngas        {}\n", self.refunded, self.gas);
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

/// Downloads the result of a closed job into `out` where there is one, verifies it, and reports.
pub(super) async fn report(
    client: &Client,
    entry: &JobEntry,
    out: &Path,
    packed: Option<Packed>,
    progress: &Progress,
    output: &Output,
) -> anyhow::Result<Status> {
    let result = match entry.facts.winner() {
        Some((digest, Some(published))) => {
            progress.say("downloading and verifying the result");
            let parts = published.parts().status(Status::VerificationFailed)?;
            let at = client.reader().deployment().escrow_ref();
            let fetched = fetch_result(client.store(), at, entry.facts.job, digest, &parts, out).await;
            Some(fetched.map_err(|error| not_fetched(&error, entry.facts.job))?)
        }
        Some((_, None)) | None => None,
    };
    let gas = client.gas_of(entry).await.status(Status::Unreachable)?;
    let token = entry.facts.order.token;
    let decimals = client
        .reader()
        .decimals(token)
        .await
        .status(Status::Unreachable)?;
    progress.finish();
    let mut finished = finished(entry, result, gas, decimals)?;
    finished.packed = packed;
    let status = match (&finished.outcome, &finished.result) {
        (Outcome::Digest, Some(result)) if result.exit.is_success() => Status::Success,
        // that it takes too long is what they agree on
        (Outcome::Digest, Some(_)) | (Outcome::Limit, _) => Status::JobFailed,
        (
            Outcome::Digest
            | Outcome::Unavailable
            | Outcome::NoneWins
            | Outcome::Expired
            | Outcome::Cancelled,
            _,
        ) => Status::NoAgreement,
    };
    output.result(&finished)?;
    if finished.result.is_none() {
        output.note(words::no_result(finished.outcome));
    }
    Ok(status)
}

/// The result stays where it is: it can be fetched later.
fn not_fetched(error: &client_sdk::ResultError, job: JobId) -> anyhow::Error {
    let status = match error {
        client_sdk::ResultError::Fetch { .. } | client_sdk::ResultError::Io { .. } => Status::Unreachable,
        client_sdk::ResultError::Digest { .. }
        | client_sdk::ResultError::OutputRoot { .. }
        | client_sdk::ResultError::Layout(_) => Status::VerificationFailed,
    };
    Failure::new(
        status,
        format!("{error}. `sandrun-pool fetch {job}` tries it again"),
    )
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
        packed: None,
        result,
    })
}
