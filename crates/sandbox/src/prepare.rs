//! Turns a request into a job: what runs, with which arguments and environment, and what its trace begins with.

use sandrun_types::{Interpreter, TraceHeader, TraceLimits, tree_root};
use sha2::{Digest as _, Sha256};

use crate::inputs::Inputs;
use crate::wire::{Det, Program, Spec};
use crate::{Class, Limits, RunError, RunRequest, Sandbox, environment};

/// Longest argument or variable, in bytes (the kernel's MAX_ARG_STRLEN is 128 KiB).
const MAX_TEXT: usize = 128 * 1024 - 1;
/// All arguments and variables together, in bytes, with a pointer each.
const MAX_TEXTS: usize = 1 << 20;

/// Where a job's virtual time begins.
const BOOT_NANOS: u64 = 1_000_000_000;

/// A job that can be run.
#[derive(Debug)]
pub(crate) struct Job {
    /// What the supervisor gets.
    pub(crate) spec: Spec,
    /// The input files.
    pub(crate) inputs: Inputs,
    /// What its trace begins with.
    pub(crate) header: TraceHeader,
}

impl Job {
    /// Checks a request and reads its files.
    pub(crate) fn new(sandbox: &Sandbox, request: &RunRequest) -> Result<Self, RunError> {
        let inputs = Inputs::read(&request.workspace)?;
        let entrypoint = &request.entry.entrypoint;
        if !inputs.files.contains_key(entrypoint) {
            return Err(RunError::BadRequest(format!(
                "the entrypoint {entrypoint} is not among the job's files"
            )));
        }
        if request.environment.is_some() && !sandbox.has_environments() {
            return Err(RunError::BadRequest(
                "this sandbox has no environments".to_owned(),
            ));
        }
        let (path, mut argv) = match request.entry.interpreter {
            Interpreter::Itself => (format!("/work/{entrypoint}"), vec![format!("./{entrypoint}")]),
            program @ (Interpreter::Python3
            | Interpreter::Node
            | Interpreter::Bash
            | Interpreter::Ruby
            | Interpreter::Rscript) => {
                let path = sandbox.interpreter(program)?.to_string_lossy().into_owned();
                (path.clone(), vec![path, entrypoint.to_string()])
            }
        };
        argv.extend(request.args.iter().cloned());
        let env = environment::of_job(&request.env, request.environment);
        check_texts(argv.iter().chain(env.keys()).chain(env.values()))?;
        let mut header = TraceHeader {
            class: sandbox.class_for_a_job(request.class)?,
            image: request.environment,
            seed: [0; 32],
            limits: trace_limits(request),
            argv: argv.clone(),
            env: env.clone(),
            input_tree: tree_root(&inputs.files),
        };
        if request.class != Class::Native {
            header.seed = seed(&header);
        }
        let spec = Spec {
            program: Program::Exec { path, argv },
            env: env.into_iter().collect(),
            limits: request.limits,
            input_bytes: inputs.bytes,
            input_entries: inputs.entries,
            environment: request.environment,
            det: det(request, &header),
        };
        Ok(Self { spec, inputs, header })
    }
}

fn virtual_nanos(limits: &Limits) -> u64 {
    u64::try_from(limits.wall.as_nanos()).unwrap_or(u64::MAX)
}

/// What all chance of a traced job comes from: its header, so that the same job has the same chance everywhere.
fn seed(header: &TraceHeader) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"sandrun-seed-v1\0");
    let mut text = |text: &str| {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text);
    };
    text(&header.argv.len().to_string());
    header.argv.iter().for_each(|argument| text(argument));
    for (name, value) in &header.env {
        text(name);
        text(value);
    }
    hasher.update(header.input_tree);
    hasher.finalize().into()
}

/// How the job is made deterministic, if it is to be.
fn det(request: &RunRequest, header: &TraceHeader) -> Option<Det> {
    let cpuid = match request.class {
        Class::Native => return None,
        Class::Det => true,
        Class::DetSoft => false,
    };
    Some(Det {
        seed: header.seed,
        cpuid,
        budget_nanos: header.limits.virtual_nanos.saturating_add(BOOT_NANOS),
        memory_bytes: request.limits.memory_bytes,
    })
}

fn trace_limits(request: &RunRequest) -> TraceLimits {
    let limits = &request.limits;
    TraceLimits {
        memory_bytes: limits.memory_bytes,
        processes: limits.processes,
        open_files: limits.open_files,
        tmpfs_bytes: limits.tmpfs_bytes,
        inodes: limits.inodes,
        output_bytes: limits.output_bytes,
        virtual_nanos: match request.class {
            Class::Native => 0,
            Class::Det | Class::DetSoft => virtual_nanos(limits),
        },
    }
}

fn check_texts<'a>(texts: impl Iterator<Item = &'a String>) -> Result<(), RunError> {
    let mut total = 0_usize;
    for text in texts {
        if text.contains('\0') {
            return Err(RunError::BadRequest(
                "an argument or a variable holds a NUL byte".to_owned(),
            ));
        }
        if text.len() > MAX_TEXT {
            return Err(RunError::BadRequest(format!(
                "an argument or a variable is longer than {MAX_TEXT} bytes"
            )));
        }
        total = total.saturating_add(text.len() + 9);
    }
    if total > MAX_TEXTS {
        return Err(RunError::BadRequest(format!(
            "arguments and variables take more than {MAX_TEXTS} bytes together"
        )));
    }
    Ok(())
}
