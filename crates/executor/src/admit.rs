//! Whether this executor takes a job, and within which bounds it runs it.
//!
//! Owns the mapping from a manifest and the service's limits to a run's bounds. What cannot be honoured is refused
//! before the job is queued, with words that say what to change; nothing that was asked for is silently ignored.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use sandrun_environment::first_dependency;
use sandrun_sandbox::Class;
use sandrun_types::{BundlePath, ClassId, ClassRequest, Interpreter, Manifest};
use thiserror::Error;

use crate::config::Limits;
use crate::upload::Assembled;

const MIB: u64 = 1024 * 1024;

/// What the executor offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) limits: Limits,
    pub(crate) interpreters: Vec<Interpreter>,
}

/// A job that this executor does not take.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error(
        "manifest field \"class\": this executor runs {offered}; ask for one of them, or submit elsewhere"
    )]
    Class { offered: String },
    #[error("manifest field \"gpu\": this executor has no GPU; leave it out, or submit to one that has")]
    Gpu,
    #[error("manifest field \"memory_mb\": {asked} is more than the {most} MiB that a job may have here")]
    Memory { asked: u32, most: u32 },
    #[error("manifest field \"interpreter\": {0} is not installed on this executor")]
    Interpreter(Interpreter),
    #[error(
        "manifest field \"requirements\": {file} asks for {first:?}, and this executor installs nothing, as jobs have \
         no network; leave the field out and name an `environment` with the packages (sandrun-pool env lock, then env \
         build), or put them into the bundle (unpacked wheels on PYTHONPATH, node_modules)"
    )]
    Requirements { file: BundlePath, first: String },
    #[error("cannot read {0} from the bundle")]
    Read(BundlePath, #[source] io::Error),
}

impl Offer {
    /// The bounds that a job runs within, or why it does not run here. `bundle` is where its files lie.
    pub(crate) fn admit(&self, job: &Assembled, bundle: &Path) -> Result<sandrun_sandbox::Limits, Refusal> {
        let manifest = &job.manifest;
        if manifest.gpu.as_ref().is_some_and(|gpu| gpu.required) {
            return Err(Refusal::Gpu);
        }
        if let Some(file) = &manifest.requirements {
            let text =
                fs::read(bundle.join(file.as_str())).map_err(|error| Refusal::Read(file.clone(), error))?;
            if let Some(first) = first_dependency(file.file_name(), &String::from_utf8_lossy(&text)) {
                return Err(Refusal::Requirements {
                    file: file.clone(),
                    first,
                });
            }
        }
        let interpreter = job.entry.interpreter;
        if interpreter != Interpreter::Itself && !self.interpreters.contains(&interpreter) {
            return Err(Refusal::Interpreter(interpreter));
        }
        self.bounds(manifest)
    }

    /// The class that a job runs under, of those that are `offered`: what the submission asks for, which has to be one
    /// that the manifest accepts; what the manifest asks for; `native` where nobody asks.
    pub(crate) fn class(
        offered: &[(Class, ClassId)],
        asked: Option<ClassRequest>,
        manifest: &Manifest,
    ) -> Result<(Class, ClassId), Refusal> {
        let wanted = [asked, manifest.class];
        let accepts = |id: ClassId| wanted.into_iter().flatten().all(|request| request.accepts(id));
        let found = offered.iter().copied().find(|(_, id)| accepts(*id));
        found.ok_or_else(|| {
            let words = offered
                .iter()
                .map(|(class, id)| format!("{class} ({})", hex::encode(id.0)));
            Refusal::Class {
                offered: words.collect::<Vec<_>>().join(", "),
            }
        })
    }

    fn bounds(&self, manifest: &Manifest) -> Result<sandrun_sandbox::Limits, Refusal> {
        let limits = &self.limits;
        let timeout = manifest.timeout.unwrap_or(limits.default_timeout);
        let memory = manifest.memory_mb.unwrap_or(limits.default_memory_mb);
        if memory > limits.max_memory_mb {
            return Err(Refusal::Memory {
                asked: memory,
                most: limits.max_memory_mb,
            });
        }
        let wall = Duration::from_secs(timeout.into());
        // CPU seconds are counted per started minute of wall clock; without a number only the wall clock bounds them.
        let cpu = match manifest.cpu_seconds.or(limits.default_cpu_seconds) {
            Some(per_minute) => Duration::from_secs(u64::from(per_minute) * u64::from(timeout.div_ceil(60))),
            None => wall.saturating_mul(limits.processes.max(1)),
        };
        Ok(sandrun_sandbox::Limits {
            wall,
            cpu,
            memory_bytes: u64::from(memory) * MIB,
            processes: limits.processes,
            open_files: limits.open_files,
            tmpfs_bytes: limits.tmpfs_bytes,
            output_bytes: limits.captured_bytes,
            ..sandrun_sandbox::Limits::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sandrun_types::{Entry, Sha256Hex};

    use super::*;

    fn admit(manifest: &str) -> Result<sandrun_sandbox::Limits, Refusal> {
        let offer = Offer {
            limits: Limits::default(),
            interpreters: vec![Interpreter::Bash],
        };
        let bundle = tempfile::tempdir().unwrap();
        fs::write(bundle.path().join("requirements.txt"), "# nothing\n\n").unwrap();
        fs::write(bundle.path().join("needs.txt"), "# this\nnumpy==2\n").unwrap();
        fs::write(
            bundle.path().join("package.json"),
            r#"{"dependencies":{"left-pad":"1"}}"#,
        )
        .unwrap();
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let interpreter = manifest.interpreter.unwrap_or(Interpreter::Bash);
        let entry = Entry {
            entrypoint: BundlePath::parse("run.sh").unwrap(),
            interpreter,
        };
        Offer::class(&[(Class::Native, ClassId([0; 32]))], None, &manifest)?;
        offer.admit(
            &Assembled {
                manifest,
                entry,
                files: BTreeMap::new(),
                job_hash: Sha256Hex([0; 32]),
            },
            bundle.path(),
        )
    }

    #[test]
    fn defaults_and_what_the_manifest_asks_for() {
        let limits = admit("{}").unwrap();
        assert_eq!(limits.wall, Duration::from_secs(300));
        assert_eq!(limits.cpu, Duration::from_secs(50));
        assert_eq!(limits.memory_bytes, 512 * MIB);
        let limits = admit(r#"{"timeout":61,"memory_mb":2048,"cpu_seconds":30,"class":"native"}"#).unwrap();
        assert_eq!((limits.wall.as_secs(), limits.cpu.as_secs()), (61, 60));
    }

    #[test]
    fn the_first_class_that_everybody_accepts_is_taken() {
        let id = |kind: u8| ClassId([kind; 32]);
        let offered = [(Class::Native, id(0)), (Class::Det, id(1))];
        let class = |asked: Option<ClassRequest>, manifest: &str| {
            let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
            let found = Offer::class(&offered, asked, &manifest);
            found.ok().map(|(class, _)| class)
        };
        assert_eq!(class(None, "{}"), Some(Class::Native));
        assert_eq!(class(None, r#"{"class":"det"}"#), Some(Class::Det));
        assert_eq!(class(Some(ClassRequest::Exact(id(1))), "{}"), Some(Class::Det));
        assert_eq!(class(Some(ClassRequest::Native), r#"{"class":"det"}"#), None);
        assert_eq!(class(Some(ClassRequest::Exact(id(9))), "{}"), None);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_its_field() {
        for (manifest, field) in [
            (r#"{"class":"det"}"#, "class"),
            (r#"{"gpu":{"required":true}}"#, "gpu"),
            (r#"{"gpu":{"min_vram_gb":8}}"#, "gpu"),
            (r#"{"memory_mb":4096}"#, "memory_mb"),
            (r#"{"interpreter":"ruby"}"#, "interpreter"),
            (r#"{"requirements":"needs.txt"}"#, "requirements"),
            (r#"{"requirements":"package.json"}"#, "requirements"),
        ] {
            let refusal = admit(manifest).unwrap_err().to_string();
            assert!(refusal.contains(&format!("{field:?}")), "{refusal}");
        }
        assert!(admit(r#"{"gpu":{"required":false},"requirements":"requirements.txt"}"#).is_ok());
    }
}
