//! A process for tests: the sandbox's launcher, or a service that can be killed.

use std::error::Error;
use std::ffi::OsString;
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

#[expect(clippy::print_stderr, reason = "the test that started it shows what it says")]
fn end(result: Result<(), Box<dyn Error>>) {
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error:?}", std::process::id());
            1
        }
    };
    std::process::exit(code)
}

/// `executor ADDRESS DATA KEY`. Ends with standard input.
fn execute(arguments: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let [address, data, key] = arguments else {
        return Err("three arguments".into());
    };
    let launcher = vec![std::env::current_exe()?.into_os_string(), "__sandbox".into()];
    let sandbox = sandrun_executor::SandboxConfig::new(launcher);
    let mut config = sandrun_executor::ExecutorConfig::new(data.clone(), sandbox).without_quota();
    config.listen = address.to_string_lossy().parse()?;
    config.worker_key = Some(key.clone());
    runtime()?.block_on(sandrun_executor::serve(config, parent_has_gone()))?;
    Ok(())
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

/// `broker ADDRESS DATABASE`. Ends with standard input.
fn broker(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [address, database] = arguments else {
        return Err("two arguments".into());
    };
    let config = BrokerConfig {
        listen: address.parse()?,
        database: database.parse()?,
        settings: QueueSettings::BROKER,
    };
    runtime()?.block_on(async {
        Broker::start(config).await?.run(parent_has_gone()).await?;
        Ok(())
    })
}

/// `coordinator ADDRESS DATABASE WORKERS`. Ends with standard input.
fn coordinator(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [address, database, workers] = arguments else {
        return Err("three arguments".into());
    };
    let config = CoordinatorConfig {
        listen: address.parse()?,
        database: database.parse()?,
        settings: QueueSettings::COORDINATOR,
        workers: workers.into(),
        health_interval: Duration::from_millis(300),
        allow_unproven: false,
        name: "the test's coordinator".to_owned(),
    };
    runtime()?.block_on(async {
        Coordinator::start(config).await?.run(parent_has_gone()).await?;
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
