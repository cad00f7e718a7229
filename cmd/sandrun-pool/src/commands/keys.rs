//! `keys`: makes and shows accounts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sandrun_chain::Key;
use sandrun_types::Address;
use serde::Serialize;

use crate::args::PasswordArgs;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};

/// Arguments of `keys`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool keys new node.key\n  \
    sandrun-pool keys show node.key\n\n\
    For an executor's identity see `sandrun-pool sandrun --generate-key`.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a new key in a file of mode 0600
    #[command(after_help = "Example:\n  sandrun-pool keys new node.key")]
    New {
        /// The file; must not exist
        file: PathBuf,
    },
    /// Show the address of a key
    #[command(after_help = "Example:\n  sandrun-pool keys show node.key")]
    Show {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

/// What is said of a key: never the key.
#[derive(Debug, Serialize)]
struct Shown {
    address: Address,
    file: PathBuf,
}

impl Report for Shown {
    fn human(&self) -> String {
        format!("{}\n", self.address)
    }
}

/// Makes or shows a key.
pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let (key, file) = match &arguments.what {
        What::New { file } => (Key::generate(file).status(Status::BadInput)?, file),
        What::Show { file, password } => (password.load(file)?, file),
    };
    output.result(&Shown {
        address: key.address(),
        file: file.clone(),
    })?;
    Ok(Status::Success)
}
