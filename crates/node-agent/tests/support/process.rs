//! A process for tests: the sandbox's launcher, or an agent that can be killed between any two steps.

use std::path::PathBuf;

use process::agent;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "__sandbox" => sandrun_sandbox::supervisor_main(),
        Some(word) if word == "agent" => agent(arguments.map(PathBuf::from).collect()),
        Some(_) | None => std::process::exit(2),
    }
}

mod process {
    use std::error::Error;
    use std::path::{Path, PathBuf};

    use node_agent::AgentConfig;
    use sandrun_chain::{Deployment, Key};
    use sandrun_types::ChainId;

    /// `agent EXECUTOR RPC IPFS DATA DEPLOYMENTS`, the key in `AGENT_TEST_KEY`. Ends with standard input.
    pub(crate) fn agent(arguments: Vec<PathBuf>) {
        #[cfg(feature = "crash-points")]
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        let code = match work(&arguments) {
            Ok(()) => 0,
            Err(error) => {
                // the test reads it in the pipe
                tracing::error!(%error, "the agent has failed");
                1
            }
        };
        std::process::exit(code)
    }

    fn work(arguments: &[PathBuf]) -> Result<(), Box<dyn Error>> {
        let [executor, rpc, ipfs, data, deployments] = arguments else {
            return Err("five arguments".into());
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let key = Key::from_env("AGENT_TEST_KEY")?;
        let mut config = AgentConfig::new(text(executor), text(rpc), text(ipfs), key, data.clone());
        config.deployment = Some(Deployment::lookup(ChainId::LOCAL, Some(deployments))?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(node_agent::run(config, parent_has_gone()))?;
        Ok(())
    }

    /// Resolves when the test closes the pipe, or has died.
    async fn parent_has_gone() {
        use tokio::io::AsyncReadExt as _;
        let mut rest = Vec::new();
        if let Err(error) = tokio::io::stdin().read_to_end(&mut rest).await {
            tracing::debug!(%error, "standard input");
        }
    }
}
