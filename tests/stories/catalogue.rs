//! The catalogue of a shop: products, collections and the index follow the shop, whatever fails on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::activity::Request;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use pagesyncd::sandbox::shopify::state::ShopFault;
use serde_json::Value;

use crate::harness::{Harness, eventually, until};
use crate::shops::{installed, shop, shopify};

fn key(user: UserId, shop: &ShopName, name: &str) -> String {
    format!("users/{user}/shopify/{shop}/{name}.json")
}

fn stored(harness: &Harness, user: UserId, shop: &ShopName, name: &str) -> Option<Value> {
    let stored = harness.server.objects.get(&key(user, shop, name))?;
    Some(serde_json::from_slice(&stored).unwrap())
}

fn product(harness: &Harness, user: UserId, shop: &ShopName, id: u64) -> Option<Value> {
    stored(harness, user, shop, &format!("products/{id}"))
}

/// The ids of the index.
fn listed(harness: &Harness, user: UserId, shop: &ShopName) -> Vec<u64> {
    let index = stored(harness, user, shop, "products/index").unwrap_or_default();
    index["data"].as_array().into_iter().flatten().map(|entry| entry["id"].as_u64().unwrap()).collect()
}

/// Objects and index are those of the shop, and nothing else is there.
fn is_true(harness: &Harness, user: UserId, shop: &ShopName) -> bool {
    let ids = shopify(harness).products(shop);
    let is_current = |id: &u64| {
        let now = shopify(harness).product(shop, *id).unwrap();
        product(harness, user, shop, *id).is_some_and(|object| {
            object["data"]["title"] == now.title.as_str()
                && object["data"]["variants"].as_array().unwrap().len() == now.variants.len()
        })
    };
    listed(harness, user, shop) == ids && ids.iter().all(is_current)
}

async fn until_true(harness: &Harness, user: UserId, shop: &ShopName) {
    until("the catalogue is true", async || is_true(harness, user, shop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_shop_is_loaded_as_a_whole() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    let first = shopify(&harness).products(&shop)[0];
    let object = product(&harness, user, &shop, first).unwrap();
    assert_eq!((&object["schema"], &object["shop"]), (&"pagesyncd/product/1".into(), &shop.as_str().into()));
    assert!(object["data"]["variants"][0]["price"].is_string(), "money is text: {object}");
    assert!(!object.to_string().contains("inventoryQuantity"), "stock is in or out: {object}");
    until("the collections are there", async || stored(&harness, user, &shop, "collections").is_some()).await;
    let collections = stored(&harness, user, &shop, "collections").unwrap();
    assert_eq!(collections["data"].as_array().unwrap().len(), shopify(&harness).collections(&shop).len());
    assert!(collections["data"][0]["products"].is_array());
    let index = key(user, &shop, "products/index");
    let put = eventually("the index is written", async || harness.world().last_put(&index)).await;
    assert_eq!(put.acl.as_deref(), Some("private"));
    assert_eq!(shopify(&harness).look(|state| state.tokens_at_files), 0, "the host of the file got a token");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_that_are_edited_made_and_deleted_follow_by_webhook() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    harness.complete().await;
    let ids = shopify(&harness).products(&shop);
    let puts = |id: u64| harness.world().puts(&key(user, &shop, &format!("products/{id}")));
    let (before, of_other) = (puts(ids[0]), puts(ids[1]));
    shopify(&harness).edit_product(&shop, ids[0], |product| product.title = "Renamed".into());
    until_true(&harness, user, &shop).await;
    harness.complete().await;
    assert_eq!((puts(ids[0]) - before, puts(ids[1])), (1, of_other), "one changed product is one write");
    let index = stored(&harness, user, &shop, "products/index").unwrap();
    assert!(index.to_string().contains("Renamed"));

    let new = shopify(&harness).create_product(&shop, "New").unwrap();
    until_true(&harness, user, &shop).await;
    assert!(shopify(&harness).delete_product(&shop, new));
    until("the product is gone", async || product(&harness, user, &shop, new).is_none()).await;
    assert_eq!(listed(&harness, user, &shop), ids, "the index was written before the object went");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_empty_no_shelf_write_nothing() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    let id = shopify(&harness).products(&shop)[0];
    shopify(&harness).set_stock(&shop, id, 1000);
    harness.complete().await;
    let puts = || harness.world().puts(&key(user, &shop, &format!("products/{id}")));
    let (before, reads) = (puts(), shopify(&harness).calls(&shop, "ProductRead"));
    for _ in 0..50 {
        assert!(shopify(&harness).sell(&shop, id, 1));
    }
    until("it was read again", async || shopify(&harness).calls(&shop, "ProductRead") > reads).await;
    harness.complete().await;
    assert_eq!(puts(), before);
    shopify(&harness).set_stock(&shop, id, 0);
    until("it is out of stock", async || {
        product(&harness, user, &shop, id).is_some_and(|object| object["data"]["inStock"] == false)
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_no_webhook_shows_are_found_by_poll_and_deletions_by_sweep() {
    let harness = Harness::plan()
        .daemon(|setup| {
            setup.shop_poll_interval = Duration::from_secs(1);
            setup.shop_sweep_interval = Duration::from_secs(6);
        })
        .start()
        .await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    shopify(&harness).set_fault(ShopFault::WebhooksLost, true);
    let ids = shopify(&harness).products(&shop);
    shopify(&harness).edit_product(&shop, ids[0], |product| product.title = "Quietly renamed".into());
    until_true(&harness, user, &shop).await;
    shopify(&harness).delete_product(&shop, ids[1]);
    until("the deletion is found", async || product(&harness, user, &shop, ids[1]).is_none()).await;
    until_true(&harness, user, &shop).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_go_on_while_sweeps_wait_or_fail() {
    for fault in [None, Some(ShopFault::BulkForeignHost), Some(ShopFault::BulkBusy)] {
        let harness = Harness::plan()
            .daemon(|setup| {
                setup.shop_poll_interval = Duration::from_secs(1);
                setup.shop_sweep_interval = Duration::from_secs(3);
            })
            .start()
            .await;
        let shop = shop(1);
        let user = installed(&harness, &shop).await;
        until_true(&harness, user, &shop).await;
        match fault {
            Some(fault) => shopify(&harness).set_fault(fault, true),
            None => shopify(&harness).change(|state| state.bulk_time = Duration::from_secs(3600)),
        };
        let asked = shopify(&harness).calls(&shop, "BulkStart");
        until("a sweep began", async || shopify(&harness).calls(&shop, "BulkStart") > asked).await;
        shopify(&harness).set_fault(ShopFault::WebhooksLost, true);
        let ids = shopify(&harness).products(&shop);
        shopify(&harness).edit_product(&shop, ids[0], |product| product.title = "Quietly renamed".into());
        until_true(&harness, user, &shop).await;
        shopify(&harness).clear_faults();
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_without_products_has_an_index_that_says_so() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    shopify(&harness).set_catalogue(&shop, 0, 0);
    let user = installed(&harness, &shop).await;
    until("the index is there", async || stored(&harness, user, &shop, "products/index").is_some()).await;
    assert!(listed(&harness, user, &shop).is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_wrong_deletes_nothing_and_is_fetched_again() {
    for fault in [
        ShopFault::BulkCutOff,
        ShopFault::BulkShort,
        ShopFault::BulkBrokenLine,
        ShopFault::BulkForeignHost,
        ShopFault::BulkFailed,
        ShopFault::BulkBusy,
    ] {
        let harness = Harness::plan().daemon(|setup| setup.shop_sweep_interval = Duration::from_secs(2)).start().await;
        let shop = shop(1);
        let user = installed(&harness, &shop).await;
        until_true(&harness, user, &shop).await;
        let starts = shopify(&harness).calls(&shop, "BulkStart");
        shopify(&harness).set_fault(fault, true);
        until(&format!("a sweep met {fault:?}"), async || shopify(&harness).calls(&shop, "BulkStart") > starts).await;
        harness.complete().await;
        assert!(is_true(&harness, user, &shop), "{fault:?}");
        shopify(&harness).clear_faults();
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_read_after_a_crash_and_a_sweep_goes_on() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    shopify(&harness).change(|state| state.bulk_time = Duration::from_secs(3600));
    let user = installed(&harness, &shop).await;
    until("the sweep waits", async || shopify(&harness).calls(&shop, "BulkStatus") > 0).await;
    let ids = shopify(&harness).products(&shop);
    shopify(&harness).set_fault(ShopFault::Unavailable, true);
    shopify(&harness).edit_product(&shop, ids[0], |product| product.title = "Acknowledged".into());
    until("the change is acknowledged", async || harness.status().await["due"] != 0).await;
    harness.crash().await;
    shopify(&harness).clear_faults();
    until("the change is stored", async || {
        product(&harness, user, &shop, ids[0]).is_some_and(|object| object["data"]["title"] == "Acknowledged")
    })
    .await;
    shopify(&harness).change(|state| state.bulk_time = Duration::ZERO);
    until_true(&harness, user, &shop).await;
    assert_eq!(shopify(&harness).calls(&shop, "BulkStart"), 1, "the operation that was begun is waited for");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_that_is_deleted_during_a_sweep_does_not_come_back() {
    let harness = Harness::plan().daemon(|setup| setup.shop_sweep_interval = Duration::from_secs(4)).start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    shopify(&harness).change(|state| state.bulk_time = Duration::from_secs(3));
    let starts = || shopify(&harness).calls(&shop, "BulkStart");
    let (id, before) = (shopify(&harness).products(&shop)[0], starts());
    until("a sweep begins", async || starts() > before).await;
    shopify(&harness).delete_product(&shop, id);
    until("the product is gone", async || product(&harness, user, &shop, id).is_none()).await;
    let puts = || harness.world().puts(&key(user, &shop, &format!("products/{id}")));
    let (written, during) = (puts(), starts());
    until("the next sweep begins", async || starts() > during).await;
    assert_eq!(puts(), written, "the file of the sweep is older than the deletion");
    shopify(&harness).change(|state| state.bulk_time = Duration::ZERO);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlink_deletes_every_object_of_the_catalogue() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    shopify(&harness).set_catalogue(&shop, 600, 2);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    // A store that was rebuilt does not know of all objects.
    harness.server.objects.land(&key(user, &shop, "products/424242"), b"{}");
    let unlinked = harness.run(&["unlink", shop.as_str(), "--source", "shopify"]).await;
    assert!(unlinked.status.success(), "{}", String::from_utf8_lossy(&unlinked.stderr));
    let prefix = format!("users/{user}/");
    until("nothing of the shop is left", async || {
        !harness.server.objects.list().iter().any(|key| key.starts_with(&prefix))
    })
    .await;
    // What it had is not taken for known when it is back.
    let again = crate::shops::install(&harness, &mut harness.browser(user).await, &shop).await;
    assert_eq!(again.status, 200);
    until_true(&harness, user, &shop).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_is_followed_again_after_an_uninstallation() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    shopify(&harness).uninstall(&shop);
    crate::shops::until_health(&harness, &shop, "uninstalled").await;
    let ids = shopify(&harness).products(&shop);
    shopify(&harness).delete_product(&shop, ids[0]);
    shopify(&harness).edit_product(&shop, ids[1], |product| product.title = "Meanwhile".into());
    let kept: BTreeSet<u64> = listed(&harness, user, &shop).into_iter().collect();
    assert!(kept.contains(&ids[0]), "objects stay as they are");
    let again = crate::shops::install(&harness, &mut harness.browser(user).await, &shop).await;
    assert_eq!(again.status, 200, "{}", again.text());
    until_true(&harness, user, &shop).await;
    until("the deleted one is gone", async || product(&harness, user, &shop, ids[0]).is_none()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_missing_or_altered_are_written_again_by_the_sweep() {
    let harness = Harness::plan().daemon(|setup| setup.shop_sweep_interval = Duration::from_secs(3)).start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    harness.complete().await;
    let ids = shopify(&harness).products(&shop);
    let name = |id: u64| key(user, &shop, &format!("products/{id}"));
    let bucket = &harness.server.objects;
    assert!(bucket.delete(&name(ids[0])) && bucket.delete(&key(user, &shop, "products/index")));
    bucket.land(&name(ids[1]), b"{\"data\":{}}");
    bucket.land(&name(999_999), b"{}");
    until("all of them are right again", async || {
        is_true(&harness, user, &shop) && product(&harness, user, &shop, 999_999).is_none()
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_fails_is_made_again_without_the_file_of_the_sweep() {
    let harness = Harness::plan().daemon(|setup| setup.shop_sweep_interval = Duration::from_secs(3)).start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    until_true(&harness, user, &shop).await;
    harness.complete().await;
    let lost = key(user, &shop, &format!("products/{}", shopify(&harness).products(&shop)[0]));
    harness.world().set_fault_for(Fault::SpacesSlowDown, Scope::call(Call::Head));
    assert!(harness.server.objects.delete(&lost));
    // Nothing but the comparison looks at this object.
    let is_look = |request: &Request| request.method == "HEAD" && request.path.ends_with(&lost);
    let looks = || harness.world().requests().iter().filter(|request| is_look(request)).count();
    until("the comparison has failed", async || looks() > 0).await;
    // The state of the operation is asked for before its file is.
    let asked = || ["BulkStart", "BulkStatus"].map(|operation| shopify(&harness).calls(&shop, operation));
    let (before, during) = (looks(), asked());
    until("it is made again and again", async || looks() > before + 1).await;
    assert_eq!(asked(), during);
    harness.world().clear_faults();
    until_true(&harness, user, &shop).await;
    harness.finish().await;
}
