//! `kill -9` at random points of a market under load.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use sandrun_testnet::Service;

use crate::load::{Load, clients};
use crate::rng::SplitMix64;
use crate::scene::Frail;
use crate::{number, say};

/// Kills where nobody says how many.
const KILLS: u64 = 6;
/// Jobs under way at each of them, at least.
const LEAST: usize = 20;
/// Longest pause between two kills, milliseconds.
const PAUSE: u64 = 1_500;

/// Kills or stops one of them, or all of them at once, and starts them again; whether it was a kill, and of which.
async fn kill(services: &mut [Service], rng: &mut SplitMix64) -> anyhow::Result<(bool, Vec<String>)> {
    // the chain is no part of ours
    let mut victims: Vec<&mut Service> = services.iter_mut().filter(|it| it.name() != "anvil").collect();
    if !rng.chance(10) {
        let one = usize::try_from(rng.below(u64::try_from(victims.len())?))?;
        victims = vec![victims.swap_remove(one)];
    }
    // some only stop for a while, as on a machine that swaps or sleeps
    if rng.chance(25) {
        return Ok((false, freeze(&victims, rng).await?));
    }
    for service in &mut victims {
        let killed = service.kill().await;
        killed.with_context(|| service.name().to_owned())?;
    }
    let mut names = Vec::new();
    for service in victims {
        service.restart().await?;
        names.push(service.name().to_owned());
    }
    Ok((true, names))
}

/// Stops them, and lets them go on.
async fn freeze(victims: &[&mut Service], rng: &mut SplitMix64) -> anyhow::Result<Vec<String>> {
    for service in victims {
        service.freeze()?;
    }
    tokio::time::sleep(Duration::from_millis(500 + rng.below(2 * PAUSE))).await;
    let mut names = vec!["only stopped:".to_owned()];
    for service in victims {
        service.thaw()?;
        names.push(service.name().to_owned());
    }
    Ok(names)
}

/// Processes and mounts of a folder.
fn left_behind(folder: &Path) -> anyhow::Result<Vec<String>> {
    let folder = folder.to_string_lossy();
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mut left: Vec<String> = mounts
        .lines()
        .filter(|it| it.contains(&*folder))
        .map(str::to_owned)
        .collect();
    for process in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&*folder) {
            left.push(command);
        }
    }
    Ok(left)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_parts_lose_nothing() -> anyhow::Result<()> {
    let kills = number("SANDRUN_KILLS").unwrap_or(KILLS);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = number("SANDRUN_SEED").unwrap_or(since.as_secs());
    let name = format!("SANDRUN_SEED={seed} SANDRUN_KILLS={kills}");
    say(&name);
    run(kills, seed).await.context(name)
}

async fn run(kills: u64, seed: u64) -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest; 5]).await?;
    let keys = clients(&frail).await?;
    let mut services = frail.scene.market.lend_services();
    let load = Load::of(&frail, usize::MAX).await?;
    let mut rng = SplitMix64::new(seed);
    let killing = async {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        let mut least = usize::MAX;
        let (mut killed, mut stopped) = (0, 0);
        while killed < kills {
            let mut open = load.open().await?;
            while open < LEAST {
                looks.tick().await;
                open = load.open().await?;
            }
            least = least.min(open);
            let (is_kill, names) = kill(&mut services, &mut rng).await?;
            if is_kill {
                killed += 1;
            } else {
                stopped += 1;
            }
            say(&format!(
                "{killed}: {}, {} jobs under way",
                names.join(" "),
                load.open().await?
            ));
            tokio::time::sleep(Duration::from_millis(20 + rng.below(PAUSE))).await;
        }
        load.stop();
        anyhow::Ok((least, stopped))
    };
    let posting = (0..)
        .zip(keys)
        .map(|(client, key)| load.post(&frail, key, client));
    let ((least, stopped), _) = tokio::try_join!(killing, futures::future::try_join_all(posting))?;
    let jobs = load.jobs();
    for job in jobs.keys() {
        frail.over(job).await.with_context(|| job.clone())?;
    }
    let expired = frail.check_but(&jobs, true).await?;
    anyhow::ensure!(
        expired * 4 < jobs.len(),
        "{expired} of {} jobs expired",
        jobs.len()
    );
    say(&format!(
        "{kills} kills and {stopped} stops, {} jobs, at least {least} under way at a kill: {expired} expired with all money \
         back, all others paid once",
        jobs.len()
    ));
    frail.scene.market.return_services(services);
    frail.scene.market.stop().await;
    let left = left_behind(frail.scene.directory.path())?;
    anyhow::ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
