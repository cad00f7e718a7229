//! NVIDIA's cards, as `nvidia-smi` tells them.
//!
//! Asks for CSV without header and units. `compute_cap` is a field since driver 510; an older one refuses the whole
//! query, which is then asked again without it.

use std::path::Path;

use sandrun_types::{Gpu, GpuVendor};

use super::output_of;

const PROGRAM: [&str; 3] = [
    "/usr/bin/nvidia-smi",
    "/usr/local/bin/nvidia-smi",
    "/usr/lib/wsl/lib/nvidia-smi",
];
const WITH_CAPABILITY: &str = "--query-gpu=name,memory.total,compute_cap";
const WITHOUT_CAPABILITY: &str = "--query-gpu=name,memory.total";
const FORMAT: &str = "--format=csv,noheader,nounits";

/// Asks the driver; nothing when there is none.
pub(super) async fn ask() -> Vec<Gpu> {
    for program in PROGRAM
        .map(Path::new)
        .into_iter()
        .filter(|program| program.exists())
    {
        for query in [WITH_CAPABILITY, WITHOUT_CAPABILITY] {
            if let Some(text) = output_of(program, &[query, FORMAT]).await {
                return parse(&text);
            }
        }
    }
    Vec::new()
}

/// Parses the CSV: name, memory in MiB, compute capability where it was asked for. Equal cards become one entry, in
/// the order of their first. A line that is no card (a driver's error text) is skipped; a field that is no number
/// (`[N/A]`, `[Not Supported]`, `[GPU requires reset]`) is left out.
pub(super) fn parse(text: &str) -> Vec<Gpu> {
    let mut cards: Vec<Gpu> = Vec::new();
    for card in text.lines().filter_map(line) {
        let alike = |other: &&mut Gpu| {
            other.model == card.model
                && other.memory_mib == card.memory_mib
                && other.compute_capability_x10 == card.compute_capability_x10
        };
        match cards.iter_mut().find(alike) {
            Some(same) => same.count = same.count.saturating_add(1),
            None => cards.push(card),
        }
    }
    cards
}

fn line(line: &str) -> Option<Gpu> {
    // a name holds no comma, an error text has no comma-separated memory after it
    let mut fields = line.split(',').map(str::trim);
    let model = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('['))?;
    let memory = fields.next()?;
    let capability = fields.next();
    if fields.next().is_some() {
        return None;
    }
    let memory_mib = number(memory)?;
    let compute_capability_x10 = capability.and_then(times_ten);
    Some(Gpu {
        vendor: GpuVendor::Nvidia,
        model: model.to_owned(),
        memory_mib,
        compute_capability_x10,
        count: 1,
    })
}

/// A number, `Some(None)` for a bracketed excuse, `None` for anything else.
fn number(field: &str) -> Option<Option<u32>> {
    // some drivers print the unit in spite of `nounits`
    let digits = field.strip_suffix("MiB").unwrap_or(field).trim();
    match digits.parse() {
        Ok(0) => Some(None),
        Ok(value) => Some(Some(value)),
        Err(_) if (field.starts_with('[') && field.ends_with(']')) || matches!(field, "N/A" | "ERR!") => {
            Some(None)
        }
        Err(_) => None,
    }
}

/// `8.6` as 86.
fn times_ten(field: &str) -> Option<u16> {
    let (major, minor) = field.split_once('.')?;
    let minor: u16 = minor.parse().ok().filter(|minor| *minor < 10)?;
    major.parse::<u16>().ok()?.checked_mul(10)?.checked_add(minor)
}

#[cfg(test)]
mod tests;
