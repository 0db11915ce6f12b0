//! Events: decided with their cause, kept over starts, sent one at a time for each key.

use super::*;
use crate::core::event::{EventKey, EventKind};
use crate::core::health::ParkReason;
use crate::store::events::{Begun, Sending};

fn on(dir: &Path) -> Store {
    let store = open(dir);
    store.switch_events(true);
    store
}

fn event_key(link: &LinkKey) -> EventKey {
    EventKey::Link(link.clone())
}

fn object(name: &str, phone: &str) -> bytes::Bytes {
    format!(r#"{{"data":[{{"id":"1","name":"{name}","phone":"{phone}"}}],"paging":{{}}}}"#).into()
}

/// What the uploader notes of this item once Spaces has it.
fn written(item: &OutboxItem) -> Left {
    let fields = Some(crate::sources::fields_of_object(crate::core::model::Source::Facebook, &item.body));
    Left { fields, ..Left::default() }
}

async fn write(store: &Store, link: &LinkKey, digest: u8, body: bytes::Bytes) {
    let claim = begin_read(store, link).await;
    store.stage(claim, [digest; 32], body, true).await.unwrap();
    let item = store.outbox_item(link).await.unwrap().unwrap();
    store.complete(link, &item, None, written(&item)).await.unwrap();
}

async fn begin(store: &Store, event_key: &EventKey) -> Option<Sending> {
    match store.begin_event(event_key).await.unwrap() {
        Begun::Goes(sending) => Some(*sending),
        Begun::Nothing => None,
        Begun::Busy => panic!("one is on its way"),
    }
}

/// Delivers all of a key.
async fn all(store: &Store, event_key: &EventKey) -> Vec<EventKind> {
    let mut delivered = Vec::new();
    while let Some(sending) = begin(store, event_key).await {
        delivered.push(sending.event().kind.clone());
        sending.delivered().await.unwrap();
    }
    delivered
}

fn updated(link: &LinkKey, changed: &[&str]) -> EventKind {
    EventKind::Updated { link: link.clone(), changed: changed.iter().map(|f| (*f).to_owned()).collect() }
}

#[tokio::test]
async fn a_life_of_a_link_is_told_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = on(dir.path());
    let user = UserId::random();
    let link = link_one(&store, user, 1).await;
    write(&store, &link, 1, object("A", "1")).await;
    let linked = |anew| EventKind::Linked { link: link.clone(), anew };
    assert_eq!(all(&store, &event_key(&link)).await, [linked(false), updated(&link, &["id", "name", "phone"])]);
    write(&store, &link, 2, object("B", "1")).await;
    write(&store, &link, 2, object("B", "1")).await;
    assert_eq!(all(&store, &event_key(&link)).await, [updated(&link, &["name"])], "a repair is nothing new");
    let at = held(&store, &link).await;
    store.park_link(&link, at, ParkReason::Expired).await.unwrap();
    store.park_link(&link, at, ParkReason::Invalid).await.unwrap();
    let parked = all(&store, &event_key(&link)).await;
    assert!(
        matches!(&parked[..], [EventKind::NeedsRelink { parked, .. }] if parked.why == ParkReason::Expired),
        "{parked:?}"
    );
    link_one(&store, user, 1).await;
    assert_eq!(all(&store, &event_key(&link)).await, [linked(true)]);
    unlink(&store, &link, Unlinking { keep_objects: true, revoke: false }).await;
    link_one(&store, user, 1).await;
    write(&store, &link, 2, object("B", "1")).await;
    let kept = EventKind::Unlinked { link: link.clone(), kept: true };
    assert_eq!(all(&store, &event_key(&link)).await, [kept, linked(false), updated(&link, &["id", "name", "phone"])]);
    assert_eq!(store.event_counts().await.unwrap(), Default::default());
    store.close().await;
}

#[tokio::test]
async fn what_waits_survives_a_start_with_its_ids_and_goes_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = on(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    write(&store, &link, 1, object("A", "1")).await;
    let first = begin(&store, &event_key(&link)).await.unwrap();
    assert!(matches!(store.begin_event(&event_key(&link)).await.unwrap(), Begun::Busy));
    assert!(!first.is_again());
    let id = first.event().id.clone();
    drop(first);
    assert!(begin(&store, &event_key(&link)).await.unwrap().is_again());
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.event_keys().await.unwrap(), [event_key(&link)]);
    assert_eq!(store.event_counts().await.unwrap().waiting, 2);
    let first = begin(&store, &event_key(&link)).await.unwrap();
    assert_eq!(first.event().id, id);
    assert!(first.delivered().await.unwrap(), "another waits");
    // A number that is free again is not given to one that goes before it.
    write(&store, &link, 3, object("C", "1")).await;
    store.switch_events(true);
    unlink(&store, &link, Unlinking { keep_objects: false, revoke: false }).await;
    let kinds: Vec<_> = all(&store, &event_key(&link)).await.iter().map(EventKind::word).collect();
    assert_eq!(kinds, ["page.unlinked"]);
    store.close().await;
    drop(store);
    assert_eq!(open(dir.path()).event_counts().await.unwrap().waiting, 0);
}

#[tokio::test]
async fn off_nothing_is_decided_and_what_waits_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = on(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    assert_eq!(store.drop_events().await.unwrap(), 0, "they are on");
    store.switch_events(false);
    write(&store, &link, 1, object("A", "1")).await;
    assert_eq!(store.event_counts().await.unwrap().waiting, 1);
    assert_eq!(store.drop_events().await.unwrap(), 1);
    assert!(begin(&store, &event_key(&link)).await.is_none());
    write(&store, &link, 2, object("A", "2")).await;
    store.switch_events(true);
    write(&store, &link, 3, object("B", "2")).await;
    assert_eq!(all(&store, &event_key(&link)).await, [updated(&link, &["name"])]);
    store.close().await;
}

#[tokio::test]
async fn a_write_that_outlived_its_link_tells_all_fields_of_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = on(dir.path());
    let user = UserId::random();
    let link = link_one(&store, user, 1).await;
    write(&store, &link, 1, object("A", "1")).await;
    all(&store, &event_key(&link)).await;
    let claim = begin_read(&store, &link).await;
    store.stage(claim, [2; 32], object("B", "1"), false).await.unwrap();
    let item = store.outbox_item(&link).await.unwrap().unwrap();
    unlink(&store, &link, Unlinking { keep_objects: true, revoke: false }).await;
    // The bytes arrive for a link that is gone: they cause no event.
    store.complete(&link, &item, None, written(&item)).await.unwrap();
    assert_eq!(all(&store, &event_key(&link)).await.len(), 1);
    link_one(&store, user, 1).await;
    store.complete(&link, &item, None, written(&item)).await.unwrap();
    assert_eq!(all(&store, &event_key(&link)).await[1], updated(&link, &["id", "name", "phone"]));
    store.close().await;
}

#[tokio::test]
async fn a_deletion_is_told_once_when_no_delete_is_owed() {
    let dir = tempfile::tempdir().unwrap();
    let store = on(dir.path());
    let (user, person): (_, AppUserId) = (UserId::random(), "77".parse().unwrap());
    let new = |n| NewLink { page: page(n), token: Secret::new("t"), name: None, facebook_user: Some(person.clone()) };
    store.put_links(store.ticket().await.unwrap(), user, None, vec![new(1), new(2)], Cause::Link).await.unwrap();
    let gone = store.forget_person(&person, "code", None).await.unwrap();
    let links: Vec<LinkKey> = gone.links.into_iter().map(|(link, _)| link).collect();
    let deletion = EventKey::Deletion("code".into());
    for link in &links {
        assert!(begin(&store, &deletion).await.is_none());
        let item = store.outbox_item(link).await.unwrap().unwrap();
        store.complete(link, &item, None, written(&item)).await.unwrap();
    }
    store.erase().await.unwrap();
    assert_eq!(all(&store, &deletion).await, [EventKind::Deleted { code: "code".into(), links: links.clone() }]);
    // The same object, deleted once more for another reason.
    link_one(&store, user, 1).await;
    unlink(&store, &links[0], Unlinking { keep_objects: false, revoke: false }).await;
    let item = store.outbox_item(&links[0]).await.unwrap().unwrap();
    store.complete(&links[0], &item, None, written(&item)).await.unwrap();
    assert!(begin(&store, &deletion).await.is_none());
    // Nothing to delete is done at once; an object that a new login overtakes is not owed any more.
    store.erase().await.unwrap();
    store.forget_person(&person, "nothing", None).await.unwrap();
    assert_eq!(all(&store, &EventKey::Deletion("nothing".into())).await.len(), 1);
    store.put_links(store.ticket().await.unwrap(), user, None, vec![new(3)], Cause::Link).await.unwrap();
    store.forget_person(&person, "overtaken", None).await.unwrap();
    store.put_links(store.ticket().await.unwrap(), user, None, vec![new(3)], Cause::Link).await.unwrap();
    let overtaken = EventKey::Deletion("overtaken".into());
    assert!(begin(&store, &overtaken).await.is_none());
    write(&store, &LinkKey::new(user, page(3)), 1, object("A", "1")).await;
    store.erase().await.unwrap();
    assert_eq!(all(&store, &overtaken).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_store_that_lost_its_end_knows_no_fields() {
    let dir = tempfile::tempdir().unwrap();
    let store = on(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    write(&store, &link, 1, object("A", "1")).await;
    store.close().await;
    drop(store);
    let (high_water_mark, last) = backup_log::HighWaterMark::open(dir.path()).unwrap();
    high_water_mark.rise(last.batch + 1).unwrap();
    let store = on(dir.path());
    assert!(store.mended().is_some());
    all(&store, &event_key(&link)).await;
    write(&store, &link, 1, object("A", "1")).await;
    assert_eq!(all(&store, &event_key(&link)).await, [updated(&link, &["id", "name", "phone"])]);
    store.close().await;
}
