//! How the events of a trace come from a job's supervisor to the library: batches over the job's socket, before its last
//! message. Owns the batches, and the budget of events that the class fixes.

use std::io;
use std::os::fd::BorrowedFd;

use sandrun_types::{EntropySource, TaskEvent, TaskId, TraceEvent};

use crate::wire;

/// Most events of tasks in one trace: the job that makes more has used up its budget. Part of what class `det` is.
pub(crate) const MAX_EVENTS: u64 = 1 << 20;
/// Most bytes of them, likewise.
pub(crate) const MAX_EVENT_BYTES: u64 = 128 << 20;
/// The first byte of a batch; a message in JSON begins otherwise.
pub(crate) const BATCH: u8 = 0;
/// Bytes at which a batch is sent.
const FULL_BATCH: usize = 32 * 1024;

/// Why an event was not taken; the job has to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// It would be one too many. That is the same on every machine: a result.
    #[error("the budget of events is used up")]
    Budget,
    /// The library is gone.
    #[error("events can be sent to nobody")]
    Closed(#[source] io::Error),
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct EventSender<'a> {
    socket: BorrowedFd<'a>,
    batch: Vec<u8>,
    /// The last event, if it is a draw of entropy that may go on.
    draw: Option<Draw>,
    events_left: u64,
    bytes_left: u64,
}

impl<'a> EventSender<'a> {
    /// Sends over the socket that the job came with.
    pub(crate) fn new(socket: BorrowedFd<'a>) -> Self {
        Self {
            socket,
            batch: Vec::new(),
            draw: None,
            events_left: MAX_EVENTS,
            bytes_left: MAX_EVENT_BYTES,
        }
    }

    /// Takes one event; it is sent at once, or with others after it. Draws of entropy that nothing else comes between are
    /// one event.
    pub(crate) fn record(&mut self, event: &TraceEvent) -> Result<(), RecordError> {
        let draw = Draw::of(event);
        if let (Some(last), Some(next)) = (&mut self.draw, &draw)
            && last.add(next)
        {
            return Ok(());
        }
        let leaf = event.encode();
        let length = leaf.len() as u64;
        let left = self.bytes_left.checked_sub(length);
        let (Some(events), Some(bytes)) = (self.events_left.checked_sub(1), left) else {
            return Err(RecordError::Budget);
        };
        (self.events_left, self.bytes_left) = (events, bytes);
        self.end_draw();
        if draw.is_some() {
            self.draw = draw;
        } else {
            self.push(&leaf);
        }
        if self.batch.len() >= FULL_BATCH {
            self.send()?;
        }
        Ok(())
    }

    /// Sends what is left; to be called before the supervisor's last message.
    pub(crate) fn flush(&mut self) -> Result<(), RecordError> {
        self.end_draw();
        self.send()
    }

    fn end_draw(&mut self) {
        if let Some(draw) = self.draw.take() {
            self.push(&draw.event().encode());
        }
    }

    fn push(&mut self, leaf: &[u8]) {
        if self.batch.is_empty() {
            self.batch.push(BATCH);
        }
        let length = u32::try_from(leaf.len()).unwrap_or(u32::MAX);
        self.batch.extend_from_slice(&length.to_be_bytes());
        self.batch.extend_from_slice(leaf);
    }

    fn send(&mut self) -> Result<(), RecordError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        wire::send_bytes(self.socket, &self.batch, &[]).map_err(RecordError::Closed)?;
        self.batch.clear();
        Ok(())
    }
}

/// Entropy that a task goes on to draw.
#[derive(Debug)]
struct Draw {
    task: TaskId,
    source: EntropySource,
    bytes: u64,
}

impl Draw {
    fn of(event: &TraceEvent) -> Option<Self> {
        if let TraceEvent::Task {
            task,
            event: TaskEvent::Entropy { source, bytes },
        } = event
        {
            let (task, source, bytes) = (*task, *source, *bytes);
            Some(Self { task, source, bytes })
        } else {
            None
        }
    }

    /// Takes another draw into this one, if it is the same task's from the same source.
    fn add(&mut self, next: &Self) -> bool {
        let is_same = (self.task, self.source) == (next.task, next.source);
        if is_same {
            self.bytes = self.bytes.saturating_add(next.bytes);
        }
        is_same
    }

    const fn event(self) -> TraceEvent {
        let (source, bytes) = (self.source, self.bytes);
        TraceEvent::Task {
            task: self.task,
            event: TaskEvent::Entropy { source, bytes },
        }
    }
}

/// The byte forms of the events of a batch.
pub(crate) fn leaves(batch: &[u8]) -> impl Iterator<Item = io::Result<&[u8]>> {
    let mut rest = batch.strip_prefix(&[BATCH]).unwrap_or(batch);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = rest.split_first_chunk().and_then(|(length, behind)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            behind.split_at_checked(length)
        });
        let Some((leaf, behind)) = cut else {
            rest = &[];
            return Some(Err(io::Error::from(io::ErrorKind::InvalidData)));
        };
        rest = behind;
        Some(Ok(leaf))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use sandrun_types::TaskEnd;

    use super::*;
    use crate::wire::{FromSupervisor, receive_from_supervisor};

    fn event(task: u32) -> TraceEvent {
        TraceEvent::Task {
            task: TaskId(task),
            event: TaskEvent::Ended {
                end: TaskEnd::Code(0),
            },
        }
    }

    #[test]
    fn events_arrive_in_their_order() {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let sent: Vec<_> = (0..10_000).map(event).collect();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut sender = EventSender::new(one.as_fd());
                (0..10_000).for_each(|task| sender.record(&event(task)).unwrap());
                sender.flush().unwrap();
                drop(one);
            });
            while let Some(message) = receive_from_supervisor(other.as_fd()).unwrap() {
                let FromSupervisor::Events(batch) = message else {
                    panic!("an event is a batch")
                };
                received.extend(leaves(&batch).map(|leaf| TraceEvent::decode(leaf.unwrap()).unwrap()));
            }
        });
        assert_eq!(received, sent);
    }

    #[test]
    fn one_too_many_is_refused() {
        let (one, _other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let mut sender = EventSender::new(one.as_fd());
        sender.events_left = 1;
        sender.record(&event(1)).unwrap();
        assert!(matches!(sender.record(&event(2)), Err(RecordError::Budget)));
    }

    #[test]
    fn draws_without_anything_between_are_one_event() {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let draw = |task, bytes| {
            Draw {
                task: TaskId(task),
                source: EntropySource::Call,
                bytes,
            }
            .event()
        };
        let mut sender = EventSender::new(one.as_fd());
        for event in [
            draw(1, 7),
            draw(1, 7),
            event(2),
            draw(1, 7),
            draw(2, 1),
            draw(2, 2),
        ] {
            sender.record(&event).unwrap();
        }
        sender.flush().unwrap();
        let Some(FromSupervisor::Events(batch)) = receive_from_supervisor(other.as_fd()).unwrap() else {
            panic!("there is a batch")
        };
        let received: Vec<_> = leaves(&batch)
            .map(|leaf| TraceEvent::decode(leaf.unwrap()).unwrap())
            .collect();
        assert_eq!(received, [draw(1, 14), event(2), draw(1, 7), draw(2, 3)]);
        assert_eq!(sender.events_left, MAX_EVENTS - 4);
    }

    #[test]
    fn a_cut_batch_is_an_error() {
        assert!(leaves(&[BATCH, 0, 0, 0, 9, 1]).any(|leaf| leaf.is_err()));
        assert!(leaves(&[BATCH, 0]).any(|leaf| leaf.is_err()));
    }
}
