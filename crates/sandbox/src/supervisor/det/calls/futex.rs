//! `futex`: waiting and waking, in the tracer's own queues.

use std::io;

use super::sleep::timespec;
use crate::supervisor::det::clock::SECOND;
use crate::supervisor::det::futex::Key;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait, Woken};
use crate::supervisor::det::world::World;
use crate::sys::vdso::EPOCH_SECONDS;

pub(super) const RULES: &[Rule] = &[Rule(libc::SYS_futex, When::Always, futex)];

/// Every bit: what waits without bits waits for.
const ANY: u32 = u32::MAX;

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn futex(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let operation = task.int(1);
    let private = operation & libc::FUTEX_PRIVATE_FLAG != 0;
    let address = task.argument(0);
    if !address.is_multiple_of(4) {
        return Err(error(libc::EINVAL));
    }
    match operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        libc::FUTEX_WAIT => wait(world, task, private, ANY),
        libc::FUTEX_WAIT_BITSET => {
            let bits = low(task.argument(5));
            if bits == 0 {
                Err(error(libc::EINVAL))
            } else {
                wait(world, task, private, bits)
            }
        }
        libc::FUTEX_WAKE => wake(world, task, private, ANY),
        libc::FUTEX_WAKE_BITSET => {
            let bits = low(task.argument(5));
            if bits == 0 {
                Err(error(libc::EINVAL))
            } else {
                wake(world, task, private, bits)
            }
        }
        libc::FUTEX_REQUEUE => requeue(world, task, private, None),
        libc::FUTEX_CMP_REQUEUE => requeue(world, task, private, Some(low(task.argument(5)))),
        libc::FUTEX_WAKE_OP => wake_op(world, task, private),
        // priority inheritance: libraries do without where there is none
        _ => Err(error(libc::ENOSYS)),
    }
}

fn low(value: u64) -> u32 {
    let bytes = value.to_ne_bytes();
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// As the kernel counts: a negative number wakes one.
fn count(value: u64) -> u64 {
    let bytes = low(value).to_ne_bytes();
    u64::try_from(i32::from_ne_bytes(bytes)).unwrap_or(1).max(1)
}

fn wait(world: &mut World, task: &mut Task, private: bool, bits: u32) -> io::Result<Entry> {
    match task.woken.take() {
        Some(Woken::Ready) => return Ok(Entry::Done(0)),
        Some(Woken::Time) => return Err(error(libc::ETIMEDOUT)),
        Some(Woken::Signal) | None => {}
    }
    let address = task.argument(0);
    if task.read_u32(address)? != low(task.argument(2)) {
        return Err(error(libc::EAGAIN));
    }
    let until = match task.deadline {
        Some(until) => Some(until),
        None => deadline(world, task)?,
    };
    task.deadline = until;
    if until.is_some_and(|until| until <= world.clock.now()) {
        return Err(error(libc::ETIMEDOUT));
    }
    let key = key(world, task, address, private)?;
    world.futexes.wait(key, task.id, bits);
    let signals = if until.is_some() {
        Signals::Fail
    } else {
        Signals::Make
    };
    Ok(Entry::Block(Wait {
        on: On::Futex(key),
        until,
        signals,
    }))
}

/// When a wait gives up, in the tracer's time.
fn deadline(world: &mut World, task: &Task) -> io::Result<Option<u64>> {
    let address = task.argument(3);
    if address == 0 {
        return Ok(None);
    }
    let time = timespec(task, address)?;
    let operation = task.int(1);
    let is_relative = operation & 0x7f == libc::FUTEX_WAIT;
    Ok(Some(if is_relative {
        world.clock.now().saturating_add(time)
    } else if operation & libc::FUTEX_CLOCK_REALTIME != 0 {
        time.saturating_sub(EPOCH_SECONDS * SECOND)
    } else {
        time
    }))
}

fn wake(world: &mut World, task: &mut Task, private: bool, bits: u32) -> io::Result<Entry> {
    let key = key(world, task, task.argument(0), private)?;
    let woken = wake_key(world, key, count(task.argument(2)), bits);
    Ok(Entry::Done(woken))
}

/// Wakes waiters; how many.
pub(in crate::supervisor::det) fn wake_key(world: &mut World, key: Key, count: u64, bits: u32) -> i64 {
    let woken = world.futexes.wake(key, count, bits);
    for id in &woken {
        world.wake(*id, Woken::Ready);
    }
    i64::try_from(woken.len()).unwrap_or(i64::MAX)
}

fn requeue(world: &mut World, task: &mut Task, private: bool, expected: Option<u32>) -> io::Result<Entry> {
    let (from, to) = (task.argument(0), task.argument(4));
    if let Some(expected) = expected
        && task.read_u32(from)? != expected
    {
        return Err(error(libc::EAGAIN));
    }
    let (from, to) = (key(world, task, from, private)?, key(world, task, to, private)?);
    let wakes = i32::from_ne_bytes(low(task.argument(2)).to_ne_bytes());
    let moves = i32::from_ne_bytes(low(task.argument(3)).to_ne_bytes());
    let (Ok(wakes), Ok(moves)) = (u64::try_from(wakes), u64::try_from(moves)) else {
        return Err(error(libc::EINVAL));
    };
    let woken = wake_key(world, from, wakes, ANY);
    let moved = world.futexes.requeue(from, to, moves);
    for id in &moved {
        if let Some(Wait {
            on: On::Futex(key), ..
        }) = world.tasks.get_mut(id).and_then(|task| task.wait.as_mut())
        {
            *key = to;
        }
    }
    let moved = i64::try_from(moved.len()).unwrap_or(i64::MAX);
    Ok(Entry::Done(if expected.is_some() {
        woken + moved
    } else {
        woken
    }))
}

fn wake_op(world: &mut World, task: &mut Task, private: bool) -> io::Result<Entry> {
    let (first, second) = (task.argument(0), task.argument(4));
    let code = low(task.argument(5));
    let signed = |value: u32| {
        let bytes = (value << 20).to_ne_bytes();
        i32::from_ne_bytes(bytes) >> 20
    };
    let (mut operand, comparand) = (signed(code >> 12 & 0xfff), signed(code & 0xfff));
    let (operation, comparison) = (code >> 28 & 0xf, code >> 24 & 0xf);
    if operation & 8 != 0 {
        operand = 1 << (operand & 31);
    }
    let old = i32::from_ne_bytes(task.read_u32(second)?.to_ne_bytes());
    let new = match operation & 7 {
        0 => operand,
        1 => old.wrapping_add(operand),
        2 => old | operand,
        3 => old & !operand,
        4 => old ^ operand,
        _ => return Err(error(libc::ENOSYS)),
    };
    let holds = match comparison {
        0 => old == comparand,
        1 => old != comparand,
        2 => old < comparand,
        3 => old <= comparand,
        4 => old > comparand,
        5 => old >= comparand,
        _ => return Err(error(libc::ENOSYS)),
    };
    task.write(second, &new.to_ne_bytes())?;
    let (first, second) = (
        key(world, task, first, private)?,
        key(world, task, second, private)?,
    );
    let mut woken = wake_key(world, first, count(task.argument(2)), ANY);
    if holds {
        woken += wake_key(world, second, count(task.argument(3)), ANY);
    }
    Ok(Entry::Done(woken))
}

/// What a futex at this address is known by.
pub(in crate::supervisor::det) fn key(
    world: &World,
    task: &Task,
    address: u64,
    private: bool,
) -> io::Result<Key> {
    if !private && let Some(key) = shared(world, task, address)? {
        return Ok(key);
    }
    Ok(Key::Private(task.space, address))
}

/// The place in shared memory, if the address is in some.
fn shared(world: &World, task: &Task, address: u64) -> io::Result<Option<Key>> {
    let maps = world.proc_text(&format!("{}/maps", task.id))?;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights), Some(offset), Some(device), Some(inode)) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        ) else {
            continue;
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((from, to)) = range
            .split_once('-')
            .and_then(|(from, to)| Some((hex(from)?, hex(to)?)))
        else {
            continue;
        };
        if !(from..to).contains(&address) {
            continue;
        }
        if !rights.ends_with('s') {
            return Ok(None);
        }
        let device = device
            .split_once(':')
            .and_then(|(major, minor)| Some(hex(major)? << 32 | hex(minor)?));
        let place = hex(offset).unwrap_or(0).wrapping_add(address - from);
        return Ok(Some(Key::Shared(
            device.unwrap_or(0),
            inode.parse().unwrap_or(0),
            place,
        )));
    }
    Err(error(libc::EFAULT))
}

impl World {
    /// What the kernel does for those that wait for a task which has just ended.
    pub(in crate::supervisor::det) fn wake_exit(&mut self, task: &Task) {
        if task.clear_at_exit == 0 && task.robust_list == 0 {
            return;
        }
        let space = task.space;
        let at_address: Vec<_> = self
            .tasks
            .values()
            .filter_map(|other| match other.wait.as_ref()?.on {
                On::Futex(key @ Key::Private(in_space, address)) if in_space == space => Some((key, address)),
                On::Futex(key @ Key::Shared(..)) => Some((key, 0)),
                On::Futex(..)
                | On::Nothing
                | On::Files(_)
                | On::Child
                | On::Writer(..)
                | On::Others
                | On::Owner(_) => None,
            })
            .collect();
        for (key, address) in at_address {
            let cleared = task.clear_at_exit != 0 && address == task.clear_at_exit;
            // owners of robust locks are marked in memory by the kernel: whoever waits looks again
            if cleared || matches!(key, Key::Shared(..)) || self.is_orphaned(space, address) {
                wake_key(self, key, 1, ANY);
            }
        }
    }

    /// Whether the lock at an address has lost its owner.
    fn is_orphaned(&self, space: u32, address: u64) -> bool {
        const OWNER_DIED: u32 = 0x4000_0000;
        let Some(other) = self.tasks.values().find(|task| task.space == space) else {
            return false;
        };
        other.read_u32(address).is_ok_and(|value| value & OWNER_DIED != 0)
    }
}
