//! The query of an RPC call. Owns the reading of arguments and options as Kubo reads them.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use cid::Cid;

use super::reply::RpcError;

/// Arguments (`arg=…`, in order) and options of a call.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

/// A CID and a path below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) cid: Cid,
    pub(super) path: String,
    /// As it was written.
    pub(super) text: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = RpcError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RpcError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query
            .map(|Query(pairs)| Self(pairs))
            .map_err(|e| RpcError::Request(e.to_string()))
    }
}

impl Params {
    fn last(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All arguments; at least one.
    pub(super) fn args(&self, what: &str) -> Result<Vec<&str>, RpcError> {
        let args: Vec<&str> = self.optional_args();
        if args.is_empty() {
            return Err(RpcError::Request(format!("argument \"{what}\" is required")));
        }
        Ok(args)
    }

    /// All arguments, if any.
    pub(super) fn optional_args(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(key, _)| key == "arg")
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The one argument.
    pub(super) fn arg(&self, what: &str) -> Result<&str, RpcError> {
        match self.args(what)?.as_slice() {
            [one] => Ok(one),
            _ => Err(RpcError::Request(format!(
                "only one argument \"{what}\" is supported"
            ))),
        }
    }

    /// An option's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.last(name)
    }

    /// A yes-or-no option; `?pin` alone means yes.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, RpcError> {
        match self.last(name) {
            None => Ok(None),
            Some("" | "true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(Some(true)),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(RpcError::Request(format!(
                "option {name}={other} is neither true nor false"
            ))),
        }
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, RpcError> {
        let wrong = |text| RpcError::Request(format!("option {name}={text} is not a number"));
        self.last(name)
            .map(|text| text.parse().map_err(|_| wrong(text)))
            .transpose()
    }

    /// Refuses an option with any value but those that change nothing.
    pub(super) fn only(&self, name: &str, harmless: &[&str]) -> Result<(), RpcError> {
        match self.last(name) {
            Some(value) if !harmless.contains(&value) => Err(RpcError::Command(format!(
                "option {name}={value} is not supported by the embedded content store"
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

impl Target {
    /// Reads `CID`, `CID/path`, `/ipfs/CID/path` or `ipfs://CID/path`.
    pub(super) fn parse(text: &str) -> Result<Self, RpcError> {
        let bare = text
            .strip_prefix("/ipfs/")
            .or_else(|| text.strip_prefix("ipfs://"))
            .unwrap_or(text);
        let (cid, path) = bare.split_once('/').unwrap_or((bare, ""));
        let cid = cid
            .parse()
            .map_err(|e| RpcError::Command(format!("invalid path \"{text}\": {e}")))?;
        Ok(Self {
            cid,
            path: path.trim_matches('/').to_owned(),
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_a_path() {
        let dir = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
        for text in [
            format!("{dir}/a/b"),
            format!("/ipfs/{dir}/a/b"),
            format!("ipfs://{dir}/a/b/"),
        ] {
            let target = Target::parse(&text).unwrap();
            assert_eq!(
                (target.cid.to_string().as_str(), target.path.as_str()),
                (dir, "a/b")
            );
        }
        assert_eq!(Target::parse(dir).unwrap().path, "");
        assert!(Target::parse("hello").is_err());
    }

    #[test]
    fn flags_are_read_as_kubo_reads_them() {
        let params = Params(vec![
            ("pin".into(), "false".into()),
            ("w".into(), String::new()),
            ("x".into(), "maybe".into()),
        ]);
        assert_eq!(params.flag("pin").unwrap(), Some(false));
        assert_eq!(params.flag("w").unwrap(), Some(true));
        assert_eq!(params.flag("none").unwrap(), None);
        assert!(params.flag("x").is_err());
    }
}
