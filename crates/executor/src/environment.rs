//! Whether a run had the environment that was asked for.

use sandrun_content::ContentId;

/// Whether a run with the image `ran`, as its receipt states it (empty for none), is one with the environment that a
/// manifest asks for. By a name the executor's own list says which image it is, so that any will do; whoever compares two
/// runs compares the images.
#[must_use]
pub fn is_environment(asked: Option<&str>, ran: &str) -> bool {
    let id = |text: &str| text.parse::<ContentId>().ok();
    match (asked, asked.and_then(id)) {
        (None, _) => ran.is_empty(),
        (Some(_), Some(wanted)) => id(ran) == Some(wanted),
        (Some(_), None) => id(ran).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use sandrun_types::ContentDigest;

    use super::*;

    #[test]
    fn a_run_with_another_image_is_another_run() {
        let one = ContentId::from_digest(ContentDigest([1; 32])).to_string();
        let other = ContentId::from_digest(ContentDigest([2; 32])).to_string();
        assert!(is_environment(None, ""));
        assert!(!is_environment(None, &one));
        assert!(is_environment(Some(&one), &one));
        for ran in ["", "ml-basic", &other] {
            assert!(!is_environment(Some(&one), ran), "{ran}");
        }
        assert!(is_environment(Some("ml-basic"), &one));
        assert!(!is_environment(Some("ml-basic"), ""));
        assert!(!is_environment(Some("ml-basic"), "ml-basic"));
    }
}
