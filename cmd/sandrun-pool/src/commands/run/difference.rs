//! The first event in which two runs differ. Owns how it is found, by bisection over the roots of both traces, and its
//! words.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Context as _;
use sandrun_sandbox::RunReport;
use sandrun_types::{DiffStep, Side, Stream, TraceDiff, TraceEvent, TraceHeader, TraceLeaf};
use serde::Serialize;

/// Characters of a line that are shown.
const LINE: usize = 160;

/// Where two runs part.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// The run that is other than run 1.
    run: u32,
    /// Number of the event, counted from 0; none for what the runs start from.
    event: Option<u64>,
    /// The last events before it, which both have.
    before: Vec<String>,
    /// The event of run 1; none where its trace has ended.
    first: Option<String>,
    /// The event of the other run.
    other: Option<String>,
    /// What the runs printed there, where the event is a piece of a stream.
    printed: Option<Printed>,
}

/// The first line in which two runs' output differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Printed {
    stream: &'static str,
    /// Number of the line, counted from 1.
    line: usize,
    first: String,
    other: String,
}

/// A run, and the file of its trace.
pub(super) type Traced<'a> = (&'a RunReport, &'a Path);

impl Difference {
    /// Where `other`, run number `run`, leaves the path of `first`.
    ///
    /// # Errors
    /// A trace that cannot be read.
    pub(super) fn between(
        (first, first_trace): Traced<'_>,
        (other, other_trace): Traced<'_>,
        run: u32,
    ) -> anyhow::Result<Option<Self>> {
        let Some(found) = compare(first_trace, other_trace)? else {
            return Ok(None);
        };
        let stream = found.left.as_ref().or(found.right.as_ref()).and_then(stream);
        let printed = stream.and_then(|stream| match stream {
            Stream::Stdout => Printed::between("stdout", &first.stdout, &other.stdout),
            Stream::Stderr => Printed::between("stderr", &first.stderr, &other.stderr),
        });
        let words = |leaf: Option<TraceLeaf>| leaf.map(|leaf| leaf.to_string());
        let (mut first, mut second) = (words(found.left.clone()), words(found.right.clone()));
        if let (Some(TraceLeaf::Header(left)), Some(TraceLeaf::Header(right))) = (&found.left, &found.right) {
            (first, second) = (Some(header(left)), Some(header(right)));
        }
        Ok(Some(Self {
            run,
            event: found.leaf.checked_sub(1),
            before: found.before.iter().map(ToString::to_string).collect(),
            first,
            other: second,
            printed,
        }))
    }

    /// For people.
    pub(super) fn human(&self) -> String {
        let place = self.event.map_or_else(
            || "what they start from".to_owned(),
            |event| format!("event {event}"),
        );
        let or_end =
            |words: &Option<String>| words.clone().unwrap_or_else(|| "the trace has ended".to_owned());
        let mut text = format!("first different: {place}\n");
        for event in &self.before {
            let _ = writeln!(text, "  both:   {event}");
        }
        let _ = writeln!(text, "  run 1:  {}", or_end(&self.first));
        let _ = writeln!(text, "  run {}:  {}", self.run, or_end(&self.other));
        if let Some(printed) = &self.printed {
            let _ = writeln!(
                text,
                "  line {} of {}: {:?} in run 1, {:?} in run {}",
                printed.line, printed.stream, printed.first, printed.other, self.run
            );
        }
        text
    }
}

impl Printed {
    fn between(stream: &'static str, first: &[u8], other: &[u8]) -> Option<Self> {
        let lines = |bytes: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(bytes);
            text.lines()
                .map(|line| line.chars().take(LINE).collect())
                .collect()
        };
        let (first, other) = (lines(first), lines(other));
        let line = (0..first.len().max(other.len())).find(|line| first.get(*line) != other.get(*line))?;
        let at = |lines: &[String]| lines.get(line).cloned().unwrap_or_default();
        Some(Self {
            stream,
            line: line + 1,
            first: at(&first),
            other: at(&other),
        })
    }
}

/// The stream that a leaf is a piece of.
const fn stream(leaf: &TraceLeaf) -> Option<Stream> {
    match leaf {
        TraceLeaf::Event(TraceEvent::Chunk { stream, .. }) => Some(*stream),
        TraceLeaf::Event(
            TraceEvent::Task { .. } | TraceEvent::OutputTree { .. } | TraceEvent::Exit { .. },
        )
        | TraceLeaf::Header(_) => None,
    }
}

/// A header whole: the short form leaves out in what two may differ.
fn header(header: &TraceHeader) -> String {
    format!("{header:?}")
}

fn compare(left: &Path, right: &Path) -> anyhow::Result<Option<sandrun_types::Difference>> {
    let open = |path: &Path| -> anyhow::Result<(File, u64)> {
        let file = File::open(path).with_context(|| format!("the trace {}", path.display()))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    let ((left, left_length), (right, right_length)) = (open(left)?, open(right)?);
    let mut diff = TraceDiff::new(left_length, right_length);
    loop {
        match diff.step()? {
            DiffStep::Done(found) => return Ok(found.map(|found| *found)),
            DiffStep::Read(side, range) => {
                let file = match side {
                    Side::Left => &left,
                    Side::Right => &right,
                };
                let mut bytes = vec![0; usize::try_from(range.length)?];
                file.read_exact_at(&mut bytes, range.offset)?;
                diff.feed(&bytes)?;
            }
        }
    }
}
