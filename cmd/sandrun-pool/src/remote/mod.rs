//! The commands at a trusted service: `--to URL` names a broker, a coordinator or an executor instead of the market.
//!
//! Owns what such a service's answers look like to people and to scripts, and which exit code its errors have. Never
//! touches a chain or a key.

mod errors;
mod fetch;
mod jobs;
mod logs;
mod nodes;
mod only;
mod overview;
mod submit;

use clap::Args;
use client_sdk::pool::{PoolClient, PoolJobId};

use crate::exit::{Failure, Status, WithStatus as _};

pub(crate) use fetch::fetch;
pub(crate) use jobs::{cancel, list, show};
pub(crate) use logs::logs;
pub(crate) use nodes::{drain, nodes};
pub(crate) use only::check;
pub(crate) use overview::overview;
pub(crate) use submit::{ServiceArgs, Wanted, submit};

use errors::failed;

/// The service.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoteArgs {
    /// Broker, coordinator or executor to use instead of the market; an empty text means the market
    #[arg(long, value_name = "URL", env = "SANDRUN_TO", hide_env_values = true)]
    to: Option<String>,
}

impl RemoteArgs {
    /// The service's address; `None` for the market.
    pub(crate) fn address(&self) -> Option<&str> {
        self.to.as_deref().map(str::trim).filter(|it| !it.is_empty())
    }

    /// The service's address, for commands that the market does not have.
    pub(crate) fn required(&self, instead: &str) -> anyhow::Result<&str> {
        self.address().ok_or_else(|| {
            let text =
                format!("this needs a broker or a coordinator: give --to URL (or SANDRUN_TO); {instead}");
            Failure::new(Status::BadInput, text)
        })
    }
}

/// Connects to the service.
async fn connect(url: &str, client: Option<&str>) -> anyhow::Result<PoolClient> {
    PoolClient::connect(url, client).await.map_err(failed)
}

fn job_id(text: &str) -> anyhow::Result<PoolJobId> {
    text.parse().status(Status::BadInput)
}
