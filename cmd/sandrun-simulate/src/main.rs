//! Plays seeds of the simulator on a few threads, prints what failed and how to play it again, and at the end what was
//! reached. Exit code 1 when a promise broke, 2 when a row of the tables was reached by no seed.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use sandrun_simulator::{Census, Failure, play};

/// Seeds from which on a row that none of them reached is an error.
const MANY: u64 = 1_000;

/// Plays histories of the whole system in virtual time, one from each seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Play this one alone, and tell its history.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; each plays seeds of its own.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => Ok(replay(seed)),
        None => many(&arguments),
    }
}

#[allow(clippy::print_stdout, reason = "the history is what the program is asked for")]
fn replay(seed: u64) -> ExitCode {
    let played = play(seed, true);
    for line in &played.history {
        println!("{line}");
    }
    match played.outcome {
        Ok(census) => {
            println!("{}", summary(&census));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what the program is asked for"
)]
fn many(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let next = AtomicU64::new(arguments.first);
    let end = arguments
        .first
        .checked_add(arguments.seeds)
        .context("there are no such seeds")?;
    let all: Mutex<(Census, Option<Failure>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| work(&next, end, &all));
        }
    });
    let (census, failure) = all
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(failure) = failure {
        println!("{failure}");
        println!("play it again: make simulate SEED={}", failure.seed);
        return Ok(ExitCode::FAILURE);
    }
    for (name, counts) in [("event", &census.events), ("fault", &census.faults)] {
        for (what, count) in counts {
            println!("{count:>12}  {name}: {what}");
        }
    }
    for (row, count) in &census.rows {
        println!("{count:>12}  {row}");
    }
    let missing = census.missing();
    for row in &missing {
        println!("not reached: {row}");
    }
    println!("{} in {:.1} s", summary(&census), began.elapsed().as_secs_f64());
    if arguments.seeds >= MANY && !missing.is_empty() {
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

/// Plays seeds until there is no other or one has failed: of several failures the smallest seed is kept.
fn work(next: &AtomicU64, end: u64, all: &Mutex<(Census, Option<Failure>)>) {
    let mut mine = Census::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        match play(seed, false).outcome {
            Ok(census) => mine.add(&census),
            Err(failure) => {
                next.fetch_max(end, Ordering::Relaxed);
                let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if all.1.as_ref().is_none_or(|known| failure.seed < known.seed) {
                    all.1 = Some(failure);
                }
            }
        }
    }
    let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.0.add(&mine);
}

/// The last line.
fn summary(census: &Census) -> String {
    let expected = Census::expected();
    let reached = expected - census.missing().len();
    format!(
        "{} seeds: {} steps, {} jobs, {} nodes, {} events of {} kinds, {} faults of {} kinds, {reached} of {expected} rows",
        census.seeds,
        census.steps,
        census.jobs,
        census.nodes,
        census.events.values().sum::<u64>(),
        census.events.len(),
        census.fault_count(),
        census.faults.len(),
    )
}
