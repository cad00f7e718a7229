//! Who may send an upload, or wait for an image, now: so many at once, so many of them from one client, and nobody waits
//! for long.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Uploads that are read at once.
const AT_ONCE: usize = 16;
/// Of these, most from one client.
const PER_CLIENT: usize = 4;
/// Longest wait for a place; who gets none is told to come again.
const WAIT: Duration = Duration::from_secs(2);

/// The places. One for each upload that is under way.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    wait: Duration,
    /// Places of each client that has any; `None` where clients are not told apart.
    clients: Option<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

/// An upload's places; dropping it frees them.
#[derive(Debug)]
pub(crate) struct Slot {
    _all: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `per_client`: whether one client may not have all places.
    pub(crate) fn new(per_client: bool) -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            wait: WAIT,
            clients: per_client.then(Mutex::default),
        }
    }

    /// A place for an upload of this client; `None` if there was none in time, or no more are given.
    pub(crate) async fn take(&self, client: IpAddr) -> Option<Slot> {
        let own = self.of_client(client);
        let take = async {
            let own = match own {
                Some(own) => Some(own.acquire_owned().await.ok()?),
                None => None,
            };
            Some(Slot {
                _all: Arc::clone(&self.all).acquire_owned().await.ok()?,
                _own: own,
            })
        };
        timeout(self.wait, take).await.ok().flatten()
    }

    fn of_client(&self, client: IpAddr) -> Option<Arc<Semaphore>> {
        let clients = self.clients.as_ref()?;
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        // whoever has an upload or waits for a place holds the count
        clients.retain(|_, own| Arc::strong_count(own) > 1);
        let own = clients
            .entry(client)
            .or_insert_with(|| Arc::new(Semaphore::new(PER_CLIENT)));
        Some(Arc::clone(own))
    }

    /// Gives no more.
    pub(crate) fn close(&self) {
        self.all.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impatient(per_client: bool) -> Slots {
        Slots {
            wait: Duration::from_millis(50),
            ..Slots::new(per_client)
        }
    }

    #[tokio::test]
    async fn one_client_cannot_have_all_places_and_nobody_waits_for_long() {
        let slots = impatient(true);
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut held = Vec::new();
        for _ in 0..PER_CLIENT {
            held.push(slots.take(client(1)).await.unwrap());
        }
        assert!(slots.take(client(1)).await.is_none());
        for n in 2..5 {
            for _ in 0..PER_CLIENT {
                held.push(slots.take(client(n)).await.unwrap());
            }
        }
        assert!(slots.take(client(9)).await.is_none());
        held.remove(0);
        held.push(slots.take(client(1)).await.unwrap());
        drop(held);
        drop(slots.take(client(9)).await.unwrap());
        assert_eq!(slots.clients.as_ref().unwrap().lock().unwrap().len(), 1);
        slots.close();
        assert!(slots.take(client(1)).await.is_none());
    }

    #[tokio::test]
    async fn where_clients_are_not_told_apart_one_may_have_all() {
        let slots = impatient(false);
        let client = IpAddr::from([127, 0, 0, 1]);
        let mut held = Vec::new();
        while let Some(slot) = slots.take(client).await {
            held.push(slot);
        }
        assert_eq!(held.len(), AT_ONCE);
    }
}
