//! Following what a job prints. Owns the position: a stream that breaks is taken up again where it ended, and nothing is
//! given out twice. Services without streams are asked again and again.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::client::{AWAY, LAST_LOOK};
use super::events::{EventParser, ServerEvent};
use super::{JobStatus, Kind, PoolClient, PoolClientError, PoolJobId};

/// First pause before a stream is taken up again, or a service asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub enum LogEvent {
    /// It printed to standard output.
    Stdout(String),
    /// It printed to standard error.
    Stderr(String),
    /// It stands otherwise than before.
    Status(JobStatus),
    /// Another attempt's output follows, from its start: after a failure, or where of several replicas another one counts.
    Attempt(u32),
}

/// Where each output has been given out to, in bytes, and what is new. Pure.
#[derive(Debug, Default)]
struct Position {
    /// Given out.
    given: [usize; 2],
    /// What the present stream has sent.
    seen: [usize; 2],
    /// The server's own position, where it gives one: then streams go on instead of beginning again.
    id: Option<String>,
    status: Option<JobStatus>,
    attempt: Option<u64>,
}

impl Position {
    /// A new stream begins.
    fn begin(&mut self) {
        self.seen = if self.id.is_some() { self.given } else { [0; 2] };
    }

    /// What of `text` was not given out before.
    fn fresh(&mut self, output: usize, text: &str) -> Option<String> {
        let before = self.seen[output];
        self.seen[output] += text.len();
        let known = self.given[output].saturating_sub(before).min(text.len());
        self.given[output] = self.given[output].max(self.seen[output]);
        // a service that cuts elsewhere the second time is no reason to break a character
        let fresh = text.get(known..).unwrap_or(text);
        (!fresh.is_empty()).then(|| fresh.to_owned())
    }

    /// A whole output as it is now.
    fn whole(&mut self, output: usize, text: &str) -> Option<String> {
        self.seen[output] = 0;
        self.fresh(output, text)
    }

    fn status(&mut self, status: JobStatus) -> Option<LogEvent> {
        (self.status.replace(status) != Some(status)).then_some(LogEvent::Status(status))
    }

    /// Another attempt prints from the beginning: a later one, or the one of several replicas that was accepted.
    fn attempt(&mut self, attempt: u64) -> Option<LogEvent> {
        let before = self.attempt.replace(attempt)?;
        if before == attempt {
            return None;
        }
        self.given = [0; 2];
        self.seen = [0; 2];
        u32::try_from(attempt).ok().map(LogEvent::Attempt)
    }

    /// What a server's event means, and whether it is the last one. An error is the server's.
    fn take(&mut self, event: &ServerEvent) -> Result<(Vec<LogEvent>, bool), String> {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.as_str().into());
        let text = data.as_str().unwrap_or_default();
        let mut events = Vec::new();
        match event.name.as_str() {
            "stdout" => events.extend(self.fresh(0, text).map(LogEvent::Stdout)),
            "stderr" => events.extend(self.fresh(1, text).map(LogEvent::Stderr)),
            "error" => {
                let said = data.get("error").and_then(Value::as_str);
                return Err(said.unwrap_or(text).to_owned());
            }
            name @ ("status" | "done") => {
                let attempt = data.get("attempt").and_then(Value::as_u64);
                events.extend(attempt.and_then(|it| self.attempt(it)));
                let word = data.get("status").unwrap_or(&data);
                let status = serde_json::from_value(word.clone()).ok();
                events.extend(status.and_then(|it| self.status(it)));
                if name == "done" {
                    return Ok((events, true));
                }
            }
            // a later version's
            _ => {}
        }
        if event.id.is_some() {
            self.id.clone_from(&event.id);
        }
        Ok((events, false))
    }
}

/// Follows one job.
#[derive(Debug)]
pub struct LogFollower {
    client: PoolClient,
    job: PoolJobId,
    position: Position,
    events: VecDeque<LogEvent>,
    stream: Option<(Response, EventParser)>,
    pause: Duration,
    heard: Instant,
    over: bool,
}

impl LogFollower {
    pub(super) fn new(client: PoolClient, job: PoolJobId) -> Self {
        Self {
            client,
            job,
            position: Position::default(),
            events: VecDeque::new(),
            stream: None,
            pause: FIRST_PAUSE,
            heard: Instant::now(),
            over: false,
        }
    }

    /// The next event; `None` once the job has ended and all was given out. A service that is away for a while is waited
    /// for.
    ///
    /// # Errors
    /// As [`PoolClient::job`].
    pub async fn next(&mut self) -> Result<Option<LogEvent>, PoolClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.over {
                return Ok(None);
            }
            let step = if self.client.service().is_common {
                self.listen().await
            } else {
                self.ask().await
            };
            match step {
                Ok(true) => {
                    self.heard = Instant::now();
                    self.pause = FIRST_PAUSE;
                }
                Ok(false) => self.rest().await,
                Err(error) if error.is_transient() && self.heard.elapsed() < AWAY => {
                    self.stream = None;
                    self.rest().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn rest(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 3 / 2).min(LAST_LOOK);
    }

    /// Reads one piece of the stream. Whether there was one.
    async fn listen(&mut self) -> Result<bool, PoolClientError> {
        let http = self.client.http.clone();
        let (mut response, mut parser) = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.position.begin();
                let path = ["v1", "jobs", self.job.as_str(), "logs", "stream"];
                let request = http.get(&path).header("accept", "text/event-stream");
                let request = match &self.position.id {
                    Some(id) => request.header("last-event-id", id),
                    None => request,
                };
                let sent = http.send(request).await;
                let response = sent.map_err(|error| self.client.or_unknown(error, &self.job))?;
                (response, EventParser::default())
            }
        };
        let Some(piece) = http.piece(&mut response).await? else {
            return Ok(false);
        };
        let events = parser
            .feed(&piece)
            .ok_or_else(|| http.nonsense("its events do not end"))?;
        for event in &events {
            let (events, is_last) = self
                .position
                .take(event)
                .map_err(|detail| PoolClientError::Failed {
                    url: self.client.url().to_owned(),
                    status: 200,
                    detail,
                })?;
            self.events.extend(events);
            if is_last {
                self.over = true;
                return Ok(true);
            }
        }
        self.stream = Some((response, parser));
        Ok(true)
    }

    /// Looks once, at a service without streams. Whether there was anything new.
    async fn ask(&mut self) -> Result<bool, PoolClientError> {
        let job = self.client.job(&self.job).await?;
        let is_silent = self.client.service().kind == Kind::Coordinator;
        if !is_silent {
            let printed = self.client.printed(&self.job).await?;
            self.events
                .extend(self.position.whole(0, &printed.stdout).map(LogEvent::Stdout));
            self.events
                .extend(self.position.whole(1, &printed.stderr).map(LogEvent::Stderr));
        }
        self.events.extend(self.position.status(job.status));
        self.over = job.status.has_ended();
        self.heard = Instant::now();
        Ok(!self.events.is_empty() || self.over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> ServerEvent {
        ServerEvent {
            id: id.map(str::to_owned),
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    fn take(position: &mut Position, name: &str, data: &str) -> Vec<LogEvent> {
        position.take(&event(name, data, None)).unwrap().0
    }

    #[test]
    fn a_stream_that_begins_again_repeats_nothing() {
        let mut position = Position::default();
        position.begin();
        assert_eq!(
            take(&mut position, "stdout", "\"one\\n\""),
            [LogEvent::Stdout("one\n".into())]
        );
        assert_eq!(
            take(&mut position, "stderr", "\"e\""),
            [LogEvent::Stderr("e".into())]
        );
        position.begin();
        assert_eq!(take(&mut position, "stdout", "\"on\""), []);
        assert_eq!(
            take(&mut position, "stdout", "\"e\\ntwo\""),
            [LogEvent::Stdout("two".into())]
        );
        assert_eq!(take(&mut position, "stderr", "\"e\""), []);
        assert_eq!(
            take(&mut position, "stderr", "\"f\""),
            [LogEvent::Stderr("f".into())]
        );
    }

    #[test]
    fn a_stream_with_ids_goes_on() {
        let mut position = Position::default();
        position.begin();
        let first = event("stdout", "\"one\"", Some("1.3.0"));
        position.take(&first).unwrap();
        position.begin();
        assert_eq!(position.id.as_deref(), Some("1.3.0"));
        assert_eq!(
            take(&mut position, "stdout", "\"two\""),
            [LogEvent::Stdout("two".into())]
        );
    }

    #[test]
    fn a_new_attempt_prints_from_the_start() {
        let mut position = Position::default();
        position.begin();
        let say = r#"{"status": "running", "attempt": 1}"#;
        assert_eq!(
            take(&mut position, "status", say),
            [LogEvent::Status(JobStatus::Running)]
        );
        take(&mut position, "stdout", "\"one\"");
        let again = r#"{"status": "assigned", "attempt": 2}"#;
        assert_eq!(
            take(&mut position, "status", again),
            [LogEvent::Attempt(2), LogEvent::Status(JobStatus::Assigned)]
        );
        assert_eq!(
            take(&mut position, "stdout", "\"one\""),
            [LogEvent::Stdout("one".into())]
        );
        let done = event("done", r#"{"status": "failed", "exit_code": 1}"#, None);
        assert_eq!(
            position.take(&done).unwrap(),
            (vec![LogEvent::Status(JobStatus::Failed)], true)
        );
    }

    #[test]
    fn the_accepted_replica_prints_from_the_start() {
        let mut position = Position::default();
        position.begin();
        take(&mut position, "status", r#"{"status": "running", "attempt": 2}"#);
        take(&mut position, "stdout", "\"two\"");
        let accepted = r#"{"status": "completed", "attempt": 1}"#;
        assert_eq!(
            take(&mut position, "status", accepted),
            [LogEvent::Attempt(1), LogEvent::Status(JobStatus::Completed)]
        );
        assert_eq!(
            take(&mut position, "stdout", "\"one\""),
            [LogEvent::Stdout("one".into())]
        );
    }

    #[test]
    fn whole_outputs_give_what_is_new() {
        let mut position = Position::default();
        assert_eq!(position.whole(0, "a").as_deref(), Some("a"));
        assert_eq!(position.whole(0, "ab").as_deref(), Some("b"));
        assert_eq!(position.whole(0, "ab"), None);
    }
}
