//! Which nodes can run a job, by what they announce. Owns the comparison, which is the agents' own; pure. A node that
//! announces nothing readable is not ruled out: it judges for itself.

use std::collections::BTreeMap;
use std::fmt;

use sandrun_chain::{Logged, NodeRecord};
use sandrun_core::market::MarketEvent;
use sandrun_types::{Capabilities, ClassId, Interpreter, NodeIndex};

use crate::PreparedJob;

/// What a job asks for and a node does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// An environment: the executor fetches none.
    Environment(String),
    /// A GPU: no executor gives jobs one.
    Gpu,
    /// An interpreter.
    Interpreter(&'static str),
    /// Memory.
    Memory {
        /// What the job asks for, MiB.
        asked: u32,
        /// What the node has, MiB.
        most: u32,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(
                f,
                "it asks for the environment {name}, and they have no environments (`sandrun-pool nodes --json` lists what \
                 they have)"
            ),
            Self::Gpu => {
                f.write_str("it asks for a GPU, and nodes give jobs none: remove `gpu` from the manifest")
            }
            Self::Interpreter(name) => write!(
                f,
                "it needs {name}, which they do not have (`sandrun-pool nodes --json` lists what they have)"
            ),
            Self::Memory { asked, most } => write!(
                f,
                "it asks for {asked} MiB of memory, they have at most {most}: lower `memory_mb` in the manifest"
            ),
        }
    }
}

/// What each node announces, from the registry's events; a node whose words make no sense is left out.
pub fn announced(events: &[Logged]) -> BTreeMap<NodeIndex, Capabilities> {
    let mut capabilities = BTreeMap::new();
    for logged in events {
        if let MarketEvent::ProfileChanged { node, profile } = &logged.event {
            match serde_json::from_slice(&profile.capabilities) {
                Ok(said) => capabilities.insert(*node, said),
                Err(_) => capabilities.remove(node),
            };
        }
    }
    capabilities
}

/// How many nodes that serve `class` can run `job`, and what the others lack, the largest memory among them.
pub(crate) fn nodes_for(
    job: &PreparedJob,
    class: ClassId,
    nodes: &[NodeRecord],
    capabilities: &BTreeMap<NodeIndex, Capabilities>,
) -> (usize, Option<Missing>) {
    let mut able = 0;
    let mut lacks: Option<Missing> = None;
    let serving = nodes
        .iter()
        .filter(|node| !node.escrow.cap.is_zero() && node.classes.contains(&class));
    for node in serving {
        match capabilities.get(&node.index).and_then(|has| missing(job, has)) {
            None => able += 1,
            Some(found) => lacks = Some(lacks.map_or(found.clone(), |before| before.max(found))),
        }
    }
    (able, lacks)
}

/// What a machine with these capabilities lacks.
fn missing(job: &PreparedJob, has: &Capabilities) -> Option<Missing> {
    let manifest = &job.manifest;
    if let Some(environment) = manifest.environment.as_ref().filter(|_| !has.environments) {
        return Some(Missing::Environment(environment.clone()));
    }
    if job.requirements.gpu {
        return Some(Missing::Gpu);
    }
    let interpreter = job.entry.interpreter;
    let installed = has.interpreters.iter().any(|it| it.interpreter == interpreter);
    if interpreter != Interpreter::Itself && !installed {
        return Some(Missing::Interpreter(interpreter.name()));
    }
    manifest
        .memory_mb
        .filter(|asked| *asked > has.memory_mib)
        .map(|asked| Missing::Memory {
            asked,
            most: has.memory_mib,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::InstalledInterpreter;

    fn lacks(manifest: &str) -> Option<Missing> {
        let code = tempfile::tempdir().unwrap();
        std::fs::write(code.path().join("main.py"), "").unwrap();
        std::fs::write(code.path().join("requirements.txt"), "# none yet\n\n").unwrap();
        std::fs::write(code.path().join("job.json"), manifest).unwrap();
        let has = Capabilities {
            memory_mib: 4096,
            interpreters: vec![InstalledInterpreter {
                interpreter: Interpreter::Python3,
                version: "3.12".into(),
            }],
            ..Capabilities::default()
        };
        missing(&crate::prepare(code.path(), None).unwrap(), &has)
    }

    #[test]
    fn what_a_machine_lacks_is_named() {
        assert_eq!(lacks(r#"{"memory_mb": 4096}"#), None);
        // packages were refused before: what is left names none
        assert_eq!(lacks(r#"{"requirements": "requirements.txt"}"#), None);
        assert_eq!(
            lacks(r#"{"memory_mb": 4097}"#),
            Some(Missing::Memory {
                asked: 4097,
                most: 4096
            })
        );
        assert_eq!(
            lacks(r#"{"interpreter": "ruby"}"#),
            Some(Missing::Interpreter("ruby"))
        );
        assert_eq!(lacks(r#"{"gpu": {"required": true}}"#), Some(Missing::Gpu));
        assert!(matches!(
            lacks(r#"{"environment": "ml-basic"}"#),
            Some(Missing::Environment(_))
        ));
    }
}
