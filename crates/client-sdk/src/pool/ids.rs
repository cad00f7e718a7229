//! Ids that a service gives out. Their form is the service's own; what is checked is that they can stand in a URL's path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id.
const MAX: usize = 200;

/// A text that is no id of any service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: ids are letters, digits, `-`, `_`, `.` and `:`")]
pub struct BadId(String);

fn parse(text: &str) -> Result<String, BadId> {
    let is_fine = |it: char| it.is_ascii_alphanumeric() || "-_.:".contains(it);
    // `.` and `..` would be other places
    let is_id = !text.is_empty() && text.len() <= MAX && text.chars().all(is_fine) && !text.starts_with('.');
    if is_id {
        Ok(text.to_owned())
    } else {
        Err(BadId(text.chars().take(80).collect()))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                parse(&text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// A job's id, as its service gave it out.
    PoolJobId
);
id!(
    /// A node's id, as its service gave it out.
    PoolNodeId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_its_place_in_a_path_is_no_id() {
        for good in ["pool-0123456789abcdef", "a", "http:1", "x.y_z"] {
            assert_eq!(good.parse::<PoolJobId>().unwrap().as_str(), good);
        }
        for bad in ["", "..", "a/b", "a?b", "a b", "ä", &"x".repeat(201)] {
            assert!(bad.parse::<PoolNodeId>().is_err(), "{bad}");
        }
    }
}
