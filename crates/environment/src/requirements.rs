//! What a manifest's `requirements` file names. Pure: nobody installs anything from one, so that a file that names a
//! package is refused before its job runs.

use serde_json::Value;

/// Longest text of a dependency that is told.
const MOST: usize = 80;

/// The first dependency that a requirements file declares, if it declares any: an npm package file by its
/// `dependencies`, a Gemfile by its `gem` lines, anything else by pip's format.
pub fn first_dependency(file_name: &str, text: &str) -> Option<String> {
    let line = |line: &str| line.chars().take(MOST).collect::<String>();
    let mut lines = text.lines().map(str::trim);
    match file_name {
        "package.json" => {
            let package: Value = serde_json::from_str(text).unwrap_or_default();
            package.get("dependencies")?.as_object()?.keys().next().cloned()
        }
        "Gemfile" => lines.find(|text| text.starts_with("gem ")).map(line),
        _ => lines
            .find(|text| !text.is_empty() && !text.starts_with('#'))
            .map(line),
    }
}

#[cfg(test)]
mod tests {
    use super::first_dependency;

    #[test]
    fn each_kind_of_file_is_read() {
        for (name, text, first) in [
            ("requirements.txt", "# none\n\n", None),
            ("requirements.txt", "# this\n numpy==2 \n", Some("numpy==2")),
            (
                "package.json",
                r#"{"dependencies":{"left-pad":"1"}}"#,
                Some("left-pad"),
            ),
            ("package.json", "{}", None),
            ("Gemfile", "source 'x'\ngem 'rack'\n", Some("gem 'rack'")),
        ] {
            assert_eq!(first_dependency(name, text).as_deref(), first, "{name}: {text}");
        }
    }
}
