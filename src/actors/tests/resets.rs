//! The store goes down, comes back, and everything looks again.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::clock::{pass, until, until_passing};
use super::harness::{DEBOUNCE, Harness, open_store, page, page_id, put_links};
use crate::core::catalogue::{Piece, Progress};
use crate::core::model::{Cause, LinkKey, PartKey, Secret, UserId, WallTime};
use crate::sources::shopify::fake::{Fake, Reply, shop};
use crate::store::shops::{NewShop, ShopPair};
use crate::store::unlink::Unlinking;
use crate::store::{Condition, Store};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_delivery_that_the_store_refused_is_taken_when_it_is_back() {
    let harness = Harness::with_links(1).await;
    harness.store().drill();
    harness.graph.rename(&page(0), "Delivered twice");
    harness.store().mark_pages(&[page_id(0)], Cause::Webhook).await.unwrap_err();
    let condition = harness.store().condition();
    until("the store is back", || *condition.borrow() == Condition::Up).await;
    harness.store().mark_pages(&[page_id(0)], Cause::Webhook).await.unwrap();
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Delivered twice"));
}

#[tokio::test]
async fn a_store_that_breaks_over_a_stage_costs_another_read() {
    let harness = Harness::with_links(1).await;
    let store = harness.store().clone();
    harness.graph.hook("read", move || store.drill());
    harness.change(0, "Changed").await;
    harness.until_complete().await;
    assert_eq!(harness.later_events(0), ["page.updated"]);
}

/// Decisions whose callers were refused may be on disk all the same. Here they are: the store comes back with a link
/// more, a link less, a mark, a delete, cleanups and events that no actor heard of.
#[tokio::test]
async fn a_store_that_comes_back_with_other_work_wakes_everybody() {
    let mut harness = Harness::with_links(2).await;
    harness.stop().await;
    let folder = harness.store_folder();
    let (other, away) = (folder.with_extension("other"), folder.with_extension("away"));
    copy(&folder, &other);
    {
        let store = open_store(&other, &harness.usual_config());
        store.switch_events(true);
        put_links(&store, harness.user, &[7]).await;
        store.unlink(&[harness.key(1)], Unlinking::default()).await.unwrap();
        store.mark_pages(&[page_id(0)], Cause::Webhook).await.unwrap();
        store.close().await;
    }
    harness.boot().await;
    harness.graph.rename(&page(0), "Marked on disk");
    harness.graph.rename(&page(7), "Linked on disk");
    std::fs::rename(&folder, &away).unwrap();
    harness.store().drill();
    harness.store().mark_pages(&[page_id(0)], Cause::Webhook).await.unwrap_err();
    std::fs::rename(&other, &folder).unwrap();
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Marked on disk"));
    assert_eq!(harness.written(7).as_deref(), Some("Linked on disk"));
    assert_eq!((harness.written(1), harness.graph.is_subscribed(&page(1))), (None, false));
    assert!(harness.context().pages.find(&harness.key(1)).is_none());
    assert_eq!(harness.later_events(1), ["page.unlinked"]);
    assert!(harness.later_events(7).is_empty());
}

/// Links the shop of the tests, which was read and whose catalogue was walked over a moment ago.
async fn put_shop(store: &Store, user: UserId) -> LinkKey {
    let now = WallTime::now();
    let new = NewShop {
        shop: shop(),
        pair: ShopPair { access: Secret::new("shpat_x"), refresh: Secret::new("shprt_x") },
        expires_at: now.plus(Duration::from_secs(24 * 3600)),
        refresh_expires_at: None,
        scopes: Vec::new(),
        name: None,
    };
    let ticket = store.ticket().await.unwrap();
    store.put_shop(ticket, user, &new, (Cause::Link, None)).await.unwrap().unwrap();
    let link = LinkKey::of_shop(user, shop());
    let generation = store.generation(&link).await.unwrap().unwrap();
    let walked = Progress { generation, polled_at: Some(now), swept_at: Some(now), ..Progress::default() };
    store.note_progress(&link, generation, &walked).await.unwrap();
    let read = store.claim(&link, generation).await.unwrap().unwrap();
    store.stage(read, [1; 32], Bytes::from_static(b"{}"), false).await.unwrap();
    link
}

/// A product's mark whose answer was lost, for one, and that of a product that is gone for good.
#[tokio::test]
async fn a_store_that_comes_back_with_the_mark_of_a_product_wakes_its_catalogue() {
    let shopify = Fake::start(|_| Reply::Json(500, serde_json::json!({}))).await;
    let asked = || shopify.seen().iter().filter(|seen| seen.json.to_string().contains("Product/7\"")).count();
    let mut harness = Harness::start().await;
    harness.stop().await;
    harness.shopify = Some(shopify.client());
    let folder = harness.store_folder();
    let (other, away) = (folder.with_extension("other"), folder.with_extension("away"));
    let store = open_store(&folder, &harness.usual_config());
    let link = put_shop(&store, harness.user).await;
    store.close().await;
    copy(&folder, &other);
    let store = open_store(&other, &harness.usual_config());
    store.mark_parts(vec![PartKey::new(link.clone(), Piece::Product(7).part())], Cause::Webhook).await.unwrap();
    let marked_at = WallTime::now();
    store.close().await;
    harness.boot().await;
    let written = || harness.spaces.object(&link.object_key()).is_some();
    until_passing("the shop is written", written).await;
    // Its catalogue finds nothing to do, and waits for minutes.
    pass(Duration::from_secs(30)).await;
    assert_eq!(asked(), 0);
    std::fs::rename(&folder, &away).unwrap();
    harness.store().drill();
    // The drill breaks the next write.
    let collections = PartKey::new(link.clone(), Piece::Collections.part());
    harness.store().mark_parts(vec![collections], Cause::Poll).await.unwrap_err();
    std::fs::rename(&other, &folder).unwrap();
    let condition = harness.store().condition();
    until("the store is back", || *condition.borrow() == Condition::Up).await;
    // Marks have their times from the clock that goes on.
    until("the debounce is over", || WallTime::now().since(marked_at) > DEBOUNCE).await;
    let began = Instant::now();
    until_passing("the product is read", || asked() > 0).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
