//! The commands and the flags that all of them share.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Runs scripts on other people's machines, with nobody to trust: jobs are escrowed on a chain, run by several nodes in a
/// sandbox, and paid when the nodes agree.
#[derive(Debug, Parser)]
#[command(name = "sandrun-pool", version, after_long_help = crate::exit::HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Log more; twice for everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Format of log lines
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        env = "SANDRUN_LOG_FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// Configuration file (TOML); long flags are its keys, tables are commands
    #[arg(long, global = true, value_name = "FILE", env = crate::config::CONFIG_ENV)]
    pub(crate) config: Option<PathBuf>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Post a job, wait for its result, download and verify it
    Submit(commands::submit::Arguments),
    /// Say how a job stands: what it waits for, who owes the next step, until when
    Job(commands::job::Arguments),
    /// List jobs, newest first
    Jobs(commands::jobs::Arguments),
    /// List the nodes and what they offer
    Nodes(commands::nodes::Arguments),
    /// Show the market as a whole
    Status(commands::status::Arguments),
    /// Say what a job would cost
    Quote(commands::quote::Arguments),
    /// Take a job back
    Cancel(commands::cancel::Arguments),
    /// Run a node's agent: take seats, run jobs, earn
    Agent(commands::agent::Arguments),
    /// Run the executor (sandrun): jobs over HTTP, each in its own sandbox
    Sandrun(commands::sandrun::Arguments),
    /// Run a pool manager: index, keeper and queries
    Pool(commands::pool::Arguments),
    /// Run the embedded content store with Kubo's RPC
    Content(commands::content::Arguments),
    /// Make or show keys
    Keys(commands::keys::Arguments),
    /// Show or change a node's stake
    Stake(commands::stake::Arguments),
    /// Show what a node has earned
    Earnings(commands::earnings::Arguments),
    /// Pay out a balance
    Withdraw(commands::withdraw::Arguments),
    /// Start a local market with everything in it, until Ctrl-C
    Testnet(commands::testnet::Arguments),
    /// Run the example jobs on a local market and show what happened
    Demo(commands::demo::Arguments),
    /// Deploy the contracts
    Deploy(commands::deploy::Arguments),
    /// Print a shell's completion script
    Completions(commands::completions::Arguments),
    /// Runs a command that ends with its parent
    #[command(name = "__tether", hide = true)]
    Tether(commands::tether::Arguments),
}

impl Command {
    /// Whether this runs until it is told to stop.
    pub(crate) const fn is_service(&self) -> bool {
        match self {
            Self::Agent(_) | Self::Sandrun(_) | Self::Pool(_) | Self::Content(_) => true,
            Self::Submit(_)
            | Self::Job(_)
            | Self::Jobs(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Quote(_)
            | Self::Cancel(_)
            | Self::Keys(_)
            | Self::Stake(_)
            | Self::Earnings(_)
            | Self::Withdraw(_)
            | Self::Testnet(_)
            | Self::Demo(_)
            | Self::Deploy(_)
            | Self::Completions(_)
            | Self::Tether(_) => false,
        }
    }
}

/// An end before any command ran: help, version, or wrong arguments.
#[derive(Debug)]
pub(crate) enum Early {
    /// Clap has its own words and status.
    Clap(clap::Error),
    /// The configuration file is wrong.
    Config(anyhow::Error),
}

impl Early {
    /// Prints it and gives the exit code.
    pub(crate) fn finish(self) -> ExitCode {
        match self {
            Self::Clap(error) => {
                let _ = error.print();
                // clap's own statuses: 0 for help, 2 for wrong usage
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
            Self::Config(error) => crate::exit::report(&error),
        }
    }
}

/// Parses the process's arguments: flag, then environment, then configuration file.
pub(crate) fn parse() -> Result<Cli, Early> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = crate::config::apply(Cli::command(), &arguments).map_err(Early::Config)?;
    let matches = command.try_get_matches_from(arguments).map_err(Early::Clap)?;
    Cli::from_arg_matches(&matches).map_err(Early::Clap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
