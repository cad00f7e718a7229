//! A process for tests: the sandbox's launcher, an agent that can be killed between any two steps, a broker's node, or
//! an executor.

use std::path::PathBuf;

use process::{agent, executor, node};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "__sandbox" => sandrun_sandbox::supervisor_main(),
        Some(word) if word == "agent" => agent(arguments.map(PathBuf::from).collect()),
        Some(word) if word == "executor" => executor(arguments.map(PathBuf::from).collect()),
        Some(word) if word == "node" => node(arguments.map(PathBuf::from).collect()),
        Some(_) | None => std::process::exit(2),
    }
}

mod process {
    use std::error::Error;
    use std::path::{Path, PathBuf};

    use node_agent::{AgentConfig, BrokerNodeConfig};
    use sandrun_chain::{Deployment, Key};
    use sandrun_executor::{ExecutorConfig, SandboxConfig};
    use sandrun_types::ChainId;

    /// `agent EXECUTOR RPC IPFS DATA DEPLOYMENTS`, the key in `AGENT_TEST_KEY`. Ends with standard input.
    pub(crate) fn agent(arguments: Vec<PathBuf>) {
        #[cfg(feature = "crash-points")]
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        end(work(&arguments))
    }

    fn end(result: Result<(), Box<dyn Error>>) {
        let code = match result {
            Ok(()) => 0,
            Err(error) => {
                // the test reads it in the pipe
                tracing::error!(%error, "it has failed");
                1
            }
        };
        std::process::exit(code)
    }

    /// `node BROKER EXECUTOR DATA`. Ends with standard input.
    pub(crate) fn node(arguments: Vec<PathBuf>) {
        end(serve(&arguments))
    }

    fn serve(arguments: &[PathBuf]) -> Result<(), Box<dyn Error>> {
        let [broker, executor, data] = arguments else {
            return Err("three arguments".into());
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let config = BrokerNodeConfig::new(text(broker), text(executor), data.clone());
        let runtime = runtime()?;
        runtime.block_on(node_agent::run_for_broker(config, |_| (), parent_has_gone()))?;
        Ok(())
    }

    /// `executor ADDRESS DATA`, anonymous. Ends with standard input.
    pub(crate) fn executor(arguments: Vec<PathBuf>) {
        end(execute(&arguments))
    }

    fn execute(arguments: &[PathBuf]) -> Result<(), Box<dyn Error>> {
        let [address, data] = arguments else {
            return Err("two arguments".into());
        };
        let launcher = vec![std::env::current_exe()?.into_os_string(), "__sandbox".into()];
        let mut config = ExecutorConfig::new(data.clone(), SandboxConfig::new(launcher)).without_quota();
        config.listen = address.to_string_lossy().parse()?;
        let runtime = runtime()?;
        runtime.block_on(sandrun_executor::serve(config, parent_has_gone()))?;
        Ok(())
    }

    fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    }

    fn work(arguments: &[PathBuf]) -> Result<(), Box<dyn Error>> {
        let [executor, rpc, ipfs, data, deployments] = arguments else {
            return Err("five arguments".into());
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let key = Key::from_env("AGENT_TEST_KEY")?;
        let mut config = AgentConfig::new(text(executor), text(rpc), text(ipfs), key, data.clone());
        config.deployment = Some(Deployment::lookup(ChainId::LOCAL, Some(deployments))?);
        let runtime = runtime()?;
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
