//! The rows that there are: their names, how each is measured, and its goal.

use std::path::Path;

use sandrun_types::Redundancy;
use tokio::runtime::Runtime;

use crate::row::{Goal, Row};
use crate::{blocks, gas, isolation, peer, throughput};

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
}

impl Measure {
    const ALL: [Self; 7] = [
        Self::GasSlow(Redundancy::One),
        Self::GasSlow(Redundancy::Two),
        Self::GasSlow(Redundancy::Three),
        Self::BlocksToPaid,
        Self::SandboxStart,
        Self::SandboxPython,
        Self::JobsPerSecond,
    ];

    /// The row's name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::GasSlow(redundancy) => format!("gas.slow.r{}", redundancy.replicas()),
            Self::BlocksToPaid => "chain.blocks_to_paid".to_owned(),
            Self::SandboxStart => "sandbox.start".to_owned(),
            Self::SandboxPython => "sandbox.python".to_owned(),
            Self::JobsPerSecond => "executor.jobs_per_second".to_owned(),
        }
    }

    /// Those whose names begin with `prefix`.
    pub(crate) fn beginning_with(prefix: &str) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|it| it.name().starts_with(prefix))
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
    pub(crate) fn take(self, runtime: &Runtime, program: &Path) -> anyhow::Result<Row> {
        let row = |value, unit, goal| Row::new(&self.name(), value, unit, goal);
        match self {
            Self::GasSlow(redundancy) => {
                let goal = match redundancy {
                    Redundancy::Three => Goal::AtMost(450_000.0),
                    Redundancy::One | Redundancy::Two | Redundancy::Five => Goal::None,
                };
                Ok(row(
                    runtime.block_on(gas::posting_to_settlement(redundancy))?,
                    "gas",
                    goal,
                ))
            }
            Self::BlocksToPaid => Ok(row(
                runtime.block_on(blocks::to_paid(program))?,
                "blocks",
                Goal::AtMost(8.0),
            )),
            Self::SandboxStart => {
                let times = isolation::start(program)?;
                Ok(row(times.subject, "ms", Goal::None).beside(
                    peer::BUBBLEWRAP,
                    times.peer,
                    Goal::AtMostTimesPeer(1.0),
                ))
            }
            Self::SandboxPython => {
                let times = isolation::python(program)?;
                Ok(row(times.subject, "ms", Goal::None).beside(
                    "bare python3 -c pass",
                    times.peer,
                    Goal::AtMostTimesPeer(1.5),
                ))
            }
            Self::JobsPerSecond => Ok(row(
                runtime.block_on(throughput::jobs_per_second(program))?,
                "1/s",
                Goal::None,
            )),
        }
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
        assert!(Measure::names().starts_with("gas.slow.r1, gas.slow.r2, gas.slow.r3, chain.blocks_to_paid"));
    }
}
