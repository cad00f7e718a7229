//! Bad input: each gets its exit code and one clear message that names the thing and says what to do, within seconds.
//! One real market serves all cases.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client_sdk::{Client, Wish, prepare};
use futures::StreamExt as _;
use sandrun_chain::Key;
use sandrun_chain::anvil::{Anvil, AnvilOptions};
use sandrun_testnet::Role;
use sandrun_types::{Amount, Redundancy, Token, U256};
use serde_json::Value;
use support::{Said, Scene, said};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longest time for any of them.
const WITHIN: Duration = Duration::from_secs(10);
/// Cases at once.
const AT_ONCE: usize = 8;

/// Exit codes (see `sandrun-pool --help`).
const BAD_INPUT: i32 = 2;
const UNREACHABLE: i32 = 3;
const REFUSED: i32 = 4;

/// Arguments, what they end with, and what has to be said: the thing and the remedy.
struct Case {
    arguments: Vec<String>,
    env: Vec<(&'static str, String)>,
    code: i32,
    says: Vec<String>,
}

fn case(arguments: &str, code: i32, says: &[&str]) -> Case {
    Case {
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        env: Vec::new(),
        code,
        says: says.iter().map(|&it| it.to_owned()).collect(),
    }
}

impl Case {
    fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it for people and for scripts.
    async fn run(&self, scene: &Scene) -> anyhow::Result<()> {
        let plain = self.said(scene, &[]).await?;
        let json = self.said(scene, &["--json"]).await?;
        self.check(&plain)
            .with_context(|| format!("{:?}: {plain:#?}", self.arguments))?;
        self.check_json(&json)
            .with_context(|| format!("{:?} --json: {json:#?}", self.arguments))
    }

    async fn said(&self, scene: &Scene, more: &[&str]) -> anyhow::Result<Said> {
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.extend(more);
        let mut command = scene.command(&arguments);
        for (name, value) in &self.env {
            if value.is_empty() {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        let started = Instant::now();
        let said = said(command).await?;
        anyhow::ensure!(
            started.elapsed() < WITHIN,
            "{arguments:?} took {:?}",
            started.elapsed()
        );
        Ok(said)
    }

    fn check(&self, said: &Said) -> anyhow::Result<()> {
        anyhow::ensure!(
            said.code == self.code,
            "ended with {}, not {}",
            said.code,
            self.code
        );
        anyhow::ensure!(said.stdout.is_empty(), "an error goes to standard error");
        let errors = said
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count();
        anyhow::ensure!(errors == 1, "{errors} errors instead of one");
        self.check_words(&said.stderr)
    }

    /// For scripts: every line is JSON, the last one has the error and its code.
    fn check_json(&self, said: &Said) -> anyhow::Result<()> {
        anyhow::ensure!(
            said.code == self.code,
            "ended with {}, not {}",
            said.code,
            self.code
        );
        anyhow::ensure!(said.stdout.is_empty(), "an error goes to standard error");
        let lines: Vec<Value> = said
            .stderr
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let last = lines.last().context("a line")?;
        anyhow::ensure!(last["exit_code"] == self.code, "another exit code");
        self.check_words(last["error"].as_str().context("an error")?)
    }

    fn check_words(&self, text: &str) -> anyhow::Result<()> {
        // what is broken over lines reads the same
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in &self.says {
            anyhow::ensure!(text.contains(words.as_str()), "`{words}` is not said in: {text}");
        }
        let mut clauses: BTreeMap<&str, u32> = BTreeMap::new();
        for clause in text.split([':', ';']).map(str::trim).filter(|it| it.len() >= 20) {
            let count = clauses.entry(clause).or_default();
            *count += 1;
            anyhow::ensure!(*count == 1, "`{clause}` is said twice in: {text}");
        }
        Ok(())
    }
}

/// What the cases are made with.
struct World {
    scene: Scene,
    other: Anvil,
    /// Answers every request with a page.
    page: String,
    /// Accepts connections and says nothing.
    mute: String,
    /// A port that is taken.
    taken: u16,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let scene = Scene::with(&[Role::Honest]).await?;
        let other = Anvil::start(&AnvilOptions {
            chain_id: 4_242,
            ..AnvilOptions::default()
        })
        .await?;
        let page = serve(|mut stream| async move {
            let mut buffer = [0u8; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<html>hi</html>")
                .await;
        });
        let mute = serve(|stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
        let (page, mute) = tokio::try_join!(page, mute)?;
        let taken = mute.rsplit(':').next().context("a port")?.parse()?;
        Ok(Self {
            scene,
            other,
            page,
            mute,
            taken,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.path(name);
        std::fs::write(&path, text)?;
        Ok(std::fs::set_permissions(
            path,
            std::fs::Permissions::from_mode(mode),
        )?)
    }
}

async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> anyhow::Result<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(format!("http://{address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_named_with_its_remedy_and_its_exit_code() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut cases = job_inputs(&world)?;
    cases.extend(money(&world)?);
    cases.extend(chains(&world)?);
    cases.extend(stores(&world));
    cases.extend(keys(&world)?);
    cases.extend(job_ids(&world).await?);
    cases.extend(services(&world)?);
    cases.extend(agents(&world)?);
    cases.extend(configuration(&world)?);
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

fn job_inputs(world: &World) -> anyhow::Result<Vec<Case>> {
    world.scene.code("code", &[("main.py", "print(1)\n")])?;
    world.scene.code("empty", &[("readme.txt", "")])?;
    world.scene.code(
        "inner",
        &[("a/deep.py", ""), ("job.json", r#"{"entrypoint": "deep.py"}"#)],
    )?;
    for (name, text) in [
        ("text.json", "{entrypoint"),
        ("list.json", "[1]"),
        ("field.json", r#"{"colour": 1}"#),
        ("type.json", r#"{"timeout": "long"}"#),
        ("missing.json", r#"{"entrypoint": "gone.py"}"#),
        ("outside.json", r#"{"entrypoint": "../main.py"}"#),
        ("absolute.json", r#"{"entrypoint": "/etc/passwd"}"#),
        ("named.json", r#"{"environment": "numpy"}"#),
    ] {
        world.write(name, text, 0o644)?;
    }
    let with = |manifest: &str, says: &[&str]| {
        case(
            &format!("submit --code code --payment 0.1 --manifest {manifest}"),
            BAD_INPUT,
            says,
        )
        // nothing of this needs a network
        .env("SANDRUN_RPC", "http://127.0.0.1:1")
    };
    Ok(vec![
        with("text.json", &["text.json", "is not JSON", "send one JSON object"]),
        with("list.json", &["list.json", "an array", "send one JSON object"]),
        with(
            "field.json",
            &[
                "field.json",
                "\"colour\"",
                "remove it, the fields are: entrypoint",
            ],
        ),
        with("type.json", &["type.json", "\"timeout\""]),
        with(
            "missing.json",
            &[
                "missing.json",
                "gone.py is not among the files",
                "correct the name",
            ],
        ),
        with(
            "outside.json",
            &[
                "outside.json",
                "\"../main.py\" leaves the bundle",
                "remove the `..`",
            ],
        ),
        with(
            "absolute.json",
            &[
                "absolute.json",
                "\"/etc/passwd\" is absolute",
                "relative to the bundle",
            ],
        ),
        with("gone.json", &["gone.json can't be read", "Check the path"]),
        case(
            "submit --code gone --payment 0.1",
            BAD_INPUT,
            &["the code gone can't be read", "Check the path"],
        ),
        case(
            "submit --code empty --payment 0.1",
            BAD_INPUT,
            &["empty", "no entrypoint", "name one"],
        ),
        case(
            "submit --code inner --payment 0.1",
            BAD_INPUT,
            &["deep.py", "did you mean a/deep.py?"],
        ),
        case(
            "quote --code code --manifest text.json",
            BAD_INPUT,
            &["text.json", "is not JSON"],
        ),
        case("submit --code code", BAD_INPUT, &["--payment"]),
        case(
            "submit --code code --payment 0.1 --redundancy 4",
            BAD_INPUT,
            &["redundancy 4", "choose 1", "or 5"],
        ),
        case(
            "submit --code code --payment 0.1 --redundancy two",
            BAD_INPUT,
            &["`two`", "choose 1, 2, 3 or 5"],
        ),
        case(
            "submit --code code --payment 0.1 --class x86",
            BAD_INPUT,
            &["`x86`", "`native` or `det`"],
        ),
        case(
            "quote --code code --dollars-per-coin much",
            BAD_INPUT,
            &["`much`", "such as 2500"],
        ),
        case("sumbit", BAD_INPUT, &["unrecognized subcommand 'sumbit'"]),
    ])
}

fn money(world: &World) -> anyhow::Result<Vec<Case>> {
    let poor = Key::generate(&world.path("poor.key"))?.address().to_string();
    let one = |more: &str, code, says: &[&str]| {
        case(&format!("submit --code code --redundancy 1 {more}"), code, says)
    };
    Ok(vec![
        one(
            "--payment much",
            BAD_INPUT,
            &["`much` is not an amount", "such as 0.1"],
        ),
        one(
            "--payment 0",
            BAD_INPUT,
            &["the payment of 0 is too low", "at least 0.01"],
        ),
        one(
            "--payment 0.000001",
            BAD_INPUT,
            &["the payment of 0.000001 is too low", "at least 0.01"],
        ),
        one(
            "--payment 500",
            BAD_INPUT,
            &[
                "the payment of 500 is too high",
                "pay at most 1",
                "choose redundancy",
            ],
        ),
        one(
            "--payment 0.1 --key poor.key",
            REFUSED,
            &[&poor, "has 0 of the native coin", "locks 0.1", "lower --payment"],
        ),
        one(
            "--payment 0.1 --key poor.key --token TEST",
            REFUSED,
            &[&poor, "has 0 of the 0x", "send some to"],
        ),
        one(
            "--payment 0.1 --token GOLD",
            BAD_INPUT,
            &["--token GOLD", "neither an address nor a symbol", "TEST"],
        ),
        case(
            "submit --code code --redundancy 3 --payment 0.3",
            BAD_INPUT,
            &[
                "redundancy 3 needs 3 nodes",
                "there are 1",
                "choose a lower redundancy",
            ],
        ),
        one("--payment 0.1 --class det", BAD_INPUT, &["`det`", "there are 0"]),
        case("withdraw", REFUSED, &["owes", "nothing", "--node"]),
        case("stake", REFUSED, &["has no node", "sandrun-pool agent"]),
        case("earnings", REFUSED, &["has no node", "sandrun-pool agent"]),
        case(
            "deploy --key poor.key --save d.json",
            REFUSED,
            &[&poor, "has 0 coin", "send coin to"],
        ),
    ])
}

fn chains(world: &World) -> anyhow::Result<Vec<Case>> {
    world.write("broken.json", "{", 0o644)?;
    world.write("none.json", "{}", 0o644)?;
    let deployment = &world.scene.market.deployment;
    let (escrow, registry) = (deployment.escrow.to_string(), deployment.registry.to_string());
    let nobody = "0x0000000000000000000000000000000000001234";
    let status = |more: &str, code, says: &[&str]| case(&format!("status {more}"), code, says);
    let (page, mute, store) = (&world.page, &world.mute, &world.scene.market.ipfs_api);
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
        case("jobs", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
        case("nodes", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
        case("submit --code code --payment 0.1", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
        case("deploy --save d.json", UNREACHABLE, &[page]).env("SANDRUN_RPC", page),
    ])
}

fn stores(world: &World) -> Vec<Case> {
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

fn keys(world: &World) -> anyhow::Result<Vec<Case>> {
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

async fn job_ids(world: &World) -> anyhow::Result<Vec<Case>> {
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

fn services(world: &World) -> anyhow::Result<Vec<Case>> {
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

fn agents(world: &World) -> anyhow::Result<Vec<Case>> {
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
            &[store, "404", "is --sandrun-url right?"],
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

fn configuration(world: &World) -> anyhow::Result<Vec<Case>> {
    world.write("unknown.toml", "colour = 1\n", 0o644)?;
    world.write("command.toml", "[fly]\nfast = true\n", 0o644)?;
    world.write("other.toml", "[status]\npayment = 1\n", 0o644)?;
    world.write("broken.toml", "a = [\n", 0o644)?;
    world.write("value.toml", "[pool]\nport = \"many\"\n", 0o644)?;
    let with = |file: &str, says: &[&str]| case(&format!("status --config {file}"), BAD_INPUT, says);
    Ok(vec![
        with(
            "unknown.toml",
            &["unknown.toml", "`colour` is not an option", "remove it"],
        ),
        with(
            "command.toml",
            &["command.toml", "[fly] is not a command", "sandrun-pool --help"],
        ),
        with(
            "other.toml",
            &[
                "other.toml",
                "`payment` is not an option of status",
                "status --help",
            ],
        ),
        with("broken.toml", &["broken.toml", "line 1"]),
        with("gone.toml", &["gone.toml", "is --config (SANDRUN_CONFIG) right?"]),
        case(
            "pool --config value.toml",
            BAD_INPUT,
            &["'many' for '--port", "configuration file value.toml"],
        ),
    ])
}
