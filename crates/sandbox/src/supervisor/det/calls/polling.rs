//! `poll`, `select` and `epoll_wait`: what is ready is looked up from here; timeouts are virtual.

use std::collections::{BTreeMap, btree_map};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::Errno;

use super::files::is_ready;
use super::sleep::timespec;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait, Woken};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_poll, When::Always, poll_call),
    Rule(libc::SYS_ppoll, When::Always, ppoll),
    Rule(libc::SYS_select, When::Always, select),
    Rule(libc::SYS_pselect6, When::Always, pselect),
    Rule(libc::SYS_epoll_wait, When::Always, epoll_wait),
    Rule(libc::SYS_epoll_pwait, When::Always, epoll_wait),
    Rule(libc::SYS_epoll_pwait2, When::Always, epoll_pwait2),
];

/// One file of a set.
struct Asked {
    number: i32,
    events: PollFlags,
    found: PollFlags,
}

const MILLI: u64 = 1_000_000;

/// When a call with this timeout gives up. Kept from its first try.
fn until(world: &mut World, task: &mut Task, timeout: Option<u64>) -> Option<u64> {
    if task.deadline.is_none() {
        task.deadline = timeout.map(|nanos| world.clock.now().saturating_add(nanos));
    }
    task.deadline
}

fn signals(task: &Task, mask: u64) -> io::Result<Signals> {
    Ok(if mask == 0 {
        Signals::Fail
    } else {
        Signals::MakeUnder(task.read_u64(mask)?)
    })
}

fn millis(value: i32) -> Option<u64> {
    u64::try_from(value)
        .ok()
        .map(|millis| millis.saturating_mul(MILLI))
}

/// Fills in what is ready; a copy of each file that can be waited for, and for what.
fn look(
    world: &mut World,
    task: &Task,
    asked: &mut [Asked],
) -> io::Result<(usize, Vec<(OwnedFd, PollFlags)>)> {
    let mut files = BTreeMap::new();
    let mut count = 0;
    for one in asked.iter_mut().filter(|one| one.number >= 0) {
        let place = match files.entry(one.number) {
            btree_map::Entry::Occupied(place) => place.into_mut(),
            btree_map::Entry::Vacant(place) => match world.file(task, one.number) {
                Ok(fd) => place.insert((fd, PollFlags::empty())),
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                    one.found = PollFlags::NVAL;
                    count += 1;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let (fd, events) = place;
        *events |= one.events;
        let outer = fstat(&*fd).is_ok_and(|stat| world.is_outer(stat.st_dev, stat.st_ino));
        one.found = if outer {
            one.events & (PollFlags::OUT | PollFlags::WRNORM)
        } else {
            now(fd, one.events)
        };
        if !one.found.is_empty() {
            count += 1;
        }
    }
    Ok((count, files.into_values().collect()))
}

/// Most files that a task may ask for at once: as many as it may have open.
fn most_files(world: &World, task: &Task) -> usize {
    let text = world
        .proc_text(&format!("{}/limits", task.id))
        .unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(0)
}

fn now(fd: &OwnedFd, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), events)];
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&zero)) {
        Ok(_) => fds[0].revents(),
        // the supervisor's own alarm
        Err(Errno::INTR) => PollFlags::empty(),
        Err(_) => PollFlags::ERR,
    }
}

fn poll_call(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let timeout = millis(task.int(2));
    poll_until(world, task, timeout, Signals::Fail)
}

fn ppoll(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let timeout = match task.argument(2) {
        0 => None,
        address => Some(timespec(task, address)?),
    };
    let signals = signals(task, task.argument(3))?;
    poll_until(world, task, timeout, signals)
}

fn poll_until(
    world: &mut World,
    task: &mut Task,
    timeout: Option<u64>,
    signals: Signals,
) -> io::Result<Entry> {
    /// Usual numbers need no look at the task's limits, of which one that is smaller is no harm.
    const USUAL: usize = 16;
    // the kernel takes no more of the number
    let count = usize::try_from(task.argument(1) & 0xffff_ffff).unwrap_or(usize::MAX);
    if count > USUAL && count > most_files(world, task) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut bytes = task.read_bytes(task.argument(0), 8 * count)?;
    let mut asked: Vec<Asked> = bytes
        .chunks_exact(8)
        .map(|entry| Asked {
            number: i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]),
            events: PollFlags::from_bits_retain(u16::from_ne_bytes([entry[4], entry[5]])),
            found: PollFlags::empty(),
        })
        .collect();
    let until = until(world, task, timeout);
    let (ready, files) = look(world, task, &mut asked)?;
    if ready == 0 && !is_over(world, task, until) {
        return Ok(Entry::Block(Wait {
            on: On::Files(files),
            until,
            signals,
        }));
    }
    for (entry, one) in bytes.chunks_exact_mut(8).zip(&asked) {
        entry[6..].copy_from_slice(&one.found.bits().to_ne_bytes());
    }
    task.write(task.argument(0), &bytes)?;
    Ok(Entry::Done(i64::try_from(ready).unwrap_or(0)))
}

fn is_over(world: &mut World, task: &Task, until: Option<u64>) -> bool {
    task.woken == Some(Woken::Time) || until.is_some_and(|until| until <= world.clock.now())
}

fn select(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let timeout = match task.argument(4) {
        0 => None,
        address => {
            let (seconds, micros) = (task.read_u64(address)?, task.read_u64(address.wrapping_add(8))?);
            Some(
                seconds
                    .saturating_mul(1000 * MILLI)
                    .saturating_add(micros.saturating_mul(1000)),
            )
        }
    };
    select_until(world, task, timeout, Signals::Fail)
}

fn pselect(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let timeout = match task.argument(4) {
        0 => None,
        address => Some(timespec(task, address)?),
    };
    let mask = match task.argument(5) {
        0 => 0,
        address => task.read_u64(address)?,
    };
    let signals = signals(task, mask)?;
    select_until(world, task, timeout, signals)
}

/// The three sets of `select`, in `poll`'s words.
const SETS: [(PollFlags, PollFlags); 3] = [
    (
        PollFlags::IN,
        PollFlags::IN.union(PollFlags::HUP).union(PollFlags::ERR),
    ),
    (PollFlags::OUT, PollFlags::OUT.union(PollFlags::ERR)),
    (PollFlags::PRI, PollFlags::PRI),
];

fn select_until(
    world: &mut World,
    task: &mut Task,
    timeout: Option<u64>,
    signals: Signals,
) -> io::Result<Entry> {
    const MOST: usize = 1024;
    let count = usize::try_from(task.int(0))
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?
        .min(MOST);
    let length = count.div_ceil(64) * 8;
    let mut sets = [vec![0; length], vec![0; length], vec![0; length]];
    for (index, set) in sets.iter_mut().enumerate() {
        if task.argument(index + 1) != 0 {
            task.read(task.argument(index + 1), set)?;
        }
    }
    let mut asked = Vec::new();
    for number in 0..count {
        let mut events = PollFlags::empty();
        for (set, (wanted, _)) in sets.iter().zip(SETS) {
            if set[number / 8] & (1 << (number % 8)) != 0 {
                events |= wanted;
            }
        }
        if !events.is_empty() {
            asked.push(Asked {
                number: i32::try_from(number).unwrap_or(-1),
                events,
                found: PollFlags::empty(),
            });
        }
    }
    let until = until(world, task, timeout);
    let (ready, files) = look(world, task, &mut asked)?;
    if asked.iter().any(|one| one.found.contains(PollFlags::NVAL)) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    if ready == 0 && !is_over(world, task, until) {
        return Ok(Entry::Block(Wait {
            on: On::Files(files),
            until,
            signals,
        }));
    }
    let mut bits = 0;
    for (set, (wanted, shows)) in sets.iter_mut().zip(SETS) {
        set.fill(0);
        for one in asked
            .iter()
            .filter(|one| one.events.intersects(wanted) && one.found.intersects(shows))
        {
            let number = usize::try_from(one.number).unwrap_or(0);
            set[number / 8] |= 1 << (number % 8);
            bits += 1;
        }
    }
    for (index, set) in sets.iter().enumerate() {
        if task.argument(index + 1) != 0 {
            task.write(task.argument(index + 1), set)?;
        }
    }
    Ok(Entry::Done(bits))
}

fn epoll_wait(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let timeout = millis(task.int(3));
    epoll_until(world, task, timeout)
}

fn epoll_pwait2(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let timeout = match task.argument(3) {
        0 => None,
        address => Some(timespec(task, address)?),
    };
    epoll_until(world, task, timeout)
}

fn epoll_until(world: &mut World, task: &mut Task, timeout: Option<u64>) -> io::Result<Entry> {
    let fd = world.file(task, task.int(0))?;
    let until = until(world, task, timeout);
    let signals = epoll_signals(task)?;
    if !is_ready(&fd, PollFlags::IN) {
        if is_over(world, task, until) {
            return Ok(Entry::Done(0));
        }
        return Ok(Entry::Block(Wait {
            on: On::Files(vec![(fd, PollFlags::IN)]),
            until,
            signals,
        }));
    }
    if timeout == Some(0) && task.call() != libc::SYS_epoll_pwait2 {
        return Ok(Entry::Pass);
    }
    if task.call() == libc::SYS_epoll_pwait2 {
        task.registers.orig_rax = u64::try_from(libc::SYS_epoll_pwait).unwrap_or(0);
    }
    task.set_argument(3, 0);
    Ok(Entry::Make(epoll_made))
}

fn epoll_signals(task: &Task) -> io::Result<Signals> {
    let has_mask = task.call_at_entry() != libc::SYS_epoll_wait;
    signals(task, if has_mask { task.argument(4) } else { 0 })
}

/// Ready files may turn out not to be: then it waits again.
fn epoll_made(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == 0 && !is_over(world, task, task.deadline) {
        let fd = world.file(task, task.int(0))?;
        let wait = On::Files(vec![(fd, PollFlags::IN)]);
        task.again = Some(Wait {
            on: wait,
            until: task.deadline,
            signals: epoll_signals(task)?,
        });
    }
    Ok(())
}
