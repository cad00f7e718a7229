//! The chain, and the market's contracts on it.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::{SinkExt as _, StreamExt as _};
use sandrun_chain::{Chain, ConnectError, ConnectOptions, Deployment, Head, MarketReader, VerifyError};
use sandrun_types::{ChainId, UnixSeconds};
use tokio_tungstenite::tungstenite::Message;

use super::{ANSWER, Arguments, Finding, Findings};
use crate::args::ChainArgs;
use crate::exit::words;

/// Ages of the newest block, in seconds, from which on it is worth a look, and a fault.
const AGES: (u64, u64) = (60, 600);
/// How far ahead of this machine's clock a block may be, in seconds.
const AHEAD: u64 = 15;

/// What the findings about the contracts are called.
const CONTRACTS: &str = "contracts";

/// This machine's time.
pub(super) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}

/// Connects for a check.
async fn connect(rpc: &str, chain: Option<u64>) -> Result<Chain, ConnectError> {
    let options = ConnectOptions {
        timeout: ANSWER,
        ..ConnectOptions::default()
    };
    Chain::connect_with(rpc, chain.map(ChainId), options).await
}

/// What of a chain can be used by further checks.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// The chain, where it answers and is the right one.
    pub(super) chain: Option<Chain>,
    /// The market's contracts on it, where they are those of this release.
    pub(super) market: Option<MarketReader>,
}

/// Reachable, the right one, fresh; its contracts. What can't be looked at for one reason is not found wrong once more.
pub(super) async fn check(arguments: &Arguments, rpc: &str) -> (Findings, Reached) {
    let refused = |finding| {
        let contracts = Finding::skip(CONTRACTS, "the chain can't be used");
        (vec![finding, contracts], Reached::default())
    };
    let chain = match connect(rpc, arguments.chain_id).await {
        Ok(chain) => chain,
        Err(error @ ConnectError::WrongChain { .. }) => {
            let todo = "use an RPC of that chain, or another --chain-id";
            return refused(Finding::fail("chain", error.to_string(), todo));
        }
        Err(error) => {
            let todo = "start the node, or give the address of one that runs with --blockchain-rpc";
            return refused(Finding::fail("chain", words(&error.into()), todo));
        }
    };
    let head = match chain.head().await {
        Ok(head) => head,
        Err(error) => {
            let seen = format!("{} says no block: {error}", chain.endpoint());
            return refused(Finding::fail("chain", seen, "use another RPC"));
        }
    };
    let seen = format!("{} serves chain {}", chain.endpoint(), chain.id());
    let mut found = vec![Finding::ok("chain", seen), freshness(&head, now(), chain.id())];
    let (finding, market) = contracts(arguments, chain.clone()).await;
    found.push(finding);
    let reached = Reached {
        chain: Some(chain),
        market,
    };
    (found, reached)
}

/// Whether the newest block is new.
fn freshness(head: &Head, now: UnixSeconds, chain: ChainId) -> Finding {
    let (age, ahead) = (head.timestamp.until(now), now.until(head.timestamp));
    let what = "chain head";
    let seen = format!("block {} is {age} s old", head.block.number);
    if ahead > AHEAD {
        let seen = format!(
            "block {} is {ahead} s ahead of this machine's clock",
            head.block.number
        );
        return Finding::warn(what, seen, "set the clock (timedatectl, chronyc)");
    }
    // a local test chain makes blocks on demand
    let is_public = chain != ChainId::LOCAL;
    if is_public && age > AGES.1 {
        let todo = "the RPC has fallen behind or the chain stands: use another RPC";
        return Finding::fail(what, seen, todo);
    }
    if is_public && age > AGES.0 {
        let todo = "the RPC may be behind, or this machine's clock ahead: compare with another source";
        return Finding::warn(what, seen, todo);
    }
    Finding::ok(what, seen)
}

/// Which contracts are meant on `chain`.
fn deployment(arguments: &Arguments, chain: ChainId) -> anyhow::Result<Deployment> {
    let args = ChainArgs {
        blockchain_rpc: String::new(),
        chain_id: None,
        rpc_timeout: ANSWER.as_secs(),
        deployments: arguments.deployments.clone(),
        escrow: arguments.escrow,
        registry: arguments.registry,
    };
    args.deployment(chain)
}

async fn contracts(arguments: &Arguments, chain: Chain) -> (Finding, Option<MarketReader>) {
    let what = CONTRACTS;
    let deployment = match deployment(arguments, chain.id()) {
        Ok(deployment) => deployment,
        Err(error) => {
            let todo = "name the file of deployments with --deployments, or the contracts with --escrow and --registry";
            return (Finding::fail(what, words(&error), todo), None);
        }
    };
    if let Err(error) = deployment.verify(&chain).await {
        let todo = match error {
            VerifyError::Rpc(_) => "try again, or use another RPC",
            VerifyError::WrongChain { .. }
            | VerifyError::NoCode { .. }
            | VerifyError::WrongContract { .. } => {
                "check --deployments; a test chain that was started anew has to be deployed to again"
            }
        };
        return (Finding::fail(what, words(&error.into()), todo), None);
    }
    let escrow = deployment.escrow;
    let reader = MarketReader::new(chain, deployment);
    match reader.parameters().await {
        Ok(terms) => {
            let seen = format!(
                "escrow {escrow}, registry {}: unit of stake {}, seat window {} s, reveal window {} s, longest job {} s",
                terms.registry, terms.unit, terms.seat_window, terms.reveal_window, terms.max_wall
            );
            (Finding::ok(what, seen), Some(reader))
        }
        Err(error) => {
            let seen = format!("the parameters of {escrow} can't be read: {error}");
            let todo = "use the release of this program that the contracts were deployed with";
            (Finding::fail(what, seen, todo), None)
        }
    }
}

/// Asks a WebSocket for the newest block's number.
pub(super) async fn websocket(url: &str) -> Findings {
    let what = "websocket";
    let todo = "start the node with its WebSocket on, or leave --websocket out: no service of ours needs it";
    let asked = async {
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
        let question = r#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}"#;
        socket.send(Message::text(question)).await?;
        let answer = socket.next().await.transpose()?;
        anyhow::Ok(
            answer
                .and_then(|it| it.into_text().ok())
                .unwrap_or_default()
                .to_string(),
        )
    };
    vec![match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(answer)) if answer.contains("\"result\"") => Finding::ok(what, "it answers"),
        Ok(Ok(_)) => Finding::fail(what, "what it answers is no block number", todo),
        Ok(Err(error)) => Finding::fail(what, words(&error), todo),
        Err(_) => Finding::fail(what, format!("no answer within {} s", ANSWER.as_secs()), todo),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use sandrun_chain::{BlockHash, BlockRef};
    use sandrun_types::B256;

    #[test]
    fn an_old_head_is_a_fault_of_a_public_chain_alone() {
        let head = Head {
            block: BlockRef {
                number: 7,
                hash: BlockHash(B256::ZERO),
            },
            timestamp: UnixSeconds(1_000),
            base_fee: None,
        };
        let level = |now, chain| freshness(&head, UnixSeconds(now), ChainId(chain)).level;
        assert_eq!(level(1_012, 1), Level::Ok);
        assert_eq!(level(1_061, 1), Level::Warn);
        assert_eq!(level(1_601, 1), Level::Fail);
        assert_eq!(level(9_999, ChainId::LOCAL.0), Level::Ok);
        assert_eq!(level(980, ChainId::LOCAL.0), Level::Warn);
    }
}
