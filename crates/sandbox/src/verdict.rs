//! Turns a job's end into its report: the outcome, what belongs to the result, and the trace.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use sandrun_types::{
    BundlePath, ClassId, ExitStatus, FileHash, InputFile, OutputLeaves, RunOutcome, RunResult,
};

use crate::collect::{CollectError, Collected, collect};
use crate::prepare::Job;
use crate::session::Session;
use crate::sys::WaitStatus;
use crate::trace_log::TraceLog;
use crate::wire::End;
use crate::{RunError, RunReport, RunRequest, Usage};

/// Exit code of everything that we killed: 128 + SIGKILL.
const KILLED: i32 = 137;

/// How a run ended, in the words of a report.
struct Verdict {
    outcome: RunOutcome,
    status: Option<ExitStatus>,
    code: i32,
    explanation: String,
}

impl Verdict {
    fn killed(outcome: RunOutcome, status: Option<ExitStatus>, explanation: String) -> Self {
        Self {
            outcome,
            status,
            code: KILLED,
            explanation,
        }
    }

    fn code(code: u8, explanation: String) -> Self {
        Self {
            outcome: RunOutcome::Exited,
            status: Some(ExitStatus::Code(code)),
            code: i32::from(code),
            explanation,
        }
    }

    fn of(session: &Session, request: &RunRequest) -> Result<Self, RunError> {
        let limits = &request.limits;
        if let End::Refused(what) = &session.ended.end {
            return Err(RunError::Refused(what.clone()));
        }
        let too_much = || format!("it printed more than {} bytes", limits.output_bytes);
        Ok(match &session.ended.end {
            End::Memory => {
                let text = format!("it used more than {} bytes of memory", limits.memory_bytes);
                Self::killed(RunOutcome::Memory, Some(ExitStatus::Memory), text)
            }
            _ if session.too_much => Self::killed(RunOutcome::OutputLimit, None, too_much()),
            End::WallClock => {
                let text = format!("it ran longer than {} s", limits.wall.as_secs_f64());
                Self::killed(RunOutcome::Timeout, None, text)
            }
            End::Budget => {
                let text = format!(
                    "it took more than {} s of virtual time",
                    limits.wall.as_secs_f64()
                );
                Self::killed(RunOutcome::Budget, Some(ExitStatus::Budget), text)
            }
            End::Spin => {
                let text = "it computed on and on without a system call while another of its threads waited for its \
                            turn; run it in class native"
                    .to_owned();
                Self::killed(RunOutcome::Timeout, None, text)
            }
            End::CpuTime => {
                let text = format!("it used more than {} s of CPU time", limits.cpu.as_secs_f64());
                Self::killed(RunOutcome::Timeout, None, text)
            }
            End::Exit(WaitStatus::Code(code)) => Self::code(*code, String::new()),
            End::Exit(WaitStatus::Signal(signal)) => Self {
                outcome: RunOutcome::Signalled,
                status: Some(ExitStatus::Signal(*signal)),
                code: 128 + i32::from(*signal),
                explanation: format!("signal {signal} ended it"),
            },
            End::NotExecutable(error) => {
                let reason = std::io::Error::from_raw_os_error(*error);
                let code = if *error == libc::ENOENT { 127 } else { 126 };
                Self::code(
                    code,
                    format!("{} cannot be executed: {reason}", request.entry.entrypoint),
                )
            }
            End::UsedUp(what) => {
                return Err(RunError::Internal(format!(
                    "this machine's jobs share one user, whose {what} are used up: run fewer jobs at a time, or the service \
                     as root"
                )));
            }
            End::Stopped | End::Lost | End::Refused(_) => {
                return Err(RunError::Internal("the job's first process vanished".to_owned()));
            }
        })
    }
}

/// Writes the report; collects the outputs where they belong to the result.
pub(crate) fn report(
    class: ClassId,
    job: &Job,
    request: &RunRequest,
    mut session: Session,
    mut trace: TraceLog,
) -> Result<RunReport, RunError> {
    let mut verdict = Verdict::of(&session, request)?;
    let mut collected = Collected::default();
    if let Some(work) = session.work.take().filter(|_| verdict.outcome.states_output()) {
        match gather(work, job, request) {
            Ok(files) => collected = files,
            Err(CollectError::Io(error)) => return Err(error),
            Err(CollectError::TooLarge) => {
                let text = "its output files are larger than its file systems, all together".to_owned();
                verdict = Verdict::killed(RunOutcome::OutputLimit, None, text);
            }
        }
    }
    let files: BTreeMap<BundlePath, InputFile> = collected
        .files
        .iter()
        .map(|file| {
            (
                file.path.clone(),
                InputFile {
                    sha256: file.sha256,
                    size_bytes: file.size_bytes,
                },
            )
        })
        .collect();
    let streams: (&[u8], &[u8]) = if verdict.outcome.states_output() {
        (&session.stdout, &session.stderr)
    } else {
        (&[], &[])
    };
    let result = RunResult {
        stdout: streams.0,
        stderr: streams.1,
        files: &files,
        outcome: verdict.outcome,
        status: verdict.status,
    };
    let [stdout, stderr] = [streams.0, streams.1].map(FileHash::of);
    if !verdict.outcome.states_output() {
        trace.forget_events();
    }
    let trace = trace.finish(&result)?;
    let ended = session.ended;
    Ok(RunReport {
        outcome: verdict.outcome,
        exit: verdict.status,
        exit_code: verdict.code,
        explanation: verdict.explanation,
        usage: Usage {
            cpu: Duration::from_micros(ended.cpu_micros),
            memory_peak_bytes: ended.memory_peak_bytes,
            wall: Duration::from_micros(ended.wall_micros),
        },
        layers: ended.layers,
        output_root: OutputLeaves::new(stdout, stderr, &files).root(),
        streams: [stdout, stderr],
        trace_root: trace.root,
        trace,
        outputs: collected.files,
        skipped: collected.skipped,
        stdout: session.stdout,
        stderr: session.stderr,
        class,
    })
}

fn gather(work: OwnedFd, job: &Job, request: &RunRequest) -> Result<Collected, CollectError> {
    let limit = request.limits.tmpfs_bytes.saturating_add(job.inputs.bytes);
    collect(
        work.as_fd(),
        &request.outputs,
        &job.inputs.files,
        limit,
        &request.outputs_dir,
    )
}
