//! What an agent knows of itself: counters that its tasks count up, and the picture that its loop leaves once a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sandrun_chain::{Chain, SettledSeats, coins};
use sandrun_core::market::SeatEnd;
use sandrun_core::seat::{RunEnd, StateName};
use sandrun_metrics::{Check, DiskWatch, Exposition, Histogram, Kind, Readiness, Sample, Tally, flag};
use sandrun_types::{Amount, ClassId, ClassKind, UnixSeconds};

use super::Vitals;
use crate::config::AgentConfig;

/// Bounds of the times that runs take, in seconds.
const BOUNDS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0];
/// Classes and outcomes of runs, as labels.
const CLASSES: [&str; 3] = ["native", "det", "det-soft"];
const OUTCOMES: [&str; 4] = ["result", "limit", "executor_failed", "bundle_lost"];
/// How long the loop may leave no picture: it does so each second.
const LATE: Duration = Duration::from_secs(20);

/// What is known once the start has found it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) chain: Chain,
    /// Head at the start: what the chain tells of blocks up to it was counted by a former process, or by nobody.
    pub(crate) head: u64,
    pub(crate) disk: DiskWatch,
}

impl Started {
    /// What the start has found.
    pub(crate) fn new(config: &AgentConfig, chain: &Chain, head: u64) -> Self {
        Self {
            chain: chain.clone(),
            head,
            disk: DiskWatch::new(config.data_dir.clone(), config.min_free_disk),
        }
    }
}

/// Coin and stake, as last looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Money {
    /// Coin of the account that sends.
    pub(crate) coin: Amount,
    /// What the transactions of one seat cost now.
    pub(crate) seat_costs: Amount,
    /// Stake that the escrow may lock, and of it what it has locked.
    pub(crate) stake: Amount,
    pub(crate) locked: Amount,
    /// Credited and not withdrawn.
    pub(crate) earned: Amount,
    pub(crate) reputation: u16,
}

/// How the agent stands at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Jobs that are followed, by the state of their seat.
    pub(crate) seats: BTreeMap<StateName, usize>,
    /// Why the gate is closed, where it is.
    pub(crate) fault: Option<String>,
    /// Why no seat is taken now, where none is.
    pub(crate) held_back: Option<String>,
    pub(crate) executor_lives: bool,
    pub(crate) money: Option<Money>,
}

#[derive(Debug, Default)]
struct Runs {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    times: BTreeMap<&'static str, Histogram<{ BOUNDS.len() }>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct AgentVitals {
    started: OnceLock<Started>,
    standing: Mutex<Option<(Instant, Standing)>>,
    runs: Mutex<Runs>,
    fetches: Tally<2>,
    seats: SettledSeats,
    /// What the content store last said, where somebody asks it.
    store: Mutex<Option<Result<String, String>>>,
}

impl Default for AgentVitals {
    fn default() -> Self {
        Self {
            started: OnceLock::new(),
            standing: Mutex::new(None),
            runs: Mutex::default(),
            fetches: Tally::new("outcome", ["held", "failed"]),
            seats: SettledSeats::default(),
            store: Mutex::new(None),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn outcome(end: &RunEnd) -> &'static str {
    match end {
        RunEnd::Result(_) => "result",
        RunEnd::Limit => "limit",
        RunEnd::ExecutorFailed => "executor_failed",
        RunEnd::BundleLost => "bundle_lost",
    }
}

const fn class_name(class: &ClassId) -> &'static str {
    match class.kind() {
        Some(ClassKind::Det) if class.is_soft() => "det-soft",
        Some(ClassKind::Det) => "det",
        // nothing else is taken
        Some(ClassKind::Native) | None => "native",
    }
}

impl AgentVitals {
    /// The start has got so far.
    pub(crate) fn started(&self, started: Started) {
        // once in a process
        drop(self.started.set(started));
    }

    /// How the agent stands now.
    pub(crate) fn show(&self, standing: Standing) {
        *lock(&self.standing) = Some((Instant::now(), standing));
    }

    /// A run has ended, after so long.
    pub(crate) fn ran(&self, class: &ClassId, end: &RunEnd, took: Duration) {
        let class = class_name(class);
        let mut runs = lock(&self.runs);
        *runs.counts.entry((class, outcome(end))).or_default() += 1;
        let times = runs.times.entry(class);
        times.or_insert_with(|| Histogram::new(BOUNDS)).observe(took);
    }

    /// A bundle is held, or this try to get it failed.
    pub(crate) fn fetched(&self, is_held: bool) {
        self.fetches.count(if is_held { "held" } else { "failed" });
    }

    /// The chain says how a seat of ours ended, in a block.
    pub(crate) fn seat_ended(&self, block: u64, end: SeatEnd, paid: Amount, slashed: Amount) {
        if self.started.get().is_some_and(|started| block > started.head) {
            self.seats.note(end, paid, slashed);
        }
    }

    /// What the content store says of itself, or why it does not.
    pub(crate) fn store_said(&self, said: Result<String, String>) {
        *lock(&self.store) = Some(said);
    }

    fn checks(&self, started: &Started, standing: &Standing) -> Vec<Check> {
        let mut checks = vec![
            started.chain.meters().check(started.chain.id(), now()),
            started.disk.check(),
        ];
        checks.push(if standing.executor_lives {
            Check::good("executor", "it answers as the one that was registered")
        } else {
            Check::bad(
                "executor",
                "it does not answer as the one that was registered",
                "start it with the key and the classes that it had, or restart the agent to register the new one",
            )
        });
        checks.push(match &standing.fault {
            None => Check::good("gate", "open"),
            Some(fault) => Check::bad(
                "gate",
                fault,
                "look at this machine, then start the agent with --resume-after-fault",
            ),
        });
        checks.push(match &standing.held_back {
            None => Check::good("seats", "may be taken"),
            Some(reason) => Check::bad("seats", reason, "mend that; seats are taken again by themselves"),
        });
        if let Some(money) = standing.money {
            checks.push(account(&money));
        }
        match lock(&self.store).as_ref() {
            Some(Ok(said)) => checks.push(Check::good("store", said)),
            Some(Err(why)) => {
                let todo = "look at the content store of --ipfs-api";
                checks.push(Check::bad("store", why, todo));
            }
            None => {}
        }
        checks
    }

    fn expose_runs(&self, out: &mut Exposition) {
        let runs = lock(&self.runs);
        let mut counts = Vec::new();
        for class in CLASSES {
            for outcome in OUTCOMES {
                let count = runs.counts.get(&(class, outcome)).copied().unwrap_or_default();
                counts.push(Sample::labelled(&[("class", class), ("outcome", outcome)], count));
            }
        }
        let help = "Runs by class and outcome: with a result, out of time, failed at the executor, or without their bundle.";
        out.family("sandrun_runs_total", Kind::Counter, help, &counts);
        let labels = CLASSES.map(|class| [("class", class)]);
        let times: Vec<(&sandrun_metrics::Labels<'_>, _)> = labels
            .iter()
            .map(|labels| {
                let times = runs.times.get(labels[0].1).copied();
                (labels.as_slice(), times.unwrap_or_else(|| Histogram::new(BOUNDS)))
            })
            .collect();
        let help = "How long runs took, from the bundle's way to the executor to the stored result.";
        out.histogram("sandrun_run_seconds", help, &times);
    }
}

/// Whether the account can pay for another seat.
fn account(money: &Money) -> Check {
    let seen = format!(
        "{} coin for gas, a seat costs {}",
        coins(money.coin),
        coins(money.seat_costs)
    );
    if money.coin.0 < money.seat_costs.0 {
        return Check::bad("account", seen, "send coin to the account that signs");
    }
    Check::good("account", seen)
}

impl Vitals for AgentVitals {
    fn readiness(&self) -> Readiness {
        let standing = lock(&self.standing).clone();
        Readiness::of(match (self.started.get(), standing) {
            (Some(started), Some((at, standing))) => {
                let mut checks = self.checks(started, &standing);
                if at.elapsed() > LATE {
                    let seen = format!("the agent's loop has been busy for {} s", at.elapsed().as_secs());
                    checks.push(Check::bad("loop", seen, "look at its log; is its disk slow?"));
                }
                checks
            }
            (_, None) | (None, _) => vec![Check::bad(
                "start",
                "it registers, or reads the chain for the first time",
                "wait; if it stays so, look at its log",
            )],
        })
    }

    fn expose(&self, out: &mut Exposition) {
        out.build("agent", env!("CARGO_PKG_VERSION"));
        if let Some((_, standing)) = lock(&self.standing).clone() {
            expose_standing(out, &standing);
        }
        self.expose_runs(out);
        let help = "Tries to get a job's bundle.";
        self.fetches.expose(out, "sandrun_bundle_fetches_total", help);
        self.seats.expose(out);
        if let Some(started) = self.started.get() {
            started.chain.meters().expose(out, now());
            started.disk.expose(out);
        }
    }
}

fn expose_standing(out: &mut Exposition, standing: &Standing) {
    let seats = StateName::ALL.map(|state| {
        let count = standing.seats.get(&state).copied().unwrap_or_default();
        Sample::labelled(&[("state", &state.to_string())], count)
    });
    let help = "Jobs that are followed, by the state of this node's seat.";
    out.family("sandrun_seats", Kind::Gauge, help, &seats);
    let help = "Whether the node accepts jobs; closed after a fault until its operator resumes it.";
    out.gauge("sandrun_gate_open", help, flag(standing.fault.is_none()));
    let Some(money) = standing.money else { return };
    let help = "Coin of the account that sends transactions, in whole coins.";
    out.gauge("sandrun_account_balance_coins", help, coins(money.coin));
    let free = Amount(money.stake.0.saturating_sub(money.locked.0));
    let stake = [("free", free), ("locked", money.locked)]
        .map(|(state, amount)| Sample::labelled(&[("state", state)], coins(amount)));
    let help = "Stake at the escrow, in whole coins: free for bonds, and locked in them.";
    out.family("sandrun_stake_coins", Kind::Gauge, help, &stake);
    let help = "What the escrow owes the node in the base coin, in whole coins.";
    out.gauge("sandrun_earnings_owed_coins", help, coins(money.earned));
    let help = "Valid answers in a row, as the escrow counts them.";
    out.gauge("sandrun_reputation", help, money.reputation);
}

fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_starts_is_not_ready_and_counts() {
        let vitals = AgentVitals::default();
        assert_eq!(vitals.readiness().code(), 503);
        vitals.ran(&ClassId([0; 32]), &RunEnd::Limit, Duration::from_secs(2));
        vitals.fetched(false);
        let mut out = Exposition::default();
        vitals.expose(&mut out);
        let text = out.finish();
        for line in [
            "sandrun_runs_total{class=\"native\",outcome=\"limit\"} 1",
            "sandrun_runs_total{class=\"det\",outcome=\"result\"} 0",
            "sandrun_run_seconds_count{class=\"native\"} 1",
            "sandrun_bundle_fetches_total{outcome=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn an_account_without_coin_for_a_seat_is_named() {
        let money = |coin| Money {
            coin: Amount::from_gwei(coin),
            seat_costs: Amount::from_gwei(10),
            stake: Amount::ZERO,
            locked: Amount::ZERO,
            earned: Amount::ZERO,
            reputation: 0,
        };
        assert!(account(&money(10)).ok);
        let poor = account(&money(9));
        assert!(!poor.ok && poor.todo.contains("coin"), "{poor:?}");
    }
}
