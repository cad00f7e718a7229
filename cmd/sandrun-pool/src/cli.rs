//! The commands and the flags that all of them share.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::exit::{Failure, Status};
use crate::output::Output;

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

/// Heading of the flags of every command.
const GLOBAL: &str = "Global options";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print the result as one JSON document
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Log more; twice for everything
    #[arg(long, short, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Format of log lines
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_enum,
        default_value = "text",
        env = "SANDRUN_LOG_FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// Configuration file (TOML); long flags are its keys, tables are commands
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE", env = crate::config::CONFIG_ENV)]
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
    /// Run a program in the sandbox on this machine, without any service; --verify says whether it is deterministic
    Run(commands::run::Arguments),
    /// Show what happened in a run, or where two runs part
    Trace(commands::trace::Arguments),
    /// Check that a file is an output of a run, by its receipt and a proof
    Verify(commands::verify::Arguments),
    /// Download and verify the result of a job that was posted earlier
    Fetch(commands::fetch::Arguments),
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
    /// Show what a job at a service has printed, and follow it
    Logs(commands::logs::Arguments),
    /// Let a node of a service take nothing new, or take jobs again
    Drain(commands::drain::Arguments),
    /// Check this machine: chain, contracts, store, executor, keys, clock, disk, isolation
    Doctor(commands::doctor::Arguments),
    /// Run a node's agent: take seats, run jobs, earn
    Agent(commands::agent::Arguments),
    /// Run the executor (sandrun): jobs over HTTP, each in its own sandbox
    Sandrun(commands::sandrun::Arguments),
    /// Run a broker: an open queue for whoever submits and whoever works, without a chain
    Broker(commands::broker::Arguments),
    /// Run a trusted pool: jobs go to the workers on a list, and only what they have signed counts
    Coordinator(commands::coordinator::Arguments),
    /// Run a broker's node: claim jobs, run them on an executor, answer
    Node(commands::node::Arguments),
    /// Run a pool manager: index, keeper and queries
    Pool(commands::pool::Arguments),
    /// Run the embedded content store with Kubo's RPC
    Content(commands::content::Arguments),
    /// Lock, build and list environments: images of packages that jobs name in their manifest
    Env(commands::env::Arguments),
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
    /// Threads for its requests, of so many processors. Services whose calls are short and end at one thread, the queue's,
    /// are faster with few: with more of them than there is work for, most of the time goes into waking each other.
    pub(crate) const fn threads(&self, processors: usize) -> usize {
        let share = if matches!(self, Self::Broker(_) | Self::Node(_)) {
            4
        } else if matches!(self, Self::Coordinator(_)) {
            2
        } else {
            1
        };
        processors.div_ceil(share)
    }

    /// Whether this runs until it is told to stop.
    pub(crate) const fn is_service(&self) -> bool {
        match self {
            Self::Agent(_)
            | Self::Sandrun(_)
            | Self::Broker(_)
            | Self::Coordinator(_)
            | Self::Node(_)
            | Self::Pool(_)
            | Self::Content(_) => true,
            Self::Submit(_)
            | Self::Run(_)
            | Self::Fetch(_)
            | Self::Trace(_)
            | Self::Verify(_)
            | Self::Job(_)
            | Self::Jobs(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Quote(_)
            | Self::Cancel(_)
            | Self::Logs(_)
            | Self::Doctor(_)
            | Self::Drain(_)
            | Self::Env(_)
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
    /// Clap has its own words and status; the remark says where a wrong value is from, if not from the command line.
    Clap(clap::Error, Option<String>),
    /// The configuration file is wrong.
    Config(anyhow::Error),
}

impl Early {
    /// Prints it and gives the exit code.
    pub(crate) fn finish(self, output: &Output) -> ExitCode {
        match self {
            // 0 is what help and version end with
            Self::Clap(error, remark) if error.exit_code() == 0 || !output.is_json() => {
                let _ = error.print();
                if let Some(remark) = remark {
                    crate::output::remark(&remark);
                }
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Status::BadInput.code()))
            }
            Self::Clap(error, remark) => {
                let mut text = sentence(&error);
                text.extend(remark.map(|remark| format!("; {remark}")));
                output.fail(&Failure::new(Status::BadInput, text))
            }
            Self::Config(error) => output.fail(&error),
        }
    }
}

/// What is wrong, without the usage that follows it.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\n\n").unwrap_or(text.len());
    let text = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    // a hidden command is among those that clap lists here
    text.replace(", __tether", "")
}

/// Parses the process's arguments: flag, then environment, then configuration file.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Cli, Early> {
    let mut command = crate::config::with_variables(Cli::command());
    if !std::io::stdout().is_terminal() {
        // examples are copied out of files and pipes
        command = command.term_width(0);
    }
    let (command, file) = crate::config::apply(command, arguments).map_err(Early::Config)?;
    let wrong = |mut error: clap::Error| {
        let remark = file.as_ref().and_then(|file| file.blame(&error));
        plain_usage(&mut error, arguments);
        Early::Clap(error, remark)
    };
    let matches = command.try_get_matches_from(arguments).map_err(wrong)?;
    crate::remote::check(&matches).map_err(wrong)?;
    Cli::from_arg_matches(&matches).map_err(wrong)
}

/// Puts a command's own usage into an error: clap's names what is in the environment as if it had to be given.
fn plain_usage(error: &mut clap::Error, arguments: &[OsString]) {
    if error.get(ContextKind::Usage).is_none() {
        return;
    }
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        at = at.find_subcommand(word).unwrap_or(at);
    }
    let usage = at.clone().render_usage();
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_names_nothing_that_need_not_be_given() {
        let words = |line: &str| {
            let line: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let command = Cli::command().mut_subcommand("job", |job| {
                // a variable that everybody has
                job.mut_arg("blockchain_rpc", |it| it.env("PATH"))
            });
            let mut error = command.try_get_matches_from(&line).unwrap_err();
            plain_usage(&mut error, &line);
            error.to_string()
        };
        let missing = words("sandrun-pool job --why");
        assert!(
            missing.contains("Usage: sandrun-pool job [OPTIONS] <JOB>"),
            "{missing}"
        );
        let nested = words("sandrun-pool env lock");
        assert!(
            nested.contains("Usage: sandrun-pool env lock [OPTIONS]"),
            "{nested}"
        );
        assert!(words("sandrun-pool --help").contains("Commands:"));
    }
}
