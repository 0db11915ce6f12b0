//! What is left to do at a source, and in Spaces, after a link is gone. Pure: which cleanup comes next, when it is
//! tried again, and when it ends; no clock, no source, no disk.
//!
//! | cleanup | asked for when | done when |
//! |---|---|---|
//! | [`Cleanup::Unsubscribe`] | the last link of a page goes | Meta says that the page is no longer subscribed |
//! | [`Cleanup::Revoke`] | the last link of a person goes, and it is wished | Meta says that the app is removed for them |
//! | [`Cleanup::Uninstall`] | the last link of a shop goes, and it is wished | Shopify says that the app is uninstalled, or that its token is dead |
//! | [`Cleanup::Redact`] | Shopify wants a shop to be deleted, and cannot say whether its token works | Shopify said so, and the shop is deleted or stays |
//! | [`Cleanup::DeleteAgain`] | a write without an answer may still land after a later one | the object was deleted, or compared, after that |
//! | [`Cleanup::ForgetParts`] | a link with parts goes | each part's object is deleted, and the bucket lists none, or the link is back |
//!
//! A cleanup is decided in the transaction of the unlink or of the settle that needs it, and lies in the store until it
//! is done, void, or given up. So a kill at any moment repeats it, and each of them may be repeated at will. A redact is
//! owed while its shop is linked; an installation of the app ends it.
//!
//! # A page, a shop or a person that is linked again
//!
//! The linking makes the cleanup **void** in its own transaction, and what is void is never begun. What was begun
//! before may still be on its way: the call waits for its answer, or nobody knows whether it will take effect. So a
//! void cleanup is not dropped at once. It stays until nothing of it can land any more ([`CleanupQueue`] keeps that
//! moment, and takes a start of the process for a call whose answer was lost), and goes then together with what the
//! links believe of their subscription, in one transaction; each link of the page or person then looks again, after a
//! restart too. Whatever the call did is found by that look: a subscription that it took away is made again, a token
//! that it ended shows.
//!
//! A cleanup that is done while an earlier try of it may still land stays as long, for the same reason.
//!
//! An object is not deleted while its page is linked: whoever deletes holds the right to write that object, so no put
//! is under way, looks whether the page is linked, and has the page compare its object instead if it is. A page that is
//! linked during the delete cannot write before the delete is answered; and if no answer comes, the cleanup stands and
//! ends by comparing.
//!
//! # When it ends without success
//!
//! An answer that will not change (a dead token, a lost permission, a page that is gone) ends a cleanup: nothing more
//! can be done with that token. So does [`GIVE_UP`] of trying, at a source. A delete in Spaces is never given up: a
//! deletion is reported as done when it ends. Nor is a redact, which is owed to the merchant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::disposition::Disposition;
use crate::core::backoff::Backoff;
use crate::core::model::{AppUserId, LinkKey, MonoTime, PageId, PartKey, ShopName};

/// After so long nothing is tried any more at a source.
pub const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const RETRY: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(60 * 60) };
/// Cleanups under way at a time.
const AT_ONCE: usize = 4;

/// Something left to do. There is one of each at most: a newer one replaces the older.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cleanup {
    /// End the page's webhook subscription.
    Unsubscribe(PageId),
    /// Take the app out of the person's account.
    Revoke(AppUserId),
    /// Delete an object of a link that is gone once more; compare it if the link is back.
    DeleteAgain(PartKey),
    /// Forget the parts of a link that is gone, and see to their objects.
    ForgetParts(LinkKey),
    /// Uninstall the app from the shop.
    Uninstall(ShopName),
    /// Delete what is stored of the shop, unless its token works.
    Redact(ShopName),
}

impl Cleanup {
    /// The word for logs and `status`.
    pub fn word(&self) -> &'static str {
        match self {
            Cleanup::Unsubscribe(_) => "unsubscribe",
            Cleanup::Revoke(_) => "revoke",
            Cleanup::DeleteAgain(_) => "delete_again",
            Cleanup::ForgetParts(_) => "forget_parts",
            Cleanup::Uninstall(_) => "uninstall",
            Cleanup::Redact(_) => "redact",
        }
    }

    /// The key in the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Cleanup::Unsubscribe(page) => [b"u", page.as_str().as_bytes()].concat(),
            Cleanup::Revoke(person) => [b"r", person.as_str().as_bytes()].concat(),
            Cleanup::DeleteAgain(part) => [b"d".as_slice(), &part.to_bytes()].concat(),
            Cleanup::ForgetParts(link) => [b"p".as_slice(), &link.to_bytes()].concat(),
            Cleanup::Uninstall(shop) => [b"i", shop.as_str().as_bytes()].concat(),
            Cleanup::Redact(shop) => [b"x", shop.as_str().as_bytes()].concat(),
        }
    }

    /// The inverse of [`Cleanup::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Cleanup> {
        let (kind, rest) = bytes.split_first()?;
        let text = || std::str::from_utf8(rest).ok();
        let cleanup = match kind {
            b'u' => text()?.parse().ok().map(Cleanup::Unsubscribe),
            b'r' => text()?.parse().ok().map(Cleanup::Revoke),
            b'd' => PartKey::from_bytes(rest).map(Cleanup::DeleteAgain),
            b'p' => LinkKey::from_bytes(rest).map(Cleanup::ForgetParts),
            b'i' => text()?.parse().ok().map(Cleanup::Uninstall),
            b'x' => text()?.parse().ok().map(Cleanup::Redact),
            _ => None,
        };
        // Ids are read with blanks around them; a key has one spelling.
        cleanup.filter(|cleanup| cleanup.to_bytes() == bytes)
    }
}

/// A cleanup as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingCleanup {
    /// Which.
    pub cleanup: Cleanup,
    /// Distinguishes it from an earlier one with the same key.
    pub seq: u64,
    /// It was overtaken by a linking.
    pub void: bool,
    /// How long it must still wait before the first try.
    pub wait: Duration,
    /// How long it may still be tried, where it may be given up.
    pub left: Duration,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryEnd {
    /// It is done.
    Done,
    /// To be tried again, not before the hint.
    Later {
        /// When the other side wants to be asked again, where it said so.
        hint: Option<Duration>,
        /// No answer came: it may or may not have happened, or happen still.
        unanswered: bool,
    },
    /// It will never succeed.
    Never,
}

impl TryEnd {
    /// The end of a try that failed so. `answered` says that the other side sent an answer.
    pub fn of(disposition: Disposition, answered: bool) -> TryEnd {
        match disposition {
            Disposition::RateLimited { retry_after } => TryEnd::Later { hint: retry_after, unanswered: false },
            Disposition::Retry | Disposition::Misconfigured => TryEnd::Later { hint: None, unanswered: !answered },
            Disposition::Park(_) | Disposition::Rejected => TryEnd::Never,
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanupStep {
    /// Try the cleanup with this number, and report its [`TryEnd`].
    Try(Cleanup, u64),
    /// Take it from the list: it is over.
    Close(Cleanup, u64, CleanupEnd),
}

/// Why a cleanup is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupEnd {
    /// It is done.
    Done,
    /// A linking overtook it.
    Void,
    /// It will never succeed.
    Never,
    /// It was tried for as long as it may be.
    TooOld,
}

#[derive(Debug, Clone)]
struct Item {
    seq: u64,
    ready_at: MonoTime,
    give_up_at: MonoTime,
    /// From then on nothing of an earlier try can land.
    clear_at: MonoTime,
    tries: u32,
    over: Option<CleanupEnd>,
    busy: bool,
}

impl Item {
    /// When something is to be done about it; `None` while somebody does.
    fn due_at(&self) -> Option<MonoTime> {
        let at = match self.over {
            Some(_) => self.clear_at,
            None => self.ready_at.min(self.give_up_at),
        };
        (!self.busy).then_some(at)
    }
}

/// The cleanups of the store, and when each is due.
#[derive(Debug, Default)]
pub struct CleanupQueue {
    items: BTreeMap<Cleanup, Item>,
    due: BTreeSet<(MonoTime, Cleanup)>,
    busy: usize,
}

impl CleanupQueue {
    /// Takes over what the store has. Tries by an earlier process of what is new here may take effect for as long as
    /// `earlier`: at a start, how long a call may be on its way; later nothing.
    pub fn take_over(&mut self, standing: Vec<StandingCleanup>, earlier: Duration, now: MonoTime) {
        let kept: BTreeSet<Cleanup> = standing.iter().map(|s| s.cleanup.clone()).collect();
        self.items.retain(|cleanup, item| item.busy || kept.contains(cleanup));
        for one in standing {
            let give_up_at = match one.cleanup {
                Cleanup::DeleteAgain(_) | Cleanup::ForgetParts(_) | Cleanup::Redact(_) => MonoTime(u64::MAX),
                Cleanup::Unsubscribe(_) | Cleanup::Revoke(_) | Cleanup::Uninstall(_) => now.plus(one.left),
            };
            let clear_at = self.items.get(&one.cleanup).map_or(now.plus(earlier), |item| item.clear_at);
            let fresh = Item {
                seq: one.seq,
                ready_at: now.plus(one.wait),
                give_up_at,
                clear_at,
                tries: 0,
                over: None,
                busy: false,
            };
            let item = self.items.entry(one.cleanup).or_insert_with(|| fresh.clone());
            if item.seq != one.seq {
                // The one before it may be under way; its end is heard, and says nothing of this one.
                *item = Item { busy: item.busy, ..fresh };
            }
            if one.void && item.over.is_none() {
                item.over = Some(CleanupEnd::Void);
            }
        }
        self.due = self.items.iter().filter_map(|(cleanup, item)| Some((item.due_at()?, cleanup.clone()))).collect();
    }

    /// What is to be done now, if anything; it is under way from here on, until [`CleanupQueue::ended`] or
    /// [`CleanupQueue::closed`].
    pub fn next(&mut self, now: MonoTime) -> Option<CleanupStep> {
        let (at, cleanup) = self.due.first().filter(|(at, _)| *at <= now && self.busy < AT_ONCE)?.clone();
        self.due.remove(&(at, cleanup.clone()));
        let item = self.items.get_mut(&cleanup)?;
        item.busy = true;
        self.busy += 1;
        let why = item.over.or((item.give_up_at <= now).then_some(CleanupEnd::TooOld));
        Some(match why {
            Some(why) => CleanupStep::Close(cleanup, item.seq, why),
            None => CleanupStep::Try(cleanup, item.seq),
        })
    }

    /// When [`CleanupQueue::next`] may have something; `None` when that depends on the end of a try.
    pub fn wake_at(&self) -> Option<MonoTime> {
        self.due.first().filter(|_| self.busy < AT_ONCE).map(|(at, _)| *at)
    }

    /// The try of the cleanup with this number ended. Without an answer it may take effect for as long as `in_doubt`
    /// still; `jitter` is a random number from 0 to 1.
    pub fn ended(
        &mut self,
        cleanup: &Cleanup,
        seq: u64,
        ended: TryEnd,
        in_doubt: Duration,
        now: MonoTime,
        jitter: f64,
    ) {
        let Some(item) = self.items.get_mut(cleanup).filter(|item| item.busy) else { return };
        item.busy = false;
        self.busy -= 1;
        if matches!(ended, TryEnd::Later { unanswered: true, .. }) {
            item.clear_at = item.clear_at.max(now.plus(in_doubt));
        }
        if item.seq == seq {
            match ended {
                TryEnd::Done => item.over = item.over.or(Some(CleanupEnd::Done)),
                TryEnd::Never => item.over = item.over.or(Some(CleanupEnd::Never)),
                TryEnd::Later { hint, .. } => {
                    item.ready_at = now.plus(RETRY.delay(item.tries, jitter, hint));
                    item.tries = item.tries.saturating_add(1);
                }
            }
        }
        self.rearm(cleanup);
    }

    /// It was taken from the store, or could not be; then it is tried again soon.
    pub fn closed(&mut self, cleanup: &Cleanup, seq: u64, done: bool, now: MonoTime) {
        let Some(item) = self.items.get_mut(cleanup).filter(|item| item.busy) else { return };
        item.busy = false;
        self.busy -= 1;
        if done && item.seq == seq {
            self.items.remove(cleanup);
            return;
        }
        if item.seq == seq {
            item.clear_at = now.plus(RETRY.base);
            item.give_up_at = now.plus(RETRY.base);
        }
        self.rearm(cleanup);
    }

    fn rearm(&mut self, cleanup: &Cleanup) {
        let at = self.items.get(cleanup).and_then(Item::due_at);
        self.due.extend(at.map(|at| (at, cleanup.clone())));
    }
}

#[cfg(test)]
mod tests;
