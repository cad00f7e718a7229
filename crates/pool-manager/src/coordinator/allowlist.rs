//! The list of workers: `workers.json`. Reads it and says what is wrong with it; an entry that is wrong is left out alone.

use std::collections::BTreeMap;

use sandrun_executor::{ExecutorClient, without_credentials};
use sandrun_types::WorkerId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most jobs that one worker may be said to take at once.
const MAX_JOBS: u32 = 10_000;

/// The fields of an entry.
const FIELDS: [&str; 6] = [
    "worker_id",
    "endpoint",
    "max_concurrent_jobs",
    "region",
    "labels",
    "hardware",
];

/// A worker that may work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The public half of its key.
    pub(super) worker: WorkerId,
    /// Where it listens; two workers may share an address.
    pub(super) endpoint: String,
    /// How many jobs it takes at once; where it is missing, the worker is asked.
    pub(super) max_concurrent_jobs: Option<u32>,
    /// What jobs may ask for beside that.
    pub(super) place: Place,
}

/// What the operator says about a worker: jobs that ask for a region or for labels go where it fits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Place {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    /// What its machine has: each wins over what the worker says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hardware: Option<StatedHardware>,
}

/// What the operator says about a worker's machine, in the words of jobs' requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StatedHardware {
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_cores: Option<u16>,
    /// Main memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_mib: Option<u32>,
    /// Whether it has a graphics card that computes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) gpu: bool,
    /// The card's memory; there is one where this is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vram_mib: Option<u32>,
    /// The card's CUDA compute capability times ten; there is one where this is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compute_capability_x10: Option<u16>,
}

impl Entry {
    /// What it is known as, to everybody. The same key at another address is another entry; only one of them works at a
    /// time.
    pub(super) fn key(&self) -> String {
        format!("{}#{}", without_credentials(&self.endpoint), self.worker)
    }
}

/// The list as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Allowlist {
    /// In the order of the file.
    pub(super) entries: Vec<Entry>,
    /// What is wrong with the other entries, a sentence each.
    pub(super) disabled: Vec<String>,
    /// Fields of entries that mean nothing here, a sentence each.
    pub(super) unknown: Vec<String>,
}

/// The file is no list.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is no JSON list of workers ({0}); write [{{\"worker_id\": …, \"endpoint\": …, \"max_concurrent_jobs\": 4}}]"
)]
pub struct NoAllowlist(#[source] serde_json::Error);

#[derive(Deserialize)]
struct Fields {
    worker_id: String,
    endpoint: String,
    #[serde(default)]
    max_concurrent_jobs: Option<u32>,
    #[serde(flatten)]
    place: Place,
}

impl Allowlist {
    /// Reads the file's bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NoAllowlist> {
        let values: Vec<Value> = serde_json::from_slice(bytes).map_err(NoAllowlist)?;
        let mut list = Self::default();
        for (at, value) in values.into_iter().enumerate() {
            let names = value.as_object().into_iter().flat_map(|fields| fields.keys());
            for name in names.filter(|name| !FIELDS.contains(&name.as_str())) {
                let text = format!(
                    "entry {at}: there is no field `{name}`; known are {}",
                    FIELDS.join(", ")
                );
                list.unknown.push(text);
            }
            match entry(value) {
                Ok(entry) if list.entries.iter().any(|it| it.key() == entry.key()) => {
                    list.disabled.push(format!("entry {at}: it is there twice"));
                }
                Ok(entry) => list.entries.push(entry),
                Err(why) => list.disabled.push(format!("entry {at}: {why}")),
            }
        }
        Ok(list)
    }
}

fn entry(value: Value) -> Result<Entry, String> {
    let fields: Fields = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let worker: WorkerId = fields
        .worker_id
        .parse()
        .map_err(|error: sandrun_types::IdError| error.to_string())?;
    ExecutorClient::new(&fields.endpoint).map_err(|error| error.to_string())?;
    if fields
        .max_concurrent_jobs
        .is_some_and(|it| !(1..=MAX_JOBS).contains(&it))
    {
        return Err(format!("`max_concurrent_jobs` has to be 1 to {MAX_JOBS}"));
    }
    Ok(Entry {
        worker,
        endpoint: fields.endpoint,
        max_concurrent_jobs: fields.max_concurrent_jobs,
        place: fields.place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> String {
        WorkerId([byte; 32]).to_string()
    }

    #[test]
    fn a_wrong_entry_is_left_out_alone() {
        let text = format!(
            r#"[{{"worker_id": "{}", "endpoint": "http://a:8443", "max_concurrent_jobs": 4}},
                {{"worker_id": "short", "endpoint": "http://b:8443"}},
                {{"worker_id": "{}", "endpoint": "http://a:8443"}},
                {{"worker_id": "{}", "endpoint": "ftp://c"}},
                {{"worker_id": "{}", "endpoint": "http://d:1", "max_concurrent_jobs": 0}},
                {{"endpoint": "http://e:1"}}, 7,
                {{"worker_id": "{}", "endpoint": "http://a:8443"}}]"#,
            id(1),
            id(2),
            id(3),
            id(4),
            id(1)
        );
        let list = Allowlist::parse(text.as_bytes()).unwrap();
        let workers: Vec<_> = list
            .entries
            .iter()
            .map(|it| (it.worker.0[0], it.max_concurrent_jobs))
            .collect();
        assert_eq!(workers, [(1, Some(4)), (2, None)], "two may share an address");
        let wrong: Vec<_> = list.disabled.iter().map(|it| &it[..7]).collect();
        assert_eq!(
            wrong,
            ["entry 1", "entry 3", "entry 4", "entry 5", "entry 6", "entry 7"]
        );
        assert!(list.disabled[0].contains("worker id"), "{:?}", list.disabled);
    }

    #[test]
    fn a_password_for_requests_is_no_part_of_what_a_worker_is_known_as() {
        let text = format!(
            r#"[{{"worker_id": "{}", "endpoint": "http://ann:secret@a:1"}}]"#,
            id(1)
        );
        let list = Allowlist::parse(text.as_bytes()).unwrap();
        assert_eq!(list.entries[0].key(), format!("http://a:1#{}", id(1)));
        let client = ExecutorClient::new(&list.entries[0].endpoint).unwrap();
        assert_eq!(client.endpoint(), "http://a:1");
        assert!(!format!("{:?}", ExecutorClient::new("ftp://ann:secret@c")).contains("secret"));
    }

    #[test]
    fn a_worker_may_have_a_region_and_labels() {
        let entry = |more: &str| {
            let text = format!(
                r#"[{{"worker_id": "{}", "endpoint": "http://a:1"{more}}}]"#,
                id(1)
            );
            Allowlist::parse(text.as_bytes()).unwrap()
        };
        assert_eq!(entry("").entries[0].place, Place::default());
        let list = entry(r#", "region": "eu", "labels": {"disk": "fast"}"#);
        let place = &list.entries[0].place;
        assert_eq!(place.region.as_deref(), Some("eu"));
        assert_eq!(place.labels["disk"], "fast");
        assert!(list.unknown.is_empty(), "{:?}", list.unknown);
        let list = entry(r#", "hardware": {"vram_mib": 24000, "cpu_cores": 8}"#);
        let hardware = list.entries[0].place.hardware.unwrap();
        assert_eq!((hardware.vram_mib, hardware.cpu_cores), (Some(24_000), Some(8)));
        assert!(list.unknown.is_empty(), "{:?}", list.unknown);
        let list = entry(r#", "max_jobs": 4"#);
        assert_eq!((list.entries.len(), list.unknown.len()), (1, 1));
        assert!(
            list.unknown[0].starts_with("entry 0: there is no field `max_jobs`"),
            "{:?}",
            list.unknown
        );
        for bad in [
            r#", "region": 7"#,
            r#", "labels": ["fast"]"#,
            r#", "labels": {"disk": 1}"#,
            r#", "hardware": {"vram_gb": 24}"#,
        ] {
            let list = entry(bad);
            assert_eq!((list.entries.len(), list.disabled.len()), (0, 1), "{bad}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_and_an_empty_one_is_not() {
        assert_eq!(Allowlist::parse(b"[]").unwrap(), Allowlist::default());
        for text in ["", "{}", "[", "null"] {
            assert!(Allowlist::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
