//! `completions`: a shell's completion script.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::exit::Status;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sandrun-pool completions bash > /etc/bash_completion.d/sandrun-pool")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let mut command = crate::cli::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "sandrun-pool", &mut script);
    crate::output::write_out(&script)?;
    Ok(Status::Success)
}
