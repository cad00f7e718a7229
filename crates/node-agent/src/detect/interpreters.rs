//! Interpreters: those that the executor's fixed folders hold, with their versions.
//!
//! Never searches PATH: there a version manager's shim may be first, which the sandbox hides.

use std::path::PathBuf;

use sandrun_types::{InstalledInterpreter, Interpreter};

use super::output_of;

/// Looks for every interpreter in `folders`; the first folder that has it wins.
pub(super) async fn find(folders: &[PathBuf]) -> Vec<InstalledInterpreter> {
    let mut found = Vec::new();
    for interpreter in Interpreter::PROGRAMS {
        let program = folders
            .iter()
            .map(|folder| folder.join(interpreter.name()))
            .find(|path| path.is_file());
        let Some(program) = program else { continue };
        if let Some(version) = output_of(&program, &["--version"])
            .await
            .as_deref()
            .and_then(version)
        {
            found.push(InstalledInterpreter { interpreter, version });
        }
    }
    found
}

/// The first word of the text that begins with a number and a dot: `Python 3.11.2`, `v20.9.0`,
/// `GNU bash, version 5.2.15(1)-release`.
fn version(text: &str) -> Option<String> {
    text.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let digits: String = word
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let digits = digits.trim_end_matches('.');
        (digits.contains('.') && digits.starts_with(|c: char| c.is_ascii_digit())).then(|| digits.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_print() {
        let printed = [
            ("Python 3.11.2\n", "3.11.2"),
            ("v20.9.0\n", "20.9.0"),
            (
                "GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)\nCopyright (C) 2022\n",
                "5.2.15",
            ),
            (
                "ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]\n",
                "3.1.2",
            ),
            ("Rscript (R) version 4.2.2 Patched (2022-11-10)\n", "4.2.2"),
        ];
        for (text, expected) in printed {
            assert_eq!(version(text).as_deref(), Some(expected));
        }
        assert_eq!(version("no version here."), None);
    }

    #[tokio::test]
    async fn bash_is_found_where_it_lies_and_not_elsewhere() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(find(&[empty.path().to_owned()]).await, []);
        let found = find(&[empty.path().to_owned(), PathBuf::from("/usr/bin")]).await;
        assert!(
            found.iter().any(|it| it.interpreter == Interpreter::Bash),
            "{found:?}"
        );
    }
}
