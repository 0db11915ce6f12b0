//! Deletions in the store: how far each is, when it was done, and how long its code is known.
//!
//! A deletion is open while one of its objects owes Spaces a delete, or is to be deleted once more because a write may
//! still land; objects of links that were this person's before count as well. With the last of them it is *cleared*, in
//! that same transaction. It is done when the next [`erasure`](super::erasure) after that is carried out; from then on its
//! record names no user and no page, only their number.
//!
//! The code is known for [`KEPT_FOR`] after that, so that the person or Meta can look it up. Of more than [`MOST`] the
//! oldest that are done go first, so that a signed request that is sent again and again does not fill the disk; an event
//! of such a deletion that still waits goes with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Store;
use super::codec;
use super::engine::Tree;
use super::records::DeletionRecord;
use super::state::State;
use crate::core::event::{EventKey, EventKind};
use crate::core::model::{AppUserId, LinkKey, WallTime};

/// How long the code of a deletion that is done is known.
pub const KEPT_FOR: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// Codes known at a time.
pub const MOST: usize = 100_000;

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// When it was asked for.
    pub asked_at: WallTime,
    /// How many objects there were.
    pub objects: usize,
    /// How many are still to be deleted.
    pub open: usize,
    /// The objects are gone, and the store's own files are still to be erased.
    pub erasing: bool,
    /// When nothing was left.
    pub done_at: Option<WallTime>,
    /// The bucket would not say whether it keeps older versions of them.
    pub versions_unknown: bool,
    /// When Meta wrote the request, where it was one.
    pub issued_at: Option<WallTime>,
    /// The links and logins that it ended.
    pub ended: usize,
    /// The links that stayed, because their grant is newer than the request.
    pub kept: usize,
    /// A login stayed, because it is newer than the request.
    pub kept_login: bool,
}

impl State {
    fn put_deletion(&mut self, code: String, record: DeletionRecord) {
        self.write(Tree::Deletions, code.as_bytes().to_vec(), Some(codec::encode(&record)));
        self.awaits_nothing(&code);
        if record.done_at.is_none() {
            self.open_deletions.insert(code.clone());
            for link in &record.links {
                self.awaited.entry(link.clone()).or_default().insert(code.clone());
            }
        }
        self.deletions.insert(code, record);
    }

    fn awaits_nothing(&mut self, code: &str) {
        self.open_deletions.remove(code);
        for link in self.deletions.get(code).into_iter().flat_map(|record| &record.links) {
            if let Some(codes) = self.awaited.get_mut(link) {
                codes.remove(code);
                if codes.is_empty() {
                    self.awaited.remove(link);
                }
            }
        }
    }

    /// Notes the deletion of a person whose links were removed just now; `record` says what was ended and what stayed.
    pub(super) fn note_deletion(&mut self, code: &str, person: &AppUserId, record: DeletionRecord) {
        let links = self.deletes_owed_to(person);
        let record = DeletionRecord { asked_at: WallTime::now(), count: links.len(), links, ..record };
        self.put_deletion(code.to_owned(), record);
        self.close_deletion(code);
        let too_many = self.deletions.len().saturating_sub(MOST);
        if too_many > 0 {
            let mut done: Vec<(WallTime, String)> =
                self.deletions.iter().filter_map(|(code, d)| Some((d.done_at?, code.clone()))).collect();
            done.sort_unstable();
            done.iter().take(too_many).for_each(|(_, code)| self.drop_deletion(code));
        }
    }

    fn drop_deletion(&mut self, code: &str) {
        self.awaits_nothing(code);
        if self.deletions.remove(code).is_some() {
            self.write(Tree::Deletions, code.as_bytes().to_vec(), None);
            self.drop_events_of(&EventKey::Deletion(code.to_owned()));
        }
    }

    /// A put that took the place of the delete, because the page was linked again, has yet to take that of the object.
    fn is_open(&self, link: &LinkKey) -> bool {
        self.owes_spaces(link) || self.deletes_again(link).next().is_some()
    }

    /// A deletion whose last object is gone waits for the erasure of the store's own files, if one is owed.
    fn close_deletion(&mut self, code: &str) {
        let open = |d: &&DeletionRecord| d.done_at.is_none() && d.cleared_at.is_none();
        let Some(record) = self.deletions.get(code).filter(open).cloned() else { return };
        if record.links.iter().any(|link| self.is_open(link)) {
            return;
        }
        if !self.erasures.are_owed() {
            return self.finish_deletion(code, record);
        }
        self.cleared.insert(code.to_owned(), self.erasures.wanted());
        self.put_deletion(code.to_owned(), DeletionRecord { cleared_at: Some(WallTime::now()), ..record });
    }

    /// A deletion of which nothing is left is done, and names nobody any more.
    fn finish_deletion(&mut self, code: &str, record: DeletionRecord) {
        let count = record.count.max(record.links.len());
        self.emit(EventKind::Deleted { code: code.to_owned(), links: record.links.clone() });
        let done = DeletionRecord { links: Vec::new(), count, done_at: Some(WallTime::now()), ..record };
        self.put_deletion(code.to_owned(), done);
    }

    /// An erasure was carried out: those that waited for it are done.
    pub(super) fn finish_deletions(&mut self) {
        let over: Vec<String> = self
            .cleared
            .iter()
            .filter(|(_, number)| self.erasures.is_done(**number))
            .map(|(code, _)| code.clone())
            .collect();
        for code in over {
            self.cleared.remove(&code);
            if let Some(record) = self.deletions.get(&code).filter(|d| d.done_at.is_none()).cloned() {
                self.finish_deletion(&code, record);
            }
        }
    }

    /// Something settled about this link's object.
    pub(super) fn object_is_settled(&mut self, link: &LinkKey, versions_unknown: bool) {
        for code in self.awaited.get(link).cloned().unwrap_or_default() {
            if let Some(record) = self.deletions.get(&code).filter(|d| versions_unknown && !d.versions_unknown) {
                let record = DeletionRecord { versions_unknown: true, ..record.clone() };
                self.put_deletion(code.clone(), record);
            }
            self.close_deletion(&code);
        }
    }

    /// Closes what an earlier version left open, and forgets codes that were known long enough.
    pub(super) fn sweep_deletions(&mut self, now: WallTime) -> usize {
        let over = |(_, d): &(&String, &DeletionRecord)| d.done_at.is_some_and(|at| now.since(at) >= KEPT_FOR);
        let gone: Vec<String> = self.deletions.iter().filter(over).map(|(code, _)| code.clone()).collect();
        gone.iter().for_each(|code| self.drop_deletion(code));
        let open: Vec<String> = self.open_deletions.iter().cloned().collect();
        open.iter().for_each(|code| self.close_deletion(code));
        gone.len()
    }
}

/// The codes of the deletions that are not done.
pub(super) fn open_deletions(all: &BTreeMap<String, DeletionRecord>) -> BTreeSet<String> {
    all.iter().filter(|(_, record)| record.done_at.is_none()).map(|(code, _)| code.clone()).collect()
}

/// The codes of those whose objects are gone, and the erasure that they wait for: the next one, whichever it was before
/// the store was opened.
pub(super) fn cleared(all: &BTreeMap<String, DeletionRecord>, next: u64) -> BTreeMap<String, u64> {
    let waits = |(_, record): &(&String, &DeletionRecord)| record.done_at.is_none() && record.cleared_at.is_some();
    all.iter().filter(waits).map(|(code, _)| (code.clone(), next)).collect()
}

/// Since when one of them waits for an erasure.
pub(super) fn waits_for_erasure(all: &BTreeMap<String, DeletionRecord>) -> Option<WallTime> {
    all.values().filter(|record| record.done_at.is_none()).filter_map(|record| record.cleared_at).min()
}

/// The links that they wait for.
pub(super) fn awaited(all: &BTreeMap<String, DeletionRecord>) -> HashMap<LinkKey, BTreeSet<String>> {
    let mut awaited: HashMap<LinkKey, BTreeSet<String>> = HashMap::new();
    for (code, record) in all.iter().filter(|(_, record)| record.done_at.is_none()) {
        for link in &record.links {
            awaited.entry(link.clone()).or_default().insert(code.clone());
        }
    }
    awaited
}

impl Store {
    /// A deletion by its confirmation code.
    pub fn deletion(&self, code: &str) -> Option<Deletion> {
        let state = self.lock();
        let record = state.deletions.get(code).cloned()?;
        let erasing = record.cleared_at.is_some() && record.done_at.is_none();
        // A link that was made again since then has nothing to do with it.
        let open = if erasing { 0 } else { record.links.iter().filter(|link| state.is_open(link)).count() };
        Some(Deletion {
            asked_at: record.asked_at,
            objects: record.count.max(record.links.len()),
            open,
            erasing,
            done_at: record.done_at,
            versions_unknown: record.versions_unknown,
            issued_at: record.issued_at,
            ended: record.ended,
            kept: record.kept,
            kept_login: record.kept_login,
        })
    }

    /// What would go with this person: links, and objects that were written for them; `None` for nobody known.
    pub fn known_of(&self, person: &AppUserId) -> Option<(usize, usize)> {
        let state = self.lock();
        let links = state.links_of_person(person);
        let written =
            |link: &LinkKey| state.entries_of(link).any(|(_, e)| e.staged().is_some() || e.synced().digest.is_some());
        let (links, objects) = (links.len(), links.into_iter().filter(written).count());
        let known = links > 0 || state.accounts.of_person(person).next().is_some() || state.has_token_of(person);
        known.then_some((links, objects))
    }
}
