//! `run`: a program in the sandbox of this machine, without any service; with `--verify` several times under other
//! conditions each, to see whether it is deterministic.

mod difference;
mod environment;
mod ground;
mod said;
mod verify;

use std::path::PathBuf;

use clap::Args;
use client_sdk::prepare;
use sandrun_sandbox::{CancelHandle, Class, OutputSink};
use sandrun_types::{ClassKind, ClassRequest};

use super::place;
use crate::args::{EnvironmentListArgs, StoreArgs};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, write_out};
use crate::signals::Signals;
use ground::{Ground, LocalJob};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --verify the class is native unless --class or the manifest asks for another, and the exit \
        code is the program's (128 and a signal's number, 137 at a limit).\n\n\
        With --verify the class is det unless asked otherwise, as it is on the market (det-soft where the processor \
        can't mask CPUID). The first run has the machine as \
        it is; for each other the sandbox is started with another host name, directory, uid, CPU, clocks since the \
        machine's start, file dates, load, open files, environment, stack limit, and with or without random \
        addresses. What was in force is shown. The date is one for the whole machine and goes on by itself.\n\n\
        Exit codes with --verify:\n  \
        0  deterministic: every run has one output root and one trace root\n  \
        1  not deterministic, or a run ended at a limit that depends on the machine\n  \
        2  bad arguments, manifest or code\n  \
        3  the sandbox does not start here, or does not have the class\n\n\
        Examples:\n  \
        sandrun-pool run main.py\n  \
        sandrun-pool run ./project --class det --out results\n  \
        sandrun-pool run main.py --class det --trace a.trace\n  \
        sandrun-pool run ./project --verify\n  \
        sandrun-pool run main.py --verify --runs 10 --json -- --seed 7"
)]
pub(crate) struct Arguments {
    /// A file or a directory of code
    #[arg(value_name = "CODE")]
    code: PathBuf,
    /// Arguments of the program, in the place of the manifest's
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// The manifest; the directory's own job.json when not given
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Execution class: native, det, det-soft, or an exact class id; the manifest's when not given
    #[arg(long, value_name = "CLASS")]
    class: Option<ClassRequest>,
    /// Set an environment variable of the program; more than once for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Where the output files go; they are dropped when not given
    #[arg(long, visible_alias = "output", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where its trace goes, for `trace show` and `trace diff`; it is dropped when not given
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    trace: Option<PathBuf>,
    /// Run it several times under other conditions each, and say whether it is deterministic
    #[arg(long, conflicts_with = "out")]
    verify: bool,
    /// How often --verify runs it
    #[arg(long, value_name = "N", default_value_t = 2, requires = "verify",
        value_parser = clap::value_parser!(u32).range(2..=1000))]
    runs: u32,
    #[command(flatten)]
    environments: EnvironmentListArgs,
    #[command(flatten)]
    store: StoreArgs,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

/// The class by which this program knows what is asked for; an exact id names a machine's own besides.
fn class(request: ClassRequest) -> anyhow::Result<Class> {
    match request {
        ClassRequest::Native => Ok(Class::Native),
        ClassRequest::Det => Ok(Class::Det),
        ClassRequest::DetSoft => Ok(Class::DetSoft),
        ClassRequest::Exact(id) => match id.kind() {
            Some(ClassKind::Native) => Ok(Class::Native),
            Some(ClassKind::Det) if id.is_soft() => Ok(Class::DetSoft),
            Some(ClassKind::Det) => Ok(Class::Det),
            None => {
                let text = format!("class {id} is of a kind that this version does not know");
                Err(Failure::new(Status::BadInput, text))
            }
        },
    }
}

/// What the command line asks for, else what the manifest asks for. An exact class has to be one that the manifest
/// accepts; a class by its name goes before the manifest's.
fn request(
    given: Option<ClassRequest>,
    manifest: Option<ClassRequest>,
    default: ClassRequest,
) -> anyhow::Result<ClassRequest> {
    match (given, manifest) {
        (Some(ClassRequest::Exact(id)), Some(asked)) if !asked.accepts(id) => {
            let text = format!("the manifest asks for class {asked}, and {id} is another");
            Err(Failure::new(Status::BadInput, text))
        }
        (Some(given), _) => Ok(given),
        (None, asked) => Ok(asked.unwrap_or(default)),
    }
}

/// Runs it, once or several times.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(out) = &arguments.out {
        place::check(Some(out))?;
    }
    if let Some(trace) = &arguments.trace {
        place::check_file("--trace", trace)?;
    }
    let prepared = prepare(&arguments.code, arguments.manifest.as_deref()).status(Status::BadInput)?;
    let default = if !arguments.verify {
        ClassRequest::Native
    } else if Class::deterministic_here() == Class::Det {
        ClassRequest::Det
    } else {
        ClassRequest::DetSoft
    };
    let request = request(arguments.class, prepared.manifest.class, default)?;
    let class = class(request)?;
    let (list, store) = (arguments.environments.list()?, arguments.store.client()?);
    let mut signals = Signals::watch();
    // what it has begun to fetch goes with it
    let environment = tokio::select! {
        obtained = environment::obtain(&prepared.manifest, list, store) => obtained?,
        status = signals.asked() => return Ok(status),
    };
    let job = LocalJob::new(prepared, class, arguments.arguments, arguments.env)
        .with(environment)
        .exactly(request);
    let cancel = CancelHandle::new()?;
    let (stop, output) = (cancel.clone(), *output);
    let work = tokio::task::spawn_blocking(move || {
        if arguments.verify {
            verify::run(&job, arguments.runs, &cancel, &output)
        } else {
            once(
                &job,
                Kept {
                    out: arguments.out,
                    trace: arguments.trace,
                },
                &cancel,
                &output,
            )
        }
    });
    tokio::pin!(work);
    let signalled = tokio::select! {
        ended = &mut work => return ended?,
        status = signals.asked() => status,
    };
    stop.cancel();
    // it may have been over already
    Ok(work.await?.unwrap_or(signalled))
}

/// What is kept of one run, and where.
#[derive(Debug)]
struct Kept {
    out: Option<PathBuf>,
    trace: Option<PathBuf>,
}

/// One run, its output passed on as it comes.
fn once(job: &LocalJob, kept: Kept, cancel: &CancelHandle, output: &Output) -> anyhow::Result<Status> {
    let ground = Ground::new(job, None)?;
    let sandbox = ground.sandbox()?;
    let report = ground.run(job, &sandbox, &Passing(output.shows_program()), cancel)?;
    ground.keep(&kept)?;
    if !report.explanation.is_empty() {
        output.note(&format!("the program was ended: {}", report.explanation));
    }
    if kept.out.is_none() && !report.outputs.is_empty() {
        let count = report.outputs.len();
        output.note(&format!("{count} output file(s) dropped: --out DIR keeps them"));
    }
    for left_out in report.skipped.iter().filter(|_| kept.out.is_some()) {
        output.note(&format!("{} was left out: {}", left_out.name, left_out.reason));
    }
    let code = u8::try_from(report.exit_code).unwrap_or(u8::MAX);
    if output.is_json() {
        output.result(&said::Once::new(&report, kept))?;
    }
    Ok(Status::Program(code))
}

/// Passes a program's output on, unless nobody wants it.
struct Passing(bool);

impl OutputSink for Passing {
    fn stdout(&self, piece: &[u8]) {
        if self.0 {
            // a full disk behind the pipe must not end the run
            let _ = write_out(piece);
        }
    }

    fn stderr(&self, piece: &[u8]) {
        use std::io::Write as _;
        if self.0 {
            let _ = std::io::stderr().lock().write_all(piece);
        }
    }
}
