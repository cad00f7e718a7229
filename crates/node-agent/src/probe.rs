//! The probe: a trivial program, to find out whether an executor whose runs failed works again.

use std::time::Duration;

use sandrun_executor::{FileContent, Submission};
use sandrun_types::{BundlePath, Interpreter, Manifest};
use tracing::debug;

use crate::execute::RunError;
use crate::node::Node;
use crate::verdict::{Verdict, verdict};

/// Programs for the interpreters that most machines have.
const PROGRAMS: [(Interpreter, &str, &[u8]); 2] = [
    (Interpreter::Python3, "probe.py", b"print('ok')\n"),
    (Interpreter::Bash, "probe.sh", b"echo ok\n"),
];
/// Pause between two questions whether it has ended.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it may take, the executor's queue included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has the executor run a trivial program. Where the machine has no interpreter for one, nothing is run, and nothing is
/// wrong.
pub(crate) async fn probe(node: &Node) -> Result<(), RunError> {
    let there = |wanted| {
        let mut installed = node.capabilities.interpreters.iter();
        installed.any(|it| it.interpreter == wanted)
    };
    let Some((_, name, text)) = PROGRAMS.into_iter().find(|(wanted, ..)| there(*wanted)) else {
        return Ok(());
    };
    let name = BundlePath::parse(name).map_err(|error| RunError::NotRun(error.to_string()))?;
    let manifest = Manifest::parse(b"{}").map_err(|error| RunError::NotRun(error.to_string()))?;
    let submission = Submission::new()
        .file(name, FileContent::Bytes(text.to_vec()))
        .manifest(&manifest);
    let run = node.executor.submit(submission).await?.job_id;
    let judged = tokio::time::timeout(PATIENCE, judge(node, &run)).await;
    if let Err(error) = node.executor.cancel(&run).await {
        debug!(run, %error, "the probe's files stay with the executor");
    }
    judged.unwrap_or_else(|_| Err(RunError::NotRun("a trivial program did not end".to_owned())))
}

async fn judge(node: &Node, run: &str) -> Result<(), RunError> {
    node.executor.wait(run, PAUSE).await?;
    let receipt = node.executor.verified_receipt(run, node.worker_id).await?;
    match verdict(&receipt, node.class)? {
        Verdict::Result(_) => Ok(()),
        Verdict::Limit | Verdict::Failed => Err(RunError::NotRun(receipt.explanation)),
    }
}
