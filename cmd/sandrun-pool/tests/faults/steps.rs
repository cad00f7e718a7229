//! `kill -9` at each step of a job: of manager, content store, an agent and an executor, each alone and all at once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use sandrun_testnet::Service;

use crate::chain::{STEPS, until};
use crate::number;
use crate::scene::Frail;

const ALL: [&str; 8] = [
    "content", "pool", "sandrun1", "agent1", "sandrun2", "agent2", "sandrun3", "agent3",
];

/// Who is killed together: all at once, and where there is time for it each part alone.
fn victims() -> Vec<(&'static str, &'static [&'static str])> {
    let mut victims: Vec<(&str, &[&str])> = vec![("all", &ALL)];
    if number("SANDRUN_KILLS").is_some() {
        victims.extend([
            ("content", &ALL[..1]),
            ("manager", &ALL[1..2]),
            ("executor", &ALL[2..3]),
            ("agent", &ALL[3..4]),
        ]);
    }
    victims
}

/// Kills them, and starts them again: first those whom others ask when they start.
async fn kill(services: &mut [Service], names: &[&str]) -> anyhow::Result<()> {
    let is_meant = |service: &Service| names.contains(&service.name());
    for service in services.iter_mut().filter(|it| is_meant(it)) {
        service.kill().await?;
    }
    let is_agent = |service: &Service| service.name().starts_with("agent");
    for agents in [false, true] {
        let wave = services
            .iter_mut()
            .filter(|it| is_meant(it) && is_agent(it) == agents);
        futures::future::try_join_all(wave.map(Service::restart)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn whoever_is_killed_at_a_step_of_a_job_goes_on_from_there() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let mut services = frail.scene.market.lend_services();
    let mut jobs = BTreeMap::new();
    for (who, names) in victims() {
        for (step, _, reached) in STEPS {
            let word = format!("{who}-{step}");
            let job = frail.post(&key, &word).await?;
            let reached = until(&frail, &job, reached);
            tokio::time::timeout(Duration::from_secs(60), reached)
                .await
                .with_context(|| format!("{word} of {job}"))??;
            jobs.insert(job, word.clone());
            kill(&mut services, names).await.context(word)?;
        }
    }
    for (job, word) in &jobs {
        frail.over(job).await.with_context(|| format!("{word}: {job}"))?;
    }
    frail.check(&jobs).await?;
    frail.scene.market.return_services(services);
    frail.scene.market.stop().await;
    Ok(())
}
