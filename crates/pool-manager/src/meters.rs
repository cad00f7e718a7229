//! What the manager knows of itself: its counters, `GET /metrics`, and the parts that make it ready. Decides nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client_sdk::{JobEntry, PhaseCounts};
use sandrun_chain::{Chain, SettledSeats, coins};
use sandrun_core::market::Due;
use sandrun_metrics::{Check, DiskWatch, Exposition, Kind, Readiness, Sample, flag};
use sandrun_types::{Address, Amount, UnixSeconds};

use crate::book::FinishedSeat;

/// Bytes that have to be free for the index.
const LEAST_FREE: u64 = 64 << 20;
/// Longest wait for the keeper's balance.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Meters {
    chain: Chain,
    /// Who pays for what is due.
    keeper: Option<Address>,
    disk: Arc<DiskWatch>,
    seats: SettledSeats,
    /// What is due since the last block, not only to this manager: pokes, refunds.
    due: Mutex<(usize, usize)>,
}

impl Meters {
    pub(crate) fn new(chain: Chain, keeper: Option<Address>, data_dir: PathBuf) -> Self {
        Self {
            chain,
            keeper,
            disk: Arc::new(DiskWatch::new(data_dir, LEAST_FREE)),
            seats: SettledSeats::default(),
            due: Mutex::default(),
        }
    }

    /// Counts the seats that a block finished.
    pub(crate) fn took_in(&self, finished: &[FinishedSeat]) {
        for seat in finished {
            self.seats.note(seat.end, seat.coins, seat.slashed);
        }
    }

    /// What is due at the newest block.
    pub(crate) fn is_due(&self, due: &[(JobEntry, Due)]) {
        let refunds = due.iter().filter(|(_, what)| matches!(what, Due::Refund)).count();
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = (due.len() - refunds, refunds);
    }

    async fn balance(&self) -> Option<Amount> {
        let asked = self.chain.balance(self.keeper?);
        tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()
    }

    /// Whether the manager can do its work now.
    pub(crate) async fn readiness(&self) -> Readiness {
        let mut checks = vec![self.chain.meters().check(self.chain.id(), now())];
        let disk = Arc::clone(&self.disk);
        let disk = tokio::task::spawn_blocking(move || disk.check()).await;
        checks.push(disk.unwrap_or_else(|_| Check::bad("disk", "the service is ending", "start it again")));
        if let Some(account) = self.keeper {
            let name = "keeper";
            checks.push(match self.balance().await {
                Some(balance) if balance.is_zero() => Check::bad(
                    name,
                    format!("{account} has no coin: nothing that is due can be done"),
                    format!("send coin to {account}"),
                ),
                Some(balance) => Check::good(name, format!("{account} has {} coin", coins(balance))),
                None => Check::good(name, format!("the balance of {account} can't be read now")),
            });
        }
        Readiness::of(checks)
    }

    /// The text of `GET /metrics`, with jobs and nodes as the index has them.
    pub(crate) async fn text(&self, counts: Option<(PhaseCounts, u64)>) -> String {
        let mut out = Exposition::default();
        out.build("pool", env!("CARGO_PKG_VERSION"));
        self.readiness().await.expose(&mut out);
        if let Some((jobs, nodes)) = counts {
            let jobs = [
                ("seats", jobs.seats),
                ("run", jobs.run),
                ("reveal", jobs.reveal),
                ("closed", jobs.closed),
            ];
            let jobs = jobs.map(|(phase, count)| Sample::labelled(&[("phase", phase)], count));
            let help = "Jobs in the index, by the phase that their events have reached.";
            out.family("sandrun_market_jobs", Kind::Gauge, help, &jobs);
            out.gauge("sandrun_market_nodes", "Nodes in the index.", nodes);
        }
        let (pokes, refunds) = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = [("poke", pokes), ("refund", refunds)];
        let due = due.map(|(what, count)| Sample::labelled(&[("what", what)], count));
        let help = "What is due on the market, at the last block; a keeper does it.";
        out.family("sandrun_market_due", Kind::Gauge, help, &due);
        let help = "Whether this manager does what is due.";
        out.gauge("sandrun_keeper", help, flag(self.keeper.is_some()));
        if let Some(balance) = self.balance().await {
            let help = "Coin of the account that sends transactions, in whole coins.";
            out.gauge("sandrun_account_balance_coins", help, coins(balance));
        }
        self.seats.expose(&mut out);
        self.chain.meters().expose(&mut out, now());
        let disk = Arc::clone(&self.disk);
        let text = tokio::task::spawn_blocking(move || {
            disk.expose(&mut out);
            sandrun_metrics::expose_process(&mut out);
            out.finish()
        });
        text.await.unwrap_or_default()
    }
}

fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}
