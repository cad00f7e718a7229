//! The readable history of one seed: kept only when it is played again.

/// Lines of what happened.
#[derive(Debug, Default)]
pub(crate) struct History {
    is_kept: bool,
    now: u64,
    lines: Vec<String>,
}

impl History {
    pub(crate) const fn new(is_kept: bool) -> Self {
        Self {
            is_kept,
            now: 0,
            lines: Vec::new(),
        }
    }

    /// The second in which the next lines happen.
    pub(crate) const fn at(&mut self, second: u64) {
        self.now = second;
    }

    /// Adds a line, made only when it is kept.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if self.is_kept {
            self.lines.push(format!("{:>5}  {}", self.now, line()));
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
