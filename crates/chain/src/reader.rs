//! Views of the contracts. Owns the questions and the words of the answers; never follows the chain (see `watch`) and
//! never changes it.

mod history;
mod views;

use alloy::contract::Error as ContractError;
use futures::{StreamExt as _, TryStreamExt as _};
use sandrun_core::market::{Outcome, Phase, Round};
use sandrun_types::{
    Address, Amount, B256, ChainId, ClassId, JobId, NodeIndex, SeatIndex, Token, U256, UnixSeconds,
};

use crate::abi::{Erc20, Escrow, Registry};
use crate::connect::Chain;
use crate::deployment::Deployment;
use crate::rpc::{ReadError, RpcError};

pub(crate) use history::Ranges;
pub use views::{EscrowNode, JobState, NodeRecord, OptIn, Parameters, RegistryNode, SeatSet, TokenTerms};

/// Requests in flight at once when many things are read.
const CONCURRENCY: usize = 8;

/// Why the deployment is not used.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Another chain.
    #[error(
        "the deployment is for chain {expected}, the RPC serves chain {found}: use a deployment of chain {found}"
    )]
    WrongChain {
        /// Chain of the deployment.
        expected: ChainId,
        /// Chain of the RPC.
        found: ChainId,
    },
    /// Nothing there.
    #[error(
        "there is no contract at {address}, where the {what} of chain {chain} should be: check the address, and that \
         this chain was not started anew since the deployment"
    )]
    NoCode {
        /// Which contract.
        what: &'static str,
        /// Where.
        address: Address,
        /// The chain.
        chain: ChainId,
    },
    /// Something else there.
    #[error("the contract at {address} is not our {what} ({detail}): check the addresses of the deployment")]
    WrongContract {
        /// Which contract.
        what: &'static str,
        /// Where.
        address: Address,
        /// What does not fit.
        detail: String,
    },
    /// No usable answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// Reads one market on one chain; cheap to clone.
#[derive(Debug, Clone)]
pub struct MarketReader {
    chain: Chain,
    deployment: Deployment,
}

impl MarketReader {
    /// A reader that trusts the deployment; see [`MarketReader::verified`].
    pub const fn new(chain: Chain, deployment: Deployment) -> Self {
        Self { chain, deployment }
    }

    /// A reader of a deployment whose contracts were checked.
    ///
    /// # Errors
    /// Another chain, no contract or another one at an address, no usable answer.
    pub async fn verified(chain: Chain, deployment: Deployment) -> Result<Self, VerifyError> {
        deployment.verify(&chain).await?;
        Ok(Self { chain, deployment })
    }

    /// The connection.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The contracts.
    pub const fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Where a job stands; `None` when the escrow has no such job.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn job(&self, job: JobId) -> Result<Option<JobState>, ReadError> {
        let view = self.escrow().jobOf(job.into()).call().await;
        match view {
            Ok(view) => JobState::of(&view).map_err(|detail| self.strange("jobOf", detail)),
            Err(error) => match self.error("jobOf", error) {
                ReadError::Reverted { revert, .. }
                    if revert.refusal() == Some(crate::Refusal::UnknownJob) =>
                {
                    Ok(None)
                }
                error
                @ (ReadError::Rpc(_) | ReadError::Reverted { .. } | ReadError::WrongContract { .. }) => {
                    Err(error)
                }
            },
        }
    }

    /// The node in a seat; `None` for a seat that is not taken.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn seat_node(&self, job: JobId, seat: SeatIndex) -> Result<Option<NodeIndex>, ReadError> {
        let node = self.escrow().seatNode(job.into(), seat.0).call().await;
        let node = node.map_err(|error| self.error("seatNode", error))?;
        Ok((node != 0).then_some(NodeIndex(node)))
    }

    /// Seed of the job's present round; `None` until it is known.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn seed(&self, job: JobId) -> Result<Option<B256>, ReadError> {
        let seed = self
            .escrow()
            .seedOf(job.into())
            .call()
            .await
            .map_err(|error| self.error("seedOf", error))?;
        Ok(seed.ready.then_some(seed.seed))
    }

    /// Ticket threshold of the job's present round at a block; a claim in that block wins when its ticket is below it.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn threshold(&self, job: JobId, block: u64) -> Result<U256, ReadError> {
        let threshold = self
            .escrow()
            .thresholdAt(job.into(), U256::from(block))
            .call()
            .await;
        threshold.map_err(|error| self.error("thresholdAt", error))
    }

    /// How many nodes there are; their indexes are 1 to this.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn node_count(&self) -> Result<u32, ReadError> {
        self.registry()
            .nodeCount()
            .call()
            .await
            .map_err(|error| self.error("nodeCount", error))
    }

    /// All that the contracts know about one node; `None` when there is none with this index.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn node(&self, node: NodeIndex) -> Result<Option<NodeRecord>, ReadError> {
        if node.0 == 0 || node.0 > self.node_count().await? {
            return Ok(None);
        }
        self.node_record(node).await.map(Some)
    }

    /// All nodes, by index.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, ReadError> {
        let count = self.node_count().await?;
        let reads = (1..=count).map(|index| self.node_record(NodeIndex(index)));
        futures::stream::iter(reads)
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    async fn node_record(&self, node: NodeIndex) -> Result<NodeRecord, ReadError> {
        let (registry, escrow) = (self.registry(), self.escrow());
        let at = self.deployment.escrow;
        let (record, opt_in, classes, seen) = tokio::try_join!(
            async {
                registry
                    .nodeOf(node.0)
                    .call()
                    .await
                    .map_err(|error| self.error("nodeOf", error))
            },
            async {
                registry
                    .optInOf(node.0, at)
                    .call()
                    .await
                    .map_err(|error| self.error("optInOf", error))
            },
            async {
                registry
                    .classesOf(node.0, at)
                    .call()
                    .await
                    .map_err(|error| self.error("classesOf", error))
            },
            async {
                escrow
                    .nodeView(node.0)
                    .call()
                    .await
                    .map_err(|error| self.error("nodeView", error))
            },
        )?;
        Ok(NodeRecord {
            index: node,
            registry: RegistryNode::of(&record),
            opt_in: OptIn::of(&opt_in),
            classes: classes.into_iter().map(ClassId::from).collect(),
            escrow: EscrowNode::of(&seen),
        })
    }

    /// The node with this worker key.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn node_by_worker(&self, worker: Address) -> Result<Option<NodeIndex>, ReadError> {
        let node = self.registry().nodeByWorker(worker).call().await;
        let node = node.map_err(|error| self.error("nodeByWorker", error))?;
        Ok((node != 0).then_some(NodeIndex(node)))
    }

    /// The node of this account.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn node_by_account(&self, account: Address) -> Result<Option<NodeIndex>, ReadError> {
        let node = self.registry().nodeByAccount(account).call().await;
        let node = node.map_err(|error| self.error("nodeByAccount", error))?;
        Ok((node != 0).then_some(NodeIndex(node)))
    }

    /// Seconds that stake takes to leave.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn exit_delay(&self) -> Result<u64, ReadError> {
        self.registry()
            .exitDelay()
            .call()
            .await
            .map_err(|error| self.error("exitDelay", error))
    }

    /// The escrow's parameters.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn parameters(&self) -> Result<Parameters, ReadError> {
        let parameters = self.escrow().parameters().call().await;
        Ok(Parameters::of(
            &parameters.map_err(|error| self.error("parameters", error))?,
        ))
    }

    /// Every token that may pay, and its terms.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn token_terms(&self) -> Result<Vec<TokenTerms>, ReadError> {
        let terms = self.escrow().tokenTerms().call().await;
        Ok(terms
            .map_err(|error| self.error("tokenTerms", error))?
            .iter()
            .map(TokenTerms::of)
            .collect())
    }

    /// What the escrow owes an account.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn credit(&self, owner: Address, token: Token) -> Result<Amount, ReadError> {
        let credit = self.escrow().balanceOf(token.address(), owner).call().await;
        credit.map(Amount).map_err(|error| self.error("balanceOf", error))
    }

    /// What the escrow owes a node.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn earnings(&self, node: NodeIndex, token: Token) -> Result<Amount, ReadError> {
        let credit = self.escrow().nodeBalanceOf(token.address(), node.0).call().await;
        credit
            .map(Amount)
            .map_err(|error| self.error("nodeBalanceOf", error))
    }

    /// What an account holds itself.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn balance(&self, owner: Address, token: Token) -> Result<Amount, ReadError> {
        match token {
            Token::Native => Ok(self.chain.balance(owner).await?),
            Token::Erc20(address) => {
                let balance = self.token(address).balanceOf(owner).call().await;
                balance
                    .map(Amount)
                    .map_err(|error| self.error("ERC-20 balanceOf", error))
            }
        }
    }

    /// How much of an ERC-20 the escrow may take from an account.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn allowance(&self, owner: Address, token: Address) -> Result<Amount, ReadError> {
        let allowance = self
            .token(token)
            .allowance(owner, self.deployment.escrow)
            .call()
            .await;
        allowance
            .map(Amount)
            .map_err(|error| self.error("ERC-20 allowance", error))
    }

    /// Decimals of a token.
    ///
    /// # Errors
    /// No usable answer, or no ERC-20 at the address.
    pub async fn decimals(&self, token: Token) -> Result<u8, ReadError> {
        match token {
            Token::Native => Ok(Amount::COIN_DECIMALS),
            Token::Erc20(address) => self
                .token(address)
                .decimals()
                .call()
                .await
                .map_err(|error| self.error("ERC-20 decimals", error)),
        }
    }

    /// Symbol of an ERC-20.
    ///
    /// # Errors
    /// No usable answer, or no ERC-20 at the address.
    pub async fn symbol(&self, token: Address) -> Result<String, ReadError> {
        self.token(token)
            .symbol()
            .call()
            .await
            .map_err(|error| self.error("ERC-20 symbol", error))
    }

    fn escrow(&self) -> Escrow::EscrowInstance<&alloy::providers::DynProvider> {
        Escrow::new(self.deployment.escrow, self.chain.provider())
    }

    fn registry(&self) -> Registry::RegistryInstance<&alloy::providers::DynProvider> {
        Registry::new(self.deployment.registry, self.chain.provider())
    }

    fn token(&self, address: Address) -> Erc20::Erc20Instance<&alloy::providers::DynProvider> {
        Erc20::new(address, self.chain.provider())
    }

    fn error(&self, call: &'static str, error: ContractError) -> ReadError {
        let error = ReadError::classify(self.chain.endpoint(), self.chain.timeout(), call, error);
        if let ReadError::Rpc(error) = &error {
            self.chain.meters().failed(error);
        }
        error
    }

    fn strange(&self, call: &'static str, detail: String) -> ReadError {
        ReadError::WrongContract { call, detail }
    }
}

impl Deployment {
    /// Checks that our contracts stand at the addresses, and that they belong together.
    ///
    /// # Errors
    /// Another chain, no contract or another one at an address, no usable answer.
    pub async fn verify(&self, chain: &Chain) -> Result<(), VerifyError> {
        if chain.id() != self.chain {
            return Err(VerifyError::WrongChain {
                expected: self.chain,
                found: chain.id(),
            });
        }
        let reader = MarketReader::new(chain.clone(), self.clone());
        for (what, address) in [("registry", self.registry), ("escrow", self.escrow)] {
            let code = alloy::providers::Provider::get_code_at(chain.provider(), address).await;
            if code
                .map_err(|error| chain.rpc_error("eth_getCode", error))?
                .is_empty()
            {
                return Err(VerifyError::NoCode {
                    what,
                    address,
                    chain: self.chain,
                });
            }
        }
        let wrong = |what, address, error: ReadError| match error {
            ReadError::Rpc(error) => VerifyError::Rpc(error),
            ReadError::Reverted { .. } | ReadError::WrongContract { .. } => VerifyError::WrongContract {
                what,
                address,
                detail: error.to_string(),
            },
        };
        reader
            .node_count()
            .await
            .map_err(|error| wrong("registry", self.registry, error))?;
        let parameters = reader
            .parameters()
            .await
            .map_err(|error| wrong("escrow", self.escrow, error))?;
        if parameters.registry == self.registry {
            return Ok(());
        }
        let detail = format!(
            "it belongs to the registry at {}, not {}",
            parameters.registry, self.registry
        );
        Err(VerifyError::WrongContract {
            what: "escrow",
            address: self.escrow,
            detail,
        })
    }
}

/// Words that the answers are made of, where the contract has numbers.
fn words(phase: u8, outcome: u8, round: u8) -> Result<Option<(Phase, Option<Outcome>, Round)>, String> {
    if phase == 0 {
        return Ok(None);
    }
    let strange = |field: &str, number: u8| format!("{field} {number} has no meaning in this version");
    let phase = Phase::from_number(phase).ok_or_else(|| strange("phase", phase))?;
    let round = Round::from_number(round).ok_or_else(|| strange("round", round))?;
    let outcome = match outcome {
        0 => None,
        number => Some(Outcome::from_number(number).ok_or_else(|| strange("outcome", number))?),
    };
    Ok(Some((phase, outcome, round)))
}

/// A time on chain, or none where the contract has zero.
const fn time(seconds: u64) -> Option<UnixSeconds> {
    if seconds == 0 {
        None
    } else {
        Some(UnixSeconds(seconds))
    }
}
