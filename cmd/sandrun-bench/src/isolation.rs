//! `sandbox.start` and `sandbox.python`: how long an isolated program takes, from the order to run it until it is dead,
//! cleared away and its outputs are collected, by the path that the executor takes: the released binary's launcher and
//! `Sandbox::run`, with every layer on.
//!
//! Subject and peer take turns in blocks, and each begins every other time: what else the machine does hits both alike,
//! and most runs follow a run of their own kind at once, so that they pay for whatever that one left to be cleared up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use sandrun_sandbox::{CancelHandle, Class, Layer, Limits, RunRequest, Sandbox, SandboxConfig};
use sandrun_types::{BundlePath, Entry, Interpreter, OutputPatterns};
use tempfile::TempDir;

use crate::statistics::median;
use crate::{det, note, peer, words};

/// Turns of each side.
const TURNS: usize = 30;
/// Runs in a turn.
const RUNS: usize = 10;

/// Medians, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    /// Ours.
    pub(crate) subject: f64,
    /// The peer's, where it is there.
    pub(crate) peer: Option<f64>,
}

/// An isolated `/bin/true` beside bubblewrap's.
///
/// # Errors
/// A sandbox that does not start, a run that fails.
pub(crate) fn start(program: &Path) -> anyhow::Result<Times> {
    let ground = Ground::new(
        program,
        "true",
        Interpreter::Itself,
        &std::fs::read("/bin/true").context("/bin/true")?,
    )?;
    let there = peer::run(peer::bubblewrap("/bin/true"));
    if let Err(error) = &there {
        note(&format!(
            "the peer is missing: {}; `tools/setup.sh bench` installs it",
            words(error)
        ));
    }
    let mut bubblewrap = || peer::run(peer::bubblewrap("/bin/true"));
    take_turns(|| ground.run(), there.is_ok().then_some(&mut bubblewrap))
}

/// An isolated Python that does nothing beside the same interpreter bare.
///
/// # Errors
/// No Python, a sandbox that does not start, a run that fails.
pub(crate) fn python(program: &Path) -> anyhow::Result<Times> {
    let ground = Ground::new(program, "pass.py", Interpreter::Python3, b"pass\n")?;
    let interpreter = ground.interpreter()?;
    let mut bare = || {
        let mut command = Command::new(&interpreter);
        command.args(["-c", "pass"]);
        peer::run(command)
    };
    take_turns(|| ground.run(), Some(&mut bare))
}

/// A Python that does nothing, in class `det`, beside the same interpreter in bubblewrap.
///
/// # Errors
/// No Python, a sandbox that does not start, a run that fails.
pub(crate) fn det(program: &Path) -> anyhow::Result<Times> {
    let ground = Ground {
        class: det::class(),
        ..Ground::new(program, "pass.py", Interpreter::Python3, b"pass\n")?
    };
    let interpreter = ground.interpreter()?;
    let isolated = || {
        let mut command = peer::bubblewrap(&interpreter);
        command.args(["-c", "pass"]);
        peer::run(command)
    };
    let there = isolated();
    if let Err(error) = &there {
        note(&format!(
            "the peer is missing: {}; `tools/setup.sh bench` installs it",
            words(error)
        ));
    }
    let mut bubblewrap = isolated;
    take_turns(|| ground.run(), there.is_ok().then_some(&mut bubblewrap))
}

/// A sandbox and one job for it.
struct Ground {
    sandbox: Sandbox,
    class: Class,
    // holds the job's files and outputs
    directory: TempDir,
    entry: Entry,
}

impl Ground {
    fn new(program: &Path, name: &str, interpreter: Interpreter, text: &[u8]) -> anyhow::Result<Self> {
        let sandbox = Sandbox::start(SandboxConfig::new(vec![program.into(), "__sandbox".into()]))?;
        let directory = tempfile::tempdir().context("a temporary directory")?;
        let ground = Self {
            sandbox,
            class: Class::Native,
            directory,
            entry: Entry {
                entrypoint: BundlePath::parse(name)?,
                interpreter,
            },
        };
        std::fs::create_dir(ground.files())?;
        std::fs::write(ground.files().join(name), text)?;
        Ok(ground)
    }

    /// Where jobs have Python.
    fn interpreter(&self) -> anyhow::Result<String> {
        let mut known = self.sandbox.interpreters().iter();
        let found = known.find(|(name, _)| *name == Interpreter::Python3);
        let (_, path) = found.context("python3 is in none of the directories that jobs take it from")?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// One run, the directory for its outputs included.
    fn run(&self) -> anyhow::Result<()> {
        let outputs_dir = self.directory.path().join("outputs");
        std::fs::create_dir(&outputs_dir)?;
        let request = RunRequest {
            workspace: self.files(),
            outputs_dir: outputs_dir.clone(),
            entry: self.entry.clone(),
            args: Vec::new(),
            env: std::collections::BTreeMap::new(),
            limits: Limits::default(),
            outputs: OutputPatterns::default(),
            class: self.class,
            environment: None,
            trace: None,
        };
        let report = self.sandbox.run(&request, &(), &CancelHandle::new()?)?;
        anyhow::ensure!(
            report.exit_code == 0,
            "the job ended with {}: {}",
            report.exit_code,
            report.explanation
        );
        let off = Layer::ALL.into_iter().find(|layer| !report.layers.has(*layer));
        anyhow::ensure!(
            off.is_none(),
            "the layer {} was off: the figure would not be comparable",
            off.map_or("", Layer::name)
        );
        std::fs::remove_dir_all(&outputs_dir)?;
        Ok(())
    }
}

/// Times both sides in turns, after one turn each that does not count.
fn take_turns(
    mut subject: impl FnMut() -> anyhow::Result<()>,
    mut peer: Option<&mut dyn FnMut() -> anyhow::Result<()>>,
) -> anyhow::Result<Times> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        for side in [turn % 2, (turn + 1) % 2] {
            match (side, &mut peer) {
                (0, _) => a_turn(&mut subject, &mut ours)?,
                (_, Some(peer)) => a_turn(peer, &mut theirs)?,
                (_, None) => {}
            }
        }
        if turn == 0 {
            ours.clear();
            theirs.clear();
        }
    }
    Ok(Times {
        subject: median(&ours).context("nothing was measured")?,
        peer: median(&theirs),
    })
}

fn a_turn(mut run: impl FnMut() -> anyhow::Result<()>, times: &mut Vec<f64>) -> anyhow::Result<()> {
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn both_sides_run_equally_often_and_begin_in_turns() {
        let order = RefCell::new(String::new());
        let mut peer = || {
            order.borrow_mut().push('p');
            Ok(())
        };
        let times = take_turns(
            || {
                order.borrow_mut().push('s');
                Ok(())
            },
            Some(&mut peer),
        );
        assert!(times.unwrap().peer.is_some());
        let (order, turn) = (order.into_inner(), |side: &str| side.repeat(RUNS));
        assert_eq!(order.matches('s').count(), (TURNS + 1) * RUNS);
        assert_eq!(order.matches('p').count(), (TURNS + 1) * RUNS);
        assert!(
            order.starts_with(&[turn("s"), turn("p"), turn("p"), turn("s"), turn("s")].concat()),
            "{order}"
        );
    }

    #[test]
    fn a_missing_peer_has_no_figure_and_a_failure_is_none() {
        assert_eq!(take_turns(|| Ok(()), None).unwrap().peer, None);
        assert!(take_turns(|| anyhow::bail!("broken"), None).is_err());
    }
}
