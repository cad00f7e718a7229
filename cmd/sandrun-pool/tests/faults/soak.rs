//! A market that works for long: all jobs end, and no process grows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sandrun_testnet::Role::{Honest, Liar, Moody};
use sandrun_testnet::Service;

use crate::load::{Load, clients};
use crate::scene::Frail;
use crate::{number, say};

/// Jobs between two looks at the sizes.
const STEP: usize = 100;
const KIB: u64 = 1 << 10;

/// Memory of each program and bytes below each folder, in KiB.
fn sizes(services: &[Service], market: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for service in services.iter().filter(|it| it.name() != "anvil") {
        let program = service.program()?.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{program}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok());
        let resident = resident.with_context(|| format!("memory of {}", service.name()))?;
        sizes.insert(format!("memory of {}", service.name()), resident);
    }
    for folder in std::fs::read_dir(market)?.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        if folder.file_type()?.is_dir() && name != "logs" {
            sizes.insert(format!("disk of {name}"), bytes_below(&folder.path())? / KIB);
        }
    }
    Ok(sizes)
}

fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)?.flatten() {
        // what goes away meanwhile takes no room
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path()).unwrap_or(0)
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make soak JOBS=500"]
async fn nothing_grows_while_jobs_come_and_go() -> anyhow::Result<()> {
    let most = usize::try_from(number("SANDRUN_SOAK").unwrap_or(500))?;
    let mut frail = Frail::with(&[Honest, Honest, Honest, Liar, Moody]).await?;
    let keys = clients(&frail).await?;
    let services = frail.scene.market.lend_services();
    let market = frail.scene.directory.path().join("market");
    let load = Load::of(&frail, most).await?;
    let posting = (0..)
        .zip(keys)
        .map(|(client, key)| load.post(&frail, key, client));
    let watching = async {
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        let mut seen = Vec::new();
        for ended in (STEP.min(most / 2)..most).step_by(STEP) {
            while load.ended().await? < ended {
                looks.tick().await;
            }
            seen.push(sizes(&services, &market)?);
        }
        anyhow::Ok(seen)
    };
    let (mut seen, _) = tokio::try_join!(watching, futures::future::try_join_all(posting))?;
    let jobs = load.jobs();
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for job in jobs.keys() {
        frail.over(job).await.with_context(|| job.clone())?;
        let shown = frail.scene.run(&["job", job, "--json"]).await?.json()?;
        for seat in shown["facts"]["seats"].as_array().into_iter().flatten() {
            *ends
                .entry(format!("node {} {}", seat["node"], seat["end"]["end"]))
                .or_default() += 1;
            let is_honest = seat["node"].as_u64().is_some_and(|node| node <= 3);
            anyhow::ensure!(
                !is_honest || seat["end"]["slashed"] == "0",
                "an honest node lost its bond: {shown}"
            );
        }
    }
    seen.push(sizes(&services, &market)?);
    say(&format!("KiB after each {STEP} jobs, and at the end:"));
    for what in seen.iter().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>() {
        let sizes: Vec<&u64> = seen.iter().map(|it| it.get(what).unwrap_or(&0)).collect();
        say(&format!("{what}: {sizes:?}"));
    }
    say(&format!("{} jobs ended: {ends:?}", jobs.len()));
    frail.scene.market.return_services(services);
    frail.scene.market.stop().await;
    Ok(())
}
