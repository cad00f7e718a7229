//! Keys, job ids, services and agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use client_sdk::{Client, Wish, prepare};
use sandrun_chain::Key;
use sandrun_types::{Amount, Redundancy, Token, U256};

use crate::case::{BAD_INPUT, Case, UNREACHABLE, case};
use crate::world::World;

pub(crate) fn keys(world: &World) -> anyhow::Result<Vec<Case>> {
    let secret = std::fs::read_to_string(&world.scene.market.client_key)?;
    world.write("open.key", &secret, 0o644)?;
    world.write("short.key", "0x1234", 0o600)?;
    world.write("store.json", r#"{"version": 3}"#, 0o600)?;
    world.write("password", "sesame\n", 0o600)?;
    world.write("open-password", "sesame\n", 0o644)?;
    let submit = |more: &str, says: &[&str]| {
        case(
            &format!("submit --code code --payment 0.1 {more}"),
            BAD_INPUT,
            says,
        )
    };
    Ok(vec![
        submit(
            "--key open.key",
            &["open.key can be read by others", "chmod 600 open.key"],
        ),
        submit(
            "--key short.key",
            &["short.key holds no key", "expected 64 hex digits"],
        ),
        submit(
            "--key gone.key",
            &["gone.key", "`sandrun-pool keys new gone.key`"],
        ),
        submit("", &["needs a key", "--key FILE"]).env("SANDRUN_KEY", ""),
        submit(
            "--key store.json",
            &["store.json needs a password", "--password-file"],
        ),
        submit(
            "--key store.json --password-file gone",
            &["password file gone", "mode 0600"],
        ),
        submit(
            "--key store.json --password-file open-password",
            &["open-password can be read by others", "chmod 600"],
        ),
        submit(
            "--key store.json --password-file password",
            &["store.json does not open", "is the password right?"],
        ),
        case(
            "keys new open.key",
            BAD_INPUT,
            &["open.key exists already", "choose another path"],
        ),
        case(
            "keys new no/folder.key",
            BAD_INPUT,
            &["no/folder.key", "check that its folder is there"],
        ),
        case(
            "keys show open.key",
            BAD_INPUT,
            &["open.key can be read by others", "chmod 600"],
        ),
        case(
            "sandrun --generate-key open.key",
            BAD_INPUT,
            &["open.key exists already", "choose another path"],
        ),
    ])
}

pub(crate) async fn job_ids(world: &World) -> anyhow::Result<Vec<Case>> {
    let nothing = format!("0x{}", "1".repeat(64));
    let shared = two_jobs_with_one_beginning(world).await?;
    Ok(vec![
        case(
            &format!("job {nothing}"),
            BAD_INPUT,
            &[&nothing, "was never posted", "check the id"],
        ),
        case(
            &format!("cancel {nothing}"),
            BAD_INPUT,
            &[&nothing, "was never posted", "check the id"],
        ),
        case(
            "job 0x12",
            BAD_INPUT,
            &["`0x12` is not a job id", "at least the first four"],
        ),
        case(
            "job what",
            BAD_INPUT,
            &["`what` is not a job id", "64 hex digits"],
        ),
        case(
            &format!("job {shared}"),
            BAD_INPUT,
            &["several jobs begin with", &shared, "give more digits"],
        ),
        case(
            &format!("cancel {shared}"),
            BAD_INPUT,
            &["several jobs begin with", &shared, "give more digits"],
        ),
    ])
}

/// Posts two jobs whose ids begin with the same four digits, and gives those.
async fn two_jobs_with_one_beginning(world: &World) -> anyhow::Result<String> {
    let market = &world.scene.market;
    let store = sandrun_content::KuboClient::new(&market.ipfs_api)?;
    let client = Client::new(market.reader().await?, Arc::new(store));
    let key = Key::load(&market.client_key, None)?;
    let job = prepare(&world.path("code"), None)?;
    let wish = Wish {
        client: key.address(),
        nonce: U256::ZERO,
        token: Token::Native,
        payment: Amount::parse("0.1", Amount::COIN_DECIMALS)?,
        redundancy: Redundancy::One,
        class: None,
        min_reputation: 0,
        bond: None,
        force: false,
    };
    let mut order = client.order(&job, &wish).await?;
    let at = market.deployment.escrow_ref();
    let mut seen = BTreeMap::new();
    loop {
        let beginning = order.job_id(at).to_string()[..6].to_owned();
        if let Some(other) = seen.insert(beginning.clone(), order.clone()) {
            client.post(&key, &job, other).await?;
            client.post(&key, &job, order).await?;
            return Ok(beginning);
        }
        order.nonce += U256::from(1u8);
    }
}

pub(crate) fn services(world: &World) -> anyhow::Result<Vec<Case>> {
    world.write("open.pem", "secret", 0o644)?;
    let (taken, market) = (world.taken, world.path("market"));
    let at = format!("127.0.0.1:{taken}");
    let running = |service: &str| market.join(service).display().to_string();
    Ok(vec![
        case(
            &format!("content --data-dir c1 --port {taken}"),
            BAD_INPUT,
            &[&at, "choose another --port"],
        ),
        case(
            &format!("pool --data-dir p1 --port {taken}"),
            BAD_INPUT,
            &[&at, "choose another --port"],
        ),
        case(
            &format!("sandrun --data-dir s1 --port {taken}"),
            BAD_INPUT,
            &[&at, "choose another port"],
        ),
        case("content --port 70000", BAD_INPUT, &["'70000' for '--port"]),
        case("content --port 0 --data-dir /proc/x", BAD_INPUT, &["/proc/x"]),
        case(
            &format!("content --port 0 --data-dir {}", running("content")),
            BAD_INPUT,
            &[&running("content"), "in use by another process", "another folder"],
        ),
        case(
            &format!("pool --port 0 --data-dir {}", running("pool")),
            BAD_INPUT,
            &[&running("pool"), "another manager", "--data-dir"],
        ),
        case(
            "sandrun --data-dir s2 --worker-key gone.pem",
            BAD_INPUT,
            &["gone.pem", "--generate-key gone.pem"],
        ),
        case(
            "sandrun --data-dir s3 --worker-key open.pem",
            BAD_INPUT,
            &["open.pem is open to others", "chmod 600"],
        ),
        case(
            "pool --data-dir p2 --port 0 --key open.key",
            BAD_INPUT,
            &["open.key can be read by others"],
        ),
        case(
            "pool --data-dir p3 --port 0 --blockchain-rpc http://127.0.0.1:1",
            UNREACHABLE,
            &["127.0.0.1:1"],
        ),
        case(
            "demo",
            BAD_INPUT,
            &["testnet/jobs", "run this in the project's directory"],
        ),
        case(
            "testnet --free-ports --data-dir t1",
            UNREACHABLE,
            &["SANDRUN_ANVIL names /no/anvil", "correct it"],
        )
        .env("SANDRUN_ANVIL", "/no/anvil"),
    ])
}

pub(crate) fn agents(world: &World) -> anyhow::Result<Vec<Case>> {
    let deployment = &world.scene.market.deployment;
    let contracts = format!(
        "--escrow {} --registry {}",
        deployment.escrow, deployment.registry
    );
    let agent = |more: &str, code, says: &[&str]| case(&format!("agent --data-dir a1 {more}"), code, says);
    let (store, page, mute) = (&world.scene.market.ipfs_api, &world.page, &world.mute);
    Ok(vec![
        agent(
            "--sandrun-url http://127.0.0.1:1",
            UNREACHABLE,
            &["the executor at http://127.0.0.1:1", "is it running"],
        ),
        agent(
            &format!("--sandrun-url {store}"),
            UNREACHABLE,
            &[store, "no executor", "is --sandrun-url right?"],
        ),
        agent(
            &format!("--sandrun-url {page}"),
            UNREACHABLE,
            &[page, "is no sandrun service", "--sandrun-url"],
        ),
        agent(
            &format!("--sandrun-url {mute}"),
            UNREACHABLE,
            &[mute, "--sandrun-url"],
        ),
        agent(
            "--sandrun-url nowhere",
            UNREACHABLE,
            &["nowhere", "such as http://localhost:8443"],
        ),
        agent(
            "--ipfs-api http://127.0.0.1:1",
            UNREACHABLE,
            &["http://127.0.0.1:1", "is --ipfs-api right?"],
        ),
        agent(
            &format!("--ipfs-api {mute}"),
            UNREACHABLE,
            &[mute, "is --ipfs-api right?"],
        ),
        agent(
            "--key open.key",
            BAD_INPUT,
            &["open.key can be read by others", "chmod 600"],
        ),
        agent(
            "--hot-key open.key",
            BAD_INPUT,
            &["open.key can be read by others", "chmod 600"],
        ),
        agent("--stake much", BAD_INPUT, &["`much` is not an amount", "--stake"]),
        agent(
            "--accept-token gold",
            BAD_INPUT,
            &["'gold' for '--accept-token", "write ADDRESS=MINIMUM"],
        ),
        agent(
            &format!(
                "--misbehave liar {contracts} --blockchain-rpc {}",
                world.other.url()
            ),
            BAD_INPUT,
            &["--misbehave", "local test network (chain 31337) only"],
        ),
    ])
}
