//! `det.distinct`: how many different answers a program gives in many runs of class `det`, each under other conditions
//! (`run --verify` says which). An answer is output root and trace root together.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use sandrun_testnet::probes;
use serde::Deserialize;

use super::class;
use crate::note;

/// Runs of each program.
const RUNS: &str = "50";

/// What of the command's answer is needed here.
#[derive(Debug, Deserialize)]
struct Verified {
    distinct: u32,
    deterministic: bool,
}

/// The most distinct answers that any of the programs gave; programs that cannot be had here are left out, and named.
///
/// # Errors
/// A sandbox that does not start; no program at all.
pub(crate) fn most_distinct(program: &Path) -> anyhow::Result<f64> {
    let cache = program.with_file_name("probes");
    let mut most: Option<u32> = None;
    for probe in probes::lay_out(&cache)? {
        let code = match probe.code {
            Ok(code) => code,
            Err(why) => {
                note(&format!("{} is left out: {why}", probe.name));
                continue;
            }
        };
        let verified = verify(program, &code).with_context(|| probe.name)?;
        note(&format!(
            "{}: {} distinct of {RUNS}",
            probe.name, verified.distinct
        ));
        // runs that ended at the machine's own limit are no answer
        let distinct = if verified.deterministic {
            verified.distinct
        } else {
            verified.distinct.max(2)
        };
        most = Some(most.map_or(distinct, |most| most.max(distinct)));
    }
    most.map(f64::from).context("there was no program to run")
}

fn verify(program: &Path, code: &Path) -> anyhow::Result<Verified> {
    let output = Command::new(program)
        .args([
            "run",
            "--verify",
            "--class",
            &class().to_string(),
            "--json",
            "--runs",
            RUNS,
        ])
        .arg(code)
        .env("SANDRUN_CONFIG", "/dev/null")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
