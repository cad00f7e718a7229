//! `trace diff`: the first event in which two traces differ.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use sandrun_types::{DiffStep, Difference, Sha256Hex, Side, TraceDiff, TraceLeaf, TraceRoot};
use serde::Serialize;

use super::checked::Checked;
use super::later::{self, Only};
use super::place::Place;
use crate::exit::{Failure, Status, words};
use crate::output::{Output, Report};

/// Later differences that people are shown; scripts get all.
const MOST_SHOWN: usize = 40;

/// Arguments of `trace diff`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A file, or a job at an executor
    #[arg(value_name = "A")]
    left: Place,
    /// Another one
    #[arg(value_name = "B")]
    right: Place,
    /// The root that A should have, as a receipt names it: 64 hexadecimal digits, or a file with the receipt
    #[arg(long, value_name = "ROOT", value_parser = stated)]
    left_root: Option<Sha256Hex>,
    /// The root that B should have
    #[arg(long, value_name = "ROOT", value_parser = stated)]
    right_root: Option<Sha256Hex>,
}

/// A root by itself, or out of a receipt.
fn stated(text: &str) -> Result<Sha256Hex, String> {
    if let Ok(root) = super::hash(text) {
        return Ok(root);
    }
    let bytes = crate::files::read_small(Path::new(text))
        .map_err(|error| format!("neither 64 hexadecimal digits nor a receipt: {error}"))?;
    let receipt = super::receipt(&bytes).map_err(|error| error.to_string())?;
    receipt
        .trace_root
        .ok_or_else(|| "that run has no trace".to_owned())
}

/// One of the two traces.
#[derive(Debug, Serialize)]
struct Whole {
    root: TraceRoot,
    events: u64,
}

/// Where they part.
#[derive(Debug, Serialize)]
struct Found {
    /// Number of the event, counted from 0; none where they start from different things.
    event: Option<u64>,
    /// The last events before it, which both have.
    before: Vec<TraceLeaf>,
    /// What A has there; none if its trace is over.
    left: Option<TraceLeaf>,
    right: Option<TraceLeaf>,
    /// What only one of them has, from there to the end of that block of events.
    only: Vec<Only>,
}

/// What two traces are to each other.
#[derive(Debug, Serialize)]
struct Compared {
    same: bool,
    left: Whole,
    right: Whole,
    difference: Option<Found>,
    /// How many parts of A were read.
    reads: u32,
}

impl Report for Compared {
    fn human(&self) -> String {
        let Some(found) = &self.difference else {
            return format!("same: {} events, root {}\n", self.left.events, self.left.root);
        };
        let mut text = found.human();
        for (name, whole) in [("A", &self.left), ("B", &self.right)] {
            let _ = writeln!(text, "{name}: {} events, root {}", whole.events, whole.root);
        }
        text
    }
}

impl Found {
    fn human(&self) -> String {
        let mut text = match self.event {
            Some(event) => format!("first different: event {event}\n"),
            None => "first different: what they start from\n".to_owned(),
        };
        for leaf in &self.before {
            let _ = writeln!(text, "  both  {leaf}");
        }
        for (name, leaf) in [("A", &self.left), ("B", &self.right)] {
            let words = leaf
                .as_ref()
                .map_or_else(|| "(over)".to_owned(), TraceLeaf::to_string);
            let _ = writeln!(text, "  {name}     {words}");
        }
        self.headers(&mut text);
        if !self.only.is_empty() {
            text += "  only in A (-) or in B (+), from there to the end of that block of events:\n";
        }
        for only in self.only.iter().take(MOST_SHOWN) {
            let _ = writeln!(text, "  {only}");
        }
        if self.only.len() > MOST_SHOWN {
            let _ = writeln!(text, "  … and {} more", self.only.len() - MOST_SHOWN);
        }
        text
    }

    /// In what two headers differ.
    fn headers(&self, text: &mut String) {
        if let (Some(TraceLeaf::Header(left)), Some(TraceLeaf::Header(right))) = (&self.left, &self.right) {
            let fields = differing(left, right);
            let _ = writeln!(text, "  they differ in: {}", fields.join(", "));
        }
    }
}

/// The names of what two headers differ in.
fn differing(left: &sandrun_types::TraceHeader, right: &sandrun_types::TraceHeader) -> Vec<&'static str> {
    [
        ("class", left.class != right.class),
        ("image", left.image != right.image),
        ("seed", left.seed != right.seed),
        ("limits", left.limits != right.limits),
        ("arguments", left.argv != right.argv),
        ("environment", left.env != right.env),
        ("input files", left.input_tree != right.input_tree),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// Compares them. Whatever goes wrong has exit code 2, as diff(1) has it, but for a receipt that is not to be believed.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let compared = compare(arguments).await.map_err(|error| {
        if Status::of(&error) == Status::VerificationFailed {
            error
        } else {
            Failure::new(Status::BadInput, words(&error))
        }
    })?;
    output.result(&compared)?;
    Ok(if compared.same {
        Status::Success
    } else {
        Status::Failure
    })
}

async fn compare(arguments: &Arguments) -> anyhow::Result<Compared> {
    let left = Checked::open(&arguments.left, arguments.left_root).await?;
    let right = Checked::open(&arguments.right, arguments.right_root).await?;
    let mut diff = TraceDiff::new(left.length, right.length);
    let sides = (left, right);
    let found = loop {
        match diff.step()? {
            DiffStep::Done(found) => break found,
            DiffStep::Read(side, range) => {
                let parts = match side {
                    Side::Left => &sides.0,
                    Side::Right => &sides.1,
                };
                diff.feed(&parts.parts.read(range).await?)?;
            }
        }
    };
    let Some([left, right]) = diff.roots() else {
        anyhow::bail!("the traces have no roots");
    };
    for (name, checked, (root, _)) in [("A", &sides.0, &left), ("B", &sides.1, &right)] {
        checked.holds(name, *root)?;
    }
    let whole = |(root, events)| Whole { root, events };
    Ok(Compared {
        same: found.is_none(),
        left: whole(left),
        right: whole(right),
        difference: found.map(|found| Found::of(*found)),
        reads: diff.reads(Side::Left),
    })
}

impl Found {
    fn of(found: Difference) -> Self {
        // headers that differ are told apart from the events
        let own = |leaf: &Option<TraceLeaf>, after: Vec<TraceLeaf>| {
            let first = leaf.clone().filter(|_| found.leaf > 0);
            first.into_iter().chain(after).collect()
        };
        let only = later::differences(
            own(&found.left, found.left_after),
            own(&found.right, found.right_after),
        );
        Self {
            event: found.leaf.checked_sub(1),
            before: found.before,
            left: found.left,
            right: found.right,
            only,
        }
    }
}
