//! Canonical JSON: one byte form for equal values, so that it can be hashed and signed.
//!
//! Object keys sorted by their bytes, no white space, integers only (a float is refused), strings escaped as
//! serde_json escapes them. The same idea as RFC 8785, without its float rules.

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

/// A value has no canonical form.
#[derive(Debug, Error)]
pub enum CanonicalError {
    /// It does not serialise to JSON at all.
    #[error("cannot serialise the value as JSON")]
    Serialise(#[source] serde_json::Error),
    /// It holds a number that is no 64-bit integer.
    #[error("{0} is no integer, and canonical JSON holds integers only")]
    NotAnInteger(String),
}

/// The canonical bytes of a value.
///
/// # Errors
/// [`CanonicalError`] if it holds a float or does not serialise.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(CanonicalError::Serialise)?;
    let mut bytes = Vec::new();
    write(&value, &mut bytes)?;
    Ok(bytes)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_f64() => {
            return Err(CanonicalError::NotAnInteger(number.to_string()));
        }
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (at, (key, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(key, out)?;
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    serde_json::to_writer(out, text).map_err(CanonicalError::Serialise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sorts_keys_and_refuses_floats() {
        let value = json!({"b": [1, -2, null], "a": {"z": true, "ä": "\n"}});
        let bytes = canonical_json(&value).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"a":{"z":true,"ä":"\n"},"b":[1,-2,null]}"#
        );
        assert!(matches!(
            canonical_json(&json!({"a": 1.5})),
            Err(CanonicalError::NotAnInteger(_))
        ));
    }
}
