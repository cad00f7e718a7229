//! What a job needs and what a node offers. Equal needs are one set: a queue is indexed by sets, not by jobs.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_types::{Capabilities, Interpreter, Requirements};
use serde::{Deserialize, Deserializer, Serialize};

/// What a job needs of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Needs {
    /// Hardware.
    #[serde(
        rename = "h",
        alias = "hardware",
        default,
        skip_serializing_if = "asks_for_nothing",
        with = "super::kept::hardware"
    )]
    pub hardware: Requirements,
    /// The program that runs it, unless it runs by itself.
    #[serde(
        rename = "i",
        alias = "interpreter",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "read_interpreter"
    )]
    pub interpreter: Option<Interpreter>,
    /// Where the node has to stand, in its operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Labels that the node has to carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Anything else that only a node which says so can do (bundles, outputs …), in the service's words.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
}

fn asks_for_nothing(hardware: &Requirements) -> bool {
    *hardware == Requirements::default()
}

/// An interpreter by its name in manifests, as it is written.
fn read_interpreter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Interpreter>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    name.map(|name| {
        Interpreter::parse(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("no interpreter `{name}` is known")))
    })
    .transpose()
}

/// What a node offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// It has not said: it gets any interpreter, and nothing that asks for more than code, interpreter and arguments.
    Unannounced,
    /// What it has announced.
    Announced {
        /// The machine.
        capabilities: Box<Capabilities>,
        /// Features that it can do.
        features: BTreeSet<String>,
    },
}

impl Offer {
    /// Whether a job with these needs may go to the node.
    pub fn meets(&self, needs: &Needs) -> bool {
        match self {
            Self::Unannounced => {
                *needs
                    == Needs {
                        interpreter: needs.interpreter,
                        ..Needs::default()
                    }
            }
            Self::Announced {
                capabilities,
                features,
            } => {
                capabilities.satisfies(&needs.hardware).is_ok()
                    && needs.interpreter.is_none_or(|wanted| has(capabilities, wanted))
                    && (needs.region.is_none() || needs.region == capabilities.region)
                    && needs
                        .labels
                        .iter()
                        .all(|(key, value)| capabilities.labels.get(key) == Some(value))
                    && needs.features.is_subset(features)
            }
        }
    }
}

impl Offer {
    /// What the node lacks for a job with these needs, in words for people; nothing where [`Self::meets`] holds.
    pub fn lacks(&self, needs: &Needs) -> Vec<String> {
        if self.meets(needs) {
            return Vec::new();
        }
        let (capabilities, features) = match self {
            Self::Unannounced => return vec!["a node that says what it can do".to_owned()],
            Self::Announced {
                capabilities,
                features,
            } => (capabilities, features),
        };
        let hardware = capabilities.satisfies(&needs.hardware).err();
        let interpreter = needs.interpreter.filter(|wanted| !has(capabilities, *wanted));
        let region = needs
            .region
            .as_ref()
            .filter(|wanted| capabilities.region.as_ref() != Some(*wanted));
        let labels = needs
            .labels
            .iter()
            .filter(|(key, value)| capabilities.labels.get(*key) != Some(*value));
        let features = needs
            .features
            .difference(features)
            .map(|feature| match feature.split_once(':') {
                Some((kind, name)) => format!("{kind} {name}"),
                None => feature.clone(),
            });
        let hardware = hardware
            .into_iter()
            .map(|lack| format!("other hardware ({lack})"));
        let interpreter = interpreter.into_iter().map(|it| format!("the interpreter {it}"));
        let region = region.into_iter().map(|it| format!("the region {it}"));
        let labels = labels.map(|(key, value)| format!("the label {key}={value}"));
        hardware
            .chain(interpreter)
            .chain(region)
            .chain(labels)
            .chain(features)
            .collect()
    }
}

fn has(capabilities: &Capabilities, wanted: Interpreter) -> bool {
    wanted == Interpreter::Itself
        || capabilities
            .interpreters
            .iter()
            .any(|it| it.interpreter == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::{Cpu, InstalledInterpreter};

    fn offer() -> Offer {
        Offer::Announced {
            capabilities: Box::new(Capabilities {
                cpu: Cpu {
                    cores: 4,
                    model: String::new(),
                },
                memory_mib: 4_096,
                interpreters: vec![InstalledInterpreter {
                    interpreter: Interpreter::Python3,
                    version: "3.11".into(),
                }],
                region: Some("eu".into()),
                labels: BTreeMap::from([("disk".into(), "fast".into())]),
                ..Capabilities::default()
            }),
            features: BTreeSet::from(["bundle".into()]),
        }
    }

    fn needs(change: impl FnOnce(&mut Needs)) -> Needs {
        let mut needs = Needs::default();
        change(&mut needs);
        needs
    }

    #[test]
    fn an_offer_meets_what_it_has_and_nothing_more() {
        let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let cases = [
            (needs(|_| ()), true),
            (needs(|it| it.hardware.cpu_cores = 4), true),
            (needs(|it| it.hardware.cpu_cores = 5), false),
            (needs(|it| it.hardware.gpu = true), false),
            (needs(|it| it.interpreter = Some(Interpreter::Python3)), true),
            (needs(|it| it.interpreter = Some(Interpreter::Itself)), true),
            (needs(|it| it.interpreter = Some(Interpreter::Node)), false),
            (needs(|it| it.region = Some("eu".into())), true),
            (needs(|it| it.region = Some("us".into())), false),
            (needs(|it| it.labels = label("disk", "fast")), true),
            (needs(|it| it.labels = label("disk", "slow")), false),
            (needs(|it| it.features = BTreeSet::from(["bundle".into()])), true),
            (needs(|it| it.features = BTreeSet::from(["seal".into()])), false),
        ];
        for (needs, met) in cases {
            assert_eq!(offer().meets(&needs), met, "{needs:?}");
            assert_eq!(offer().lacks(&needs).is_empty(), met, "{needs:?}");
        }
    }

    #[test]
    fn who_announces_nothing_gets_plain_code_in_any_interpreter() {
        assert!(Offer::Unannounced.meets(&needs(|it| it.interpreter = Some(Interpreter::Ruby))));
        assert!(!Offer::Unannounced.meets(&needs(|it| it.hardware.memory_mib = 1)));
        assert!(!Offer::Unannounced.meets(&needs(|it| it.region = Some("eu".into()))));
        assert!(!Offer::Unannounced.meets(&needs(|it| it.features = BTreeSet::from(["bundle".into()]))));
    }

    #[test]
    fn what_is_lacking_is_said() {
        let needs = needs(|it| {
            it.interpreter = Some(Interpreter::Node);
            it.features = ["class:det-soft", "environments"].map(str::to_owned).into();
        });
        assert_eq!(
            offer().lacks(&needs),
            ["the interpreter node", "class det-soft", "environments"]
        );
        assert_eq!(Offer::Unannounced.lacks(&needs).len(), 1);
    }
}
