//! This machine's clock, against itself and against the services that tell the time.

use std::time::{Duration, Instant, SystemTime};

use super::{ANSWER, Arguments, Finding, Findings, is_same};

/// Differences to others' clocks from which on it is worth a look, and a fault: windows of the market are minutes.
const APART: (u64, u64) = (5, 30);
/// How far the two clocks of this machine may drift apart while it is looked at.
const DRIFT: Duration = Duration::from_millis(250);

/// Both clocks at the start.
#[derive(Debug)]
pub(super) struct Watch {
    monotonic: Instant,
    wall: SystemTime,
}

impl Watch {
    /// Reads both.
    pub(super) fn start() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Whether both went on by the same time since.
    pub(super) fn finding(&self) -> Finding {
        let went = self.monotonic.elapsed();
        judge(went, self.wall.elapsed().ok())
    }
}

/// `wall` is `None` where it went back.
fn judge(went: Duration, wall: Option<Duration>) -> Finding {
    let what = "clock, steadiness";
    let apart = wall.map(|wall| wall.abs_diff(went));
    match apart {
        Some(apart) if apart <= DRIFT => {
            Finding::ok(what, format!("steady over {:.1} s", went.as_secs_f64()))
        }
        Some(apart) => Finding::warn(
            what,
            format!(
                "the time was moved by {:.1} s within {:.1} s",
                apart.as_secs_f64(),
                went.as_secs_f64()
            ),
            "let one service alone set the clock, and slowly (chrony, systemd-timesyncd)",
        ),
        None => Finding::warn(
            what,
            "the time went back while it was looked at",
            "let one service alone set the clock, and slowly (chrony, systemd-timesyncd)",
        ),
    }
}

/// Compares with the HTTP date of each service that is named; those that do not answer are others' to complain of.
pub(super) async fn services(arguments: &Arguments) -> Findings {
    let named = [
        ("chain", &arguments.blockchain_rpc),
        ("content store", &arguments.ipfs_api),
        ("executor", &arguments.sandrun_url),
        ("manager", &arguments.pool),
        ("service", &arguments.to),
        ("broker", &arguments.broker),
    ];
    let mut services: Vec<(&str, &str)> = Vec::new();
    for (name, url) in named {
        let Some(url) = url else { continue };
        if !services.iter().any(|(_, known)| is_same(known, url)) {
            services.push((name, url));
        }
    }
    let asked = services
        .into_iter()
        .map(|(name, url)| async move { date(url).await.map(|apart| (name, apart)) });
    let told: Vec<(&str, u64)> = futures::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect();
    told.into_iter()
        .map(|(name, apart)| compare(name, apart))
        .collect()
}

fn compare(name: &str, apart: u64) -> Finding {
    let what = format!("clock, against the {name}");
    let seen = format!("{apart} s apart");
    let todo = "set this clock or that one (timedatectl, chronyc tracking)";
    if apart > APART.1 {
        Finding::fail(what, seen, todo)
    } else if apart > APART.0 {
        Finding::warn(what, seen, todo)
    } else {
        Finding::ok(what, seen)
    }
}

/// Seconds between this clock and the one of a service's HTTP date.
async fn date(url: &str) -> Option<u64> {
    sandrun_executor::ExecutorClient::new(url).ok()?;
    let http = reqwest::Client::builder().timeout(ANSWER).build().ok()?;
    let answer = http.get(url).send().await.ok()?;
    let date = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    let theirs = unix(date)?;
    Some(theirs.abs_diff(super::chain::now().0))
}

/// Seconds since 1970 of an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn unix(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|it| *it == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    // days from civil, years beginning in March
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let since = days.checked_sub(719_469)?;
    Some(((since * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(unix("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(unix("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(unix("yesterday"), None);
    }

    #[test]
    fn clocks_that_are_apart_are_named() {
        assert_eq!(compare("chain", 1).level, Level::Ok);
        assert_eq!(compare("chain", 6).level, Level::Warn);
        assert_eq!(compare("chain", 31).level, Level::Fail);
        let second = Duration::from_secs(1);
        assert_eq!(judge(second, Some(second)).level, Level::Ok);
        assert_eq!(judge(second, Some(4 * second)).level, Level::Warn);
        assert_eq!(judge(second, None).level, Level::Warn);
    }
}
