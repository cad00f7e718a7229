//! One case: how it is run and what has to hold of what it says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::support::{Said, Scene, said};

/// Longest time for any of them.
const WITHIN: Duration = Duration::from_secs(20);

/// Exit codes (see `sandrun-pool --help`).
pub(crate) const BAD_INPUT: i32 = 2;
pub(crate) const UNREACHABLE: i32 = 3;
pub(crate) const REFUSED: i32 = 4;

/// Arguments, what they end with, and what has to be said: the thing and the remedy.
pub(crate) struct Case {
    arguments: Vec<String>,
    env: Vec<(&'static str, String)>,
    code: i32,
    says: Vec<String>,
}

pub(crate) fn case(arguments: &str, code: i32, says: &[&str]) -> Case {
    Case {
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        env: Vec::new(),
        code,
        says: says.iter().map(|&it| it.to_owned()).collect(),
    }
}

impl Case {
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it for people and for scripts.
    pub(crate) async fn run(&self, scene: &Scene) -> anyhow::Result<()> {
        let plain = self.said(scene, &[]).await?;
        let json = self.said(scene, &["--json"]).await?;
        self.check(&plain)
            .with_context(|| format!("{:?}: {plain:#?}", self.arguments))?;
        self.check_json(&json)
            .with_context(|| format!("{:?} --json: {json:#?}", self.arguments))
    }

    async fn said(&self, scene: &Scene, more: &[&str]) -> anyhow::Result<Said> {
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.extend(more);
        let mut command = scene.command(&arguments);
        for (name, value) in &self.env {
            if value.is_empty() {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        let started = Instant::now();
        let said = said(command).await?;
        anyhow::ensure!(
            started.elapsed() < WITHIN,
            "{arguments:?} took {:?}",
            started.elapsed()
        );
        Ok(said)
    }

    fn check(&self, said: &Said) -> anyhow::Result<()> {
        anyhow::ensure!(
            said.code == self.code,
            "ended with {}, not {}",
            said.code,
            self.code
        );
        anyhow::ensure!(said.stdout.is_empty(), "an error goes to standard error");
        let errors = said
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count();
        anyhow::ensure!(errors == 1, "{errors} errors instead of one");
        self.check_words(&said.stderr)
    }

    /// For scripts: every line is JSON, the last one has the error and its code.
    fn check_json(&self, said: &Said) -> anyhow::Result<()> {
        anyhow::ensure!(
            said.code == self.code,
            "ended with {}, not {}",
            said.code,
            self.code
        );
        anyhow::ensure!(said.stdout.is_empty(), "an error goes to standard error");
        let lines: Vec<Value> = said
            .stderr
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let last = lines.last().context("a line")?;
        anyhow::ensure!(last["exit_code"] == self.code, "another exit code");
        self.check_words(last["error"].as_str().context("an error")?)
    }

    fn check_words(&self, text: &str) -> anyhow::Result<()> {
        // what is broken over lines reads the same
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in &self.says {
            anyhow::ensure!(text.contains(words.as_str()), "`{words}` is not said in: {text}");
        }
        let mut clauses: BTreeMap<&str, u32> = BTreeMap::new();
        for clause in text.split([':', ';']).map(str::trim).filter(|it| it.len() >= 20) {
            let count = clauses.entry(clause).or_default();
            *count += 1;
            anyhow::ensure!(*count == 1, "`{clause}` is said twice in: {text}");
        }
        Ok(())
    }
}
