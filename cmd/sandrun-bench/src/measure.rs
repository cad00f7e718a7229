//! The rows that there are: their names, how each is measured, and its goal.

use std::path::Path;

use sandrun_types::Redundancy;
use tokio::runtime::Runtime;

use crate::det::Load;
use crate::queue::Rate;
use crate::row::{Goal, Row};
use crate::{blocks, det, gas, isolation, peer, queue, throughput};

/// The peer of what is written to disk.
const FLOOR: &str = "commits of one 1 KiB row";

/// One row of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// `gas.slow.rN`: gas from posting to settlement, see [`gas`].
    GasSlow(Redundancy),
    /// `chain.blocks_to_paid`, see [`blocks`].
    BlocksToPaid,
    /// `sandbox.start`: an isolated `/bin/true`, see [`isolation`].
    SandboxStart,
    /// `sandbox.python`: an isolated interpreter that does nothing, see [`isolation`].
    SandboxPython,
    /// `executor.jobs_per_second`, see [`throughput`].
    JobsPerSecond,
    /// `queue.submit` and `queue.submit.p99`, see [`queue`].
    QueueSubmit,
    /// `queue.cycle` and `queue.cycle.wrong`.
    QueueCycle,
    /// `queue.cycle_1m`.
    QueueCycleMillion,
    /// `queue.memory`.
    QueueMemory,
    /// `pool.end_to_end`, `pool.end_to_end.p50`, and both for clients that poll.
    PoolEndToEnd,
    /// `queue.postgres` and `queue.postgres.wrong`.
    QueuePostgres,
    /// `node.tasks`.
    NodeTasks,
    /// `det.distinct`, see [`det`].
    DetDistinct,
    /// `det.cpu`, `det.io`, `det.clock`, `det.threads`, and `trace.size` of the first two.
    Det(Load),
    /// `det.start`, see [`isolation`].
    DetStart,
}

impl Measure {
    const ALL: [Self; 20] = [
        Self::GasSlow(Redundancy::One),
        Self::GasSlow(Redundancy::Two),
        Self::GasSlow(Redundancy::Three),
        Self::BlocksToPaid,
        Self::SandboxStart,
        Self::SandboxPython,
        Self::JobsPerSecond,
        Self::QueueSubmit,
        Self::QueueCycle,
        Self::QueueCycleMillion,
        Self::QueueMemory,
        Self::PoolEndToEnd,
        Self::QueuePostgres,
        Self::NodeTasks,
        Self::DetDistinct,
        Self::Det(Load::Cpu),
        Self::Det(Load::Io),
        Self::Det(Load::Clock),
        Self::Det(Load::Threads),
        Self::DetStart,
    ];

    /// The row's name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::GasSlow(redundancy) => format!("gas.slow.r{}", redundancy.replicas()),
            Self::BlocksToPaid => "chain.blocks_to_paid".to_owned(),
            Self::SandboxStart => "sandbox.start".to_owned(),
            Self::SandboxPython => "sandbox.python".to_owned(),
            Self::JobsPerSecond => "executor.jobs_per_second".to_owned(),
            Self::QueueSubmit => "queue.submit".to_owned(),
            Self::QueueCycle => "queue.cycle".to_owned(),
            Self::QueueCycleMillion => "queue.cycle_1m".to_owned(),
            Self::QueueMemory => "queue.memory".to_owned(),
            Self::QueuePostgres => "queue.postgres".to_owned(),
            Self::PoolEndToEnd => "pool.end_to_end".to_owned(),
            Self::NodeTasks => "node.tasks".to_owned(),
            Self::DetDistinct => "det.distinct".to_owned(),
            Self::Det(load) => det_name(load).to_owned(),
            Self::DetStart => "det.start".to_owned(),
        }
    }

    /// Names of the rows that are measured with it.
    const fn beside(self) -> &'static [&'static str] {
        match self {
            Self::QueueSubmit => &["queue.submit.p99"],
            Self::QueueCycle => &["queue.cycle.wrong"],
            Self::QueuePostgres => &["queue.postgres.wrong"],
            Self::PoolEndToEnd => &[
                "pool.end_to_end.p50",
                "pool.end_to_end.polled",
                "pool.end_to_end.polled.p50",
            ],
            Self::Det(Load::Cpu) => &["trace.size.cpu"],
            Self::Det(Load::Io) => &["trace.size.io"],
            Self::Det(Load::Clock | Load::Threads)
            | Self::DetDistinct
            | Self::DetStart
            | Self::GasSlow(_)
            | Self::BlocksToPaid
            | Self::SandboxStart
            | Self::SandboxPython
            | Self::JobsPerSecond
            | Self::QueueCycleMillion
            | Self::QueueMemory
            | Self::NodeTasks => &[],
        }
    }

    /// Whether its clients only ask a service, which does the work.
    pub(crate) const fn is_of_a_service(self) -> bool {
        match self {
            Self::QueueSubmit
            | Self::QueueCycle
            | Self::QueueCycleMillion
            | Self::QueueMemory
            | Self::PoolEndToEnd
            | Self::QueuePostgres
            | Self::NodeTasks => true,
            Self::GasSlow(_)
            | Self::BlocksToPaid
            | Self::SandboxStart
            | Self::SandboxPython
            | Self::JobsPerSecond
            | Self::DetDistinct
            | Self::Det(_)
            | Self::DetStart => false,
        }
    }

    /// Those whose names begin with `prefix`.
    pub(crate) fn beginning_with(prefix: &str) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|it| {
                it.name().starts_with(prefix) || it.beside().iter().any(|name| name.starts_with(prefix))
            })
            .collect()
    }

    /// All names, for a message.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Measures; `program` is the released binary.
    ///
    /// # Errors
    /// Whatever stands in the way.
    pub(crate) fn take(self, runtime: &Runtime, program: &Path) -> anyhow::Result<Vec<Row>> {
        let row = |value, unit, goal| Row::new(&self.name(), value, unit, goal);
        Ok(match self {
            Self::GasSlow(redundancy) => {
                let goal = match redundancy {
                    Redundancy::Three => Goal::AtMost(450_000.0),
                    Redundancy::One | Redundancy::Two | Redundancy::Five => Goal::None,
                };
                let gas = runtime.block_on(gas::posting_to_settlement(redundancy))?;
                vec![row(gas, "gas", goal)]
            }
            Self::BlocksToPaid => {
                let blocks = runtime.block_on(blocks::to_paid(program))?;
                vec![row(blocks, "blocks", Goal::AtMost(8.0))]
            }
            Self::SandboxStart => {
                let times = isolation::start(program)?;
                let goal = Goal::AtMostTimesPeer(1.0);
                vec![row(times.subject, "ms", Goal::None).beside(peer::BUBBLEWRAP, times.peer, goal)]
            }
            Self::SandboxPython => {
                let times = isolation::python(program)?;
                let goal = Goal::AtMostTimesPeer(1.5);
                vec![row(times.subject, "ms", Goal::None).beside("bare python3 -c pass", times.peer, goal)]
            }
            Self::JobsPerSecond => {
                let rate = runtime.block_on(throughput::jobs_per_second(program))?;
                vec![row(rate, "1/s", Goal::None)]
            }
            Self::QueueSubmit => {
                let (rate, p99) = runtime.block_on(queue::submit(program))?;
                let p99 = Row::new("queue.submit.p99", p99, "ms", Goal::AtMost(50.0));
                vec![self.rate(rate, FLOOR, 2.0), p99]
            }
            Self::QueueCycle => {
                let (rate, wrong) = runtime.block_on(queue::cycle(program))?;
                let wrong = Row::new("queue.cycle.wrong", wrong, "claims", Goal::AtMost(0.0));
                vec![self.rate(rate, FLOOR, 1.0), wrong]
            }
            Self::QueueCycleMillion => {
                let rate = runtime.block_on(queue::cycle_of_a_million(program))?;
                vec![self.rate(rate, "queue.cycle", 0.8)]
            }
            Self::QueueMemory => {
                let bytes = runtime.block_on(queue::bytes_per_job(program))?;
                vec![row(bytes, "bytes", Goal::AtMost(1_024.0))]
            }
            Self::PoolEndToEnd => {
                let (followed, polled) = runtime.block_on(queue::end_to_end(program))?;
                let beside = |name, value, unit, goal| Row::new(name, value, unit, goal);
                vec![
                    row(followed.rate, "1/s", Goal::AtLeast(2_300.0)),
                    beside("pool.end_to_end.p50", followed.p50, "ms", Goal::AtMost(7.0)),
                    beside("pool.end_to_end.polled", polled.rate, "1/s", Goal::None),
                    beside("pool.end_to_end.polled.p50", polled.p50, "ms", Goal::None),
                ]
            }
            Self::QueuePostgres => {
                let measured = runtime.block_on(queue::cycle_of_replicas(program))?;
                let goal = Goal::AtLeastTimesPeer(0.5);
                let rate = row(measured.rate, "1/s", Goal::None);
                let wrong = Row::new(
                    "queue.postgres.wrong",
                    measured.wrong,
                    "claims",
                    Goal::AtMost(0.0),
                );
                vec![
                    rate.beside("two bare statements by pgbench", measured.peer, goal),
                    wrong,
                ]
            }
            Self::NodeTasks => {
                let rate = runtime.block_on(queue::node_tasks(program))?;
                vec![self.rate(rate, "the sandbox alone, in parallel", 0.6)]
            }
            Self::DetDistinct => vec![row(det::most_distinct(program)?, "answers", Goal::AtMost(1.0))],
            Self::Det(load) => self.det(load, program)?,
            Self::DetStart => {
                let times = isolation::det(program)?;
                let goal = Goal::AtMostTimesPeer(1.5);
                vec![row(times.subject, "ms", Goal::None).beside(peer::BUBBLEWRAP, times.peer, goal)]
            }
        })
    }

    /// One load beside the plain program, and the size of its trace where that is said.
    fn det(self, load: Load, program: &Path) -> anyhow::Result<Vec<Row>> {
        let times = match load {
            Load::Cpu => 1.05,
            Load::Io => 3.0,
            Load::Clock => 1.0,
            Load::Threads => 4.0,
        };
        let seconds = det::pairs(load, program)?;
        let row = Row::new(&self.name(), seconds.subject, "s CPU", Goal::None);
        let mut rows = vec![row.beside("plain", Some(seconds.peer), Goal::AtMostTimesPeer(times))];
        for name in self.beside() {
            let size = det::bytes_per_second(load, program)?;
            rows.push(Row::new(name, size, "bytes/s", Goal::None));
        }
        Ok(rows)
    }

    fn rate(self, rate: Rate, peer: &str, times: f64) -> Row {
        let row = Row::new(&self.name(), rate.rate, "1/s", Goal::None);
        row.beside(peer, Some(rate.peer), Goal::AtLeastTimesPeer(times))
    }
}

const fn det_name(load: Load) -> &'static str {
    match load {
        Load::Cpu => "det.cpu",
        Load::Io => "det.io",
        Load::Clock => "det.clock",
        Load::Threads => "det.threads",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_chooses_a_part() {
        assert_eq!(Measure::beginning_with("").len(), Measure::ALL.len());
        assert_eq!(Measure::beginning_with("gas").len(), 3);
        assert_eq!(Measure::beginning_with("sandbox.p"), [Measure::SandboxPython]);
        assert!(Measure::beginning_with("sandbox.x").is_empty());
        assert_eq!(Measure::beginning_with("det").len(), 6);
        assert_eq!(Measure::beginning_with("trace").len(), 2);
        assert_eq!(Measure::beginning_with("queue.submit.p"), [Measure::QueueSubmit]);
        assert!(Measure::names().starts_with("gas.slow.r1, gas.slow.r2, gas.slow.r3, chain.blocks_to_paid"));
    }
}
