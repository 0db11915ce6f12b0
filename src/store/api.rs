//! The types that callers of the store see, and that its decisions answer with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::records::{LinkRecord, ShopPair, ShopRecord};
use super::seal::SealError;
use crate::core::catalogue::Row;
use crate::core::fields::Fields;
use crate::core::grant::Ended;
use crate::core::ledger::{Digest, Entry, OwedCounts, Staged, Synced};
use crate::core::model::{AppUserId, Cause, Generation, LinkKey, PageId, Secret, ShopName, Source, WallTime};
use crate::core::shop_refresh::Standing;

/// The store cannot make anything durable at the moment; it recovers by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is not available: {reason}")]
pub struct Unavailable {
    /// What the disk or sled said.
    pub reason: Arc<str>,
}

impl Unavailable {
    pub(super) fn because(reason: &str) -> Unavailable {
        Unavailable { reason: reason.into() }
    }
}

/// Whether the store can be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It can.
    Up,
    /// It cannot, and this is why; it is being opened again.
    Down(Arc<str>),
}

/// A link with its token.
#[derive(Debug, Clone)]
pub struct Link {
    /// Which.
    pub key: LinkKey,
    /// The record.
    pub record: Arc<LinkRecord>,
    /// The page token, or why it cannot be opened: sealed with a key that is not configured, or damaged.
    pub token: Result<Secret, SealError>,
}

/// Counts for `status`, metrics and readiness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Links.
    pub links: u64,
    /// Links by their source and the word of their health, as far as the store knows: of throttling it does not.
    pub health: BTreeMap<(Source, &'static str), u64>,
    /// Links owed a read that the daemon can make, now or when a limit or a backoff ends.
    pub due: u64,
    /// Links owed a read that waits for a person.
    pub due_parked: u64,
    /// Objects owed a write or a delete.
    pub outbox: u64,
    /// The last three, of each source that has a link, or owes something.
    pub owed: BTreeMap<Source, OwedCounts>,
    /// Since when the oldest of `due` and `outbox` is owed.
    pub oldest_owed: Option<WallTime>,
    /// What is left to do after unlinks, by the word of its kind.
    pub cleanups: BTreeMap<&'static str, u64>,
    /// Records that could not be decoded when the store was opened.
    pub damaged: u64,
}

impl Counts {
    /// Links of all sources by the word of their health.
    pub fn healths(&self) -> BTreeMap<&'static str, u64> {
        let mut healths = BTreeMap::new();
        for ((_, word), count) in &self.health {
            *healths.entry(*word).or_default() += count;
        }
        healths
    }
}

/// A link as lists show it.
#[derive(Debug, Clone)]
pub struct LinkView {
    /// Which.
    pub key: LinkKey,
    /// The record.
    pub record: Arc<LinkRecord>,
    /// What Spaces has.
    pub synced: Synced,
    /// Is a read or a write owed that the daemon can make?
    pub owed: bool,
    /// Is a read owed that waits for a person?
    pub owed_parked: bool,
    /// The number of the daemon that holds its lease, where several share the store.
    pub daemon: Option<u64>,
    /// What is owed; `None` where that is nothing.
    pub pending: Option<PendingView>,
}

/// What is owed to a link: reads and writes of all its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingView {
    /// The cause of its oldest read that is owed.
    pub read: Option<Cause>,
    /// Objects that are owed a write or a delete.
    pub writes: usize,
    /// Since when the oldest of them is owed.
    pub since: WallTime,
}

impl PendingView {
    /// With another entry of the same link.
    pub(super) fn with(before: Option<PendingView>, entry: &Entry) -> Option<PendingView> {
        let Some(since) = entry.owed_since() else { return before };
        let read = entry.due().map(|mark| mark.cause);
        let writes = usize::from(entry.staged().is_some());
        let Some(before) = before else { return Some(PendingView { read, writes, since }) };
        let is_older = since < before.since;
        let read = if is_older { read.or(before.read) } else { before.read.or(read) };
        Some(PendingView { read, writes: before.writes + writes, since: since.min(before.since) })
    }
}

/// A page to link.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// The page.
    pub page: PageId,
    /// Its token.
    pub token: Secret,
    /// Its name, where known.
    pub name: Option<String>,
    /// The person whose token it is, where known.
    pub facebook_user: Option<AppUserId>,
}

/// A shop to link, or the pair that a refresh brought.
#[derive(Debug, Clone)]
pub struct NewShop {
    /// The shop.
    pub shop: ShopName,
    /// Its tokens.
    pub pair: ShopPair,
    /// Until when the access token is good.
    pub expires_at: WallTime,
    /// Until when the refresh token is good, where known.
    pub refresh_expires_at: Option<WallTime>,
    /// Access scopes that were granted.
    pub scopes: Vec<String>,
    /// The name of the shop, where known.
    pub name: Option<String>,
}

/// The outcome of storing an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopStored {
    /// The link that was meant.
    pub link: LinkKey,
    /// The number of the pair that was stored; 0 when none was.
    pub pair: u64,
    /// Why it was left as it is, where it was.
    pub left: Option<LeftAlone>,
    /// Links of the same shop that got the new pair as well.
    pub others: Vec<LinkKey>,
}

/// The token pair of a shop, with what is known of it.
#[derive(Debug, Clone)]
pub struct PairState {
    /// The record.
    pub record: Arc<ShopRecord>,
    /// The tokens, or why they cannot be opened.
    pub pair: Result<ShopPair, SealError>,
}

impl PairState {
    /// What decides on a refresh.
    pub fn standing(&self) -> Standing {
        let ShopRecord { number, expires_at, refreshing_since, .. } = *self.record;
        Standing { number, expires_at, refreshing_since }
    }
}

/// A login to note beside its links.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The person.
    pub person: AppUserId,
    /// The person's name.
    pub name: Option<String>,
    /// The long-lived user token.
    pub token: Secret,
    /// Permissions granted.
    pub granted: Vec<String>,
    /// When the token ends.
    pub expires_at: Option<WallTime>,
}

/// A person who left: the links that this ended, and how many it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departure {
    /// Each with the generation of the token that it had.
    pub links: Vec<(LinkKey, Generation)>,
    /// Links of theirs with a newer grant.
    pub kept: usize,
}

/// The outcome of storing a login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The links that were made, or that got the token of this login.
    pub links: Vec<LinkKey>,
    /// Those that were left as they are, and why.
    pub left: Vec<(LinkKey, LeftAlone)>,
}

/// Why a link was left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftAlone {
    /// The grant or the link was ended after this login began.
    Ended(Ended),
    /// A login that began after this one gave the link its token.
    NewerLogin,
}

/// How links are to be removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unlinking {
    /// Leave the objects in Spaces.
    pub keep_objects: bool,
    /// Take the app out of the account of each person, and uninstall it from each shop, that has no link left.
    pub revoke: bool,
}

/// What became of the wish to take the app out of the account of a person, or out of a shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoking {
    /// It is being done.
    Asked(AppUserId),
    /// The person still has so many links, of whichever user: the app stays.
    StillLinked(AppUserId, usize),
    /// No user token of the person is stored, as of links that were imported.
    NoToken(AppUserId),
    /// It is not known whose the links were.
    NobodyKnown,
    /// The app is being uninstalled from the shop.
    Uninstalling(ShopName),
    /// The shop still has so many links, of whichever user: the app stays.
    ShopStillLinked(ShopName, usize),
    /// The tokens of the shop cannot be opened.
    NoPair(ShopName),
}

/// Links that were removed.
#[derive(Debug, Clone, Default)]
pub struct Unlinked {
    /// Which.
    pub links: Vec<LinkKey>,
    /// What became of the wish to revoke, for each person and each shop.
    pub revoking: Vec<Revoking>,
}

/// What a read that ended with data led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageOutcome {
    /// The object is to be written.
    Staged,
    /// Spaces has, or is about to get, the same data.
    Unchanged,
    /// A newer reader took over, or the link is gone.
    Superseded,
}

/// A staged object, ready for Spaces.
#[derive(Debug, Clone)]
pub struct OutboxItem {
    /// The entry.
    pub staged: Staged,
    /// The bytes; empty for a delete.
    pub body: bytes::Bytes,
    /// What Spaces holds before it is carried out; `None` for a link that is gone.
    pub(super) before: Option<Before>,
}

/// The fields that Spaces held of a link before a write, and the generation of the link's token then.
#[derive(Debug, Clone)]
pub(super) struct Before {
    pub generation: Generation,
    pub fields: Option<Fields>,
}

/// What a write or a delete that Spaces has carried out leaves to note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// An earlier write without an answer may still take effect until then.
    pub in_doubt_until: Option<WallTime>,
    /// The bucket would not say whether it keeps older versions of the object.
    pub versions_unknown: bool,
    /// The fields of the object that was written, where its source knows any.
    pub fields: Option<Fields>,
    /// The row in the index of a product that was written.
    pub row: Option<Row>,
}

/// What Spaces is expected to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Digest of the settled object.
    pub digest: Option<Digest>,
    /// Its ETag.
    pub etag: Option<String>,
    /// An entry waits in the outbox, so a look at Spaces says nothing.
    pub outbox: bool,
    /// The number of the newest read that was staged; 0 before the first.
    pub answered: u64,
}

impl Expectation {
    pub(super) fn of(entry: &Entry) -> Self {
        let synced = entry.synced();
        let outbox = entry.staged().is_some();
        Expectation { digest: synced.digest, etag: synced.etag.clone(), outbox, answered: synced.answered }
    }
}
