//! One script for all trust models that have a service: what a client does is the same line by line at the market, at a
//! coordinator and at a broker. The model is the script's parameter, and what differs is all in [`model`].

mod model;
mod script;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the broker's own tests use the rest")]
#[path = "../broker/world.rs"]
mod world;

use model::{Model, Trust};

async fn run(trust: Trust) -> anyhow::Result<()> {
    let model = Model::start(trust).await?;
    script::play(&model).await?;
    model.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_market() -> anyhow::Result<()> {
    run(Trust::Market).await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_coordinator() -> anyhow::Result<()> {
    run(Trust::Coordinator).await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_broker() -> anyhow::Result<()> {
    run(Trust::Broker).await
}
