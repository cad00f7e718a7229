//! `content`: the embedded content store as a service, with Kubo's RPC.

use std::path::PathBuf;

use clap::Args;
use sandrun_content::{EmbeddedConfig, EmbeddedStore, Service, ServiceConfig};

use crate::args::ListenArgs;
use crate::exit::{Status, WithStatus as _};
use crate::output::announce;
use crate::signals::shutdown;

/// Arguments of `content`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool content\n  \
    sandrun-pool content --port 0 --data-dir /var/lib/sandrun-pool/content\n  \
    curl http://127.0.0.1:5001/ipfs/CID/stdout")]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: ListenArgs,
    /// Port; 0 takes any free one
    #[arg(long, default_value_t = 5001, env = "SANDRUN_CONTENT_PORT")]
    port: u16,
    /// Directory of the blocks
    #[arg(long, value_name = "DIR", env = "SANDRUN_CONTENT_DIR")]
    data_dir: Option<PathBuf>,
}

/// Serves until the process is told to end.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let directory = arguments
        .data_dir
        .clone()
        .unwrap_or_else(|| crate::config::home().join("content"));
    let store = EmbeddedStore::open(EmbeddedConfig::new(directory))
        .await
        .status(Status::BadInput)?;
    let config = ServiceConfig::new(arguments.listen.at(arguments.port));
    let service = Service::bind(store, config).await.status(Status::BadInput)?;
    announce(&format!("listening on {}", service.url()));
    service.run(shutdown()).await?;
    Ok(Status::Success)
}
