//! Follows one job: what it prints and how it stands, as events, until it has ended.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use sandrun_core::pool::JobNumber;
use sandrun_store::queue::{JobRow, JobWord, LogStream};
use sandrun_types::Attempt;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::error::ApiError;
use super::found::word;
use super::http::Shared;

const STREAMS: [LogStream; 2] = [LogStream::Stdout, LogStream::Stderr];
/// Bytes of output that a follower has in memory at once: thousands may follow, and read slowly or never.
const PIECE: usize = 64 << 10;
/// Bytes that are enough for any one character.
const CHARACTER: usize = 4;
/// Bytes of a log that are read at once where all of it is wanted.
const READ: usize = 1 << 20;
/// Followers that look at once: each look may have a whole answer in memory.
pub(super) const LOOKS: usize = 8;

/// How far a stream has come: whose output, and how many bytes of each. A client that comes back goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    attempt: Attempt,
    sent: [u64; 2],
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [stdout, stderr] = self.sent;
        write!(f, "{}.{stdout}.{stderr}", self.attempt)
    }
}

impl Mark {
    /// Reads what [`Self::fmt`] wrote; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (attempt, sent) = text.split_once('.')?;
        let (stdout, stderr) = sent.split_once('.')?;
        Some(Self {
            attempt: Attempt(attempt.parse().ok()?),
            sent: [stdout.parse().ok()?, stderr.parse().ok()?],
        })
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogEvent {
    /// It stands otherwise than before, or another attempt's output follows, from its beginning.
    Status { word: JobWord, attempt: Option<Attempt> },
    /// It has printed; where the stream stands after it.
    Text(LogStream, String, Mark),
    /// It has ended.
    Done {
        word: JobWord,
        reason: Option<String>,
        exit_code: Option<i32>,
    },
    /// It can't be followed any further.
    Broken(String),
}

impl LogEvent {
    /// The event's name.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Text(LogStream::Stdout, ..) => "stdout",
            Self::Text(LogStream::Stderr, ..) => "stderr",
            Self::Done { .. } => "done",
            Self::Broken(_) => "error",
        }
    }

    /// What a client that comes back names.
    pub(super) const fn mark(&self) -> Option<Mark> {
        match self {
            Self::Text(_, _, mark) => Some(*mark),
            Self::Status { .. } | Self::Done { .. } | Self::Broken(_) => None,
        }
    }

    /// Its data: a text for output, else an object.
    pub(super) fn data(&self) -> Value {
        match self {
            Self::Status { word: it, attempt } => json!({"status": word(*it), "attempt": attempt}),
            Self::Text(_, text, _) => Value::from(text.as_str()),
            Self::Done {
                word: it,
                reason,
                exit_code,
            } => json!({"status": word(*it), "reason": reason, "exit_code": exit_code}),
            Self::Broken(why) => json!({"error": why}),
        }
    }
}

/// Follows a job.
#[derive(Debug)]
pub(super) struct Follower {
    app: Shared,
    job: JobNumber,
    told: watch::Receiver<u64>,
    /// What was said last.
    said: Option<(JobWord, Option<Attempt>)>,
    /// Whose output was sent.
    attempt: Option<Attempt>,
    /// Bytes of each output that were sent.
    sent: [u64; 2],
    /// Bytes of output that one look takes.
    piece: usize,
    /// What the last look found: never more output than that.
    events: VecDeque<LogEvent>,
    /// What an ended job printed that is no UTF-8.
    bytes: [Option<Vec<u8>>; 2],
    over: bool,
}

impl Follower {
    pub(super) fn new(app: Shared, job: JobNumber) -> Self {
        Self {
            told: app.queue.follow(job),
            app,
            job,
            said: None,
            attempt: None,
            sent: [0; 2],
            piece: PIECE,
            events: VecDeque::new(),
            bytes: [None, None],
            over: false,
        }
    }

    /// Goes on behind `mark`.
    pub(super) fn behind(mut self, mark: Option<Mark>) -> Self {
        if let Some(Mark { attempt, sent }) = mark {
            (self.attempt, self.sent) = (Some(attempt), sent);
        }
        self
    }

    /// Looks for the first time: whether there is such a job, and what its first events are.
    pub(super) async fn begun(mut self) -> Result<Self, ApiError> {
        self.told.borrow_and_update();
        self.look().await?;
        Ok(self)
    }

    /// Whether the job has ended, and all was said about it.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.events.is_empty()
    }

    /// The next event; `None` when there is none any more, or the service ends.
    pub(super) async fn next(&mut self) -> Option<LogEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.told.borrow_and_update();
            if let Err(error) = self.look().await {
                self.over = true;
                self.events.push_back(LogEvent::Broken(error.message));
            }
            if self.events.is_empty() && !self.over {
                let app = self.app.clone();
                tokio::select! {
                    changed = self.told.changed() => changed.ok()?,
                    () = app.shutdown.cancelled() => return None,
                }
            }
        }
    }

    /// Both outputs so far, and the bytes of those of an ended job that are no UTF-8.
    pub(super) async fn so_far(mut self) -> Result<([String; 2], [Option<Vec<u8>>; 2]), ApiError> {
        self.piece = usize::MAX;
        self.look().await?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for event in self.events {
            match event {
                // a newer attempt may have begun between both
                LogEvent::Text(_, _, mark) if Some(mark.attempt) != self.attempt => {}
                LogEvent::Text(LogStream::Stdout, text, _) => stdout.push_str(&text),
                LogEvent::Text(LogStream::Stderr, text, _) => stderr.push_str(&text),
                LogEvent::Status { .. } | LogEvent::Done { .. } | LogEvent::Broken(_) => {}
            }
        }
        Ok(([stdout, stderr], self.bytes))
    }

    /// Looks at the job and its output, and makes events of what is new; of output a piece, and more at the next look.
    async fn look(&mut self) -> Result<(), ApiError> {
        let app = self.app.clone();
        // it is never closed
        let _permit = app.looks.acquire().await.ok();
        let found = self.app.reader.job_with_answer(self.job).await?;
        let (row, answer) = found.ok_or_else(ApiError::unknown_job)?;
        self.say(&row);
        let exit_code = answer.as_ref().and_then(|it| it.exit_code);
        let is_all = match answer {
            Some(answer) => {
                if self.attempt.is_some_and(|it| it != answer.attempt) {
                    self.begin(row.state.word, answer.attempt);
                    self.sent = [0; 2];
                }
                self.attempt = Some(answer.attempt);
                let mut room = self.piece;
                let printed = [answer.stdout, answer.stderr].into_iter().enumerate();
                printed.fold(true, |is_all, (at, bytes)| {
                    self.conclude(at, bytes, &mut room) && is_all
                })
            }
            None if is_untouched(&row) => true,
            None => self.read(&row).await?,
        };
        if is_all && !row.state.open {
            self.over = true;
            self.events.push_back(LogEvent::Done {
                word: row.state.word,
                reason: row.state.reason,
                exit_code,
            });
        }
        Ok(())
    }

    /// Sends what an ended job has printed beyond what was sent, as far as there is room; whether that is all.
    fn conclude(&mut self, at: usize, bytes: Vec<u8>, room: &mut usize) -> bool {
        let is_text = std::str::from_utf8(&bytes).is_ok();
        // nodes log texts, workers bytes: what was sent is counted in those
        let shown = if is_text || !self.app.face.has_nodes {
            Cow::Borrowed(bytes.as_slice())
        } else {
            Cow::Owned(String::from_utf8_lossy(&bytes).into_owned().into_bytes())
        };
        let from = usize::try_from(self.sent[at]).unwrap_or(usize::MAX);
        let from = from.min(shown.len());
        let rest = &shown[from..];
        let is_last = rest.len() <= *room;
        let (text, taken) = if is_last || *room >= CHARACTER {
            whole_text(&rest[..rest.len().min(*room)], is_last)
        } else {
            (String::new(), 0)
        };
        // what doesn't fit comes next, before anything else
        *room = if is_last { *room - taken } else { 0 };
        self.sent[at] = (from + taken) as u64;
        self.print(STREAMS[at], text);
        // who follows has no use for it
        let is_wanted = !is_text && self.piece > PIECE;
        self.bytes[at] = is_wanted.then_some(bytes);
        is_last
    }

    fn say(&mut self, row: &JobRow) {
        // of several replicas, the one that is given out last need not be the one whose output is sent
        let followed = self.attempt.filter(|_| self.sent != [0; 2]);
        let now = (row.state.word, followed.or(row.state.attempt));
        if row.state.open && self.said != Some(now) {
            self.said = Some(now);
            let (word, attempt) = now;
            self.events.push_back(LogEvent::Status { word, attempt });
        }
    }

    /// Says that an attempt prints from the beginning, before it does: the row that was read may be older than its output,
    /// or may have ended since.
    fn begin(&mut self, word: JobWord, attempt: Attempt) {
        if self.said.is_none_or(|(_, said)| said != Some(attempt)) {
            let attempt = Some(attempt);
            self.said = Some((word, attempt));
            self.events.push_back(LogEvent::Status { word, attempt });
        }
    }

    /// Reads what was logged since, as far as there is room; whether that is all.
    async fn read(&mut self, row: &JobRow) -> Result<bool, ApiError> {
        let mut room = self.piece;
        for (at, stream) in STREAMS.into_iter().enumerate() {
            loop {
                if room < CHARACTER {
                    return Ok(false);
                }
                let most = room.min(READ);
                let piece = self.app.reader.log(self.job, stream, self.sent[at], most).await?;
                let Some(piece) = piece else { break };
                if self.attempt != Some(piece.attempt) {
                    let is_newer = self.attempt.is_none_or(|it| it < piece.attempt);
                    if !is_newer {
                        // the newer attempt has printed nothing here
                        break;
                    }
                    let is_first = self.attempt.is_none() && self.sent == [0; 2];
                    self.begin(row.state.word, piece.attempt);
                    self.attempt = Some(piece.attempt);
                    self.sent = [0; 2];
                    if !is_first {
                        continue;
                    }
                }
                let is_cut = piece.bytes.len() >= most;
                let (text, taken) = whole_text(&piece.bytes, !row.state.open && !is_cut);
                if taken == 0 {
                    break;
                }
                room = room.saturating_sub(taken);
                self.sent[at] = piece.from + taken as u64;
                self.print(stream, text);
            }
        }
        Ok(true)
    }

    fn print(&mut self, stream: LogStream, text: String) {
        if let Some(attempt) = self.attempt.filter(|_| !text.is_empty()) {
            let sent = self.sent;
            self.events
                .push_back(LogEvent::Text(stream, text, Mark { attempt, sent }));
        }
    }
}

/// Whether nothing can have been printed yet: the first attempt is given and not begun.
fn is_untouched(row: &JobRow) -> bool {
    row.state.word == JobWord::Assigned && row.state.attempt == Some(Attempt::FIRST)
}

/// As much of these bytes as is whole characters, and how many bytes that is; all of it where nothing follows. What is no
/// UTF-8 becomes U+FFFD.
fn whole_text(bytes: &[u8], is_last: bool) -> (String, usize) {
    let half = |it: &[u8]| std::str::from_utf8(it).is_err_and(|error| error.error_len().is_none());
    let end = bytes.utf8_chunks().last().map_or(&[][..], |it| it.invalid());
    let taken = if !is_last && half(end) {
        bytes.len() - end.len()
    } else {
        bytes.len()
    };
    (String::from_utf8_lossy(&bytes[..taken]).into_owned(), taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back() {
        let mark = Mark {
            attempt: Attempt(2),
            sent: [30, 4],
        };
        assert_eq!(mark.to_string(), "2.30.4");
        assert_eq!(Mark::parse("2.30.4"), Some(mark));
        for bad in ["", "2", "2.3", "2.3.x", "-1.0.0", "2.3.4.5"] {
            assert_eq!(Mark::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let text = "aü".as_bytes();
        assert_eq!(whole_text(text, false), ("aü".to_owned(), 3));
        assert_eq!(whole_text(&text[..2], false), ("a".to_owned(), 1));
        assert_eq!(whole_text(&text[..2], true), ("a\u{fffd}".to_owned(), 2));
        assert_eq!(whole_text(b"a\xffb", false), ("a\u{fffd}b".to_owned(), 3));
        assert_eq!(whole_text(b"a\xffb\xc3", false), ("a\u{fffd}b".to_owned(), 3));
        assert_eq!(whole_text(b"", false), (String::new(), 0));
    }
}
