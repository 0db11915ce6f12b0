//! Shops that are exported and imported, and the exchange of tokens of the old kind.

use http::Method;
use pagesyncd::core::model::{ShopName, UserId, WallTime};
use pagesyncd::sandbox::shopify::state::ShopFault;
use serde_json::{Value, json};

use crate::harness::{Harness, eventually, until};
use crate::shops::{health, install, installed, keep_tokens, object, shop, shopify, until_health, until_named};

const OLD: &str = "shpat_0123456789abcdef0123456789abcdef";

/// The app is installed since times when tokens did not expire.
fn has_old_token(harness: &Harness, shop: &ShopName) {
    harness.keep_secret(OLD);
    shopify(harness).change(|state| {
        let app = &mut state.shops.get_mut(shop).unwrap().app;
        app.installed = true;
        app.scopes = ["read_products", "read_legal_policies", "read_content"].map(str::to_owned).into();
        app.access.insert(OLD.to_owned(), WallTime::now().plus(std::time::Duration::from_secs(1 << 30)));
    });
}

async fn import_old(harness: &Harness, user: UserId, shop: &ShopName) -> Value {
    let line = json!({"source": "shopify", "user": user, "shop": shop, "access_token": OLD});
    let (status, reply) = harness.admin(Method::POST, "/v1/import", &line.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_shops_imported_into_an_empty_store_gives_links_that_work() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let users = [installed(&harness, &shop).await, installed(&harness, &shop).await];
    assert_eq!(harness.daemon.stop().await, Some(0));
    let path = harness.scratch_dir().join("shops.export");
    let path = path.to_str().unwrap();
    let output = harness.run(&["export", path]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 links exported"));
    std::fs::remove_dir_all(&harness.setup.store_path).unwrap();
    let output = harness.run(&["import", path, "--json"]).await;
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&reply["imported"], &reply["left"], &reply["bad"]), (&2.into(), &json!([]), &json!([])));
    harness.daemon.start().await.unwrap();
    shopify(&harness).edit_shop(&shop, "name", "Moved");
    for user in users {
        until_named(&harness, user, &shop, "Moved").await;
    }
    assert_eq!(health(&harness, &shop).await, "active");
    // The same file again replaces nothing, also by the way of the daemon.
    let output = harness.run(&["import", path, "--json"]).await;
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&reply["imported"], &reply["left"]), (&2.into(), &json!([])));
    // A link of another user gets the pair that the shop has.
    let other = UserId::random();
    let line = json!({"source": "shopify", "user": other, "shop": shop, "access_token": OLD});
    let (_, reply) = harness.admin(Method::POST, "/v1/import", &line.to_string()).await;
    assert_eq!((&reply["imported"], &reply["kept"][0]["line"]), (&1.into(), &1.into()), "{reply}");
    eventually("the other's object is there", async || object(&harness, other, &shop)).await;
    assert_eq!(health(&harness, &shop).await, "active");
    keep_tokens(&harness);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_token_is_exchanged_for_a_pair_before_it_is_used() {
    let harness = Harness::plan().start().await;
    let (shop, user) = (shop(1), UserId::random());
    has_old_token(&harness, &shop);
    // An answer that never came because nothing was done is no harm.
    shopify(&harness).set_fault(ShopFault::RefreshFailed, true);
    assert_eq!(import_old(&harness, user, &shop).await["imported"], 1);
    until("the exchange failed", async || {
        let (_, value) = harness.admin(Method::GET, "/v1/links?source=shopify", "").await;
        value["links"][0]["reason"].as_str().is_some_and(|reason| reason.contains("shopify call migrate failed"))
    })
    .await;
    assert_eq!(health(&harness, &shop).await, "active");
    shopify(&harness).set_fault(ShopFault::RefreshFailed, false);
    eventually("the object is there", async || object(&harness, user, &shop)).await;
    let (is_old, refresh) = shopify(&harness).look(|state| {
        let app = &state.shops[&shop].app;
        (app.access.contains_key(OLD), app.pair.as_ref().map(|pair| pair.refresh.clone()))
    });
    assert!(!is_old && refresh.is_some(), "the old token is over, and there is a pair");
    keep_tokens(&harness);
    // The pair is durable, and from here on like any other.
    harness.crash().await;
    shopify(&harness).edit_shop(&shop, "name", "Migrated");
    until_named(&harness, user, &shop, "Migrated").await;
    // The line that brought the old token does not bring it back.
    let reply = import_old(&harness, user, &shop).await;
    assert_eq!((&reply["imported"], &reply["left"][0]["shop"]), (&0.into(), &shop.as_str().into()), "{reply}");
    assert_eq!(health(&harness, &shop).await, "active");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_exchange_of_an_old_token_is_named_with_its_remedy() {
    let harness = Harness::plan().start().await;
    let (shop, user) = (shop(1), UserId::random());
    has_old_token(&harness, &shop);
    shopify(&harness).set_fault(ShopFault::RefreshLost, true);
    import_old(&harness, user, &shop).await;
    until("the old token ended", async || {
        shopify(&harness).look(|state| !state.shops[&shop].app.access.contains_key(OLD))
    })
    .await;
    keep_tokens(&harness);
    // The intent outlives a crash.
    harness.daemon.kill_now().await;
    shopify(&harness).set_fault(ShopFault::RefreshLost, false);
    harness.daemon.start().await.unwrap();
    until_health(&harness, &shop, "needs_login").await;
    let (_, value) = harness.admin(Method::GET, "/v1/links?source=shopify", "").await;
    let link = &value["links"][0];
    assert!(link["reason"].as_str().unwrap().contains("answer was lost"), "{link}");
    assert!(link["remedy"].as_str().unwrap().contains("opens the app"), "{link}");
    assert_eq!(install(&harness, &mut harness.browser(user).await, &shop).await.status, 200);
    until_health(&harness, &shop, "active").await;
    harness.finish().await;
}
