//! Actors that failed by a bug, by name: how often of late, and with which error. A supervisor starts each of them
//! again; this is what an operator sees of one that fails again and again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::core::model::WallTime;
use crate::core::problem::{FailedActor, RECENT};

/// Names that are kept: a bug that every page has shows under any of them.
const NAMES: usize = 64;
/// Failures of one actor that are kept. Its restarts grow slower, so that more do not fit into the time that counts.
const TIMES: usize = 32;

/// The failures.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<String, FailedActor>>);

impl Failures {
    /// An actor failed.
    pub fn note(&self, name: String, error: &str) {
        self.note_at(name, error, WallTime::now());
    }

    fn note_at(&self, name: String, error: &str, now: WallTime) {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        actors.retain(|_, actor| actor.times.last().is_some_and(|at| now.since(*at) < RECENT));
        if actors.len() >= NAMES && !actors.contains_key(&name) {
            return;
        }
        let actor =
            actors.entry(name.clone()).or_insert_with(|| FailedActor { name, times: Vec::new(), error: String::new() });
        if actor.times.len() >= TIMES {
            actor.times.remove(0);
        }
        actor.times.push(now);
        error.clone_into(&mut actor.error);
    }

    /// All that are kept.
    pub fn all(&self) -> Vec<FailedActor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failures_of_the_last_half_hour_are_kept_within_bounds() {
        let (failures, now) = (Failures::default(), WallTime(1_795_341_600_000));
        for _ in 0..2 * TIMES {
            failures.note_at("page a".into(), "a bug", now);
        }
        for number in 0..2 * NAMES {
            failures.note_at(format!("page {number}"), "a bug", now);
        }
        let all = failures.all();
        assert_eq!((all.len(), all.iter().map(|actor| actor.times.len()).max()), (NAMES, Some(TIMES)));
        failures.note_at("uploader".into(), "another", now.plus(RECENT));
        let names: Vec<String> = failures.all().into_iter().map(|actor| actor.name).collect();
        assert_eq!(names, ["uploader"]);
    }
}
