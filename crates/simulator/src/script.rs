//! What a simulated chain executed, so that the real contract can be made to execute the same.

use std::collections::BTreeMap;

use sandrun_core::market::escrow::{Call, Parameters, TokenTerms};
use sandrun_types::{Address, JobId, NodeIndex, Token, UnixSeconds};

use crate::market::token_terms;

/// The calls of a whole history, block by block.
#[derive(Debug, Clone)]
pub struct Script {
    /// Nodes in the order of their registration, with account and worker.
    pub nodes: Vec<(NodeIndex, Address, Address)>,
    /// Their stakes, in units.
    pub stakes: Vec<u64>,
    /// All blocks, empty ones too.
    pub blocks: Vec<ScriptBlock>,
    /// Who held the seats of each job.
    pub holders: BTreeMap<JobId, Vec<NodeIndex>>,
}

/// One block.
#[derive(Debug, Clone)]
pub struct ScriptBlock {
    /// Its timestamp.
    pub time: UnixSeconds,
    /// Its base fee, gwei for each gas.
    pub base_fee: u64,
    /// Its transactions: who called what, whether it was accepted or not.
    pub calls: Vec<(Address, Call)>,
}

/// The terms of the deployment that scripts are made for: parameters, and what its tokens ask for.
pub fn terms() -> (Parameters, TokenTerms) {
    (Parameters::testnet(), token_terms(Token::Native))
}
