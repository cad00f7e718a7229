//! What the user sees on standard output and standard error. Owns the choice between text and JSON; a result goes to
//! standard output, everything else to standard error.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Status, words};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Human,
    /// One JSON document.
    Json,
}

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
}

/// Something that can be shown to people; scripts get its JSON form.
pub(crate) trait Report: Serialize {
    /// The text, with a final newline.
    fn human(&self) -> String;
}

impl Output {
    /// As the global flags say.
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: if global.json { Format::Json } else { Format::Human },
            quiet: global.quiet,
        }
    }

    /// For an error that comes before the arguments are understood.
    pub(crate) fn before_arguments(arguments: &[OsString]) -> Self {
        let mut options = arguments.iter().take_while(|it| *it != "--");
        let format = if options.any(|it| it == "--json") {
            Format::Json
        } else {
            Format::Human
        };
        Self { format, quiet: false }
    }

    /// Whether results and errors are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether progress may be drawn: only for a person who watches.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && self.format == Format::Human && std::io::stderr().is_terminal()
    }

    /// Prints a result.
    pub(crate) fn result(&self, report: &impl Report) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Human if self.quiet => return Ok(()),
            Format::Human => printable(&report.human()),
            Format::Json => format!("{}\n", serde_json::to_string(report)?),
        };
        write_out(text.as_bytes())
    }

    /// Whether what a program prints is passed on: not with --quiet and --json.
    pub(crate) fn shows_program(&self) -> bool {
        !self.quiet && self.format == Format::Human
    }

    /// What a job's program printed, on standard output; silent with --quiet and --json.
    /// Gives whether somebody still reads it.
    pub(crate) fn program_output(&self, text: &str) -> anyhow::Result<bool> {
        if self.quiet || self.format == Format::Json {
            return Ok(true);
        }
        is_read(text.as_bytes())
    }

    /// What a job's program printed as errors, on standard error; silent with --quiet and --json.
    pub(crate) fn program_errors(&self, text: &str) {
        if !self.quiet && self.format == Format::Human {
            // there is nobody to tell when that is closed
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }

    /// A remark for people, on standard error; silent with --quiet and --json.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && self.format == Format::Human {
            remark(&printable(text));
        }
    }

    /// What must reach the user while the command waits, such as a job's id: on standard error whether or not somebody
    /// watches it, and on a terminal's standard output where standard error goes elsewhere; silent with --quiet.
    pub(crate) fn at_once(&self, text: &str, document: &serde_json::Value) {
        if !self.quiet || self.format == Format::Json {
            self.last_word(text, document);
        }
    }

    /// As [`Self::at_once`], also with --quiet: nobody would learn it otherwise.
    pub(crate) fn last_word(&self, text: &str, document: &serde_json::Value) {
        match self.format {
            Format::Human => {
                let text = &printable(text);
                remark(text);
                if std::io::stdout().is_terminal() && !std::io::stderr().is_terminal() {
                    announce(text);
                }
            }
            Format::Json => remark(&document.to_string()),
        }
    }

    /// Prints an error on standard error, as JSON for scripts, and gives its exit code.
    pub(crate) fn fail(&self, error: &anyhow::Error) -> ExitCode {
        let (text, status) = (words(error), Status::of(error));
        match self.format {
            Format::Human => remark(&printable(&format!("error: {text}"))),
            Format::Json => {
                remark(&serde_json::json!({ "error": text, "exit_code": status.code() }).to_string());
            }
        }
        status.into()
    }
}

/// The text without what would command a terminal: much of it comes from services, nodes and jobs, whose words could otherwise
/// wipe lines or forge others.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Writes to standard output; a reader that has seen enough is no failure.
pub(crate) fn write_out(bytes: &[u8]) -> anyhow::Result<()> {
    is_read(bytes).map(drop)
}

/// As [`write_out`]; gives whether there still is a reader. What only prints ends without one.
pub(crate) fn is_read(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A line of a service that says where it is; whoever started it may have closed standard output.
pub(crate) fn announce(line: &str) {
    let _ = write_out(format!("{line}\n").as_bytes());
}

/// A line on standard error; there is nobody to tell when that is closed.
pub(crate) fn remark(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Lays rows out in columns; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_commands_no_terminal() {
        assert_eq!(printable("a\tb\nä ✓\n"), "a\tb\nä ✓\n");
        assert_eq!(
            printable("\u{1b}[2Jwell\rforged\u{7}\u{9b}2J"),
            "\\u{1b}[2Jwell\\rforged\\u{7}\\u{9b}2J"
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".into(), "long".into()], vec!["bbb".into(), "c".into()]];
        assert_eq!(table(&rows), "a    long\nbbb  c\n");
    }
}
