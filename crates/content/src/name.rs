//! What a file in a tree may be called. Owns the one rule that packing and fetching share, so that nothing can be
//! packed that can't be fetched, and nothing fetched that leaves its directory.

/// Longest name of one file or directory, in bytes (Linux NAME_MAX).
const MAX_NAME_BYTES: usize = 255;

/// Why a name may not stand in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No name at all.
    #[error("a name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("`.` and `..` are no names")]
    Dots,
    /// A slash or a NUL byte within.
    #[error("a name holds a slash or a NUL byte")]
    Separator,
    /// Longer than a file system takes.
    #[error("a name is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
}

/// Accepts the name of one file or directory.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if name.contains(['/', '\0']) => Err(NameError::Separator),
        _ if name.len() > MAX_NAME_BYTES => Err(NameError::TooLong),
        _ => Ok(()),
    }
}

/// `parent/name`, or `name` at the root.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["a", "a.b", "...", "-rf", "ä", " ", &"x".repeat(255)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check(".."), Err(NameError::Dots));
        assert_eq!(check("../x"), Err(NameError::Separator));
        assert_eq!(check("/etc"), Err(NameError::Separator));
        assert_eq!(check("a\0"), Err(NameError::Separator));
        assert_eq!(check(&"x".repeat(256)), Err(NameError::TooLong));
    }
}
