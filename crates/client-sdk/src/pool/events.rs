//! Server-sent events as bytes come in (HTML Living Standard, "Server-sent events"). Pure.

/// Longest line or event that is kept; a service that sends longer ones is none of ours.
const MAX: usize = 64 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ServerEvent {
    /// The last id that was given, with this event or before it.
    pub(super) id: Option<String>,
    /// Its name; `message` where it has none.
    pub(super) name: String,
    /// Its data.
    pub(super) data: String,
}

/// What came in and is no whole event yet.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    line: Vec<u8>,
    /// The last byte was `\r`: an `\n` that follows belongs to it.
    carriage: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
}

impl EventParser {
    /// Takes bytes; gives the events that are whole now. `None` where one does not end.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Vec<ServerEvent>> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.carriage => self.carriage = false,
                b'\n' | b'\r' => {
                    self.carriage = byte == b'\r';
                    events.extend(self.end_of_line());
                }
                _ => {
                    self.carriage = false;
                    self.line.push(byte);
                }
            }
        }
        let kept = self.line.len() + self.data.as_ref().map_or(0, String::len);
        (kept <= MAX).then_some(events)
    }

    fn end_of_line(&mut self) -> Option<ServerEvent> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            return Some(ServerEvent {
                id: self.id.clone(),
                name: if name.is_empty() {
                    "message".to_owned()
                } else {
                    name
                },
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // comments have an empty field's name
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": hello\n\nid: 1\nevent: stdout\ndata: \"a\"\n\ndata:x\r\ndata: y\r\n\r\nevent: lost\n\nevent: done\ndata\n\n";

    fn expected() -> Vec<ServerEvent> {
        let event = |name: &str, data: &str| ServerEvent {
            id: Some("1".to_owned()),
            name: name.to_owned(),
            data: data.to_owned(),
        };
        vec![
            event("stdout", "\"a\""),
            event("message", "x\ny"),
            event("done", ""),
        ]
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        assert_eq!(EventParser::default().feed(TEXT.as_bytes()), Some(expected()));
        let mut parser = EventParser::default();
        let events: Vec<ServerEvent> = TEXT.bytes().flat_map(|it| parser.feed(&[it]).unwrap()).collect();
        assert_eq!(events, expected());
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut parser = EventParser::default();
        assert!(parser.feed(&vec![b'a'; MAX]).is_some());
        assert!(parser.feed(b"a").is_none());
    }
}
