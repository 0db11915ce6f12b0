//! Observations that the list of problems needs and that no other part keeps: the runs before this one, the space that
//! the store's disk had when it answered last, and since when each problem is seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::model::WallTime;
use crate::core::problem::{Code, PastRun, Problem};

/// The observations.
#[derive(Debug, Default)]
pub struct Observed {
    runs: Mutex<Vec<PastRun>>,
    free_bytes: Mutex<Option<u64>>,
    seen: Mutex<BTreeMap<(Code, Option<String>), WallTime>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observed {
    /// Notes the runs before this one.
    pub fn note_runs(&self, runs: Vec<PastRun>) {
        *lock(&self.runs) = runs;
    }

    /// The runs before this one, the latest last.
    pub fn runs(&self) -> Vec<PastRun> {
        lock(&self.runs).clone()
    }

    /// Notes the free space of the store's disk. A disk that does not answer changes nothing.
    pub fn note_free_bytes(&self, free: Option<u64>) {
        if free.is_some() {
            *lock(&self.free_bytes) = free;
        }
    }

    /// The free space of the store's disk.
    pub fn free_bytes(&self) -> Option<u64> {
        *lock(&self.free_bytes)
    }

    /// Completes the time of each problem that does not know its own with that at which it was seen first. A problem
    /// that is not in the list any more is forgotten.
    pub fn date(&self, problems: &mut [Problem], now: WallTime) {
        let mut seen = lock(&self.seen);
        let key = |problem: &Problem| (problem.code, problem.subject.clone());
        let mut present = BTreeMap::new();
        for problem in problems {
            let since = problem.since.or_else(|| seen.get(&key(problem)).copied()).unwrap_or(now);
            problem.since = Some(since);
            present.insert(key(problem), since);
        }
        *seen = present;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_dated_from_when_it_was_seen_first_until_it_is_gone() {
        let (observed, at) = (Observed::default(), |secs: u64| WallTime(secs * 1000));
        let problem = |since| Problem {
            code: Code::DiskLow,
            subject: None,
            since,
            message: String::new(),
            remedy: String::new(),
        };
        let date = |since, now| {
            let mut problems = [problem(since)];
            observed.date(&mut problems, at(now));
            problems[0].since
        };
        assert_eq!((date(None, 5), date(None, 9)), (Some(at(5)), Some(at(5))));
        observed.date(&mut [], at(10));
        assert_eq!(date(None, 11), Some(at(11)));
        assert_eq!(date(Some(at(3)), 12), Some(at(3)), "it knows better");
    }
}
