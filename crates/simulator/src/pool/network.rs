//! Messages on their way: some get lost, some come late, some come twice, and none keeps its turn.

use super::call::{Answer, Call};
use crate::rng::Rng;

/// A message.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Call(Call),
    Answer(Answer),
}

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Of a hundred messages.
    pub(crate) lost: u64,
    /// Of a hundred messages.
    pub(crate) twice: u64,
    /// Longest way, in seconds.
    pub(crate) delay: u64,
}

impl Weather {
    pub(crate) const FAIR: Self = Self {
        lost: 0,
        twice: 0,
        delay: 1,
    };
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    under_way: Vec<(u64, Packet)>,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

impl Network {
    pub(crate) const fn new(weather: Weather) -> Self {
        Self {
            weather,
            under_way: Vec::new(),
            lost: 0,
            repeated: 0,
        }
    }

    pub(crate) fn send(&mut self, now: u64, packet: Packet, rng: &mut Rng) {
        if rng.chance(self.weather.lost) {
            self.lost += 1;
            return;
        }
        let copies = 1 + u64::from(rng.chance(self.weather.twice));
        self.repeated += u64::from(copies > 1);
        for _ in 0..copies {
            let at = now + rng.below(self.weather.delay + 1);
            self.under_way.push((at, packet.clone()));
        }
    }

    /// What arrives now, in any order.
    pub(crate) fn arrived(&mut self, now: u64, rng: &mut Rng) -> Vec<Packet> {
        let all = std::mem::take(&mut self.under_way);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at <= now);
        self.under_way = later;
        let mut due: Vec<Packet> = due.into_iter().map(|(_, packet)| packet).collect();
        for at in (1..due.len()).rev() {
            due.swap(at, rng.index(at + 1));
        }
        due
    }
}
