//! Reads the fields of a manifest one by one, so that every error can name its field.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    BundlePath, ClassRequest, DottedVersion, GpuRequirement, Interpreter, Manifest, ManifestError,
    OutputPatterns,
};

/// Every field that a manifest may have.
pub(super) const KNOWN: [&str; 12] = [
    "entrypoint",
    "interpreter",
    "environment",
    "args",
    "env",
    "outputs",
    "class",
    "requirements",
    "timeout",
    "memory_mb",
    "cpu_seconds",
    "gpu",
];
/// Every field of its `gpu` object.
const KNOWN_GPU: [&str; 5] = [
    "required",
    "device_id",
    "min_vram_gb",
    "cuda_version",
    "compute_capability",
];

const MAX_ARGS: usize = 4096;
const MAX_ENV: usize = 256;
/// Bytes of all arguments together, and of all variables together: half of what Linux takes for one string.
const MAX_TEXT_BYTES: usize = 64 * 1024;

type Problem = String;

pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    if bytes.len() > Manifest::MAX_BYTES {
        return Err(ManifestError::TooLong(bytes.len()));
    }
    let value = serde_json::from_slice(bytes).map_err(|error| ManifestError::NotJson(error.to_string()))?;
    let object = match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(ManifestError::NotAnObject(kind(&value)));
        }
    };
    if let Some(field) = object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(ManifestError::UnknownField {
            field: field.chars().take(80).collect(),
        });
    }
    let mut manifest = Manifest {
        args: read(&object, "args", args)?.unwrap_or_default(),
        class: read(&object, "class", class)?.flatten(),
        cpu_seconds: read(&object, "cpu_seconds", |value| count(value, 1, u32::MAX))?,
        entrypoint: read(&object, "entrypoint", file)?.flatten(),
        env: read(&object, "env", variables)?.unwrap_or_default(),
        environment: read(&object, "environment", name)?.flatten(),
        gpu: object
            .get("gpu")
            .filter(|value| !value.is_null())
            .map(gpu)
            .transpose()?,
        interpreter: None,
        memory_mb: read(&object, "memory_mb", |value| count(value, 1, u32::MAX))?,
        outputs: read(&object, "outputs", |value| OutputPatterns::parse(texts(value)?))?.unwrap_or_default(),
        requirements: read(&object, "requirements", file)?.flatten(),
        timeout: read(&object, "timeout", |value| count(value, 1, Manifest::MAX_TIMEOUT))?,
    };
    manifest.interpreter = read(&object, "interpreter", |value| {
        interpreter(value, manifest.entrypoint.as_ref())
    })?
    .flatten();
    Ok(manifest)
}

/// A field's value, if it is given and not `null`.
fn read<T>(
    object: &Map<String, Value>,
    field: &'static str,
    parse: impl FnOnce(&Value) -> Result<T, Problem>,
) -> Result<Option<T>, ManifestError> {
    object
        .get(field)
        .filter(|value| !value.is_null())
        .map(parse)
        .transpose()
        .map_err(|problem| ManifestError::Field { field, problem })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn text(value: &Value) -> Result<&str, Problem> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("is {}, expected a text", kind(value)))?;
    if text.contains('\0') {
        return Err("holds a NUL character".to_owned());
    }
    Ok(text)
}

fn texts(value: &Value) -> Result<Vec<String>, Problem> {
    let items = value
        .as_array()
        .ok_or_else(|| format!("is {}, expected an array of texts", kind(value)))?;
    items
        .iter()
        .map(|item| {
            text(item)
                .map(str::to_owned)
                .map_err(|problem| format!("an item {problem}"))
        })
        .collect()
}

fn args(value: &Value) -> Result<Vec<String>, Problem> {
    let args = texts(value)?;
    if args.len() > MAX_ARGS || args.iter().map(String::len).sum::<usize>() > MAX_TEXT_BYTES {
        return Err(format!(
            "{} arguments are more than {MAX_ARGS}, or longer than {MAX_TEXT_BYTES} bytes; put them in a file",
            args.len()
        ));
    }
    Ok(args)
}

fn variables(value: &Value) -> Result<BTreeMap<String, String>, Problem> {
    let object = value
        .as_object()
        .ok_or_else(|| format!("is {}, expected an object of texts", kind(value)))?;
    let mut variables = BTreeMap::new();
    for (name, value) in object {
        let well_formed = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty();
        if !well_formed {
            return Err(format!(
                "{name:?} is no name of a variable; use letters, digits and `_`"
            ));
        }
        if matches!(name.as_str(), "LD_PRELOAD" | "LD_AUDIT") {
            return Err(format!("{name} belongs to the sandbox; remove it"));
        }
        variables.insert(
            name.clone(),
            text(value)
                .map_err(|problem| format!("{name} {problem}"))?
                .to_owned(),
        );
    }
    let bytes: usize = variables
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if variables.len() > MAX_ENV || bytes > MAX_TEXT_BYTES {
        return Err(format!(
            "{} variables are more than {MAX_ENV}, or longer than {MAX_TEXT_BYTES} bytes; put them in a file",
            variables.len()
        ));
    }
    Ok(variables)
}

fn count(value: &Value, least: u32, most: u32) -> Result<u32, Problem> {
    let number = value
        .as_number()
        .ok_or_else(|| format!("is {}, expected a whole number", kind(value)))?;
    number
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{number} is no whole number from {least} to {most}"))
}

fn name(value: &Value) -> Result<Option<String>, Problem> {
    let text = text(value)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn file(value: &Value) -> Result<Option<BundlePath>, Problem> {
    match text(value)? {
        "" => Ok(None),
        text => BundlePath::parse(text)
            .map(Some)
            .map_err(|error| error.to_string()),
    }
}

fn class(value: &Value) -> Result<Option<ClassRequest>, Problem> {
    let Some(name) = name(value)? else { return Ok(None) };
    let request = name.parse().map_err(|_| {
        format!(
            "{name:?} is no class; use native, det, det-soft, or an exact class id of 64 hexadecimal digits"
        )
    });
    request.map(Some)
}

fn interpreter(value: &Value, entrypoint: Option<&BundlePath>) -> Result<Option<Interpreter>, Problem> {
    let Some(name) = name(value)? else { return Ok(None) };
    if let Some(interpreter) = Interpreter::parse(&name) {
        return Ok(Some(interpreter));
    }
    if entrypoint.is_some() && BundlePath::parse(&name).ok().as_ref() == entrypoint {
        return Ok(Some(Interpreter::Itself));
    }
    let known = Interpreter::PROGRAMS.map(Interpreter::name).join(", ");
    Err(format!(
        "there is no interpreter {name:?}; use {known}, or leave it out to run the file itself"
    ))
}

fn gpu(value: &Value) -> Result<GpuRequirement, ManifestError> {
    let field = "gpu";
    let object = value.as_object().ok_or_else(|| ManifestError::Field {
        field,
        problem: format!(
            "is {}, expected an object such as {{\"required\":true}}",
            kind(value)
        ),
    })?;
    if let Some(unknown) = object.keys().find(|name| !KNOWN_GPU.contains(&name.as_str())) {
        return Err(ManifestError::UnknownField {
            field: format!("gpu.{unknown}"),
        });
    }
    let part = |name: &'static str| object.get(name).filter(|value| !value.is_null());
    let boolean = |value: &Value| {
        value
            .as_bool()
            .ok_or_else(|| format!("is {}, expected true or false", kind(value)))
    };
    let named = |name: &str, problem: Problem| ManifestError::Field {
        field,
        problem: format!("{name} {problem}"),
    };
    let whole = |name| {
        part(name)
            .map(|value| count(value, 0, 4096))
            .transpose()
            .map_err(|problem| named(name, problem))
    };
    let dotted = |name| {
        part(name)
            .map(version)
            .transpose()
            .map_err(|problem| named(name, problem))
    };
    Ok(GpuRequirement {
        compute_capability: dotted("compute_capability")?,
        cuda_version: dotted("cuda_version")?,
        device_id: whole("device_id")?,
        min_vram_gb: whole("min_vram_gb")?,
        required: part("required")
            .map(boolean)
            .transpose()
            .map_err(|p| named("required", p))?
            .unwrap_or(true),
    })
}

/// A version may come as a text (`"7.5"`) or, from careless clients, as a number (`7.5`).
fn version(value: &Value) -> Result<DottedVersion, Problem> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(format!("is {}, expected a text such as \"7.5\"", kind(value)));
        }
    };
    DottedVersion::parse(&text).ok_or_else(|| format!("{text:?} is no version such as \"7.5\""))
}
