//! The progress display of a job: escrowed → seats → running → committed → revealed → paid. Drawn on standard error, and
//! only for a person who watches.

use indicatif::{ProgressBar, ProgressStyle};
use sandrun_core::market::rules::Standing;
use sandrun_core::market::{JobFacts, Phase};

use crate::output::Output;

/// A line that says what happens now.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A display, where one is wanted.
    pub(crate) fn new(output: &Output) -> Self {
        if !output.shows_progress() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(Some(bar))
    }

    /// No display.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Says what happens now.
    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.to_owned());
        }
    }

    /// Says how a job stands.
    pub(crate) fn facts(&self, facts: &JobFacts) {
        self.say(&line(facts));
    }

    /// Prints something above the display.
    pub(crate) fn above(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the display.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A job's stages in one line, those that are reached marked.
pub(crate) fn line(facts: &JobFacts) -> String {
    let count =
        |wanted: fn(&Standing) -> bool| facts.seats.iter().filter(|seat| wanted(&seat.standing)).count();
    let seats = facts.seats.len();
    let committed = count(|it| !matches!(it, Standing::Uncommitted));
    let revealed = count(|it| matches!(it, Standing::Revealed(_) | Standing::Late(_)));
    let paid = facts
        .seats
        .iter()
        .filter(|seat| seat.end.is_some_and(|end| !end.paid.is_zero()))
        .count();
    let running = match facts.phase {
        Phase::Run => "[running]",
        Phase::Seats | Phase::Reveal | Phase::Closed => "running",
    };
    format!(
        "escrowed → seats {seats} → {running} → committed {committed} → revealed {revealed} → paid {paid}"
    )
}
