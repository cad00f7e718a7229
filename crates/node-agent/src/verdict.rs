//! From an executor's receipt to what a node can say about the job. Pure.
//!
//! | outcome | what is said | why |
//! | --- | --- | --- |
//! | `exited`, `signalled` | the result digest | a program that fails has a result too |
//! | `memory` | the digest, without outputs | the same on every node, whatever was written until then |
//! | `budget`, class `det` | the digest | virtual time and events are the same everywhere |
//! | `budget`, class `native` | `limit` | CPU time depends on the machine |
//! | `timeout` | `limit` | real time depends on the machine |
//! | `output_limit` | `limit` | where a stream was cut depends on the machine: there is no result that two nodes could be held to |
//! | `refused`, `internal` | nothing yet | says nothing about the program: another attempt |
//!
//! When every attempt ends in the last row, `core::seat` falls back to `limit` shortly before the run window ends, and
//! to silence only where not even that would be valid.

use sandrun_types::{ClassId, ClassKind, ExitStatus, OutputRoot, Receipt, RunOutcome, TraceRoot};

/// What a receipt amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A result; its files have still to be fetched and packed.
    Result(Ended),
    /// The order's bounds in real time were reached.
    Limit,
    /// The executor failed.
    Failed,
}

/// A result but for its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How the program ended.
    pub(crate) exit: ExitStatus,
    /// Root over the outputs.
    pub(crate) output_root: OutputRoot,
    /// Root over the trace.
    pub(crate) trace_root: TraceRoot,
    /// Whether it has outputs at all.
    pub(crate) has_outputs: bool,
}

/// A receipt that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Contradiction {
    /// An exit code that the outcome cannot have.
    #[error("a run with the outcome {outcome} cannot have the exit code {code}")]
    Exit {
        /// The outcome.
        outcome: RunOutcome,
        /// The code.
        code: i32,
    },
    /// A run without roots.
    #[error("a run with the outcome {0} has no output root or no trace root")]
    NoRoots(RunOutcome),
}

/// Judges a verified receipt of a run under `class`.
pub(crate) fn verdict(receipt: &Receipt, class: ClassId) -> Result<Verdict, Contradiction> {
    let (outcome, code) = (receipt.outcome, receipt.exit_code);
    let bad = Contradiction::Exit { outcome, code };
    let (exit, has_outputs) = match outcome {
        RunOutcome::Exited => (ExitStatus::Code(u8::try_from(code).map_err(|_| bad)?), true),
        RunOutcome::Signalled => {
            let signal = code.checked_sub(128).and_then(|signal| u8::try_from(signal).ok());
            (
                ExitStatus::Signal(signal.filter(|signal| *signal > 0).ok_or(bad)?),
                true,
            )
        }
        RunOutcome::Memory => (ExitStatus::Memory, false),
        RunOutcome::Budget if class.kind() == Some(ClassKind::Det) => (ExitStatus::Budget, true),
        RunOutcome::Budget | RunOutcome::Timeout | RunOutcome::OutputLimit => return Ok(Verdict::Limit),
        RunOutcome::Refused | RunOutcome::Internal => return Ok(Verdict::Failed),
    };
    match (receipt.output_root, receipt.trace_root) {
        (Some(output_root), Some(trace_root)) => Ok(Verdict::Result(Ended {
            exit,
            output_root: OutputRoot(output_root.0),
            trace_root: TraceRoot(trace_root.0),
            has_outputs,
        })),
        (None, _) | (_, None) => Err(Contradiction::NoRoots(outcome)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use sandrun_types::{RECEIPT_FORMAT, Sha256Hex};

    const NATIVE: ClassId = ClassId([0; 32]);
    const DET: ClassId = ClassId([1; 32]);

    fn receipt(outcome: RunOutcome, exit_code: i32) -> Receipt {
        Receipt {
            class: Sha256Hex([0; 32]),
            cpu_time_us: 0,
            environment: String::new(),
            exit_code,
            explanation: String::new(),
            format: RECEIPT_FORMAT.to_owned(),
            interpreter: "python3".to_owned(),
            isolation: Vec::new(),
            job_hash: Sha256Hex([1; 32]),
            job_id: "x".to_owned(),
            manifest_sha256: Sha256Hex([2; 32]),
            memory_peak_bytes: 0,
            outcome,
            output_files: BTreeMap::new(),
            output_root: Some(Sha256Hex([3; 32])),
            status: "completed".to_owned(),
            trace_root: Some(Sha256Hex([4; 32])),
            wall_time_ms: 1,
            worker_id: None,
        }
    }

    fn exit(outcome: RunOutcome, code: i32, class: ClassId) -> Option<(ExitStatus, bool)> {
        match verdict(&receipt(outcome, code), class).unwrap() {
            Verdict::Result(ended) => Some((ended.exit, ended.has_outputs)),
            Verdict::Limit | Verdict::Failed => None,
        }
    }

    #[test]
    fn what_is_the_same_everywhere_is_a_result() {
        assert_eq!(
            exit(RunOutcome::Exited, 0, NATIVE),
            Some((ExitStatus::Code(0), true))
        );
        assert_eq!(
            exit(RunOutcome::Exited, 3, NATIVE),
            Some((ExitStatus::Code(3), true))
        );
        assert_eq!(
            exit(RunOutcome::Signalled, 139, NATIVE),
            Some((ExitStatus::Signal(11), true))
        );
        assert_eq!(
            exit(RunOutcome::Memory, 137, NATIVE),
            Some((ExitStatus::Memory, false))
        );
        assert_eq!(
            exit(RunOutcome::Budget, 137, DET),
            Some((ExitStatus::Budget, true))
        );
    }

    #[test]
    fn what_depends_on_the_machine_is_limit_and_a_broken_executor_says_nothing() {
        for outcome in [RunOutcome::Timeout, RunOutcome::OutputLimit, RunOutcome::Budget] {
            assert_eq!(
                verdict(&receipt(outcome, 137), NATIVE),
                Ok(Verdict::Limit),
                "{outcome}"
            );
        }
        for outcome in [RunOutcome::Refused, RunOutcome::Internal] {
            assert_eq!(
                verdict(&receipt(outcome, -1), NATIVE),
                Ok(Verdict::Failed),
                "{outcome}"
            );
        }
    }

    #[test]
    fn impossible_exit_codes_are_refused() {
        for (outcome, code) in [
            (RunOutcome::Exited, 256),
            (RunOutcome::Exited, -1),
            (RunOutcome::Signalled, 128),
            (RunOutcome::Signalled, 0),
            (RunOutcome::Signalled, 400),
        ] {
            assert!(
                verdict(&receipt(outcome, code), NATIVE).is_err(),
                "{outcome} {code}"
            );
        }
        let rootless = Receipt {
            output_root: None,
            ..receipt(RunOutcome::Exited, 0)
        };
        assert_eq!(
            verdict(&rootless, NATIVE),
            Err(Contradiction::NoRoots(RunOutcome::Exited))
        );
    }
}
