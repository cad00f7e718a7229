//! What befalls a market: each second of bad weather something may break, somewhere, for a while.

use crate::rng::Rng;

use super::Market;
use super::chain::BLOCK;
use super::chain::DEEPEST;
use super::node::RECOVERY;
use super::rpc::Ill;
use crate::census::Census;
use crate::history::History;
use crate::violation::Violation;

/// Of a hundred seconds, how many bring a fault.
const OFTEN: u64 = 5;

impl Market {
    /// One second of bad weather.
    pub(crate) fn disturb(
        &mut self,
        now: u64,
        rng: &mut Rng,
        census: &mut Census,
        history: &mut History,
    ) -> Result<(), Violation> {
        if !rng.chance(OFTEN) {
            return Ok(());
        }
        let lasts = 3 + rng.below(25) + if rng.chance(15) { 60 } else { 0 };
        let until = now + lasts;
        let name = match rng.below(100) {
            0..=19 => self.kill_node(now, until, rng),
            20..=25 => self.kill_reader(until, rng),
            26..=45 => self.spoil_rpc(now, until, rng),
            46..=65 => {
                let depth = 1 + rng.below(DEEPEST);
                self.reorganise(now, depth, rng, history)?;
                if depth <= 3 {
                    "reorg of 1 to 3 blocks"
                } else {
                    "reorg of 4 to 12 blocks"
                }
            }
            66..=73 => {
                if let Some(node) = self.any_node(rng) {
                    node.disk.fill(until);
                    node.health.ill(now, until + RECOVERY);
                }
                "disk full"
            }
            74..=80 => {
                self.store_ill_until = until;
                self.weather.ill(now, until + RECOVERY);
                "content store gives nothing"
            }
            81..=87 => {
                if let Some(node) = self.any_node(rng) {
                    node.executor_ill_until = until;
                    // it rests after runs that failed in a row
                    node.health.ill(now, until + 16);
                }
                "executor fails"
            }
            88..=94 => {
                self.chain.base_fee = 10;
                self.dear_until = now + lasts.min(30);
                self.weather.ill(now, now + lasts.min(30) + 4 * BLOCK + RECOVERY);
                "gas price rises tenfold"
            }
            _ => {
                self.chain.forget_one(rng);
                self.weather.ill(now, now + 5 * BLOCK);
                "transaction forgotten by the pool"
            }
        };
        census.fault(name);
        history.say(|| format!("fault: {name} (until second {until})"));
        Ok(())
    }

    fn any_node(&mut self, rng: &mut Rng) -> Option<&mut super::node::Node> {
        let index = rng.index(self.nodes.len());
        self.nodes.get_mut(index)
    }

    /// Kills at any step: when a few more things have happened.
    fn kill_node(&mut self, now: u64, until: u64, rng: &mut Rng) -> &'static str {
        let steps = rng.small(60);
        if let Some(node) = self.any_node(rng) {
            node.kill_soon(steps, until);
            node.health.ill(now, until + RECOVERY);
        }
        "node killed"
    }

    fn kill_reader(&mut self, until: u64, rng: &mut Rng) -> &'static str {
        let (clients, keepers) = (self.clients.len(), self.keepers.len());
        let index = rng.index(clients + keepers);
        if let Some(client) = self.clients.get_mut(index) {
            client.kill(until);
            return "client killed";
        }
        if let Some(keeper) = self.keepers.get_mut(index - clients) {
            keeper.kill(until);
        }
        "manager killed"
    }

    fn spoil_rpc(&mut self, now: u64, until: u64, rng: &mut Rng) -> &'static str {
        let height = self.chain.height();
        let ills = [Ill::Stalled, Ill::Behind(height), Ill::Lies];
        let ill = rng.pick(&ills, Ill::Stalled);
        // one endpoint may serve several processes: a partition
        let first = rng.index(self.nodes.len());
        let many = if rng.chance(25) { 3 } else { 1 };
        for node in self.nodes.iter_mut().skip(first).take(many) {
            node.rpc.fall_ill(ill, until);
            node.health.ill(now, until + RECOVERY);
        }
        if rng.chance(30) {
            let index = rng.index(self.keepers.len());
            if let Some(keeper) = self.keepers.get_mut(index) {
                keeper.rpc.fall_ill(ill, until);
            }
            let index = rng.index(self.clients.len());
            if let Some(client) = self.clients.get_mut(index) {
                client.rpc.fall_ill(ill, until);
            }
        }
        match ill {
            _ if many > 1 => "network partition",
            Ill::Stalled => "RPC stalls",
            Ill::Behind(_) => "RPC falls behind",
            Ill::Lies => "RPC answers an old block",
        }
    }

    fn reorganise(
        &mut self,
        now: u64,
        depth: u64,
        rng: &mut Rng,
        history: &mut History,
    ) -> Result<(), Violation> {
        let from = now.saturating_sub(depth * BLOCK);
        self.weather.ill(from, now + RECOVERY + 3 * BLOCK);
        let blocks = self.chain.reorganise(depth, rng)?;
        history.say(|| format!("reorg of {depth} blocks, {} new ones", blocks.len()));
        for block in &blocks {
            super::tell(block, history);
        }
        Ok(())
    }
}
