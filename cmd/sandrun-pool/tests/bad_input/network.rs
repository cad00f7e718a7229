//! Chains, contracts and content stores.

use crate::case::{BAD_INPUT, Case, REFUSED, UNREACHABLE, case};
use crate::world::World;

pub(crate) fn contracts(world: &World) -> anyhow::Result<Vec<Case>> {
    world.write("broken.json", "{", 0o644)?;
    world.write("none.json", "{}", 0o644)?;
    let deployment = &world.scene.market.deployment;
    let (escrow, registry) = (deployment.escrow.to_string(), deployment.registry.to_string());
    let nobody = "0x0000000000000000000000000000000000001234";
    let status = |more: &str, code, says: &[&str]| case(&format!("status {more}"), code, says);
    Ok(vec![
        status(
            "--chain-id 1",
            REFUSED,
            &[
                "serves chain 31337",
                "chain 1 was asked for",
                "point --blockchain-rpc",
            ],
        ),
        status(
            &format!("--escrow {nobody} --registry {registry}"),
            REFUSED,
            &["no contract at", nobody, "check"],
        ),
        status(
            &format!("--escrow {escrow} --registry {nobody}"),
            REFUSED,
            &["no contract at", nobody, "registry"],
        ),
        status(
            &format!("--escrow {registry} --registry {escrow}"),
            REFUSED,
            &["is not our", "check the addresses"],
        ),
        status(&format!("--escrow {escrow}"), BAD_INPUT, &["--registry"]),
        status(
            "--escrow 0x12 --registry 0x12",
            BAD_INPUT,
            &["'0x12' for '--escrow"],
        ),
        status(
            "--deployments broken.json",
            BAD_INPUT,
            &["broken.json is not a deployments file", "expected {"],
        ),
        status(
            "--deployments gone.json",
            BAD_INPUT,
            &["gone.json", "No such file"],
        ),
        status(
            "--deployments none.json",
            BAD_INPUT,
            &["no contracts are known on chain 31337", "give --deployments"],
        ),
    ])
}

pub(crate) fn rpcs(world: &World) -> Vec<Case> {
    let status = |more: &str, code, says: &[&str]| case(&format!("status {more}"), code, says);
    let (page, mute, store) = (&world.page, &world.mute, &world.scene.market.ipfs_api);
    vec![
        status(
            "--blockchain-rpc http://127.0.0.1:1",
            UNREACHABLE,
            &["http://127.0.0.1:1", "check that the node runs"],
        ),
        status(
            "--blockchain-rpc http://no.such.host.invalid",
            UNREACHABLE,
            &["no.such.host.invalid", "SANDRUN_RPC"],
        ),
        status(
            "--blockchain-rpc nowhere",
            BAD_INPUT,
            &["`nowhere` is not an RPC address", "such as http://"],
        ),
        status(
            "--blockchain-rpc ws://127.0.0.1:1",
            BAD_INPUT,
            &["cannot use `ws`", "give an http://"],
        ),
        status(
            &format!("--blockchain-rpc {page}"),
            UNREACHABLE,
            &[page, "does not speak", "check that --blockchain-rpc"],
        ),
        status(
            &format!("--blockchain-rpc {store}"),
            UNREACHABLE,
            &[store, "status 404", "check the address"],
        ),
        status(
            &format!("--blockchain-rpc {mute}"),
            UNREACHABLE,
            &[mute, "did not answer within 8 s", "try again"],
        ),
        status(
            &format!("--blockchain-rpc {mute} --rpc-timeout 1"),
            UNREACHABLE,
            &["within 1 s"],
        ),
        status("--rpc-timeout 0", BAD_INPUT, &["--rpc-timeout"]),
        case("jobs", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
        case("nodes", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
        case("submit --code code --payment 0.1", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
        case("deploy --save d.json", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
    ]
}

pub(crate) fn stores(world: &World) -> Vec<Case> {
    let submit = |api: &str, code, says: &[&str]| {
        case(
            &format!("submit --code code --redundancy 1 --payment 0.1 --ipfs-api {api}"),
            code,
            says,
        )
    };
    vec![
        submit(
            "http://127.0.0.1:1",
            UNREACHABLE,
            &["http://127.0.0.1:1", "is it running, and is --ipfs-api right?"],
        ),
        submit(&world.page, UNREACHABLE, &[&world.page, "is --ipfs-api right?"]),
        submit(
            &world.mute,
            UNREACHABLE,
            &[&world.mute, "sent nothing for", "is --ipfs-api right?"],
        ),
        submit(
            "https://store",
            BAD_INPUT,
            &["--ipfs-api", "`https://store`", "only http"],
        ),
    ]
}
