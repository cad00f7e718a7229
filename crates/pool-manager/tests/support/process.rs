//! A process for tests: the sandbox's launcher, or a service that can be killed. A service listens on a free port, and
//! its first line says where.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pool_manager::{Broker, BrokerConfig, Coordinator, CoordinatorConfig, QueueSettings};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "__sandbox" => sandrun_sandbox::supervisor_main(),
        Some(word) if word == "executor" => end(execute(&arguments.map(PathBuf::from).collect::<Vec<_>>())),
        Some(word) if word == "broker" => end(broker(&texts(arguments))),
        Some(word) if word == "coordinator" => end(coordinator(&texts(arguments))),
        Some(_) | None => std::process::exit(2),
    }
}

fn end(result: Result<(), Box<dyn Error>>) {
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            // the test that started it shows it
            drop(writeln!(std::io::stderr(), "{error:?}"));
            1
        }
    };
    std::process::exit(code)
}

/// Any free port: one that was free a moment ago may be somebody else's by now.
const ANYWHERE: &str = "127.0.0.1:0";

fn say(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{address}")?;
    out.flush()
}

/// `executor DATA KEY`. Ends with standard input.
fn execute(arguments: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let [data, key] = arguments else {
        return Err("two arguments".into());
    };
    let launcher = vec![std::env::current_exe()?.into_os_string(), "__sandbox".into()];
    let sandbox = sandrun_executor::SandboxConfig::new(launcher);
    let mut config = sandrun_executor::ExecutorConfig::new(data.clone(), sandbox).without_quota();
    config.listen = ANYWHERE.parse()?;
    config.worker_key = Some(key.clone());
    runtime()?.block_on(async {
        let executor = sandrun_executor::Executor::start(config).await?;
        say(executor.local_addr())?;
        executor.run(parent_has_gone()).await?;
        Ok(())
    })
}

fn texts(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    arguments.map(|it| it.to_string_lossy().into_owned()).collect()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// `broker DATABASE`. Ends with standard input.
fn broker(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [database] = arguments else {
        return Err("one argument".into());
    };
    let config = BrokerConfig {
        listen: ANYWHERE.parse()?,
        database: database.parse()?,
        settings: QueueSettings::BROKER,
    };
    runtime()?.block_on(async {
        let broker = Broker::start(config).await?;
        say(broker.local_addr())?;
        broker.run(parent_has_gone()).await?;
        Ok(())
    })
}

/// `coordinator DATABASE WORKERS`. Ends with standard input.
fn coordinator(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [database, workers] = arguments else {
        return Err("two arguments".into());
    };
    let config = CoordinatorConfig {
        listen: ANYWHERE.parse()?,
        database: database.parse()?,
        settings: QueueSettings::COORDINATOR,
        workers: workers.into(),
        health_interval: Duration::from_millis(300),
        allow_unproven: false,
        name: "the test's coordinator".to_owned(),
    };
    runtime()?.block_on(async {
        let coordinator = Coordinator::start(config).await?;
        say(coordinator.local_addr())?;
        coordinator.run(parent_has_gone()).await?;
        Ok(())
    })
}

/// Resolves when the test closes the pipe, or has died.
async fn parent_has_gone() {
    use tokio::io::AsyncReadExt as _;
    let mut rest = Vec::new();
    if let Err(error) = tokio::io::stdin().read_to_end(&mut rest).await {
        tracing::debug!(%error, "standard input");
    }
}
