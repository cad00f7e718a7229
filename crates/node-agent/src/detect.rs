//! Detection: what the machine under the agent offers.
//!
//! Owns reading /proc, `nvidia-smi`, sysfs and the fixed interpreter folders; each source's text is parsed by a pure
//! function. Never fails: what cannot be found out is left out, because what is not announced is not sold.

mod interpreters;
mod machine;
mod nvidia;
mod pci;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sandrun_executor::hardware;
use sandrun_types::{Capabilities, Gpu};
use tokio::process::Command;
use tracing::debug;

/// Where to look, and what the operator adds.
#[derive(Debug, Clone)]
pub struct Detection {
    /// Folders in which interpreters are looked for, in this order; the executor's own.
    pub interpreter_folders: Vec<PathBuf>,
    /// Where the machine stands.
    pub region: Option<String>,
    /// What else to announce.
    pub labels: BTreeMap<String, String>,
}

impl Default for Detection {
    /// The system's folders, nothing added.
    fn default() -> Self {
        Self {
            interpreter_folders: vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")],
            region: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Looks at this machine.
pub async fn detect(detection: &Detection) -> Capabilities {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = hardware();
    Capabilities {
        // the executor says so
        environments: false,
        cpu: machine::cpu(&cpuinfo, has.cpu_cores),
        memory_mib: has.memory_mib,
        gpus: gpus().await,
        interpreters: interpreters::find(&detection.interpreter_folders).await,
        region: detection.region.clone(),
        labels: detection.labels.clone(),
    }
}

/// NVIDIA's cards as their driver tells them, and those that the PCI bus shows besides.
async fn gpus() -> Vec<Gpu> {
    let told = nvidia::ask().await;
    let seen = pci::scan(Path::new(pci::DEVICES));
    pci::merge(told, seen)
}

/// What a program prints on its standard output, if it ends well within five seconds.
async fn output_of(program: &Path, arguments: &[&str]) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let run = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) if output.status.success() => String::from_utf8(output.stdout).ok(),
        Ok(Ok(output)) => {
            debug!(program = %program.display(), status = %output.status, "detection: the program failed");
            None
        }
        Ok(Err(error)) => {
            debug!(program = %program.display(), %error, "detection: the program does not start");
            None
        }
        Err(_) => {
            debug!(program = %program.display(), "detection: the program does not end");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::Requirements;

    #[tokio::test]
    async fn this_machine_has_cores_memory_and_a_profile_that_fits_the_registry() {
        let found = detect(&Detection::default()).await;
        assert!(found.cpu.cores >= 1, "{found:?}");
        assert!(found.memory_mib >= 64, "{found:?}");
        assert_eq!(
            found.satisfies(&Requirements {
                cpu_cores: 1,
                memory_mib: 64,
                ..Requirements::default()
            }),
            Ok(())
        );
        assert!(found.to_json().is_ok());
    }

    #[tokio::test]
    async fn a_program_that_fails_or_does_not_exist_says_nothing() {
        assert_eq!(output_of(Path::new("/bin/false"), &[]).await, None);
        assert_eq!(output_of(Path::new("/does/not/exist"), &[]).await, None);
        assert_eq!(
            output_of(Path::new("/bin/echo"), &["-n", "x"]).await.as_deref(),
            Some("x")
        );
    }
}
