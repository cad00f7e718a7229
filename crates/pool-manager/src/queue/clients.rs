//! Clients by name, as far as they were heard of lately: the store knows the others. Each name has one number for as long
//! as it has jobs.

use std::collections::HashMap;

use sandrun_core::pool::ClientNumber;
use sandrun_store::queue::UnixMillis;

/// Milliseconds without a job after which a name is left to the store.
const IDLE: UnixMillis = 60 * 60 * 1_000;
/// Pause between two looks for such names.
const LOOK: UnixMillis = 10 * 60 * 1_000;

/// The names that are in memory.
#[derive(Debug, Default)]
pub(super) struct Clients {
    known: HashMap<String, Known>,
    next_look: UnixMillis,
}

#[derive(Debug)]
struct Known {
    number: ClientNumber,
    /// `None` until it is looked at for the first time.
    used: Option<UnixMillis>,
}

impl Clients {
    pub(super) fn get(&self, name: &str) -> Option<ClientNumber> {
        self.known.get(name).map(|known| known.number)
    }

    /// Takes a name in.
    pub(super) fn put(&mut self, name: String, number: ClientNumber) {
        self.known.insert(name, Known { number, used: None });
    }

    /// A name is used.
    pub(super) fn note_use(&mut self, name: &str, now: UnixMillis) {
        if let Some(known) = self.known.get_mut(name) {
            known.used = Some(now);
        }
    }

    /// Forgets names that were not used for a while. At the end of a batch: what it began with holds until then.
    pub(super) fn forget(&mut self, now: UnixMillis) {
        if now < self.next_look {
            return;
        }
        self.next_look = now.saturating_add(LOOK);
        self.known
            .retain(|_, known| known.used.get_or_insert(now).saturating_add(IDLE) > now);
        self.known.shrink_to(2 * self.known.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_uses_are_forgotten_and_others_stay() {
        let mut clients = Clients::default();
        let (rare, often) = ("rare".to_owned(), "often".to_owned());
        clients.put(rare, ClientNumber(1));
        clients.put(often, ClientNumber(2));
        for turn in 0..12 {
            clients.note_use("often", turn * LOOK);
            clients.forget(turn * LOOK);
            assert_eq!(clients.get("often"), Some(ClientNumber(2)));
            assert_eq!(clients.get("rare").is_some(), turn * LOOK < IDLE, "{turn}");
        }
    }
}
