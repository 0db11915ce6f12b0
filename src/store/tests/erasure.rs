//! Erasure: every file of the store is searched, in clear text and with the store key, for data that it must not hold
//! any more.

use super::traces::Traces;
use super::*;
use crate::core::cleanup::Cleanup;
use crate::core::health::ParkReason;
use crate::store::records::{account_context, cleanup_context, link_context};

const ZELDA: &str = "2210000000000777";
const NAME: &str = "Zelda Fitzgibbon-Quux";
const BRUNO: &str = "2210000000000888";

fn person(id: &str) -> AppUserId {
    id.parse().unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    user: UserId,
    links: Vec<LinkKey>,
}

impl Fixture {
    /// Zelda with three pages, whose tokens were renewed once, and Bruno with one of another user.
    async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.switch_events(true);
        let (user, other) = (UserId::random(), UserId::random());
        let mut links = Vec::new();
        for age in ["old", "new"] {
            links = log_in(&store, user, ZELDA, NAME, age, 0..3).await;
        }
        log_in(&store, other, BRUNO, "Bruno", "new", 3..4).await;
        for link in store.links().await.unwrap() {
            read_and_stage(&store, &link, 1, b"{\"data\":[]}").await;
            complete(&store, &link.whole()).await;
        }
        Fixture { dir, store, user, links }
    }

    fn contexts(&self) -> Vec<Vec<u8>> {
        let zelda = person(ZELDA);
        let links = self.links.iter().map(link_context);
        let cleanups =
            self.links.iter().map(|link| cleanup_context(&Cleanup::Unsubscribe(link.page().unwrap().clone())));
        let more = [account_context(self.user, &zelda), cleanup_context(&Cleanup::Revoke(zelda.clone()))];
        links.chain(cleanups).chain(more).collect()
    }

    /// Of these texts, those that the files show.
    fn shown(&self, texts: &[&str]) -> Vec<String> {
        let ring = keyring();
        let open = |context: &[u8], sealed: &[u8]| ring.open(context, sealed).ok().map(|plain| plain.to_vec());
        Traces::of(self.dir.path(), &ring.seal(b"", b""), &self.contexts(), &open).shown(texts)
    }
}

async fn log_in(
    store: &Store,
    user: UserId,
    id: &str,
    name: &str,
    age: &str,
    pages: std::ops::Range<u64>,
) -> Vec<LinkKey> {
    let account = NewAccount {
        person: person(id),
        name: Some(name.into()),
        token: Secret::new(format!("EAAB-{age}-user-token-of-{id}")),
        granted: Vec::new(),
        expires_at: None,
    };
    let new = |n| NewLink {
        page: page(n),
        token: Secret::new(format!("EAAB-{age}-page-token-{n}-of-{id}")),
        name: None,
        facebook_user: Some(person(id)),
    };
    store
        .put_links(store.ticket().await.unwrap(), user, Some(account), pages.map(new).collect(), Cause::Link)
        .await
        .unwrap()
        .links
}

async fn complete(store: &Store, part: &PartKey) {
    if let Some(item) = store.outbox_item(part).await.unwrap() {
        store.complete(part, &item, Some("etag".into()), Left::default()).await.unwrap();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const OF_ZELDA: [&str; 6] = [
    ZELDA,
    NAME,
    "EAAB-old-user-token-of-2210000000000777",
    "EAAB-new-user-token-of-2210000000000777",
    "EAAB-new-page-token-0-of-2210000000000777",
    "EAAB-old-page-token-2-of-2210000000000777",
];

#[tokio::test]
async fn the_search_finds_what_is_there() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.shown(&OF_ZELDA), OF_ZELDA, "with the key, everything shows, older tokens too");
    assert_eq!(fixture.shown(&["EAAB-new-page-token-9-of-2210000000000777"]), Vec::<String>::new());
    fixture.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_person_is_in_any_file_once_the_deletion_is_done() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    store.forget_person(&person(ZELDA), "a-code", None).await.unwrap();
    assert!(store.deletion("a-code").await.unwrap().unwrap().done_at.is_none());
    for part in store.outbox_parts().await.unwrap() {
        complete(store, &part).await;
    }
    until("the deletion is done", async || store.deletion("a-code").await.unwrap().unwrap().done_at.is_some()).await;
    assert_eq!(fixture.shown(&OF_ZELDA), Vec::<String>::new());
    assert!(store.size_on_disk() > 0, "the new database is known by its own name");
    // The other person has everything, the daemon goes on, and so it is after a start.
    assert_eq!(fixture.shown(&[BRUNO, "Bruno"]).len(), 2);
    assert_eq!(store.counts().await.unwrap().links, 1);
    store.close().await;
    let again = open(fixture.dir.path());
    assert_eq!((again.mended(), again.counts().await.unwrap().links), (None, 1));
    assert!(again.deletion("a-code").await.unwrap().unwrap().done_at.is_some());
    assert_eq!(fixture.shown(&OF_ZELDA), Vec::<String>::new());
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_done_only_when_its_erasure_is() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    // In the way of the fresh database.
    let in_the_way = fixture.dir.path().join("links.journal.new");
    std::fs::create_dir(&in_the_way).unwrap();
    store.forget_person(&person(ZELDA), "a-code", None).await.unwrap();
    for part in store.outbox_parts().await.unwrap() {
        complete(store, &part).await;
    }
    let deletion = store.deletion("a-code").await.unwrap().unwrap();
    assert_eq!((deletion.erasing, deletion.done_at, deletion.open), (true, None, 0));
    assert!(store.erasing_since().is_some());
    let oldest = store.oldest_deletion().await.unwrap();
    assert!(oldest.is_some_and(|since| since <= deletion.asked_at), "{oldest:?} {deletion:?}");
    // A start changes nothing about that.
    store.close().await;
    std::fs::remove_dir(&in_the_way).unwrap();
    let again = open(fixture.dir.path());
    until("the deletion is done", async || again.deletion("a-code").await.unwrap().unwrap().done_at.is_some()).await;
    assert_eq!(again.erasing_since(), None);
    until("no deletion is owed", async || again.oldest_deletion().await.unwrap().is_none()).await;
    assert_eq!(fixture.shown(&OF_ZELDA), Vec::<String>::new());
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deauthorization_erases_the_login() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    store.park_person(&person(ZELDA), ParkReason::AppRemoved, None).await.unwrap();
    until("it is erased", async || store.erasing_since().is_none()).await;
    let login = [NAME, "EAAB-old-user-token-of-2210000000000777", "EAAB-new-user-token-of-2210000000000777"];
    assert_eq!(fixture.shown(&login), Vec::<String>::new());
    assert_eq!(store.counts().await.unwrap().links, 4, "the links wait for a new login");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlink_erases_the_tokens_when_nothing_is_left_to_do_with_them() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let how = Unlinking { keep_objects: false, revoke: true };
    store.unlink(&fixture.links, how).await.unwrap();
    for part in store.outbox_parts().await.unwrap() {
        complete(store, &part).await;
    }
    for standing in store.cleanups().await.unwrap() {
        store.finish_cleanup(&standing.cleanup, standing.seq).await.unwrap();
    }
    until("it is erased", async || store.erasing_since().is_none()).await;
    assert_eq!(fixture.shown(&OF_ZELDA), Vec::<String>::new());
    store.close().await;
}

/// A record whose removal waits in the queue is still in the database, and may be copied before it is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_answers_for_nothing_that_waits_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.erase().await.unwrap();
    let number = {
        // Decided, and not yet handed to the committer.
        let mut memory = store.lock();
        let mut txn = memory.state.begin(store.now());
        txn.ask_for_erasure();
        memory.state.conclude(&mut txn);
        // The request waits for a commit as one that is in the queue would.
        memory.state.erasures.wanted()
    };
    let until = std::time::Instant::now() + Duration::from_millis(1500);
    while std::time::Instant::now() < until {
        assert!(store.has_pulse(Duration::from_secs(30)).await);
        assert!(!store.lock().state.erasures.is_done(number), "nothing of it is on disk");
    }
    store.new_session(UserId::random(), Duration::from_secs(60)).await.unwrap();
    until_done(&store, number).await;
    store.close().await;
}

async fn until_done(store: &Store, number: u64) {
    until("the erasure is carried out", async || store.lock().state.erasures.is_done(number)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_under_load_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    for n in 0..60 {
        link_one(&store, user, n).await;
    }
    let work = |task: u64| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..40u8 {
                let link = LinkKey::new(user, page(task));
                store.mark_links(vec![link.clone()], Cause::Webhook).await.unwrap();
                let claim = begin_read(&store, &link).await;
                let body = bytes::Bytes::from(vec![round; 20_000]);
                store.stage(claim, [round + 1; 32], body, false).await.unwrap();
                if round % 3 == 0 {
                    complete(&store, &link.whole()).await;
                }
                if round % 10 == 0 {
                    link_one(&store, user, 100 + task * 10 + u64::from(round / 10)).await;
                    unlink(&store, &LinkKey::new(user, page(50 + task % 10)), Unlinking::default()).await.len();
                    link_one(&store, user, 50 + task % 10).await;
                }
            }
        })
    };
    let tasks: Vec<_> = (0..10).map(work).collect();
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        store.erase().await.unwrap();
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (counts, views) = (store.counts().await.unwrap(), store.views_after(None, usize::MAX).await.unwrap().len());
    assert_eq!((counts.links, views), (100, 100));
    let mut bodies = Vec::new();
    for task in 0..10 {
        bodies.push(store.outbox_item(&LinkKey::new(user, page(task))).await.unwrap().map(|item| item.body));
    }
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.mended(), store.counts().await.unwrap()), (None, counts));
    for (task, body) in (0..10).zip(bodies) {
        let item = store.outbox_item(&LinkKey::new(user, page(task))).await.unwrap();
        assert_eq!(item.map(|item| item.body), body);
    }
    store.close().await;
    drop(store);
    // The backup log alone has every link.
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.counts().await.unwrap().links, 100);
    store.close().await;
}

/// Every state in which a cut can leave a renewal is opened as if nothing had happened.
#[tokio::test]
async fn an_interrupted_renewal_is_taken_back_or_kept() {
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir(to).unwrap();
        for file in ["db", "conf"] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    };
    let states: [&dyn Fn(&Path); 4] = [
        &|dir| {
            copy(&dir.join("sled"), &dir.join("sled.new"));
            std::fs::File::options().write(true).open(dir.join("sled.new/db")).unwrap().set_len(77).unwrap();
            std::fs::write(dir.join("links.journal.new"), b"PSJ1").unwrap();
        },
        &|dir| {
            copy(&dir.join("sled"), &dir.join("sled.new"));
            std::fs::rename(dir.join("sled"), dir.join("sled.old")).unwrap();
        },
        &|dir| copy(&dir.join("sled"), &dir.join("sled.old")),
        &|dir| std::fs::rename(dir.join("sled"), dir.join("sled.old")).unwrap(),
    ];
    for state in states {
        let fixture = Fixture::new().await;
        fixture.store.close().await;
        let dir = fixture.dir.path();
        state(dir);
        let store = open(dir);
        assert_eq!((store.mended(), store.counts().await.unwrap().links), (None, 4));
        assert!(["sled.new", "sled.old"].iter().all(|name| !dir.join(name).exists()));
        store.close().await;
    }
}
