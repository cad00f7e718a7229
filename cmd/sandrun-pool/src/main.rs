//! The command line of sandrun-pool: one file per subcommand, clap lives only here.
//!
//! Owns arguments, configuration, output and exit codes. Never decides anything about jobs or money: it turns arguments
//! into a crate's own configuration, and a crate's answer into text.

mod args;
mod cli;
mod coins;
mod commands;
mod config;
mod exit;
mod files;
mod logging;
mod output;
mod perturbation;
mod progress;
mod remote;
mod signals;
mod view;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    // the sandbox supervisor has to be single-threaded: before anything else starts
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == "__sandbox")
    {
        sandrun_sandbox::supervisor_main();
    }
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // becomes the supervisor's launcher: single-threaded as well
    if arguments
        .get(1)
        .is_some_and(|argument| argument == perturbation::COMMAND)
    {
        return perturbation::apply_and_execute(arguments.into_iter().skip(2));
    }
    match cli::parse(&arguments) {
        Ok(cli) => run(cli),
        Err(early) => early.finish(&output::Output::before_arguments(&arguments)),
    }
}

fn run(cli: cli::Cli) -> ExitCode {
    if cli.command.is_service() {
        sandrun_sandbox::give_large_buffers_back();
    }
    logging::start(&cli.global, cli.command.is_service());
    let output = output::Output::new(&cli.global);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cli.command.threads(processors))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return output.fail(&anyhow::Error::new(error).context("the async runtime did not start"));
        }
    };
    let result = runtime.block_on(commands::run(cli.command, &output));
    // a blocking task that hangs must not keep the process
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(status) => status.into(),
        Err(error) => output.fail(&error),
    }
}
