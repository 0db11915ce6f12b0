//! Two sets of actors over one store, with the leases of links divided between them.
//!
//! A Graph and a receiver of events of each show who asks and who sends; a bucket in memory that both write, who writes.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::clock::{self, Stopped, pass, until, until_passing};
use super::harness::{Daemon, config_of, open_store, page, page_id, put_links};
use super::script::{Events, Graph};
use crate::actors::Owned;
use crate::context::{Context, Setup};
use crate::core::cleanup::Cleanup;
use crate::core::disposition::Disposition;
use crate::core::lease::{BUCKETS, Deadline, SINGLETONS, bucket_of, bucket_of_shop};
use crate::core::model::{Cause, LinkKey, MonoTime, ObjectKey, PartKey, Secret, ShopName, UserId, WallTime};
use crate::metrics::Metrics;
use crate::services::{redaction, shop_tokens};
use crate::sources::facebook::graph::Gate;
use crate::spaces::memory::MemoryStore;
use crate::spaces::{Erased, Head, Listing, ObjectStore, PutDone, SpacesError, Versioning};
use crate::store::Store;
use crate::store::feed::{Batch, Change, Feed, Presence};
use crate::store::leases::{HeldBucket, Leases};
use crate::store::shops::{NewShop, ShopPair};
use crate::store::stepped::shown;
use crate::store::unlink::Unlinking;

const LINKS: u64 = 24;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What the heir of a dead daemon waits.
const QUIET: Duration = Duration::from_secs(35);

/// The bucket as one of the two sees it.
#[derive(Clone)]
struct Recorded {
    bucket: MemoryStore,
    log: Arc<Mutex<Log>>,
    /// The one of the two.
    side: usize,
    /// Writes wait until it is `true`.
    open: Arc<watch::Sender<bool>>,
}

/// The writes of both.
#[derive(Default)]
struct Log {
    begun: Vec<(usize, ObjectKey)>,
    under_way: Vec<ObjectKey>,
    /// Two writes of one object were under way at the same time.
    has_met: bool,
}

/// A write under way; dropped also when it is cut off.
struct Writing<'a>(&'a Recorded, &'a ObjectKey);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let under_way = &mut self.0.log.lock().unwrap().under_way;
        let at = under_way.iter().position(|key| key == self.1).unwrap();
        under_way.remove(at);
    }
}

impl Recorded {
    async fn write<'a, T>(&'a self, key: &'a ObjectKey, write: BoxFuture<'a, T>) -> T {
        {
            let mut log = self.log.lock().unwrap();
            log.begun.push((self.side, key.clone()));
            log.has_met |= log.under_way.contains(key);
            log.under_way.push(key.clone());
        }
        let _writing = Writing(self, key);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        write.await
    }
}

impl ObjectStore for Recorded {
    fn put<'a>(&'a self, key: &'a ObjectKey, body: Bytes) -> BoxFuture<'a, Result<PutDone, SpacesError>> {
        Box::pin(self.write(key, self.bucket.put(key, body)))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Head>, SpacesError>> {
        self.bucket.head(key)
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Bytes>, SpacesError>> {
        self.bucket.get(key)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), SpacesError>> {
        Box::pin(self.write(key, self.bucket.delete(key)))
    }

    fn erase<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Erased, SpacesError>> {
        Box::pin(self.write(key, self.bucket.erase(key)))
    }

    fn list<'a>(&'a self, link: &'a LinkKey, after: Option<&'a str>) -> BoxFuture<'a, Result<Listing, SpacesError>> {
        self.bucket.list(link, after)
    }

    fn versioning<'a>(&'a self) -> BoxFuture<'a, Result<Versioning, SpacesError>> {
        self.bucket.versioning()
    }
}

/// One set of actors, and what it alone sees.
struct Side {
    graph: Graph,
    events: Events,
    spaces: Recorded,
    leases: Leases,
    daemon: Daemon,
}

impl Side {
    fn has_page(&self, link: &LinkKey) -> bool {
        self.daemon.context.pages.find(link).is_some()
    }

    fn writes_of(&self, link: &LinkKey) -> usize {
        let write = (self.spaces.side, link.object_key());
        self.spaces.log.lock().unwrap().begun.iter().filter(|begun| **begun == write).count()
    }

    fn writes(&self) -> usize {
        self.spaces.log.lock().unwrap().begun.iter().filter(|(side, _)| *side == self.spaces.side).count()
    }

    /// Its writes hang, or go on.
    fn hold_writes(&self, holds: bool) {
        self.spaces.open.send_replace(!holds);
    }

    fn sent(&self, n: u64) -> usize {
        self.events.attempts().iter().filter(|attempt| attempt.page == page(n)).count()
    }

    fn beat(&self, at: MonoTime) {
        self.leases.trust_until(Deadline::of_beat(at, WallTime::now().plus(DAY)));
    }
}

struct Pair {
    store: Store,
    bucket: MemoryStore,
    user: UserId,
    sides: [Side; 2],
    _folder: TempDir,
    _router: Owned,
    _clock: Stopped,
}

/// What a reader of the store's feed would have to publish for others.
fn changes_of(batch: Batch) -> Vec<Change> {
    let Batch { links, cleanup, events, app_blocked, reset } = batch;
    let mut changes: Vec<Change> = app_blocked.map(Change::AppBlocked).into_iter().collect();
    for (link, of_link) in links {
        changes.extend(of_link.presence.map(|presence| match presence {
            Presence::Linked => Change::Linked(link.clone()),
            Presence::Unlinked => Change::Unlinked(link.clone()),
        }));
        changes.extend(of_link.causes.into_iter().map(|cause| Change::Due(link.clone(), cause)));
        changes.extend(of_link.token_check.then(|| Change::TokenCheck(link.clone())));
        changes.extend(of_link.recheck.map(|generation| Change::Recheck(link.clone(), generation)));
        changes.extend(of_link.verify.then(|| Change::Verify(link.clone())));
        changes.extend(of_link.parked.then(|| Change::Parked(link.clone())));
        changes.extend(of_link.outbox.into_iter().map(|part| Change::Outbox(PartKey::new(link.clone(), part))));
    }
    changes.extend(cleanup.then_some(Change::Cleanup));
    changes.extend(events.into_iter().map(Change::Event));
    changes.extend(reset.then_some(Change::Reset));
    changes
}

async fn side(folder: &Path, store: &Store, spaces: Recorded, feed: Feed) -> Side {
    let (graph, events) = (Graph::start().await, Events::start().await);
    let socket = folder.join(format!("admin{}.sock", spaces.side));
    let sync = "poll_interval = \"24h\"\ndebounce = \"2s\"";
    let config = config_of((&graph, &events), &folder.join("store"), &socket, sync);
    let (metrics, gate) = (Arc::new(Metrics::new()), Gate::new(config.facebook.max_in_flight));
    let mut setup = Setup::build(config, &gate, &metrics).unwrap();
    setup.spaces = Arc::new(spaces.clone());
    let leases = Leases::none();
    let context = Context::of(store.clone(), (feed, leases.clone()), setup, gate, metrics, None);
    Side { graph, events, spaces, leases, daemon: Daemon::start(context, socket).await }
}

impl Pair {
    /// Nobody holds anything yet.
    async fn start() -> Pair {
        let clock = clock::stop();
        let folder = tempfile::tempdir().unwrap();
        let (graph, events) = (Graph::start().await, Events::start().await);
        let (path, socket) = (folder.path().join("store"), folder.path().join("admin.sock"));
        let store = open_store(&path, &config_of((&graph, &events), &path, &socket, ""));
        let (bucket, feeds) = (MemoryStore::new(), [Feed::default(), Feed::default()]);
        let (from, to) = (store.feed().clone(), feeds.clone());
        let router = Owned(tokio::spawn(async move {
            loop {
                let changes = changes_of(from.next().await);
                to.iter().for_each(|feed| feed.publish(changes.clone()));
            }
        }));
        let [first, second] = feeds;
        let log = Arc::<Mutex<Log>>::default();
        let spaces = [0, 1].map(|side| Recorded {
            bucket: bucket.clone(),
            log: log.clone(),
            side,
            open: Arc::new(watch::Sender::new(true)),
        });
        let [spaces_of_first, spaces_of_second] = spaces;
        let sides = [
            side(folder.path(), &store, spaces_of_first, first).await,
            side(folder.path(), &store, spaces_of_second, second).await,
        ];
        sides.iter().for_each(|side| side.beat(MonoTime::now().plus(DAY)));
        Pair { store, bucket, user: UserId::random(), sides, _folder: folder, _router: router, _clock: clock }
    }

    /// Each holds half of the buckets, and nothing is owed to any link.
    async fn with_links() -> Pair {
        let pair = Pair::start().await;
        pair.give(0, 1, |bucket| bucket.is_multiple_of(2));
        pair.give(1, 1, |bucket| !bucket.is_multiple_of(2));
        let numbers: Vec<u64> = (0..LINKS).collect();
        numbers.iter().for_each(|n| pair.rename(*n, &format!("Page {n}")));
        put_links(&pair.store, pair.user, &numbers).await;
        pair.until_complete().await;
        pair
    }

    fn held(bucket: u16, epoch: u64) -> HeldBucket {
        HeldBucket { bucket, epoch, quiet_until: None, is_surplus: false }
    }

    /// This side holds these buckets and no others.
    fn give(&self, side: usize, epoch: u64, is_meant: impl Fn(u16) -> bool) {
        let buckets = (0..BUCKETS).filter(|bucket| is_meant(*bucket));
        self.sides[side].leases.set(buckets.map(|bucket| Pair::held(bucket, epoch)));
    }

    /// The first one is executed, and the second one has all.
    fn execute(&self) {
        self.sides[0].leases.lose_all();
        let until = Some(MonoTime::now().plus(QUIET));
        self.sides[1].leases.set((0..BUCKETS).map(|bucket| match bucket % 2 {
            0 => HeldBucket { quiet_until: until, ..Pair::held(bucket, 3) },
            _ => Pair::held(bucket, 1),
        }));
    }

    fn has_met(&self) -> bool {
        self.sides[0].spaces.log.lock().unwrap().has_met
    }

    fn rename(&self, n: u64, name: &str) {
        self.sides.iter().for_each(|side| side.graph.rename(&page(n), name));
    }

    /// All pages change, and Meta delivers that.
    async fn change_all(&self, what: &str) {
        (0..LINKS).for_each(|n| self.rename(n, &format!("{what} {n}")));
        let pages: Vec<_> = (0..LINKS).map(page_id).collect();
        self.store.mark_pages(&pages, Cause::Webhook).await.unwrap();
    }

    fn key(&self, n: u64) -> LinkKey {
        LinkKey::new(self.user, page_id(n))
    }

    /// The side that the link was given to at the beginning, and the other one.
    fn sides_of(&self, n: u64) -> (&Side, &Side) {
        let [first, second] = &self.sides;
        if bucket_of(&self.key(n)).is_multiple_of(2) { (first, second) } else { (second, first) }
    }

    fn of_first(&self) -> Vec<u64> {
        (0..LINKS).filter(|n| bucket_of(&self.key(*n)).is_multiple_of(2)).collect()
    }

    fn written(&self, n: u64) -> Option<String> {
        let object: Value = serde_json::from_slice(&self.bucket.object(&self.key(n).object_key())?).unwrap();
        object["data"][0]["name"].as_str().map(str::to_owned)
    }

    fn is_complete(&self) -> bool {
        let counts = shown(self.store.counts());
        let owed = counts.due + counts.due_parked + counts.outbox + counts.cleanups.values().sum::<u64>();
        let is_true = |link: LinkKey| {
            let n = link.id.as_str().parse::<u64>().unwrap() - 1000;
            self.written(n).is_some() && self.written(n) == self.sides[0].graph.name(&page(n))
        };
        owed + shown(self.store.event_counts()).waiting == 0 && shown(self.store.links()).into_iter().all(is_true)
    }

    /// As many writes of the first one as may be under way at a time, after the first write of each object.
    async fn until_writes_are_under_way(&self) {
        let config = &self.sides[0].daemon.context.setup().config;
        let (links, most) = (self.of_first().len(), config.spaces.max_in_flight);
        assert!(links > most);
        until_passing("writes are under way", || self.sides[0].writes() == links + most).await;
    }

    async fn until_complete(&self) {
        until_passing("nothing is owed", || self.is_complete()).await;
    }
}

#[tokio::test]
async fn each_link_is_worked_on_by_the_one_that_holds_its_bucket() {
    let pair = Pair::with_links().await;
    pair.change_all("Changed").await;
    pair.until_complete().await;
    assert!(pair.of_first().len() > 4 && pair.of_first().len() + 4 < LINKS as usize);
    for n in 0..LINKS {
        let (link, (own, other)) = (pair.key(n), pair.sides_of(n));
        assert!(own.has_page(&link) && !other.has_page(&link));
        assert!(own.graph.count_of("read", &page(n)) >= 2 && own.writes_of(&link) == 2 && own.sent(n) >= 3);
        assert!(own.graph.is_subscribed(&page(n)));
        assert_eq!((other.graph.count_of("read", &page(n)), other.writes_of(&link), other.sent(n)), (0, 0, 0));
        assert!(!other.graph.is_subscribed(&page(n)));
    }
    assert!(SINGLETONS.is_multiple_of(2));
    assert_eq!(pair.sides.each_ref().map(|side| side.graph.topics().len()), [2, 0], "one sees to the app");
}

#[tokio::test]
async fn an_unlink_is_cleaned_up_by_the_one_that_holds_its_bucket() {
    let pair = Pair::with_links().await;
    let links: Vec<LinkKey> = (0..LINKS).map(|n| pair.key(n)).collect();
    pair.store.unlink(&links, Unlinking::default()).await.unwrap();
    until_passing("nothing is left", || pair.is_complete() && pair.bucket.objects().is_empty()).await;
    for n in 0..LINKS {
        let (link, (own, other)) = (pair.key(n), pair.sides_of(n));
        assert!(!own.has_page(&link) && own.writes_of(&link) == 2 && other.writes_of(&link) == 0);
        assert_eq!(own.graph.count_of("unsubscribe", &page(n)), 1);
        assert_eq!(other.graph.count_of("unsubscribe", &page(n)), 0);
    }
}

#[tokio::test]
async fn buckets_that_are_given_up_are_idle_before_they_move_and_nothing_is_lost() {
    let pair = Pair::with_links().await;
    let [first, second] = &pair.sides;
    first.hold_writes(true);
    pair.change_all("On the way").await;
    pair.until_writes_are_under_way().await;
    let surplus = |bucket| HeldBucket { is_surplus: true, ..Pair::held(bucket, 1) };
    first.leases.set((0..BUCKETS).step_by(2).map(surplus));
    let is_idle = || (0..BUCKETS).all(|bucket| first.leases.is_idle(bucket));
    until("the pages are gone", || pair.of_first().iter().all(|n| !first.has_page(&pair.key(*n)))).await;
    assert!(!is_idle());
    pair.change_all("Held by nobody").await;
    first.hold_writes(false);
    until("all is idle", is_idle).await;
    pair.give(0, 1, |_| false);
    pair.give(1, 2, |_| true);
    pair.until_complete().await;
    let before = (first.graph.count("read"), first.writes(), first.events.attempts().len());
    pair.change_all("Held by the other one").await;
    pair.until_complete().await;
    assert_eq!(before, (first.graph.count("read"), first.writes(), first.events.attempts().len()));
    assert!((0..LINKS).all(|n| second.has_page(&pair.key(n))));
    until_passing("the other one sees to the app", || second.graph.topics().len() == 2).await;
    assert!(!pair.has_met());
}

#[tokio::test]
async fn the_heir_of_a_dead_one_reads_at_once_and_writes_when_the_quiet_time_is_over() {
    let pair = Pair::with_links().await;
    let [first, second] = &pair.sides;
    // What the dead one had under way hangs.
    first.hold_writes(true);
    pair.change_all("On the way").await;
    pair.until_writes_are_under_way().await;
    pair.execute();
    let writes = first.writes();
    pair.change_all("Later").await;
    let reads = |n: &u64| second.graph.count_of("read", &page(*n));
    until_passing("the heir reads", || pair.of_first().iter().all(|n| reads(n) > 0)).await;
    let began = MonoTime::now();
    pass(Duration::from_secs(25)).await;
    let own = pair.of_first();
    assert!(own.iter().all(|n| second.writes_of(&pair.key(*n)) == 0), "it is quiet");
    assert!(own.iter().all(|n| second.sent(*n) == 0));
    let writes_again = || own.iter().all(|n| second.writes_of(&pair.key(*n)) == 1);
    until_passing("the heir writes", writes_again).await;
    let waited = MonoTime::now().since(began);
    assert!(waited < QUIET + Duration::from_secs(3), "{waited:?}");
    assert!(!pair.has_met(), "what the dead one had begun was cut off before");
    first.hold_writes(false);
    pair.until_complete().await;
    assert_eq!(first.writes(), writes);
}

/// Both refresh tokens would be used up otherwise, and one of two pairs is dead.
#[tokio::test]
async fn the_tokens_of_a_shop_are_exchanged_where_its_lease_is_held() {
    let pair = Pair::start().await;
    let shop: ShopName = "some-shop.myshopify.com".parse().unwrap();
    let (first, second) = (&pair.sides[0].daemon.context, &pair.sides[1].daemon.context);
    pair.give(0, 1, |bucket| bucket == bucket_of_shop(&shop));
    pair.give(1, 1, |bucket| bucket != bucket_of_shop(&shop));
    let tokens = ShopPair { access: Secret::new("shpat_x"), refresh: Secret::new("shprt_x") };
    let new = NewShop {
        shop: shop.clone(),
        pair: tokens,
        expires_at: WallTime(1),
        refresh_expires_at: None,
        scopes: Vec::new(),
        name: None,
    };
    let ticket = pair.store.ticket().await.unwrap();
    pair.store.put_shop(ticket, pair.user, &new, (Cause::Link, None)).await.unwrap().unwrap();
    // The one with the lease goes as far as the client, which is not set.
    let error = shop_tokens::access_token(first, &shop).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Misconfigured);
    let error = shop_tokens::access_token(second, &shop).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Retry);
    // Whether a shop is to be deleted is found out with its tokens.
    redaction::requested(second, &shop).await.unwrap();
    let owed = pair.store.cleanups().await.unwrap();
    assert!(owed.iter().any(|owed| owed.cleanup == Cleanup::Redact(shop.clone())), "{owed:?}");
}

#[tokio::test]
async fn without_the_database_nothing_is_written_and_what_is_owed_stays_owed() {
    let pair = Pair::with_links().await;
    pair.sides.iter().for_each(|side| side.leases.lose_all());
    pair.give(0, 2, |bucket| bucket.is_multiple_of(2));
    pair.give(1, 2, |bucket| !bucket.is_multiple_of(2));
    let writes = pair.sides.each_ref().map(Side::writes);
    pair.change_all("Unseen").await;
    let staged = || shown(pair.store.counts()).outbox == LINKS;
    until_passing("all is staged", staged).await;
    pass(Duration::from_secs(20)).await;
    assert!(staged() && pair.sides.each_ref().map(Side::writes) == writes);
    pair.sides.iter().for_each(|side| side.beat(MonoTime::now().plus(DAY)));
    pair.until_complete().await;
}
