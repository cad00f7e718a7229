//! Bad input: each gets its exit code and one clear message that names the thing and says what to do, within seconds.
//! One real market serves all cases.

mod case;
mod inputs;
mod local;
mod network;
#[path = "../support/mod.rs"]
mod support;
mod world;

use futures::StreamExt as _;
use world::World;

/// Cases at once.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn each_is_named_with_its_remedy_and_its_exit_code() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut cases = inputs::manifests(&world)?;
    cases.extend(inputs::arguments());
    cases.extend(inputs::money(&world)?);
    cases.extend(inputs::configuration(&world)?);
    cases.extend(network::contracts(&world)?);
    cases.extend(network::rpcs(&world));
    cases.extend(network::stores(&world));
    cases.extend(local::keys(&world)?);
    cases.extend(local::job_ids(&world).await?);
    cases.extend(local::services(&world)?);
    cases.extend(local::agents(&world)?);
    assert!(cases.len() > 100);
    let mut failures = Vec::new();
    let mut runs =
        futures::stream::iter(cases.iter().map(|case| case.run(&world.scene))).buffer_unordered(AT_ONCE);
    while let Some(run) = runs.next().await {
        failures.extend(run.err().map(|error| format!("{error:#}")));
    }
    drop(runs);
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
    world.other.stop().await;
    world.scene.market.stop().await;
    Ok(())
}
