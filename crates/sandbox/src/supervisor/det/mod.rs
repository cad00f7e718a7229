//! Class `det`: the job's supervisor as its tracer. One task runs at a time, in a fixed order; what could differ from
//! one run to the next is answered by the tracer.
//!
//! Owns the tasks, virtual time, futexes, waiting, signals' time of delivery. Who answers for a call is the [`table`]'s
//! matter. Never sets up isolation, which is the same as for class `native`.

mod calls;
mod clock;
mod decide;
mod end;
mod fork;
mod fresh;
mod futex;
mod hash;
mod held;
mod information;
mod memory;
mod observe;
mod orders;
mod outer;
mod patience;
mod quick;
mod robust;
mod run;
mod schedule;
mod signal;
mod table;
mod task;
mod timers;
mod trap;
mod vdso;
mod virt;
mod wait;
mod watchdog;
mod world;

pub(super) use orders::Orders;
pub(super) use quick::QUICK;
pub(super) use run::{Engine, attach, main_process};
pub(super) use table::{When, rules};
pub(in crate::supervisor) use task::Task;
pub(crate) use virt::cpuid::fingerprint as cpuid_fingerprint;
pub(super) use virt::set_untouched;
pub(in crate::supervisor) use world::World;
