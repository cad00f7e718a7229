//! Asking again: for a while, with growing pauses.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pace::Backoff;

/// How long somebody who does not answer is asked again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, an error that `is_passing` does not hold for, or no patience left.
pub(crate) async fn patiently<T, E, F>(
    is_passing: impl Fn(&E) -> bool,
    mut ask: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let (began, mut failures) = (Instant::now(), 0);
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && began.elapsed() < PATIENCE => {
                failures += 1;
                tracing::debug!(%error, failures, "asking again");
                sleep(Backoff::USUAL.pause(failures, rand::random())).await;
            }
            other => return other,
        }
    }
}
