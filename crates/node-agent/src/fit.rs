//! Whether this node's executor can run a checked bundle at all. Asked before a seat is taken: a job that the executor
//! would refuse costs a bond. Pure.

use sandrun_content::ContentId;
use sandrun_types::{BundlePath, Capabilities, Interpreter, Manifest, ManifestError};
use thiserror::Error;

/// Why a job cannot run here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unfit {
    /// An environment, and an executor that fetches none.
    #[error("it asks for the environment `{0}`, and the executor fetches none")]
    Environment(String),
    /// An environment by a name: on every node's list it may be another.
    #[error(
        "it names the environment `{0}`, and nodes have to agree on one: its content id has to stand there"
    )]
    EnvironmentName(String),
    /// Packages to install.
    #[error("it asks for packages ({0} is the first), and the executor installs none")]
    Packages(String),
    /// A GPU in the sandbox.
    #[error("it asks for a GPU, and the executor gives jobs none")]
    Gpu,
    /// An interpreter.
    #[error("it needs {0}, which is not installed here")]
    Interpreter(Interpreter),
    /// Memory.
    #[error("it asks for {asked} MiB of memory, a job can have {most}")]
    Memory {
        /// Asked for, MiB.
        asked: u32,
        /// Most, MiB.
        most: u32,
    },
    /// No program.
    #[error("{0}")]
    Entry(ManifestError),
}

/// Checks a manifest, whose bundle holds `files` and whose requirements file names the `package` first, if any, against the
/// machine and the executor's memory bound (MiB).
pub(crate) fn fits<'a>(
    manifest: &Manifest,
    files: impl IntoIterator<Item = &'a BundlePath>,
    package: Option<String>,
    machine: &Capabilities,
    max_memory_mib: u32,
) -> Result<(), Unfit> {
    if let Some(environment) = &manifest.environment {
        if environment.parse::<ContentId>().is_err() {
            return Err(Unfit::EnvironmentName(environment.clone()));
        }
        if !machine.environments {
            return Err(Unfit::Environment(environment.clone()));
        }
    }
    if let Some(package) = package {
        return Err(Unfit::Packages(package));
    }
    if manifest.gpu.as_ref().is_some_and(|gpu| gpu.required) {
        return Err(Unfit::Gpu);
    }
    let most = max_memory_mib.min(machine.memory_mib);
    if let Some(asked) = manifest.memory_mb.filter(|asked| *asked > most) {
        return Err(Unfit::Memory { asked, most });
    }
    let interpreter = manifest.entry(files).map_err(Unfit::Entry)?.interpreter;
    let installed = machine
        .interpreters
        .iter()
        .any(|there| there.interpreter == interpreter);
    if interpreter != Interpreter::Itself && !installed {
        return Err(Unfit::Interpreter(interpreter));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::InstalledInterpreter;

    fn check(manifest: &str, file: &str) -> Result<(), Unfit> {
        check_with(manifest, file, None)
    }

    fn check_with(manifest: &str, file: &str, package: Option<&str>) -> Result<(), Unfit> {
        let machine = Capabilities {
            memory_mib: 4096,
            interpreters: vec![InstalledInterpreter {
                interpreter: Interpreter::Python3,
                version: "3.11".to_owned(),
            }],
            ..Capabilities::default()
        };
        let files = [BundlePath::parse(file).unwrap()];
        fits(
            &Manifest::parse(manifest.as_bytes()).unwrap(),
            &files,
            package.map(str::to_owned),
            &machine,
            2048,
        )
    }

    #[test]
    fn what_the_executor_would_refuse_is_not_claimed() {
        assert_eq!(check("{}", "main.py"), Ok(()));
        assert_eq!(
            check(r#"{"entrypoint":"tool"}"#, "tool"),
            Ok(()),
            "a program needs no interpreter"
        );
        assert_eq!(check("{}", "run.sh"), Err(Unfit::Interpreter(Interpreter::Bash)));
        assert!(matches!(
            check("{}", "notes.txt"),
            Err(Unfit::Entry(ManifestError::NoEntrypoint))
        ));
        assert_eq!(check(r#"{"gpu":{}}"#, "main.py"), Err(Unfit::Gpu));
        assert_eq!(check(r#"{"gpu":{"required":false}}"#, "main.py"), Ok(()));
        assert_eq!(
            check(r#"{"memory_mb":2049}"#, "main.py"),
            Err(Unfit::Memory {
                asked: 2049,
                most: 2048
            })
        );
        assert!(matches!(
            check(r#"{"environment":"vision"}"#, "main.py"),
            Err(Unfit::EnvironmentName(_))
        ));
        let id = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
        assert!(matches!(
            check(&format!(r#"{{"environment":"{id}"}}"#), "main.py"),
            Err(Unfit::Environment(_))
        ));
        let named = r#"{"requirements":"main.py"}"#;
        assert_eq!(
            check_with(named, "main.py", Some("numpy")),
            Err(Unfit::Packages("numpy".to_owned()))
        );
        assert_eq!(check(named, "main.py"), Ok(()), "a file that names no package");
    }
}
