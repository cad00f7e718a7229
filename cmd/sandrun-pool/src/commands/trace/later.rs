//! What differs behind the first difference: the events that only one of two traces has, by their longest common
//! subsequence. Owns no reading: what was read to find the first difference is enough.

use std::fmt;

use sandrun_types::TraceLeaf;
use serde::Serialize;

/// An event that only one of two traces has.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "only_in", content = "leaf")]
pub(super) enum Only {
    /// The first.
    A(TraceLeaf),
    /// The second.
    B(TraceLeaf),
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(leaf) => write!(f, "- {leaf}"),
            Self::B(leaf) => write!(f, "+ {leaf}"),
        }
    }
}

/// The events that only one of the two has, in their order.
pub(super) fn differences(left: Vec<TraceLeaf>, right: Vec<TraceLeaf>) -> Vec<Only> {
    let common = common_lengths(&left, &right);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let (mut at, mut other) = (0, 0);
    let mut found = Vec::new();
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a == b => {
                left.next();
                right.next();
                (at, other) = (at + 1, other + 1);
            }
            (Some(_), None) => {
                found.extend(left.next().map(Only::A));
                at += 1;
            }
            (Some(_), Some(_)) if common[at + 1][other] >= common[at][other + 1] => {
                found.extend(left.next().map(Only::A));
                at += 1;
            }
            (_, Some(_)) => {
                found.extend(right.next().map(Only::B));
                other += 1;
            }
            (None, None) => return found,
        }
    }
}

/// For each two suffixes how much they have in common. A block has 256 leaves at most.
fn common_lengths(left: &[TraceLeaf], right: &[TraceLeaf]) -> Vec<Vec<u16>> {
    let mut lengths = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (at, a) in left.iter().enumerate().rev() {
        for (other, b) in right.iter().enumerate().rev() {
            lengths[at][other] = if a == b {
                lengths[at + 1][other + 1] + 1
            } else {
                lengths[at + 1][other].max(lengths[at][other + 1])
            };
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use sandrun_types::{TaskEnd, TaskEvent, TaskId, TraceEvent};

    use super::*;

    fn leaves(numbers: &[u32]) -> Vec<TraceLeaf> {
        let leaf = |task: &u32| {
            let end = TaskEnd::Code(0);
            let (task, event) = (TaskId(*task), TaskEvent::Ended { end });
            TraceLeaf::Event(TraceEvent::Task { task, event })
        };
        numbers.iter().map(leaf).collect()
    }

    #[test]
    fn what_only_one_has_is_found_in_its_order() {
        let one = |number| leaves(&[number]).remove(0);
        assert_eq!(
            differences(leaves(&[1, 2, 3, 4]), leaves(&[1, 3, 9, 8, 4])),
            [Only::A(one(2)), Only::B(one(9)), Only::B(one(8))]
        );
        assert_eq!(differences(leaves(&[1, 2]), leaves(&[1, 2])), []);
        assert_eq!(differences(leaves(&[]), leaves(&[5])), [Only::B(one(5))]);
        assert_eq!(differences(leaves(&[5]), leaves(&[])), [Only::A(one(5))]);
    }
}
