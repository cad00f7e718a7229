//! For whom a run is: the job and the attempt of the service that sent it. It goes into the log's lines and nowhere else.

use axum::http::HeaderMap;
use tracing::Span;

use crate::id::RunId;

/// Header of `POST /submit`: the sender's own name of the job.
pub(crate) const JOB: &str = "x-job";
/// Header of `POST /submit`: which attempt at it this is.
pub(crate) const ATTEMPT: &str = "x-attempt";
/// Header of `POST /submit`: the node, as the sender's service knows it.
pub(crate) const NODE: &str = "x-node";
/// Header of `POST /submit`: the seat of a market's job that the run is for.
pub(crate) const SEAT: &str = "x-seat";
/// Longest name; longer ones are left out.
const MOST: usize = 100;

/// What a sender says of a submission. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) job: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) node: Option<String>,
    pub(crate) seat: Option<String>,
}

impl Origin {
    /// What the headers say; what is no name there is left out.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
        let is_named = |it: &&str| {
            let is_fine = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.:/".contains(&letter);
            (1..=MOST).contains(&it.len()) && it.bytes().all(is_fine)
        };
        let name = |name| text(name).filter(is_named).map(str::to_owned);
        Self {
            job: name(JOB),
            attempt: text(ATTEMPT).and_then(|it| it.parse().ok()),
            node: name(NODE),
            seat: name(SEAT),
        }
    }

    /// The same as headers of a submission.
    pub(crate) fn headers(self) -> impl Iterator<Item = (&'static str, String)> {
        let all = [
            (JOB, self.job),
            (ATTEMPT, self.attempt.map(|it| it.to_string())),
            (NODE, self.node),
            (SEAT, self.seat),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// What each line about the run says.
    pub(crate) fn span(&self, run: RunId) -> Span {
        let Self {
            job,
            attempt,
            node,
            seat,
        } = self;
        // of the highest level, so that no filter takes it from a line that is shown
        tracing::error_span!("run", job, seat, attempt, node, %run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_left_out() {
        let mut headers = HeaderMap::new();
        assert_eq!(Origin::of(&headers), Origin::default());
        headers.insert(JOB, "pool-0123abcd".parse().unwrap());
        headers.insert(ATTEMPT, "2".parse().unwrap());
        headers.insert(NODE, "a node\t{}".parse().unwrap());
        let origin = Origin::of(&headers);
        assert_eq!(
            (origin.job.as_deref(), origin.attempt, origin.node),
            (Some("pool-0123abcd"), Some(2), None)
        );
        headers.insert(JOB, "x".repeat(101).parse().unwrap());
        headers.insert(ATTEMPT, "-1".parse().unwrap());
        assert_eq!(Origin::of(&headers), Origin::default());
    }
}
