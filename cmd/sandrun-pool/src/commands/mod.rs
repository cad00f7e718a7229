//! One file per subcommand.

pub(crate) mod agent;
pub(crate) mod broker;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod content;
pub(crate) mod coordinator;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod earnings;
pub(crate) mod env;
pub(crate) mod fetch;
mod finished;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod nodes;
mod place;
pub(crate) mod pool;
mod posting;
pub(crate) mod quote;
pub(crate) mod run;
pub(crate) mod sandrun;
pub(crate) mod stake;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod testnet;
pub(crate) mod tether;
pub(crate) mod trace;
pub(crate) mod verify;
pub(crate) mod withdraw;

use crate::cli::Command;
use crate::exit::Status;
use crate::output::Output;

pub(crate) use place::check_usual;

/// Runs a command.
pub(crate) async fn run(command: Command, output: &Output) -> anyhow::Result<Status> {
    match command {
        Command::Submit(it) => submit::run(it, output).await,
        Command::Run(it) => run::run(it, output).await,
        Command::Trace(it) => trace::run(it, output).await,
        Command::Verify(it) => verify::run(it, output).await,
        Command::Fetch(it) => fetch::run(it, output).await,
        Command::Job(it) => job::run(&it, output).await,
        Command::Jobs(it) => jobs::run(&it, output).await,
        Command::Nodes(it) => nodes::run(&it, output).await,
        Command::Status(it) => status::run(&it, output).await,
        Command::Quote(it) => quote::run(&it, output).await,
        Command::Cancel(it) => cancel::run(&it, output).await,
        Command::Logs(it) => logs::run(&it, output).await,
        Command::Doctor(it) => doctor::run(&it, output).await,
        Command::Drain(it) => drain::run(&it, output).await,
        Command::Agent(it) => agent::run(it).await,
        Command::Sandrun(it) => sandrun::run(&it).await,
        Command::Broker(it) => broker::run(it).await,
        Command::Coordinator(it) => coordinator::run(it).await,
        Command::Node(it) => node::run(it).await,
        Command::Pool(it) => pool::run(it).await,
        Command::Content(it) => content::run(&it).await,
        Command::Env(it) => env::run(it, output).await,
        Command::Keys(it) => keys::run(&it, output),
        Command::Stake(it) => stake::run(&it, output).await,
        Command::Earnings(it) => earnings::run(&it, output).await,
        Command::Withdraw(it) => withdraw::run(&it, output).await,
        Command::Testnet(it) => testnet::run(&it, output).await,
        Command::Demo(it) => demo::run(&it, output).await,
        Command::Deploy(it) => deploy::run(&it, output).await,
        Command::Completions(it) => completions::run(&it),
        Command::Tether(it) => tether::run(&it).await,
    }
}
