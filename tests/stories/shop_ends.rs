//! The ends of shops: the uninstall with the last link, and a deletion that Shopify asks for.

use std::time::Duration;

use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::shopify::ShopTopic;
use pagesyncd::sandbox::shopify::state::ShopFault;
use serde_json::{Value, json};

use crate::harness::{Harness, Plan, until};
use crate::shops::{health, install, installed, object, shop, shopify, until_health};

/// After a start a call of the process before it may be on its way for as long as calls may take.
fn quick() -> Plan {
    let keys = ["facebook.request_timeout", "shopify.request_timeout", "spaces.request_timeout"];
    keys.into_iter().fold(Harness::plan(), |plan, key| plan.set(key, "3s"))
}

async fn cleanups(harness: &Harness) -> Value {
    harness.status().await["cleanups"].clone()
}

fn is_installed(harness: &Harness, shop: &ShopName) -> bool {
    shopify(harness).look(|state| state.shops[shop].app.installed)
}

async fn unlink(harness: &Harness, shop: &ShopName, user: UserId) -> String {
    let user = user.to_string();
    let arguments = ["unlink", shop.as_str(), "--source", "shopify", "--user", &user, "--revoke", "--yes"];
    let output = harness.run(&arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_uninstalled_with_the_last_link_where_that_is_wished() {
    let harness = quick().start().await;
    let shop = shop(1);
    let (one, two) = (installed(&harness, &shop).await, installed(&harness, &shop).await);
    assert!(unlink(&harness, &shop, one).await.contains("still has 1 links"));
    assert!(is_installed(&harness, &shop));
    // Shopify is away, and the daemon dies.
    shopify(&harness).set_fault(ShopFault::Unavailable, true);
    assert!(unlink(&harness, &shop, two).await.contains("the app is being uninstalled"));
    assert_eq!(cleanups(&harness).await["uninstall"], 1);
    harness.crash().await;
    assert_eq!(cleanups(&harness).await["uninstall"], 1);
    shopify(&harness).set_fault(ShopFault::Unavailable, false);
    until("the app is uninstalled", async || !is_installed(&harness, &shop)).await;
    until("nothing is left to do", async || cleanups(&harness).await == json!({})).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uninstall_that_needs_another_token_gets_one() {
    let harness = quick().start().await;
    let shop = shop(1);
    // Access tokens that are over soon after they came.
    shopify(&harness).change(|state| state.token_life = Duration::from_secs(90));
    let user = installed(&harness, &shop).await;
    shopify(&harness).set_fault(ShopFault::RefreshFailed, true);
    unlink(&harness, &shop, user).await;
    shopify(&harness).change(|state| state.shops.get_mut(&shop).unwrap().app.access.clear());
    until("it was tried", async || harness.log().contains("cleanup [uninstall")).await;
    assert!(is_installed(&harness, &shop));
    shopify(&harness).set_fault(ShopFault::RefreshFailed, false);
    until("the app is uninstalled", async || !is_installed(&harness, &shop)).await;
    until("nothing is left to do", async || cleanups(&harness).await == json!({})).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redact_of_a_closed_shop_deletes_it_unless_it_has_opened_again() {
    let harness = quick().start().await;
    let (closed, open) = (shop(1), shop(2));
    let users = [installed(&harness, &closed).await, installed(&harness, &open).await];
    for shop in [&closed, &open] {
        shopify(&harness).set_shop_fault(shop, ShopFault::Inactive, true);
        shopify(&harness).edit_shop(shop, "name", "Closed");
        until_health(&harness, shop, "shop_gone").await;
    }
    shopify(&harness).set_shop_fault(&open, ShopFault::Inactive, false);
    for shop in [&closed, &open] {
        let body = json!({"shop_id": 1, "shop_domain": shop});
        assert_eq!(shopify(&harness).send(shop, ShopTopic::ShopRedact, &body).await, Some(200));
    }
    until("nothing of the closed shop is left", async || {
        health(&harness, &closed).await == "not linked" && object(&harness, users[0], &closed).is_none()
    })
    .await;
    until("nothing is owed", async || cleanups(&harness).await == json!({})).await;
    assert!(object(&harness, users[1], &open).is_some());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redact_is_owed_while_shopify_cannot_say_whether_the_token_works() {
    let harness = quick().start().await;
    let (one, two) = (shop(1), shop(2));
    let users = [installed(&harness, &one).await, installed(&harness, &two).await];
    // Both are uninstalled, and nothing was heard of it.
    shopify(&harness).set_fault(ShopFault::WebhooksLost, true);
    [&one, &two].iter().for_each(|shop| shopify(&harness).uninstall(shop));
    shopify(&harness).set_fault(ShopFault::WebhooksLost, false);
    shopify(&harness).set_fault(ShopFault::Unavailable, true);
    for shop in [&one, &two] {
        let body = json!({"shop_id": 1, "shop_domain": shop});
        assert_eq!(shopify(&harness).send(shop, ShopTopic::ShopRedact, &body).await, Some(200));
    }
    assert_eq!(cleanups(&harness).await["redact"], 2);
    harness.crash().await;
    assert_eq!(cleanups(&harness).await["redact"], 2);
    assert!(object(&harness, users[0], &one).is_some() && object(&harness, users[1], &two).is_some());
    shopify(&harness).set_fault(ShopFault::Unavailable, false);
    // The merchant of the second shop is back before Shopify is asked.
    let answer = install(&harness, &mut harness.browser(users[1]).await, &two).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    until("nothing of the first shop is left", async || {
        health(&harness, &one).await == "not linked" && object(&harness, users[0], &one).is_none()
    })
    .await;
    until("nothing is owed", async || cleanups(&harness).await == json!({})).await;
    until_health(&harness, &two, "active").await;
    assert!(object(&harness, users[1], &two).is_some());
    harness.finish().await;
}
