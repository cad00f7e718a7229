//! What a run has printed, and how much of it the broker knows. Pure: time is an argument.

use std::time::Duration;

use sandrun_executor::TextPieces;
use tokio::time::Instant;

use super::pace::log_delay;
use super::wire::{LogText, LogUpdate, NodeId};

/// Most text of one stream in one update, bytes.
const MOST: usize = 256 << 10;
/// Pause after an update that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// One stream as bytes and as text; text is what the bytes together read as, whatever pieces they came in.
#[derive(Debug, Default)]
struct Printed {
    bytes: Vec<u8>,
    pieces: TextPieces,
    text: String,
    /// Bytes of text that the broker has.
    sent: usize,
}

impl Printed {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.text.push_str(&self.pieces.push(bytes));
    }

    fn restart(&mut self) {
        *self = Self {
            sent: self.sent,
            ..Self::default()
        };
    }

    /// The next piece to send, at most [`MOST`] bytes, whole characters.
    fn unsent(&self) -> &str {
        let rest = self.text.get(self.sent..).unwrap_or_default();
        let mut end = rest.len().min(MOST);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        &rest[..end]
    }

    fn piece(&self) -> Option<LogText<'_>> {
        let text = self.unsent();
        (!text.is_empty()).then_some(LogText {
            from: self.sent as u64,
            text,
        })
    }
}

/// Both streams of a job. A job that is run again prints from the beginning; only what is longer than before is sent.
#[derive(Debug)]
pub(crate) struct LogFeed {
    stdout: Printed,
    stderr: Printed,
    /// When the oldest piece that was not sent came.
    waiting_since: Option<Instant>,
    not_before: Instant,
    is_open: bool,
}

impl LogFeed {
    /// Nothing printed yet. A broker that takes no logs gets none.
    pub(crate) fn new(now: Instant, is_open: bool) -> Self {
        Self {
            stdout: Printed::default(),
            stderr: Printed::default(),
            waiting_since: None,
            not_before: now,
            is_open,
        }
    }

    /// The job begins again.
    pub(crate) fn restart(&mut self) {
        self.stdout.restart();
        self.stderr.restart();
        self.waiting_since = None;
    }

    /// More was printed.
    pub(crate) fn push(&mut self, now: Instant, stdout: &[u8], stderr: &[u8]) {
        self.stdout.push(stdout);
        self.stderr.push(stderr);
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        let is_waiting = !self.stdout.unsent().is_empty() || !self.stderr.unsent().is_empty();
        self.waiting_since = is_waiting.then(|| self.waiting_since.unwrap_or(now));
    }

    /// When the next update is due; `None` while there is nothing to say.
    pub(crate) fn due(&self) -> Option<Instant> {
        let since = self.waiting_since.filter(|_| self.is_open)?;
        Some((since + log_delay()).max(self.not_before))
    }

    /// The next update.
    pub(crate) fn update<'a>(&'a self, node_id: &'a NodeId) -> LogUpdate<'a> {
        LogUpdate {
            node_id,
            stdout: self.stdout.piece(),
            stderr: self.stderr.piece(),
        }
    }

    /// The broker has the update.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.stdout.sent += self.stdout.unsent().len();
        self.stderr.sent += self.stderr.unsent().len();
        self.waiting_since = None;
        self.not_before = now + log_delay();
        self.look(now);
    }

    /// It could not be told.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.not_before = now + AFTER_FAILURE;
    }

    /// It does not want to be told.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
    }

    /// Everything printed, as bytes: stdout and stderr.
    pub(crate) fn bytes(&self) -> (&[u8], &[u8]) {
        (&self.stdout.bytes, &self.stderr.bytes)
    }

    /// Everything printed, as text: stdout and stderr.
    pub(crate) fn finish(mut self) -> (String, String) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            let rest = stream.pieces.finish();
            stream.text.push_str(&rest);
        }
        (self.stdout.text, self.stderr.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node() -> NodeId {
        NodeId("n".to_owned())
    }

    #[test]
    fn output_is_due_soon_and_not_more_often_than_that() {
        let start = Instant::now();
        let mut feed = LogFeed::new(start, true);
        assert_eq!(feed.due(), None);
        feed.push(start, b"one\n", b"");
        feed.push(start + Duration::from_millis(100), b"two\n", b"");
        let due = feed.due().unwrap();
        assert_eq!(due, start + log_delay());
        assert_eq!(
            feed.update(&node()).stdout,
            Some(LogText {
                from: 0,
                text: "one\ntwo\n"
            })
        );
        feed.sent(due);
        assert_eq!(feed.due(), None);
        feed.push(due, b"", b"three");
        assert_eq!(feed.due(), Some(due + log_delay()));
        feed.failed(due + log_delay());
        assert_eq!(feed.due(), Some(due + log_delay() + AFTER_FAILURE));
        feed.close();
        assert_eq!(feed.due(), None);
    }

    #[test]
    fn a_second_run_says_only_what_is_new() {
        let now = Instant::now();
        let mut feed = LogFeed::new(now, true);
        feed.push(now, b"one\ntwo\n", b"");
        feed.sent(now);
        feed.restart();
        feed.push(now, b"one\n", b"");
        assert_eq!(feed.due(), None);
        feed.push(now, b"two\nthree\n", b"");
        assert_eq!(
            feed.update(&node()).stdout,
            Some(LogText {
                from: 8,
                text: "three\n"
            })
        );
        assert_eq!(feed.finish().0, "one\ntwo\nthree\n");
    }

    proptest! {
        #[test]
        fn the_pieces_together_are_the_text(pieces in prop::collection::vec("[aü€😀]{0,80000}", 1..6)) {
            let now = Instant::now();
            let mut feed = LogFeed::new(now, true);
            let mut joined = String::new();
            let node = node();
            for piece in &pieces {
                feed.push(now, piece.as_bytes(), b"");
                let update = feed.update(&node);
                if let Some(LogText { from, text }) = update.stdout {
                    prop_assert_eq!(from, joined.len() as u64);
                    prop_assert!(text.len() <= MOST);
                    joined.push_str(text);
                }
                feed.sent(now);
            }
            while feed.due().is_some() {
                if let Some(LogText { text, .. }) = feed.update(&node).stdout {
                    joined.push_str(text);
                }
                feed.sent(now);
            }
            prop_assert_eq!(joined, feed.finish().0);
        }
    }
}
