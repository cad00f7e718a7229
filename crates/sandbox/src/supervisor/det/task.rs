//! One task (thread) of a traced job: its numbers, its registers at the present stop, and what it does next.

use std::cell::RefCell;
use std::io;

use super::memory;
use super::quick::Mark;
use super::wait::{Signals, Wait};
use crate::sys::notify::Notification;
use crate::sys::trace::{self, HostId, Registers};

/// Results after which a call is made again where no handler runs: ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND.
const REPEATED: [i64; 3] = [-512, -513, -514];

/// A task's number as the job sees it.
pub(in crate::supervisor) type TaskId = u32;

/// Length of the `syscall` instruction.
const SYSCALL: u64 = 2;

/// How a task goes on when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It runs on, with this signal (0: none).
    Run(i32),
    /// It stands at the entry of a call that is still to be decided.
    Decide,
    /// It is stopped by job control, or waits for a child of `vfork`, and then runs on.
    Held,
    /// A dead group leader whose other threads live.
    Dead,
    /// A group leader that has ended before its other threads: it stands at the entry of that call.
    Left,
}

/// A handler to be called at the exit of the call that a task is in.
pub(in crate::supervisor) type Exit = fn(&mut super::World, &mut Task) -> io::Result<()>;

/// One task. It stands at a ptrace stop whenever the tracer looks at it.
#[derive(Debug)]
pub(in crate::supervisor) struct Task {
    /// Its number inside: the same on every node.
    pub(in crate::supervisor) id: TaskId,
    /// Its process's number inside.
    pub(in crate::supervisor) process: TaskId,
    /// Its number for the kernel's calls, which no result may depend on.
    pub(in crate::supervisor) host: HostId,
    /// Number of its address space; tasks with the same share all memory.
    pub(in crate::supervisor) space: u32,
    pub(super) next: Next,
    pub(super) registers: Registers,
    pub(super) changed: bool,
    /// It stands at a call's entry, and of its registers those alone are known that say what it calls.
    at_entry: bool,
    /// The registers at the entry of the call that it is in.
    pub(super) entry: Registers,
    /// Set by an exit handler: the call has to be made again after this.
    pub(super) again: Option<Wait>,
    pub(super) exits: Vec<Exit>,
    /// It stands at no stop, but waits for the answer of this call of its listener's.
    pub(super) notified: Option<u64>,
    pub(super) mark: Mark,
    pub(super) wait: Option<Wait>,
    /// Virtual time at which the call that it is in gives up; kept while the call is retried.
    pub(super) deadline: Option<u64>,
    /// What ended its last wait.
    pub(super) woken: Option<super::wait::Woken>,
    /// Set by an exit handler: the call is over, but the task goes on only after this.
    pub(super) hold: Option<Wait>,
    /// Set by an exit handler: the call has to be made again at once.
    pub(super) retry: bool,
    /// It waits, or has waited, at the exit of a call that was rewound and that a signal ends like this.
    pub(super) rewound: Option<Signals>,
    /// Up to which of the world's signals its wait is known not to be ended by any.
    pub(super) signals_seen: Option<u64>,
    /// A signal ended its last wait, which was to be ended like this.
    pub(super) interrupted: Option<Signals>,
    /// A signal that is none of the job's has interrupted its call, and the kernel makes it once more.
    pub(super) repeats: bool,
    /// Bytes that a blocking write has got rid of so far.
    pub(super) written: u64,
    /// A lock that it waits for was not to be had, and the kernel is asked who has it.
    pub(super) seeks_owner: bool,
    /// What it wants to lock, while the answer to that question is in its place.
    pub(super) question: Vec<u8>,
    /// It goes to the end of the queue once its call is answered.
    pub(super) gives_way: bool,
    /// The file that it has opened last for writing: directory and name, as the call named them.
    pub(in crate::supervisor) named: RefCell<Option<(i32, Vec<u8>)>>,
    pub(super) clear_at_exit: u64,
    pub(super) robust_list: u64,
}

impl Task {
    pub(super) fn new(id: TaskId, process: TaskId, host: HostId, space: u32, registers: Registers) -> Self {
        Self {
            id,
            process,
            host,
            space,
            next: Next::Run(0),
            registers,
            changed: false,
            at_entry: false,
            entry: registers,
            again: None,
            exits: Vec::new(),
            notified: None,
            mark: Mark::None,
            wait: None,
            deadline: None,
            woken: None,
            hold: None,
            retry: false,
            rewound: None,
            signals_seen: None,
            interrupted: None,
            repeats: false,
            written: 0,
            seeks_owner: false,
            question: Vec::new(),
            gives_way: false,
            named: RefCell::new(None),
            clear_at_exit: 0,
            robust_list: 0,
        }
    }

    /// The number of the call that it is in.
    pub(in crate::supervisor) fn call(&self) -> libc::c_long {
        i64::from_ne_bytes(self.registers.orig_rax.to_ne_bytes())
    }

    /// The same at its exit, where the number is gone.
    pub(super) fn call_at_entry(&self) -> libc::c_long {
        i64::from_ne_bytes(self.entry.orig_rax.to_ne_bytes())
    }

    /// The call's argument 0 to 5.
    pub(in crate::supervisor) fn argument(&self, index: usize) -> u64 {
        let r = &self.registers;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
            .get(index)
            .copied()
            .unwrap_or(0)
    }

    /// The low half of an argument, signed: descriptors, ids, flags.
    pub(in crate::supervisor) fn int(&self, index: usize) -> i32 {
        let bytes = self.argument(index).to_ne_bytes();
        i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// Changes an argument of the call that is about to be made. The program sees the register as it was, after it.
    pub(in crate::supervisor) fn set_argument(&mut self, index: usize, value: u64) {
        let r = &mut self.registers;
        let place = match index {
            0 => &mut r.rdi,
            1 => &mut r.rsi,
            2 => &mut r.rdx,
            3 => &mut r.r10,
            4 => &mut r.r8,
            _ => &mut r.r9,
        };
        *place = value;
        self.changed = true;
    }

    /// What the call gave: a value, or a negative error number. To be asked at its exit.
    pub(in crate::supervisor) fn result(&self) -> i64 {
        i64::from_ne_bytes(self.registers.rax.to_ne_bytes())
    }

    /// Makes the call's result another one, at its exit.
    pub(in crate::supervisor) fn set_result(&mut self, value: i64) {
        self.registers.rax = u64::from_ne_bytes(value.to_ne_bytes());
        self.changed = true;
    }

    /// Reads its memory, all of it or an EFAULT error.
    pub(in crate::supervisor) fn read(&self, address: u64, into: &mut [u8]) -> io::Result<()> {
        memory::read(self.host, address, into)
    }

    /// Reads bytes of its memory.
    pub(in crate::supervisor) fn read_bytes(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes of its memory, as far as there is any.
    pub(in crate::supervisor) fn read_some(&self, address: u64, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let read = trace::read_memory(self.host, address, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Reads 64 bits.
    pub(in crate::supervisor) fn read_u64(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Reads 32 bits.
    pub(in crate::supervisor) fn read_u32(&self, address: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// Reads a string that ends with NUL, at most `limit` bytes of it.
    pub(in crate::supervisor) fn read_text(&self, address: u64, limit: usize) -> io::Result<Vec<u8>> {
        memory::read_text(self.host, address, limit)
    }

    /// Writes its memory, all of it or an EFAULT error.
    pub(in crate::supervisor) fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        memory::write(self.host, address, bytes)
    }

    /// Writes two 64-bit numbers: a `timespec`, a `timeval`.
    pub(in crate::supervisor) fn write_pair(&self, address: u64, pair: (u64, u64)) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&pair.0.to_ne_bytes());
        bytes[8..].copy_from_slice(&pair.1.to_ne_bytes());
        self.write(address, &bytes)
    }

    /// Fetches the registers of the stop that it has just reached.
    pub(super) fn fetch(&mut self) -> io::Result<()> {
        self.registers = trace::registers(self.host)?;
        self.changed = false;
        self.at_entry = false;
        Ok(())
    }

    /// Finds out whether a stop that is none of the job's doing has interrupted a call, which the kernel then makes again.
    pub(super) fn note_repeat(&mut self) -> io::Result<()> {
        self.fetch()?;
        // a call that was not seen at its entry will not be seen when it is made again
        let (now, seen) = (&self.registers, &self.entry);
        let is_seen = (now.rip, now.rsp, now.orig_rax) == (seen.rip, seen.rsp, seen.orig_rax);
        self.repeats = is_seen && self.call() >= 0 && REPEATED.contains(&self.result());
        Ok(())
    }

    /// The same at a call's exit, for a call whose arguments may have been changed.
    pub(super) fn fetch_exit(&mut self) -> io::Result<()> {
        self.registers = trace::registers(self.host)?;
        self.at_entry = false;
        self.restore_arguments();
        Ok(())
    }

    /// Fetches what it is about to call, at a call's entry.
    pub(super) fn fetch_entry(&mut self) -> io::Result<()> {
        match trace::calling(self.host)? {
            Some(calling) => {
                let now = &mut self.registers;
                [now.rdi, now.rsi, now.rdx, now.r10, now.r8, now.r9] = calling.arguments;
                now.orig_rax = calling.number;
                (now.rip, now.rsp) = (calling.instruction, calling.stack);
                // as the kernel has it until the call is made
                now.rax = u64::from_ne_bytes((-i64::from(libc::ENOSYS)).to_ne_bytes());
                self.changed = false;
                self.at_entry = true;
            }
            None => self.fetch()?,
        }
        self.entry = self.registers;
        Ok(())
    }

    /// Takes note of what it is about to call, where its listener says so.
    pub(super) fn notified_of(&mut self, call: &Notification) {
        let now = &mut self.registers;
        [now.rdi, now.rsi, now.rdx, now.r10, now.r8, now.r9] = call.arguments;
        now.orig_rax = call.number;
        // its stack is not told; this is none
        (now.rip, now.rsp) = (call.instruction, 0);
        self.changed = false;
        self.at_entry = false;
        self.entry = self.registers;
        self.notified = Some(call.id);
    }

    /// Stores changed registers.
    pub(super) fn store(&mut self) -> io::Result<()> {
        let at_entry = std::mem::take(&mut self.at_entry);
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        if at_entry {
            if self.is_answered_only() {
                return trace::answer(self.host, self.registers.rax);
            }
            let mut all = trace::registers(self.host)?;
            let now = &self.registers;
            (all.rdi, all.rsi, all.rdx) = (now.rdi, now.rsi, now.rdx);
            (all.r10, all.r8, all.r9) = (now.r10, now.r8, now.r9);
            (all.rax, all.orig_rax) = (now.rax, now.orig_rax);
            self.registers = all;
        }
        trace::set_registers(self.host, &self.registers)
    }

    /// Whether its registers are those of the call's entry but for the call's result.
    fn is_answered_only(&self) -> bool {
        let (now, entry) = (&self.registers, &self.entry);
        now.orig_rax == u64::MAX
            && (now.rdi, now.rsi, now.rdx) == (entry.rdi, entry.rsi, entry.rdx)
            && (now.r10, now.r8, now.r9) == (entry.r10, entry.r8, entry.r9)
    }

    /// Gives the argument registers back what they held at the call's entry.
    pub(super) fn restore_arguments(&mut self) {
        let (now, entry) = (&mut self.registers, &self.entry);
        (now.rdi, now.rsi, now.rdx) = (entry.rdi, entry.rsi, entry.rdx);
        (now.r10, now.r8, now.r9) = (entry.r10, entry.r8, entry.r9);
        self.changed = true;
    }

    /// At a call's exit: lets the program make the same call again.
    pub(super) fn rewind(&mut self) {
        let call = self.entry.orig_rax;
        self.restore_arguments();
        self.registers.rip = self.entry.rip.wrapping_sub(SYSCALL);
        self.registers.rax = call;
        self.registers.orig_rax = u64::MAX;
    }

    /// Lets it wait until its call is tried once more.
    pub(super) fn begin_wait(&mut self, wait: Wait) {
        self.woken = None;
        if wait.unblocks() {
            self.signals_seen = None;
        }
        self.wait = Some(wait);
    }

    /// At the exit of a call that was rewound: ends it by a signal instead, with what it has done so far; where that is
    /// nothing the kernel decides with the signal's handler whether it is made again.
    pub(super) fn interrupt(&mut self, how: Signals) {
        const RESTART: i64 = -512;
        let nothing = match how {
            Signals::Make => RESTART,
            Signals::Fail | Signals::MakeUnder(_) | Signals::Take(_) => -i64::from(libc::EINTR),
        };
        let done = i64::try_from(std::mem::take(&mut self.written)).unwrap_or(i64::MAX);
        self.deadline = None;
        self.woken = None;
        self.registers.rip = self.entry.rip;
        self.registers.orig_rax = self.entry.orig_rax;
        self.set_result(if done > 0 { done } else { nothing });
    }

    /// At a call's exit: lets the call be made once more for a reason that is none of the job's, so that it counts once.
    pub(in crate::supervisor) const fn retry_unseen(&mut self) {
        self.retry = true;
        self.repeats = true;
    }

    /// Makes the call that it stands at the entry of not happen, with this result.
    pub(super) fn skip(&mut self, result: i64) {
        self.registers.orig_rax = u64::MAX;
        self.set_result(result);
    }
}
