//! A process's way to the chain: an RPC endpoint that may stall, fall behind, or answer from an old block.

use crate::rng::Rng;

use super::chain::Chain;

/// What is wrong with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ill {
    /// It answers nothing, or is cut off.
    Stalled,
    /// It has stopped at this block.
    Behind(u64),
    /// Each answer may be from some blocks ago.
    Lies,
}

/// An endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rpc {
    ill: Option<(Ill, u64)>,
}

impl Rpc {
    /// Falls ill until `until`.
    pub(crate) const fn fall_ill(&mut self, ill: Ill, until: u64) {
        self.ill = Some((ill, until));
    }

    /// What is wrong with it at second `now`.
    fn at(&self, now: u64) -> Option<Ill> {
        self.ill.filter(|(_, until)| now < *until).map(|(ill, _)| ill)
    }

    /// The height that it answers from; `None` when it does not answer.
    pub(crate) fn height(&self, now: u64, chain: &Chain, rng: &mut Rng) -> Option<u64> {
        let height = chain.height();
        match self.at(now) {
            None => Some(height),
            Some(Ill::Stalled) => None,
            Some(Ill::Behind(block)) => Some(block.min(height)),
            Some(Ill::Lies) if rng.chance(50) => Some(height.saturating_sub(rng.below(20))),
            Some(Ill::Lies) => Some(height),
        }
    }
}
