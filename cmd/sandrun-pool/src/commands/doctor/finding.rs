//! What a check says.

use std::fmt;

use serde::Serialize;

use crate::output::Report;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it has to be.
    Ok,
    /// It could not be looked at, for a reason that is a finding of its own.
    Skip,
    /// It works, but not as well or not for long.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was looked at.
    pub(super) what: String,
    /// What was seen.
    pub(super) seen: String,
    /// What to do; empty where nothing is to be done.
    #[serde(rename = "do", skip_serializing_if = "String::is_empty")]
    pub(super) todo: String,
}

impl Finding {
    /// As it has to be.
    pub(super) fn ok(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::of(Level::Ok, what, seen, "")
    }

    /// It could not be looked at; why is said by another finding, so that one cause is one finding.
    pub(super) fn skip(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::of(Level::Skip, what, format!("not checked: {why}"), "")
    }

    /// It works, but somebody should look at it.
    pub(super) fn warn(what: impl Into<String>, seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::of(Level::Warn, what, seen, todo)
    }

    /// It does not work.
    pub(super) fn fail(what: impl Into<String>, seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::of(Level::Fail, what, seen, todo)
    }

    fn of(level: Level, what: impl Into<String>, seen: impl Into<String>, todo: impl Into<String>) -> Self {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            level,
            what: what.into(),
            seen: one_line(seen.into()),
            todo: one_line(todo.into()),
        }
    }
}

/// Something that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    /// What.
    pub(super) what: &'static str,
    /// What has it looked at.
    pub(super) how: &'static str,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Diagnosis {
    pub(super) findings: Vec<Finding>,
    pub(super) left_out: Vec<LeftOut>,
    /// Findings by how bad they are.
    pub(super) failed: usize,
    pub(super) warned: usize,
}

impl Diagnosis {
    pub(super) fn new(findings: Vec<Finding>, left_out: Vec<LeftOut>) -> Self {
        let count = |level| findings.iter().filter(|it| it.level == level).count();
        Self {
            failed: count(Level::Fail),
            warned: count(Level::Warn),
            findings,
            left_out,
        }
    }
}

impl Report for Diagnosis {
    fn human(&self) -> String {
        let mut text = String::new();
        for Finding {
            level,
            what,
            seen,
            todo,
        } in &self.findings
        {
            text.push_str(&format!("{level:<4}  {what}: {seen}"));
            if !todo.is_empty() {
                text.push_str(&format!("; {todo}"));
            }
            text.push('\n');
        }
        for LeftOut { what, how } in &self.left_out {
            text.push_str(&format!("left out, as it is not configured: {what}; {how}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let findings = vec![
            Finding::ok("chain", "block 7"),
            Finding::skip("stake", "the contracts can't be used"),
            Finding::fail("store", "no\nanswer", "start it"),
        ];
        let left_out = vec![LeftOut {
            what: "keys",
            how: "--key FILE",
        }];
        let diagnosis = Diagnosis::new(findings, left_out);
        assert_eq!((diagnosis.failed, diagnosis.warned), (1, 0));
        assert_eq!(
            diagnosis.human(),
            "ok    chain: block 7\nskip  stake: not checked: the contracts can't be used\nfail  store: no answer; start it\n\
             left out, as it is not configured: keys; --key FILE\n"
        );
        let json = serde_json::to_value(&diagnosis).unwrap();
        assert_eq!(json["findings"][1]["level"], "skip");
        assert_eq!(json["findings"][2]["do"], "start it");
        assert!(json["findings"][0].get("do").is_none());
    }
}
