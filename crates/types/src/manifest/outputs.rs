//! Which files may leave a job: the manifest's `outputs` patterns.
//!
//! Owns the meaning of a pattern. Never looks at a file system.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Serialize, Serializer};

use super::path::BundlePath;

/// The patterns of a manifest's `outputs`. None given means: everything new or changed may leave.
///
/// `*` matches across `/` (`*.png` takes `plots/a.png`), a pattern that ends with `/` takes all below that folder,
/// and a pattern that names a folder exactly takes all below it as well. A leading `./` is ignored.
#[derive(Clone, Default)]
pub struct OutputPatterns {
    texts: Vec<String>,
    matchers: Vec<Matcher>,
}

#[derive(Clone)]
enum Matcher {
    Below(String),
    Glob(GlobMatcher),
}

impl OutputPatterns {
    /// Most patterns in one manifest.
    pub const MAX: usize = 256;

    /// Compiles the patterns, in the order given.
    ///
    /// # Errors
    /// The words that say which pattern is wrong, and how.
    pub(super) fn parse(texts: Vec<String>) -> Result<Self, String> {
        if texts.len() > Self::MAX {
            return Err(format!("{} patterns are more than {}", texts.len(), Self::MAX));
        }
        let matchers = texts
            .iter()
            .map(|text| Matcher::parse(text))
            .collect::<Result<_, _>>()?;
        Ok(Self { texts, matchers })
    }

    /// No pattern was given: everything new or changed may leave.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether a pattern is this file's own name.
    #[must_use]
    pub fn name(&self, path: &BundlePath) -> bool {
        self.texts.iter().any(|text| text == path.as_str())
    }

    /// The patterns as written.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether this file may leave. True for every file if no pattern was given.
    #[must_use]
    pub fn allow(&self, path: &BundlePath) -> bool {
        self.is_everything()
            || self
                .matchers
                .iter()
                .any(|matcher| matcher.is_match(path.as_str()))
    }
}

impl Matcher {
    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches("./");
        if bare.starts_with('/') || bare.split('/').any(|part| part == "..") {
            return Err(format!(
                "pattern {text:?} leaves the job's folder; make it relative, without `..`"
            ));
        }
        if text.len() > 1024 {
            return Err("a pattern is longer than 1024 bytes".to_owned());
        }
        if let Some(folder) = bare.strip_suffix('/')
            && !folder.contains(['*', '?', '[', '{'])
        {
            return Ok(Self::Below(format!("{folder}/")));
        }
        if bare.is_empty() {
            return if text.is_empty() {
                Err("a pattern is empty".to_owned())
            } else {
                Ok(Self::Below(String::new()))
            };
        }
        let whole = if bare.ends_with('/') {
            format!("{bare}*")
        } else {
            bare.to_owned()
        };
        let glob = GlobBuilder::new(&whole)
            .literal_separator(false)
            .build()
            .map_err(|error| format!("pattern {text:?} is no glob: {}", error.kind()))?;
        Ok(Self::Glob(glob.compile_matcher()))
    }

    fn is_match(&self, path: &str) -> bool {
        match self {
            Self::Below(folder) => path.starts_with(folder.as_str()),
            Self::Glob(glob) => {
                glob.is_match(path)
                    || path
                        .match_indices('/')
                        .any(|(at, _)| glob.glob().glob() == &path[..at])
            }
        }
    }
}

impl fmt::Debug for OutputPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

impl PartialEq for OutputPatterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for OutputPatterns {}

impl Serialize for OutputPatterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.texts.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, path: &str) -> bool {
        OutputPatterns::parse(vec![pattern.to_owned()])
            .unwrap()
            .allow(&BundlePath::parse(path).unwrap())
    }

    #[test]
    fn patterns_mean_what_existing_clients_expect() {
        assert!(allows("*.png", "a.png"));
        assert!(allows("*.png", "plots/deep/a.png"));
        assert!(!allows("*.png", "a.png.txt"));
        assert!(allows("results/", "results/a/b.csv"));
        assert!(!allows("results/", "results.csv"));
        assert!(!allows("results/", "old/results/a"));
        assert!(allows("results", "results/a.csv"));
        assert!(allows("out/*/", "out/a/b"));
        assert!(allows("./result.txt", "result.txt"));
        assert!(allows("logs/*.log", "logs/x/y.log"));
        assert!(allows("*", "any/thing"));
        assert!(allows("./", "any/thing"));
        assert!(OutputPatterns::default().allow(&BundlePath::parse("x").unwrap()));
    }

    #[test]
    fn bad_patterns_are_named() {
        for pattern in ["/etc/*", "../x", "a/../b", "a[", ""] {
            assert!(
                OutputPatterns::parse(vec![pattern.to_owned()]).is_err(),
                "{pattern}"
            );
        }
    }
}
