//! `demo`: the example jobs on a local market.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use sandrun_testnet::{Demo, Lines, LocalMarket, Ports, Store, Summary, TestnetConfig};

use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::signals::Signals;

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sandrun-pool demo --summary summary.json --results results")]
pub(crate) struct Arguments {
    /// Directory of the example jobs, each a directory with a job.json
    #[arg(long, value_name = "DIR", default_value = "testnet/jobs")]
    jobs: PathBuf,
    /// Where the results go; emptied at the start
    #[arg(long, value_name = "DIR", default_value = "target/demo/results")]
    results: PathBuf,
    /// File for the summary, JSON
    #[arg(long, value_name = "FILE", default_value = "target/demo/summary.json")]
    summary: PathBuf,
}

impl Report for Summary {
    fn human(&self) -> String {
        let mut text = String::from("\n");
        for job in &self.jobs {
            text += &format!(
                "{}  job {}\n  digests    {}\n  quorum {}, {} paid, gas {}, {} files verified\n",
                job.code,
                job.id,
                job.digests.join("\n             "),
                job.quorum,
                job.payments.len(),
                job.gas,
                job.files.iter().filter(|file| file.verified).count()
            );
        }
        for slash in &self.slashes {
            text += &format!(
                "slashed    {} coin of {} ({})\n",
                slash.amount, slash.node, slash.reason
            );
        }
        text
    }
}

/// Runs the demo.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let jobs = jobs(&arguments.jobs)?;
    let scratch = PathBuf::from("target/demo/market");
    let config = TestnetConfig {
        program: std::env::current_exe().context("the path of this program can't be found")?,
        directory: std::path::absolute(scratch)?,
        publish: None,
        nodes: super::testnet::roles(3, true, false),
        block_time: Some(1),
        ports: Ports::Free,
        manager: true,
        store: Store::Embedded,
        lines: Lines::default(),
        agent_arguments: Vec::new(),
    };
    let mut signals = Signals::watch();
    let market = tokio::select! {
        market = LocalMarket::start(config, |line| output.note(line)) => market.status(Status::Unreachable)?,
        status = signals.asked() => return Ok(status),
    };
    let summary = tokio::select! {
        summary = play(&market, arguments, &jobs, output) => Ok(summary),
        status = signals.asked() => Err(status),
    };
    market.stop().await;
    let summary = match summary {
        Ok(summary) => summary?,
        Err(status) => return Ok(status),
    };
    if let Some(directory) = arguments.summary.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&arguments.summary, serde_json::to_string_pretty(&summary)? + "\n")
        .with_context(|| format!("writing {}", arguments.summary.display()))?;
    output.result(&summary)?;
    output.note(&format!(
        "summary {}, results {}",
        arguments.summary.display(),
        arguments.results.display()
    ));
    Ok(Status::Success)
}

async fn play(
    market: &LocalMarket,
    arguments: &Arguments,
    jobs: &[PathBuf],
    output: &Output,
) -> anyhow::Result<Summary> {
    Demo::new(market, &arguments.results)
        .await?
        .run(jobs, |line| output.note(line))
        .await
}

/// The job directories, sorted by name.
fn jobs(directory: &std::path::Path) -> anyhow::Result<Vec<PathBuf>> {
    let items = std::fs::read_dir(directory)
        .with_context(|| {
            format!(
                "--jobs {}: run this in the project's directory",
                directory.display()
            )
        })
        .status(Status::BadInput)?;
    let mut jobs: Vec<PathBuf> = items
        .filter_map(|item| item.ok().map(|it| it.path()))
        .filter(|path| path.join("job.json").is_file())
        .collect();
    jobs.sort();
    if jobs.is_empty() {
        return Err(Failure::new(
            Status::BadInput,
            format!("{} holds no job", directory.display()),
        ));
    }
    Ok(jobs)
}
