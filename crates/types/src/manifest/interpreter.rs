//! What runs the entrypoint.

use std::fmt;

use serde::{Serialize, Serializer};

use super::path::BundlePath;

/// The program that runs an entrypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interpreter {
    /// CPython 3.
    Python3,
    /// Node.js.
    Node,
    /// GNU bash.
    Bash,
    /// Ruby.
    Ruby,
    /// R's script front end.
    Rscript,
    /// The entrypoint is a program by itself: an executable, or a script with a first line `#!`.
    Itself,
}

impl Interpreter {
    /// Every interpreter that is a program of its own.
    pub const PROGRAMS: [Self; 5] = [Self::Python3, Self::Node, Self::Bash, Self::Ruby, Self::Rscript];

    /// By its name in a manifest. `python` and `sh`, which existing clients offer, mean `python3` and `bash`;
    /// `self` means the file itself.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "python3" | "python" => Some(Self::Python3),
            "node" => Some(Self::Node),
            "bash" | "sh" => Some(Self::Bash),
            "ruby" => Some(Self::Ruby),
            "Rscript" => Some(Self::Rscript),
            "self" => Some(Self::Itself),
            _ => None,
        }
    }

    /// The one that an entrypoint's extension implies; the file itself if there is none that is known.
    #[must_use]
    pub fn of_extension(entrypoint: &BundlePath) -> Self {
        match entrypoint.extension() {
            Some("py") => Self::Python3,
            Some("js" | "mjs" | "cjs") => Self::Node,
            Some("sh" | "bash") => Self::Bash,
            Some("rb") => Self::Ruby,
            Some("R" | "r") => Self::Rscript,
            Some(_) | None => Self::Itself,
        }
    }

    /// The name in manifests, statuses and receipts, which is also the program's name in the system's folders
    /// (`self` has none).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python3 => "python3",
            Self::Node => "node",
            Self::Bash => "bash",
            Self::Ruby => "ruby",
            Self::Rscript => "Rscript",
            Self::Itself => "self",
        }
    }
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Interpreter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
