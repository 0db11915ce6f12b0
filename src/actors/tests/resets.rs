//! The store goes down, comes back, and everything looks again.

use std::path::Path;

use super::clock::until;
use super::harness::{Harness, open_store, page, page_id, put_links};
use crate::core::model::Cause;
use crate::store::Condition;
use crate::store::unlink::Unlinking;

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
