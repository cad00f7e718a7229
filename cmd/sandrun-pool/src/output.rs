//! What the user sees on standard output and standard error. Owns the choice between text and JSON; a result goes to
//! standard output, everything else to standard error.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::cli::Global;

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

    /// Whether progress may be drawn: only for a person who watches.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && self.format == Format::Human && std::io::stderr().is_terminal()
    }

    /// Prints a result.
    pub(crate) fn result(&self, report: &impl Report) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Human if self.quiet => return Ok(()),
            Format::Human => report.human(),
            Format::Json => format!("{}\n", serde_json::to_string(report)?),
        };
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            // a reader that has seen enough is no failure
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// A remark for people, on standard error; silent with --quiet and --json.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && self.format == Format::Human {
            eprintln!("{text}");
        }
    }

    /// An error, on standard error; as JSON for scripts.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        match self.format {
            Format::Human => eprintln!("error: {}", crate::exit::words(error)),
            Format::Json => {
                let code = crate::exit::Status::of(error).code();
                eprintln!(
                    "{}",
                    serde_json::json!({ "error": crate::exit::words(error), "exit_code": code })
                );
            }
        }
    }
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
    fn columns_are_aligned() {
        let rows = vec![vec!["a".into(), "long".into()], vec!["bbb".into(), "c".into()]];
        assert_eq!(table(&rows), "a    long\nbbb  c\n");
    }
}
