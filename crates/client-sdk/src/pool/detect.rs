//! Which service answers at an address: `GET /` says so, or what it lists does.

use serde_json::Value;

use super::PoolClientError;
use super::http::{ANSWER, Http};

/// What kind of service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A broker: nodes come and fetch jobs.
    Broker,
    /// A coordinator: it sends jobs to the executors of its list.
    Coordinator,
    /// A single executor.
    Executor,
}

impl Kind {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Coordinator => "coordinator",
            Self::Executor => "executor",
        }
    }
}

/// A service, as it introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What kind it is.
    pub kind: Kind,
    /// Its version, where it says.
    pub version: Option<String>,
    /// Whether it answers this project's common calls; an older one only those that its kind always had.
    pub is_common: bool,
}

/// The calls that all of this project's services have.
const COMMON: &str = "pool/1";

/// Asks who is there.
pub(super) async fn detect(http: &Http) -> Result<Service, PoolClientError> {
    let root = match http.json::<Value>(http.get(&[]).timeout(ANSWER)).await {
        Ok(root) => root,
        Err(error) if error.is_transient() => return Err(error),
        // an older service may have no page of its own
        Err(_) => Value::Null,
    };
    if let Some(service) = introduced(&root) {
        return Ok(service);
    }
    for (path, kind, mark) in [
        ("nodes", Kind::Broker, "nodes"),
        ("pool", Kind::Coordinator, "total_workers"),
    ] {
        let found = http.json::<Value>(http.get(&[path]).timeout(ANSWER)).await;
        if found.is_ok_and(|it| it.get(mark).is_some()) {
            return Ok(Service {
                kind,
                version: None,
                is_common: false,
            });
        }
    }
    Err(http.nonsense("GET / does not say what it is"))
}

fn introduced(root: &Value) -> Option<Service> {
    let kind = match root.get("service")?.as_str()? {
        "sandrun-broker" => Kind::Broker,
        "sandrun-coordinator" => Kind::Coordinator,
        "sandrun" => Kind::Executor,
        _ => return None,
    };
    let text = |name: &str| root.get(name).and_then(Value::as_str);
    Some(Service {
        kind,
        version: text("version").map(str::to_owned),
        is_common: text("api") == Some(COMMON),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_are_known_by_their_words() {
        let broker =
            introduced(&json!({"service": "sandrun-broker", "version": "1", "api": "pool/1"})).unwrap();
        assert_eq!((broker.kind, broker.is_common), (Kind::Broker, true));
        let executor = introduced(&json!({"service": "sandrun", "status": "running"})).unwrap();
        assert_eq!((executor.kind, executor.is_common), (Kind::Executor, false));
        for other in [json!(null), json!([]), json!({}), json!({"service": "shop"})] {
            assert_eq!(introduced(&other), None);
        }
    }
}
