//! `kill -9` at random points: broker or coordinator, on SQLite or as three replicas on PostgreSQL, with nodes and
//! executors, all of them real processes under load. No acknowledged job or result is lost, none is stuck, no attempt is
//! accepted twice, and nothing is left behind.
//!
//! `make kills KILLS=200` kills that often in each combination; a failure names its seed, `SEED=…` chooses the same
//! victims and pauses again. `SANDRUN_TEST_KEEP=1` keeps the services' logs, `SANDRUN_PROGRAM=FILE` takes another binary.

mod balancer;
mod check;
mod fleet;
mod load;
mod process;
#[path = "../../../../crates/core/tests/simulated/rng.rs"]
#[allow(dead_code, reason = "the simulations use the rest")]
mod rng;
mod stub;

use std::time::{Duration, Instant};

use fleet::{Disk, Fleet, Service};
use load::Load;
use rng::SplitMix64;

/// Kills in each combination where nobody says how many.
const KILLS: u64 = 10;
/// Longest pause between two kills.
const PAUSE: u64 = 700;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("SANDRUN_KILLS and SANDRUN_SEED are numbers"))
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |it| it.as_secs())
}

/// Says it to whoever runs this by hand.
#[allow(
    clippy::print_stdout,
    reason = "the seed and the figures are what a run is for"
)]
fn say(text: &str) {
    println!("{text}");
}

async fn run(service: Service, disk: Disk) -> anyhow::Result<()> {
    let kills = number("SANDRUN_KILLS").unwrap_or(KILLS);
    let seed = number("SANDRUN_SEED").unwrap_or_else(fresh_seed);
    let name = format!("{service:?} on {disk:?}, SANDRUN_SEED={seed}, SANDRUN_KILLS={kills}");
    say(&name);
    kill(service, disk, kills, seed)
        .await
        .map_err(|error| error.context(name))
}

async fn kill(service: Service, disk: Disk, kills: u64, seed: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut rng = SplitMix64::new(seed);
    let mut fleet = Fleet::start(service, disk).await?;
    let load = Load::new(&fleet)?;
    let replicas = fleet.replicas.clone();
    let killing = async {
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(20 + rng.below(PAUSE))).await;
            fleet.kill(&mut rng).await?;
        }
        fleet.revive().await?;
        load.stop();
        anyhow::Ok(started.elapsed())
    };
    let stub = async {
        match service {
            Service::Broker => stub::work(replicas, &load).await,
            Service::Coordinator => Ok(vec![]),
        }
    };
    let (killed, mut ended, by_stub) = tokio::try_join!(killing, load.run(), stub)?;
    let counts = check::Counts::of(&ended);
    let of_stub = by_stub.len();
    ended.extend(by_stub);
    check::through_the_api(&fleet, &ended).await?;
    say(&format!(
        "{service:?} on {disk:?}: {} killed in {killed:.0?}, the rest ended {:.0?} later; {counts}; {of_stub} of a stand-in",
        fleet.killed(),
        started.elapsed() - killed
    ));
    let disk = fleet.stop().await?;
    check::on_disk(disk, &ended).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn broker_on_sqlite() -> anyhow::Result<()> {
    run(Service::Broker, Disk::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn broker_on_postgres() -> anyhow::Result<()> {
    run(Service::Broker, Disk::Postgres).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coordinator_on_sqlite() -> anyhow::Result<()> {
    run(Service::Coordinator, Disk::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coordinator_on_postgres() -> anyhow::Result<()> {
    run(Service::Coordinator, Disk::Postgres).await
}
