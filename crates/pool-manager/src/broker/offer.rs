//! What a node says that it has, in the two forms that there are, as the machine's offer.

use std::collections::BTreeSet;

use sandrun_core::pool::Offer;
use sandrun_types::{Capabilities, Cpu, Gpu, GpuVendor, InstalledInterpreter, Interpreter};
use serde_json::Value;

use super::error::ApiError;

/// Reads an offer: ours where it is given, else the existing node clients' capabilities. Who gives neither accepts
/// anything that is code alone.
pub(super) fn offer(full: Option<&Value>, plain: Option<&Value>) -> Result<Offer, ApiError> {
    let object = |name: &str, value: &Value| match value {
        Value::Object(_) => Ok(()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(ApiError::bad_request(format!("`{name}` has to be an object")))
        }
    };
    if let Some(full) = full.filter(|it| !it.is_null()) {
        object("offer", full)?;
        return ours(full);
    }
    match plain.filter(|it| !it.is_null()) {
        Some(plain) => {
            object("capabilities", plain)?;
            Ok(theirs(plain))
        }
        None => Ok(Offer::Unannounced),
    }
}

fn ours(full: &Value) -> Result<Offer, ApiError> {
    let bad = |error: serde_json::Error| ApiError::bad_request(format!("`offer`: {error}"));
    let capabilities: Capabilities = serde_json::from_value(full.clone()).map_err(bad)?;
    let features = full.get("features").cloned().filter(|it| !it.is_null());
    let features: Option<BTreeSet<String>> = features.map(serde_json::from_value).transpose().map_err(bad)?;
    Ok(Offer::Announced {
        capabilities: Box::new(capabilities),
        features: features.unwrap_or_default(),
    })
}

/// `{"cpu_cores","memory_gb","gpu","interpreters"}`; what is not understood counts as not there, and who lists no
/// interpreters has all.
fn theirs(plain: &Value) -> Offer {
    let number = |name: &str| plain.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let names = plain.get("interpreters").and_then(Value::as_array);
    let interpreters: Vec<Interpreter> = match names {
        Some(names) => names
            .iter()
            .filter_map(|it| Interpreter::parse(it.as_str()?))
            .collect(),
        None => Interpreter::PROGRAMS.to_vec(),
    };
    let installed = |interpreter| InstalledInterpreter {
        interpreter,
        version: String::new(),
    };
    let has_gpu = plain.get("gpu").and_then(Value::as_bool).unwrap_or(false);
    let gpu = Gpu {
        vendor: GpuVendor::Nvidia,
        model: String::new(),
        // there is one, and nothing is known of it
        memory_mib: Some(0),
        compute_capability_x10: None,
        count: 1,
    };
    let cores = whole(number("cpu_cores"));
    Offer::Announced {
        capabilities: Box::new(Capabilities {
            cpu: Cpu {
                cores: u16::try_from(cores).unwrap_or(u16::MAX),
                model: String::new(),
            },
            memory_mib: whole(number("memory_gb") * 1_024.0),
            gpus: has_gpu.then_some(gpu).into_iter().collect(),
            interpreters: interpreters.into_iter().map(installed).collect(),
            ..Capabilities::default()
        }),
        features: BTreeSet::new(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded on both sides just before"
)]
fn whole(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_core::pool::Needs;
    use serde_json::json;

    fn needs(change: impl FnOnce(&mut Needs)) -> Needs {
        let mut needs = Needs::default();
        change(&mut needs);
        needs
    }

    #[test]
    fn existing_node_clients_get_what_they_say_that_they_can() {
        let said =
            json!({"cpu_cores": 4, "memory_gb": 7.5, "gpu": true, "interpreters": ["python3", "cobol"]});
        let offer = offer(None, Some(&said)).unwrap();
        assert!(offer.meets(&needs(|it| it.interpreter = Some(Interpreter::Python3))));
        assert!(!offer.meets(&needs(|it| it.interpreter = Some(Interpreter::Node))));
        assert!(offer.meets(&needs(|it| it.hardware.memory_mib = 7_680)));
        assert!(!offer.meets(&needs(|it| it.hardware.memory_mib = 7_681)));
        assert!(offer.meets(&needs(|it| it.hardware.gpu = true)));
        assert!(!offer.meets(&needs(|it| it.features = BTreeSet::from(["bundle".to_owned()]))));
    }

    #[test]
    fn who_says_nothing_accepts_plain_code() {
        assert_eq!(offer(None, None).unwrap(), Offer::Unannounced);
        assert_eq!(
            offer(Some(&Value::Null), Some(&Value::Null)).unwrap(),
            Offer::Unannounced
        );
        let empty = offer(None, Some(&json!({}))).unwrap();
        assert!(empty.meets(&needs(|it| it.interpreter = Some(Interpreter::Ruby))));
    }

    #[test]
    fn ours_wins_and_has_features() {
        let full = json!({"cpu": {"cores": 2, "model": ""}, "memory_mib": 100, "features": ["bundle"]});
        let offer = offer(Some(&full), Some(&json!({}))).unwrap();
        assert!(offer.meets(&needs(|it| it.features = BTreeSet::from(["bundle".to_owned()]))));
        for bad in [
            json!([]),
            json!({"features": 1}),
            json!({"cpu": {"cores": 1, "model": ""}, "memory_mib": 1, "features": 1}),
        ] {
            assert!(super::offer(Some(&bad), None).is_err(), "{bad}");
        }
        assert!(super::offer(None, Some(&json!("x"))).is_err());
    }
}
