//! `status` at a service: the service as a whole.

use client_sdk::pool::{Node, Overview};
use serde::Serialize;

use super::{connect, failed};
use crate::exit::Status;
use crate::output::{Output, Report};

#[derive(Debug, Serialize)]
struct Shown {
    /// What it is: `broker`, `coordinator` or `executor`.
    service: &'static str,
    url: String,
    version: Option<String>,
    /// Nodes that it knows; `None` where it has none but itself.
    nodes: Option<usize>,
    up: usize,
    draining: usize,
    lost: usize,
    /// Jobs that have not ended.
    open: Option<u64>,
}

impl Report for Shown {
    fn human(&self) -> String {
        let version = self.version.as_deref().unwrap_or("(of an unknown version)");
        let mut text = format!("service  {} {version} at {}\n", self.service, self.url);
        if let Some(nodes) = self.nodes {
            text += &format!(
                "nodes    {nodes}: {} up, {} draining, {} lost\n",
                self.up, self.draining, self.lost
            );
        }
        if let Some(open) = self.open {
            text += &format!("jobs     {open} open\n");
        }
        text
    }
}

/// How many of these nodes stand so; those that say nothing of themselves are up.
fn count(nodes: &[Node], status: &str) -> usize {
    let is = |node: &&Node| node.status.as_deref().unwrap_or("up") == status;
    nodes.iter().filter(is).count()
}

/// Shows the service.
pub(crate) async fn overview(to: &str, output: &Output) -> anyhow::Result<Status> {
    let service = connect(to, None).await?;
    let Overview { jobs, .. } = service.overview().await.map_err(failed)?;
    let nodes = match service.nodes().await {
        Ok(nodes) => Some(nodes),
        // an executor is a node itself
        Err(client_sdk::pool::PoolClientError::Unsupported { .. }) => None,
        Err(error) => return Err(failed(error)),
    };
    let known = nodes.as_deref().unwrap_or_default();
    output.result(&Shown {
        service: service.service().kind.word(),
        url: service.url().to_owned(),
        version: service.service().version.clone(),
        nodes: nodes.as_ref().map(Vec::len),
        up: count(known, "up"),
        draining: count(known, "draining"),
        lost: count(known, "lost"),
        open: jobs,
    })?;
    Ok(Status::Success)
}
