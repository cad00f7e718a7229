//! Futexes: who waits for which, in order of arrival. The kernel's own queues are never used.

use std::collections::{BTreeMap, VecDeque};

use super::task::TaskId;

/// What a futex is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::supervisor) enum Key {
    /// An address in an address space.
    Private(u32, u64),
    /// A place in a file or in shared memory: device, inode, offset.
    Shared(u64, u64, u64),
}

/// One that waits, and the bits it waits for.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    task: TaskId,
    bits: u32,
}

/// All futexes that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Futexes(BTreeMap<Key, VecDeque<Waiter>>);

impl Futexes {
    /// Lets a task wait, last in the queue.
    pub(super) fn wait(&mut self, key: Key, task: TaskId, bits: u32) {
        self.0.entry(key).or_default().push_back(Waiter { task, bits });
    }

    /// Takes out up to `count` waiters that wait for one of these bits, in order.
    pub(super) fn wake(&mut self, key: Key, count: u64, bits: u32) -> Vec<TaskId> {
        let mut woken = Vec::new();
        let Some(queue) = self.0.get_mut(&key) else {
            return woken;
        };
        queue.retain(|waiter| {
            let chosen = waiter.bits & bits != 0 && u64::try_from(woken.len()).is_ok_and(|done| done < count);
            if chosen {
                woken.push(waiter.task);
            }
            !chosen
        });
        if queue.is_empty() {
            self.0.remove(&key);
        }
        woken
    }

    /// Moves up to `count` waiters to another futex; they are named.
    pub(super) fn requeue(&mut self, from: Key, to: Key, count: u64) -> Vec<TaskId> {
        if from == to {
            return Vec::new();
        }
        let Some(queue) = self.0.get_mut(&from) else {
            return Vec::new();
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(queue.len());
        let moved: Vec<Waiter> = queue.drain(..count).collect();
        if queue.is_empty() {
            self.0.remove(&from);
        }
        self.0.entry(to).or_default().extend(moved.iter().copied());
        moved.iter().map(|waiter| waiter.task).collect()
    }

    /// Forgets a task that waits no more.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.0.retain(|_, queue| {
            queue.retain(|waiter| waiter.task != task);
            !queue.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Key = Key::Private(1, 8);
    const B: Key = Key::Private(1, 16);

    #[test]
    fn waiters_wake_in_order_by_their_bits() {
        let mut futexes = Futexes::default();
        futexes.wait(A, 1, 1);
        futexes.wait(A, 2, 2);
        futexes.wait(A, 3, 3);
        assert_eq!(futexes.wake(A, 1, 2), [2]);
        assert_eq!(futexes.wake(A, 9, u32::MAX), [1, 3]);
        assert!(futexes.wake(A, 9, u32::MAX).is_empty());
    }

    #[test]
    fn waiters_move_to_the_end_of_the_other_queue() {
        let mut futexes = Futexes::default();
        futexes.wait(A, 1, 1);
        futexes.wait(A, 2, 1);
        futexes.wait(B, 3, 1);
        assert_eq!(futexes.requeue(A, B, 1), [1]);
        assert_eq!(futexes.wake(B, 9, 1), [3, 1]);
        futexes.forget(2);
        assert!(futexes.wake(A, 9, 1).is_empty());
    }
}
