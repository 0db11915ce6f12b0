//! The requests to the world and their outcomes.
//!
//! The list of requests is a ring of bounded length; the counters beside it never forget. For writes to Spaces the
//! activity also keeps the evidence that tests check: how many writes of one key were under way at once, and
//! whether an object ever went *back* to an older state of its page. The latter is judged against the page's own
//! history of states: each write is matched with the oldest state that it can be and that is not older than the one
//! written before it. No such state, though the content is one the page once had, means that an old write overtook
//! a new one. The matching is greedy from below, so it never reports a violation
//! wrongly, even when a page returns to a former name.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::fault::{Call, Side};
use crate::core::model::WallTime;

const RING: usize = 2000;
const VIOLATIONS: usize = 500;

/// One request, as the log keeps it. No token, secret or query string is in it.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// When it was answered.
    pub at: WallTime,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// What it was for.
    pub call: Call,
    /// `ok`, the error, or the fault that struck.
    pub outcome: String,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityKind {
    /// A request to Graph.
    Graph,
    /// A page, a person or a token changed.
    Edit,
    /// A webhook left, arrived or was refused.
    Webhook,
    /// A request to Spaces.
    Spaces,
    /// A fault was switched.
    Fault,
    /// A person did something in the dialog.
    Login,
    /// An event came to the platform's receiver.
    Event,
    /// The daemon reports that something it needs fails, or answers again.
    Daemon,
}

/// One entry of the activity, for watchers.
#[derive(Debug, Clone, Serialize)]
pub struct WorldEvent {
    /// Counts the events of this world.
    pub seq: u64,
    /// When.
    pub at: WallTime,
    /// Which kind of thing.
    pub kind: ActivityKind,
    /// The text.
    pub text: String,
    /// The page it is about.
    pub page: Option<String>,
    /// The request, when it was one.
    pub call: Option<Call>,
    /// Did it succeed?
    pub ok: bool,
}

/// One write to Spaces, as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct PutRecord {
    /// When it was answered.
    pub at: WallTime,
    /// The object's key.
    pub key: String,
    /// `x-amz-acl`.
    pub acl: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Was there a `Content-MD5`? (A wrong one is refused, so a stored one was right.)
    pub content_md5: bool,
    /// Bytes in the body.
    pub bytes: usize,
    /// The status answered.
    pub status: u16,
}

/// The latest edit of a page, and whether an object shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The page.
    pub page: String,
    /// When it was edited.
    pub at: WallTime,
    /// When an object with the edit in it was stored.
    pub stored_at: Option<WallTime>,
    revision: u64,
}

/// The log, the counters and the evidence.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    requests: VecDeque<Request>,
    calls: BTreeMap<(Call, String), u64>,
    reads: BTreeMap<String, u64>,
    puts: BTreeMap<String, u64>,
    last_put: BTreeMap<String, PutRecord>,
    in_flight: BTreeMap<String, u32>,
    most_at_once: BTreeMap<String, u32>,
    /// Requests under way and the most there ever were.
    crowd: BTreeMap<Side, (u32, u32)>,
    revision: BTreeMap<String, u64>,
    edited: Option<Edited>,
    violations: VecDeque<String>,
}

impl Activity {
    pub(crate) fn note(&mut self, request: Request, page: Option<&str>) {
        *self.calls.entry((request.call, request.outcome.clone())).or_default() += 1;
        if request.call == Call::ReadPage
            && let Some(page) = page
        {
            *self.reads.entry(page.to_owned()).or_default() += 1;
        }
        if self.requests.len() == RING {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(crate) fn enters(&mut self, side: Side) {
        let (now, most) = self.crowd.entry(side).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }

    pub(crate) fn leaves(&mut self, side: Side) {
        if let Some((now, _)) = self.crowd.get_mut(&side) {
            *now = now.saturating_sub(1);
        }
    }

    pub(crate) fn most_under_way(&self, side: Side) -> u32 {
        self.crowd.get(&side).map_or(0, |(_, most)| *most)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn calls(&self, call: Call) -> u64 {
        self.calls.iter().filter(|((c, _), _)| *c == call).map(|(_, n)| n).sum()
    }

    pub(crate) fn outcomes(&self) -> Vec<(Call, String, u64)> {
        self.calls.iter().map(|((call, outcome), n)| (*call, outcome.clone(), *n)).collect()
    }

    pub(crate) fn reads(&self, page: &str) -> u64 {
        self.reads.get(page).copied().unwrap_or_default()
    }

    pub(crate) fn puts(&self, key: &str) -> u64 {
        self.puts.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn last_put(&self, key: &str) -> Option<PutRecord> {
        self.last_put.get(key).cloned()
    }

    pub(crate) fn most_at_once(&self, key: &str) -> u32 {
        self.most_at_once.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.iter().cloned().collect()
    }

    pub(crate) fn violation(&mut self, text: String) {
        if self.violations.len() == VIOLATIONS {
            self.violations.pop_front();
        }
        self.violations.push_back(text);
    }

    pub(crate) fn put_begins(&mut self, key: &str) {
        let now = self.in_flight.entry(key.to_owned()).or_default();
        *now += 1;
        let now = *now;
        let most = self.most_at_once.entry(key.to_owned()).or_default();
        *most = now.max(*most);
        if now > 1 {
            self.violation(format!("{now} writes of {key} at once"));
        }
    }

    pub(crate) fn put_ends(&mut self, key: &str) {
        if let Some(now) = self.in_flight.get_mut(key) {
            *now -= 1;
            if *now == 0 {
                self.in_flight.remove(key);
            }
        }
    }

    /// A write was answered. Only stored ones count as writes of the key.
    pub(crate) fn put_done(&mut self, record: PutRecord) {
        if record.status == 200 {
            *self.puts.entry(record.key.clone()).or_default() += 1;
            if record.key.starts_with("users/") {
                if record.acl.as_deref() != Some("private") {
                    self.violation(format!("{} was written without a private ACL", record.key));
                }
                if record.content_type.as_deref() != Some("application/json") {
                    self.violation(format!("{} was not written as application/json", record.key));
                }
            }
        }
        self.last_put.insert(record.key.clone(), record);
    }

    /// A page was edited, which made this revision of it.
    pub(crate) fn edited(&mut self, page: &str, revision: u64) {
        self.edited = Some(Edited { page: page.to_owned(), at: WallTime::now(), stored_at: None, revision });
    }

    pub(crate) fn last_edit(&self) -> Option<Edited> {
        self.edited.clone()
    }

    /// An object of this page was stored whose content is that of one of these revisions.
    pub(crate) fn stored(&mut self, page: &str, revisions: &[u64]) {
        if let Some(edited) = self.edited.as_mut().filter(|edited| edited.page == page && edited.stored_at.is_none())
            && revisions.iter().any(|revision| *revision >= edited.revision)
        {
            edited.stored_at = Some(WallTime::now());
        }
    }

    /// Judges the order of writes: `candidates` are the revisions of the page that the stored content can be.
    pub(crate) fn put_matches(&mut self, key: &str, candidates: &[u64]) {
        let floor = self.revision.get(key).copied().unwrap_or_default();
        match candidates.iter().copied().filter(|revision| *revision >= floor).min() {
            Some(revision) => {
                self.revision.insert(key.to_owned(), revision);
            }
            None if !candidates.is_empty() => {
                self.violation(format!("{key} went back to an older state of its page"));
            }
            None => {}
        }
    }

    /// The object is gone: what is written next starts afresh.
    pub(crate) fn deleted(&mut self, key: &str) {
        self.revision.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_seen_and_coming_back_is_not_accused() {
        let mut activity = Activity::default();
        // The states 1 and 3 look alike.
        activity.put_matches("k", &[1, 3]);
        activity.put_matches("k", &[2]);
        activity.put_matches("k", &[1, 3]);
        assert!(activity.violations().is_empty());
        activity.put_matches("k", &[2]);
        assert_eq!(activity.violations().len(), 1);
    }

    #[test]
    fn an_edit_has_arrived_when_an_object_with_it_is_stored() {
        let mut activity = Activity::default();
        activity.edited("7", 3);
        activity.stored("7", &[1, 2]);
        activity.stored("8", &[3]);
        assert_eq!(activity.last_edit().unwrap().stored_at, None);
        activity.stored("7", &[1, 4]);
        let edit = activity.last_edit().unwrap();
        assert!(edit.stored_at.unwrap() >= edit.at);
    }

    #[test]
    fn writes_at_once_are_seen() {
        let mut activity = Activity::default();
        activity.put_begins("k");
        activity.put_ends("k");
        activity.put_begins("k");
        assert!(activity.violations().is_empty());
        activity.put_begins("k");
        assert_eq!((activity.most_at_once("k"), activity.violations().len()), (2, 1));
    }

    #[test]
    fn the_ring_forgets_and_the_counters_do_not() {
        let mut activity = Activity::default();
        for _ in 0..RING + 10 {
            let request = Request {
                at: WallTime(1),
                method: "GET".into(),
                path: "/7".into(),
                call: Call::ReadPage,
                outcome: "ok".into(),
            };
            activity.note(request, Some("7"));
        }
        assert_eq!((activity.requests().len(), activity.reads("7")), (RING, RING as u64 + 10));
    }
}
