//! What befalls a queue's nodes and replicas between batches, and the end of it.

use sandrun_core::pool::{Assignment, NodeNumber};

use crate::census::Census;
use crate::rng::Rng;

use super::Queue;
use super::call::Call;
use super::network::{Packet, Weather};
use super::node::{Conduct, Node};

/// Good nodes that come when the faults are over: enough for any job.
const HELPERS: std::ops::Range<u32> = 100..108;

impl Queue {
    /// One second of bad weather.
    pub(super) fn disturb(&mut self, now: u64, rng: &mut Rng, census: &mut Census) {
        let at = rng.index(self.nodes.len());
        let Some(victim) = self.nodes.get_mut(at) else {
            return;
        };
        let node = victim.number;
        if rng.chance(3) {
            victim.kill(now + 1 + rng.below(70));
            census.fault("queue's node killed");
        }
        if rng.chance(2) {
            // it comes back as a smaller or a larger machine
            victim.spec.slots = 1 + rng.small(3);
            victim.kill(now + 1);
            census.fault("queue's node changed");
        }
        if rng.chance(2) {
            self.network.send(now, Packet::Call(Call::Drain { node }), rng);
            census.event("queue's node drained");
        }
        if rng.chance(4) {
            self.network.send(now, Packet::Call(Call::Resume { node }), rng);
        }
        if rng.chance(1) {
            self.network.send(now, Packet::Call(Call::Lost { node }), rng);
            census.fault("queue's node given up");
        }
        if rng.chance(1) {
            let replica = rng.index(self.replicas.len());
            self.cut_off = Some((replica, now + 5 + rng.below(40)));
            census.fault("service cut off");
        }
        if rng.chance(1)
            && let Some(replica) = {
                let at = rng.index(self.replicas.len());
                self.replicas.get_mut(at)
            }
        {
            replica.skew = rng.below(4);
            census.fault("service's clock moved");
        }
    }

    /// The end of all faults: fair weather, everybody is there, and there are enough good nodes for anything.
    pub(super) fn clear_up(&mut self, now: u64, rng: &mut Rng) {
        self.network.weather = Weather::FAIR;
        self.cut_off = None;
        let asks = self.policy.assignment == Assignment::Claimed;
        for number in HELPERS {
            let node = Node::new(NodeNumber(number), Conduct::Honest, 4, true, asks);
            self.nodes.push(node);
        }
        for node in self.nodes.iter().map(|it| it.number) {
            let resume = Packet::Call(Call::Resume { node });
            self.network.send(now + 5, resume, rng);
        }
        for node in &mut self.nodes {
            node.down_until = node.down_until.min(now);
        }
        for replica in &mut self.replicas {
            replica.down_until = replica.down_until.min(now);
        }
    }
}
