//! One history from its seed: a clock that jumps from second to second, faults first, then fair weather until all has
//! ended.

use sandrun_core::pool::Policy;

use crate::census::Census;
use crate::history::History;
use crate::market::Market;
use crate::pool::Queue;
use crate::rng::Rng;
use crate::script::Script;
use crate::violation::{Failure, Violation};

/// Seconds with faults.
const FAULTS: u64 = 380;
/// Seconds after which a history that has not ended is given up.
const PATIENCE: u64 = 5_000;

/// A history that was played.
#[derive(Debug)]
pub struct Played {
    /// What happened how often, or which promise broke.
    pub outcome: Result<Census, Failure>,
    /// What happened, line by line, where that was asked for.
    pub history: Vec<String>,
}

/// Plays the history of `seed`; the same each time. Lines of it are kept where `tells` is set.
pub fn play(seed: u64, tells: bool) -> Played {
    let mut history = History::new(tells);
    let mut run = Run {
        census: Census::default(),
        second: 0,
        steps: 0,
    };
    let outcome = run.play(seed, &mut history);
    let outcome = match outcome {
        Ok(()) => Ok(run.census),
        Err(Violation(what)) => Err(Failure {
            seed,
            step: run.steps,
            second: run.second,
            what,
        }),
    };
    Played {
        outcome,
        history: history.into_lines(),
    }
}

/// What the market's chain executed in the history of `seed`, once all of it had ended.
///
/// # Errors
/// A promise that broke.
pub fn script(seed: u64) -> Result<Script, Failure> {
    let mut run = Run {
        census: Census::default(),
        second: 0,
        steps: 0,
    };
    let market = run.market(seed, &mut History::new(false));
    market.map(|it| it.script()).map_err(|Violation(what)| Failure {
        seed,
        step: run.steps,
        second: run.second,
        what,
    })
}

struct Run {
    census: Census,
    second: u64,
    steps: u64,
}

impl Run {
    /// The market alone, as it is in the whole history.
    fn market(&mut self, seed: u64, history: &mut History) -> Result<Market, Violation> {
        let mut rng = Rng::new(seed).fork();
        let mut market = Market::new(&mut rng)?;
        for now in 1..PATIENCE {
            self.second = now;
            market.second(now, now > FAULTS, &mut rng, &mut self.census, history)?;
            self.steps = market.steps();
            if market.is_over() {
                return Ok(market);
            }
        }
        Err(Violation::new("the market does not end"))
    }

    fn play(&mut self, seed: u64, history: &mut History) -> Result<(), Violation> {
        let mut rng = Rng::new(seed);
        let mut market_rng = rng.fork();
        let mut market = Market::new(&mut market_rng)?;
        let mut queues = [(Policy::BROKER, 12), (Policy::TRUSTED, 8)].map(|(policy, jobs)| {
            let mut rng = rng.fork();
            (Queue::new(policy, jobs, &mut rng), rng)
        });
        for now in 1..PATIENCE {
            self.second = now;
            history.at(now);
            let fair = now > FAULTS;
            if !market.is_over() {
                let before = market.steps();
                let done = market.second(now, fair, &mut market_rng, &mut self.census, history);
                self.steps += market.steps() - before;
                done?;
            }
            for (queue, rng) in queues.iter_mut().filter(|(queue, _)| !queue.is_over()) {
                let before = queue.steps();
                let done = queue.second(now - 1, rng, &mut self.census, history);
                self.steps += queue.steps() - before;
                done?;
            }
            if fair && market.is_over() && queues.iter().all(|(queue, _)| queue.is_over()) {
                market.count(&mut self.census);
                for (queue, _) in &queues {
                    queue.count(&mut self.census);
                }
                self.census.seeds = 1;
                return Ok(());
            }
        }
        Err(Violation::new("the history does not end"))
    }
}
