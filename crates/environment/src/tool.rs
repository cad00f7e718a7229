//! Running a package manager. Owns how it is started and how its failure is told; never hands it a shell.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::interrupt::Interrupt;

/// Longest piece of a tool's own words that is kept, in characters.
const MAX_WORDS: usize = 1500;

/// A package manager that did not do what it was asked to.
#[derive(Debug, Error)]
pub enum ToolError {
    /// It is not there.
    #[error("{tool} is needed to {purpose}, and is not installed ({source}): {advice}")]
    Missing {
        /// The program.
        tool: String,
        /// What for.
        purpose: &'static str,
        /// How to get it.
        advice: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It failed.
    #[error("{tool} could not {purpose}: {words}")]
    Failed {
        /// The program.
        tool: String,
        /// What it was to do.
        purpose: &'static str,
        /// What it said, its end.
        words: String,
    },
}

/// A package manager that is there.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    /// For messages.
    name: String,
    /// Program and first arguments.
    command: Vec<OsString>,
    /// How to get it.
    advice: &'static str,
    /// Who may end it.
    interrupt: Interrupt,
}

impl Tool {
    pub(crate) fn new(name: &str, command: &[&str], advice: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            command: command.iter().map(OsString::from).collect(),
            advice,
            interrupt: Interrupt::default(),
        }
    }

    /// The same tool, which somebody else may end.
    pub(crate) fn until(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Runs it to its end; what it printed on standard output. `prepare` adds arguments and the directory.
    pub(crate) fn run(
        &self,
        purpose: &'static str,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Vec<u8>, ToolError> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(self.missing(purpose, io::ErrorKind::NotFound.into()));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        prepare(&mut command);
        tracing::debug!(?command, "running");
        let done = self.interrupt.output(&mut command);
        let done = done.map_err(|source| self.missing(purpose, source))?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let words = String::from_utf8_lossy(&done.stderr);
        let words = words.trim();
        let skipped = words.chars().count().saturating_sub(MAX_WORDS);
        Err(ToolError::Failed {
            tool: self.name.clone(),
            purpose,
            words: words.chars().skip(skipped).collect(),
        })
    }

    fn missing(&self, purpose: &'static str, source: io::Error) -> ToolError {
        ToolError::Missing {
            tool: self.name.clone(),
            purpose,
            advice: self.advice,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_what_to_do() {
        let tool = Tool::new("pip", &["/nowhere/pip"], "install python3-pip");
        let words = tool.run("choose versions", |_| {}).unwrap_err().to_string();
        assert!(words.contains("pip is needed to choose versions"), "{words}");
        assert!(words.contains("install python3-pip"), "{words}");
    }

    #[test]
    fn a_failing_tool_is_quoted() {
        let tool = Tool::new("sh", &["/bin/sh", "-c", "echo no such package >&2; exit 1"], "");
        let words = tool.run("choose versions", |_| {}).unwrap_err().to_string();
        assert_eq!(words, "sh could not choose versions: no such package");
    }
}
