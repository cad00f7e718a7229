//! How long HTTP calls took, by route and answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::histogram::Histogram;
use crate::text::{Exposition, Labels};

/// Bounds of the times that calls take, in seconds: some wait for up to a minute.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Method and status of a call; both have few values.
type Kinds = (&'static str, u16);
type Times = Histogram<{ BOUNDS.len() }>;

/// The calls of one service.
#[derive(Debug, Default)]
pub struct Calls {
    by_route: Mutex<BTreeMap<String, BTreeMap<Kinds, Times>>>,
}

impl Calls {
    /// A call was answered. `route` is one of the service's own patterns, never what a client wrote.
    pub fn note(&self, route: &str, kinds: (&'static str, u16), took: Duration) {
        let mut calls = self.by_route.lock().unwrap_or_else(PoisonError::into_inner);
        let observe = |of_route: &mut BTreeMap<Kinds, Times>| {
            of_route
                .entry(kinds)
                .or_insert_with(|| Histogram::new(BOUNDS))
                .observe(took);
        };
        match calls.get_mut(route) {
            Some(of_route) => observe(of_route),
            None => observe(calls.entry(route.to_owned()).or_default()),
        }
    }

    /// Writes the family `sandrun_http_request_seconds`.
    pub fn expose(&self, out: &mut Exposition) {
        let calls = self
            .by_route
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut members = Vec::new();
        for (route, of_route) in &calls {
            for ((method, status), histogram) in of_route {
                let labels = [
                    ("method", (*method).to_owned()),
                    ("route", route.clone()),
                    ("status", status.to_string()),
                ];
                members.push((labels, *histogram));
            }
        }
        let borrowed: Vec<([(&str, &str); 3], Times)> = members
            .iter()
            .map(|(labels, histogram)| {
                (
                    labels.each_ref().map(|(name, value)| (*name, value.as_str())),
                    *histogram,
                )
            })
            .collect();
        let members: Vec<(&Labels<'_>, Times)> = borrowed
            .iter()
            .map(|(labels, it)| (labels.as_slice(), *it))
            .collect();
        let help = "How long calls took until their answer began; those that wait for something last as long as they ask to.";
        out.histogram("sandrun_http_request_seconds", help, &members);
    }
}

/// A method's name as a label; clients can make up any number of others.
#[must_use]
pub fn method_name(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    KNOWN.into_iter().find(|it| *it == method).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_are_one() {
        assert_eq!(method_name("DELETE"), "DELETE");
        assert_eq!(method_name("FROBNICATE"), "other");
    }
}
