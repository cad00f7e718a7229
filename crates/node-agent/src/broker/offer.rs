//! What a node tells a broker about itself. Pure: from what was found and what its operator states to what is sent.

use std::collections::BTreeSet;

use sandrun_executor::without_credentials;
use sandrun_types::{Capabilities, Gpu, InstalledInterpreter, Interpreter};
use serde_json::{Value, json};

use super::config::StatedCapabilities;

/// What this node can do besides plain code.
const FEATURES: [&str; 3] = ["bundle", "logs", "outputs"];

/// Both forms of what a node offers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offer {
    /// As every broker reads it: `cpu_cores`, `memory_gb`, `gpu`, `interpreters`.
    pub(crate) plain: Value,
    /// Our capabilities, with `features`.
    pub(crate) full: Value,
}

impl Offer {
    /// The full form, with what the executor can do besides.
    pub(crate) fn with(&self, features: Option<&BTreeSet<String>>) -> Value {
        let mut full = self.full.clone();
        if let Some(Value::Array(all)) = full.get_mut("features") {
            all.extend(features.into_iter().flatten().map(|it| json!(it)));
        }
        full
    }
}

/// What the operator states wins over what was found.
pub(crate) fn merge(found: Capabilities, stated: Option<&StatedCapabilities>) -> Capabilities {
    let Some(stated) = stated else { return found };
    let mut merged = found;
    if let Some(cores) = stated.cpu_cores {
        merged.cpu.cores = cores;
    }
    if let Some(memory) = stated.memory_gb {
        merged.memory_mib = mib(memory);
    }
    if stated.gpu == Some(false) {
        merged.gpus.clear();
    }
    if let Some(names) = &stated.interpreters {
        let wanted = names.iter().filter_map(|name| Interpreter::parse(name));
        merged.interpreters = wanted
            .map(|interpreter| {
                let known = merged
                    .interpreters
                    .iter()
                    .find(|it| it.interpreter == interpreter);
                let unknown = || InstalledInterpreter {
                    interpreter,
                    version: String::new(),
                };
                known.cloned().unwrap_or_else(unknown)
            })
            .collect();
    }
    merged
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded on both sides just before"
)]
fn mib(gib: f64) -> u32 {
    (gib * 1024.0).clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Both forms of `capabilities`.
pub(crate) fn offer(capabilities: &Capabilities) -> Offer {
    let names: Vec<&str> = capabilities
        .interpreters
        .iter()
        .map(|it| it.interpreter.name())
        .collect();
    // what clients show to people: whole numbers where they are whole
    let memory = f64::from(capabilities.memory_mib) / 1024.0;
    let mut full = serde_json::to_value(capabilities).unwrap_or_default();
    if let Value::Object(fields) = &mut full {
        fields.insert("features".to_owned(), json!(FEATURES));
    }
    Offer {
        plain: json!({
            "cpu_cores": capabilities.cpu.cores,
            "memory_gb": (memory * 100.0).round() / 100.0,
            "gpu": capabilities.gpus.iter().any(Gpu::is_usable),
            "interpreters": names,
        }),
        full,
    }
}

/// The name that a broker knows a node by: the executor's address, with the machine's name where that address means
/// another machine everywhere else.
pub(crate) fn endpoint(sandrun_url: &str, hostname: &str) -> String {
    let sandrun_url = &without_credentials(sandrun_url);
    let loopback = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"];
    let Some((scheme, rest)) = sandrun_url.split_once("://") else {
        return sandrun_url.to_owned();
    };
    let host = loopback.iter().find(|name| {
        rest.strip_prefix(**name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    match host {
        Some(name) if !hostname.is_empty() => format!("{scheme}://{hostname}{}", &rest[name.len()..]),
        Some(_) | None => sandrun_url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::Cpu;

    fn found() -> Capabilities {
        Capabilities {
            cpu: Cpu {
                cores: 8,
                model: "x".to_owned(),
            },
            memory_mib: 7_936,
            interpreters: vec![InstalledInterpreter {
                interpreter: Interpreter::Python3,
                version: "3.11.2".to_owned(),
            }],
            region: Some("eu".to_owned()),
            ..Capabilities::default()
        }
    }

    #[test]
    fn what_is_found_is_told_in_both_forms() {
        let offer = offer(&found());
        assert_eq!(
            offer.plain,
            json!({"cpu_cores": 8, "memory_gb": 7.75, "gpu": false, "interpreters": ["python3"]})
        );
        assert_eq!(offer.full["features"], json!(["bundle", "logs", "outputs"]));
        assert_eq!(offer.full["region"], "eu");
        let features = BTreeSet::from(["class:det".to_owned()]);
        assert_eq!(
            offer.with(Some(&features))["features"],
            json!(["bundle", "logs", "outputs", "class:det"])
        );
        assert_eq!(offer.with(None), offer.full);
        // a broker of ours reads it as capabilities
        let read: Capabilities = serde_json::from_value(offer.full).unwrap();
        assert_eq!(read, found());
    }

    #[test]
    fn what_the_operator_states_wins() {
        let stated: StatedCapabilities = serde_json::from_value(json!({
            "cpu_cores": 4, "memory_gb": 8, "gpu": false, "interpreters": ["python3", "node", "cobol"]
        }))
        .unwrap();
        let merged = merge(found(), Some(&stated));
        assert_eq!((merged.cpu.cores, merged.memory_mib), (4, 8_192));
        let names: Vec<_> = merged
            .interpreters
            .iter()
            .map(|it| (it.interpreter, it.version.as_str()))
            .collect();
        assert_eq!(names, [(Interpreter::Python3, "3.11.2"), (Interpreter::Node, "")]);
        assert_eq!(merge(found(), None), found());
        assert_eq!(mib(-1.0), 0);
        assert_eq!(mib(f64::MAX), u32::MAX);
    }

    #[test]
    fn two_machines_with_local_executors_have_two_names() {
        for (url, expected) in [
            ("http://localhost:8443", "http://box:8443"),
            ("http://127.0.0.1:8443/", "http://box:8443/"),
            ("http://[::1]:1", "http://box:1"),
            ("http://localhost", "http://box"),
            ("http://localhost.example:1", "http://localhost.example:1"),
            ("https://node7.example:8443", "https://node7.example:8443"),
            ("http://ann:secret@localhost:8443", "http://box:8443"),
            ("http://ann:secret@node7.example:1/", "http://node7.example:1/"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(endpoint(url, "box"), expected);
        }
        assert_eq!(endpoint("http://localhost:8443", ""), "http://localhost:8443");
    }
}
