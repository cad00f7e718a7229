//! The name that an executor gives a job.

use std::fmt;
use std::str::FromStr;

use rand::RngCore as _;
use rand::rngs::OsRng;
use sandrun_types::Sha256Hex;
use thiserror::Error;

/// An executor's own id of a job: 128 random bits, or of a name that its client alone knows, so that nobody guesses
/// another client's. Text form is `job-` and
/// 32 hexadecimal digits. (It is not the market's `JobId`: one market job runs under a new one on every executor.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId([u8; 16]);

/// A text is no [`RunId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("that is no job id; it looks like job-0123456789abcdef0123456789abcdef")]
pub struct RunIdError;

impl RunId {
    /// The id of these bits.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The one of a submission that its client has named: the same for the same name, here and after a restart.
    pub(crate) fn named(key: &str) -> Self {
        let hash = Sha256Hex::of(format!("sandrun-run-v1\n{key}").as_bytes()).0;
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self(bytes)
    }

    /// A fresh one, from the system's entropy.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        OsRng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{}", hex::encode(self.0))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        let digits = text.strip_prefix("job-").ok_or(RunIdError)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| RunIdError)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let id = RunId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, RunId::random());
        for bad in [
            "",
            "job-",
            "job-12",
            "../../etc/passwd",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(bad.parse::<RunId>(), Err(RunIdError));
        }
    }
}
