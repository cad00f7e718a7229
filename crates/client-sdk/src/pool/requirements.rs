//! What a job asks of a node, as `key=value`.

use std::collections::BTreeMap;

use serde::Serialize;

/// A requirement that there is none of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// No `=`.
    #[error("`{0}` is no requirement: write KEY=VALUE, such as memory_mib=2048")]
    NoValue(String),
    /// Another key.
    #[error(
        "there is no requirement `{0}`: choose cpu_cores, memory_mib, gpu, vram_mib, region or label.NAME"
    )]
    UnknownKey(String),
    /// A value that does not fit.
    #[error("`{value}` does not fit {key}: {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What fits.
        wanted: &'static str,
    },
}

/// What a node has to have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NodeRequirements {
    /// Processor cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u16>,
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// A GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// The GPU's memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_mib: Option<u32>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Labels that it has to have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl NodeRequirements {
    /// Whether any node will do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds one, written `KEY=VALUE`.
    ///
    /// # Errors
    /// [`RequirementError`], with what would fit.
    pub fn add(&mut self, text: &str) -> Result<(), RequirementError> {
        let (key, value) = text
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| RequirementError::NoValue(text.to_owned()))?;
        match key {
            "cpu_cores" => self.cpu_cores = Some(number("cpu_cores", value)?),
            "memory_mib" => self.memory_mib = Some(number("memory_mib", value)?),
            "vram_mib" => self.vram_mib = Some(number("vram_mib", value)?),
            "gpu" => {
                self.gpu = Some(value.parse().map_err(|_| RequirementError::Value {
                    key: "gpu",
                    value: value.to_owned(),
                    wanted: "give true or false",
                })?);
            }
            "region" => self.region = Some(value.to_owned()),
            other => {
                let label = other.strip_prefix("label.").filter(|it| !it.is_empty());
                let label = label.ok_or_else(|| RequirementError::UnknownKey(other.to_owned()))?;
                self.labels.insert(label.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(key: &'static str, value: &str) -> Result<T, RequirementError> {
    value.parse().map_err(|_| RequirementError::Value {
        key,
        value: value.to_owned(),
        wanted: "give a whole number",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_place_and_others_are_named() {
        let mut it = NodeRequirements::default();
        assert!(it.is_empty());
        for text in [
            "cpu_cores=4",
            "memory_mib=2048",
            "gpu=true",
            "region=eu",
            "label.disk=ssd=fast",
        ] {
            it.add(text).unwrap();
        }
        assert_eq!(
            serde_json::to_value(&it).unwrap(),
            serde_json::json!({"cpu_cores": 4, "memory_mib": 2048, "gpu": true, "region": "eu", "labels": {"disk": "ssd=fast"}})
        );
        for bad in [
            "cpu_cores",
            "cpu_cores=",
            "cpu_cores=many",
            "gpu=1",
            "colour=red",
            "label.=x",
        ] {
            assert!(it.add(bad).is_err(), "{bad}");
        }
    }
}
