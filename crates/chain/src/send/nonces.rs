//! Which nonces of one account are in use by this process. Pure.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Nonces of transactions that are not finished, shared with the guards that give them back.
#[derive(Debug, Clone, Default)]
pub(super) struct Nonces(Arc<Mutex<BTreeSet<u64>>>);

/// A nonce in use; given back when dropped.
#[derive(Debug)]
pub(super) struct NonceGuard {
    nonce: u64,
    nonces: Nonces,
}

impl Nonces {
    /// Takes the lowest nonce from `from` on that is free here. `from` is the account's count of transactions, those in
    /// the node's pool included: so a nonce whose transaction got lost is used again.
    pub(super) fn take(&self, from: u64) -> NonceGuard {
        let mut used = self.lock();
        let mut nonce = from;
        while used.contains(&nonce) {
            nonce = nonce.saturating_add(1);
        }
        used.insert(nonce);
        NonceGuard {
            nonce,
            nonces: self.clone(),
        }
    }

    /// Takes this very nonce, for a transaction that was signed before.
    pub(super) fn take_exactly(&self, nonce: u64) -> NonceGuard {
        self.lock().insert(nonce);
        NonceGuard {
            nonce,
            nonces: self.clone(),
        }
    }

    /// Whether a transaction of this process has the nonce.
    pub(super) fn is_used(&self, nonce: u64) -> bool {
        self.lock().contains(&nonce)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NonceGuard {
    pub(super) const fn nonce(&self) -> u64 {
        self.nonce
    }
}

impl Drop for NonceGuard {
    fn drop(&mut self) {
        self.nonces.lock().remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_gaps_and_gives_back() {
        let nonces = Nonces::default();
        let (five, six) = (nonces.take(5), nonces.take(5));
        assert_eq!((five.nonce(), six.nonce()), (5, 6));
        drop(five);
        assert_eq!(nonces.take(5).nonce(), 5, "a lost nonce is used again");
        assert!(nonces.is_used(6) && !nonces.is_used(5));
        assert_eq!(nonces.take(9).nonce(), 9);
    }
}
