//! Sending signals, and waiting for them.

use std::io;

use super::sleep::timespec;
use crate::supervisor::det::information;
use crate::supervisor::det::observe;
use crate::supervisor::det::signal::mask;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait, Woken};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_kill, When::Always, kill),
    Rule(libc::SYS_tkill, When::Always, kill),
    Rule(libc::SYS_tgkill, When::Always, tgkill),
    Rule(libc::SYS_rt_sigqueueinfo, When::Always, kill),
    Rule(libc::SYS_rt_tgsigqueueinfo, When::Always, tgkill),
    Rule(libc::SYS_pidfd_send_signal, When::Always, kill),
    Rule(libc::SYS_pause, When::Always, pause),
    Rule(libc::SYS_rt_sigsuspend, When::Always, sigsuspend),
    Rule(libc::SYS_rt_sigtimedwait, When::Always, sigtimedwait),
    Rule(libc::SYS_signalfd, When::Always, signalfd),
    Rule(libc::SYS_signalfd4, When::Always, signalfd),
];

fn kill(_: &mut World, _: &mut Task) -> io::Result<Entry> {
    Ok(Entry::Make(sent))
}

/// A thread that signals itself is the common case (`raise`), and needs no second look.
fn tgkill(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    let own = u32::try_from(task.int(1)) == Ok(task.id);
    Ok(if own { Entry::Pass } else { Entry::Make(sent) })
}

fn sent(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 0 {
        return Ok(());
    }
    let three = matches!(
        task.call_at_entry(),
        libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo
    );
    let signal = task.int(if three { 2 } else { 1 });
    world.note_sent(signal);
    match signal {
        libc::SIGCONT => world.release_stopped(),
        libc::SIGKILL => world.reap_killed(task),
        _ => {}
    }
    Ok(())
}

/// Whether such a file is ready depends on who looks: only its own task could, and that does not run.
fn signalfd(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    observe::denied(world, task, libc::ENOSYS);
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

fn pause(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    suspend(world, task, Signals::Make)
}

fn sigsuspend(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let blocked = task.read_u64(task.argument(0))?;
    suspend(world, task, Signals::MakeUnder(blocked))
}

fn suspend(world: &mut World, task: &mut Task, signals: Signals) -> io::Result<Entry> {
    if world.is_pending(task, signals) {
        return Ok(Entry::Pass);
    }
    Ok(Entry::Block(Wait {
        on: On::Nothing,
        until: None,
        signals,
    }))
}

fn sigtimedwait(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let unwanted = mask(libc::SIGKILL) | mask(libc::SIGSTOP);
    let signals = Signals::Take(task.read_u64(task.argument(0))? & !unwanted);
    if world.is_pending(task, signals) {
        return Ok(Entry::Make(taken));
    }
    if task.deadline.is_none() && task.argument(2) != 0 {
        let timeout = timespec(task, task.argument(2))?;
        task.deadline = Some(world.clock.now().saturating_add(timeout));
    }
    let over = task.deadline.is_some_and(|until| until <= world.clock.now());
    if over || task.woken == Some(Woken::Time) {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    Ok(Entry::Block(Wait {
        on: On::Nothing,
        until: task.deadline,
        signals,
    }))
}

/// A signal was taken: what is told of it is the same on every machine.
pub(super) fn taken(_: &mut World, task: &mut Task) -> io::Result<()> {
    let place = task.argument(1);
    if place == 0 {
        return Ok(());
    }
    let mut told = [0; information::BYTES];
    if task.result() > 0 {
        task.read(place, &mut told)?;
        if information::settle(&mut told) {
            task.write(place, &told)?;
        }
    } else if task.result() == -i64::from(libc::EFAULT) {
        // a part of it may be there
        let _ = task.write(place, &told);
    }
    Ok(())
}
