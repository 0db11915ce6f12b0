//! Shops: the app is installed, read, uninstalled and installed again.

use std::time::Duration;

use pagesyncd::core::model::{ShopName, UserId, WallTime};
use pagesyncd::sandbox::shopify::state::ShopFault;
use pagesyncd::sandbox::shopify::{ShopTopic, Shopify};
use serde_json::{Value, json};

use crate::harness::{ADA, Answer, Browser, Harness, eventually, until};

pub fn shop(n: usize) -> ShopName {
    format!("sandbox-{n}.myshopify.com").parse().unwrap()
}

fn key(user: UserId, shop: &ShopName) -> String {
    format!("users/{user}/shopify/{shop}/shop_data.json")
}

pub fn shopify(harness: &Harness) -> &Shopify {
    &harness.server.shopify
}

/// The object of a shop, where there is one.
pub fn object(harness: &Harness, user: UserId, shop: &ShopName) -> Option<Value> {
    let stored = harness.server.objects.get(&key(user, shop))?;
    Some(serde_json::from_slice(&stored).unwrap())
}

pub async fn until_named(harness: &Harness, user: UserId, shop: &ShopName, name: &str) {
    until(&format!("the object says {name}"), async || {
        object(harness, user, shop).is_some_and(|object| object["data"]["shop"]["name"] == name)
    })
    .await;
}

/// The address of the shop's authorize page.
pub async fn to_shop(harness: &Harness, browser: &mut Browser, shop: &ShopName) -> String {
    let answer = harness.browse(browser, &format!("/shopify/install?shop={shop}"), "*/*").await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    answer.header("location").to_owned()
}

/// The merchant decides: the address that the browser goes back to.
pub async fn decide(harness: &Harness, page: &str, decision: &str) -> String {
    let answer = harness.http.post(page).form(&[("decision", decision)]).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 302);
    let back = answer.headers()["location"].to_str().unwrap().to_owned();
    for (name, value) in url::form_urlencoded::parse(back.split_once('?').unwrap().1.as_bytes()) {
        if name == "code" || name == "hmac" {
            harness.keep_secret(&value);
        }
    }
    back
}

/// A whole installation, and the answer to its last step.
pub async fn install(harness: &Harness, browser: &mut Browser, shop: &ShopName) -> Answer {
    let page = to_shop(harness, browser, shop).await;
    let back = decide(harness, &page, "install").await;
    let answer = harness.browse(browser, &back, "*/*").await;
    keep_tokens(harness);
    answer
}

/// No token of a shop may appear anywhere.
pub fn keep_tokens(harness: &Harness) {
    shopify(harness).look(|state| {
        for shop in state.shops.values() {
            shop.app.access.keys().for_each(|token| harness.keep_secret(token));
            shop.app.pair.iter().for_each(|pair| harness.keep_secret(&pair.refresh));
        }
    });
}

/// The shop is linked for a new user and stored.
pub async fn installed(harness: &Harness, shop: &ShopName) -> UserId {
    let user = UserId::random();
    let answer = install(harness, &mut harness.browser(user).await, shop).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("the object is there", async || object(harness, user, shop)).await;
    harness.complete().await;
    user
}

pub async fn health(harness: &Harness, shop: &ShopName) -> String {
    let (_, value) = harness.admin(http::Method::GET, "/v1/links?source=shopify", "").await;
    let links = value["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["id"] == shop.as_str());
    link.map_or("not linked".to_owned(), |link| link["health"].as_str().unwrap().to_owned())
}

pub async fn until_health(harness: &Harness, shop: &ShopName, wanted: &str) {
    until(&format!("the shop is {wanted}"), async || health(harness, shop).await == wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_gives_a_session_a_link_and_an_object_and_leads_on_to_facebook() {
    let harness = Harness::plan().daemon(|setup| setup.allow_new = true).start().await;
    let shop = shop(1);
    let mut browser = Browser::default();
    let answer = install(&harness, &mut browser, &shop).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    let reply = answer.json();
    let user: UserId = reply["user_uuid"].as_str().unwrap().parse().unwrap();
    assert_eq!(reply["shop"]["shop"], shop.as_str());
    assert_eq!(reply["shop"]["missing_scopes"], json!([]));
    assert_eq!(reply["webhook_test"]["status"], "success");
    assert_eq!(reply["polling_test"][0]["result"]["status"], "success", "{reply}");
    let object = object(&harness, user, &shop).unwrap();
    assert_eq!((&object["schema"], &object["shop"]), (&"pagesyncd/shop_data/1".into(), &shop.as_str().into()));
    assert_eq!((&object["user"], &object["source"]), (&user.to_string().into(), &"link".into()));
    assert_eq!(object["api_version"], "2026-10");
    assert_eq!(object["data"]["shop"]["name"], "Sandbox Shop 1");
    assert_eq!(object["data"]["policies"].as_array().unwrap().len(), 3);
    assert_eq!(object["data"]["pages"].as_array().unwrap().len(), 2);
    assert!(!object.to_string().contains("owner@example.com"), "the owner's address is nobody else's");
    let put = harness.world().last_put(&key(user, &shop)).unwrap();
    assert_eq!((put.acl.as_deref(), put.content_type.as_deref()), (Some("private"), Some("application/json")));
    // The same browser goes on to Facebook, as the same user.
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, ADA, "all", "continue").await;
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, &answer.json()["user_uuid"]), (200, &user.to_string().into()));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_name_that_is_none_and_a_query_that_is_forged_are_refused() {
    let harness = Harness::plan().start().await;
    let mut browser = harness.browser(UserId::random()).await;
    for (query, status, code) in [
        ("", 400, "bad_shop"),
        ("shop=", 400, "bad_shop"),
        ("shop=sandbox-1.myshopify.com.evil.example", 400, "bad_shop"),
        ("shop=sandbox-1.myshopify.com@evil.example", 400, "bad_shop"),
        ("shop=sandbox-1.myshopify.com&shop=sandbox-2.myshopify.com", 400, "bad_shop"),
        ("shop=sandbox-1.myshopify.com&timestamp=1&hmac=00", 401, "bad_hmac"),
    ] {
        let answer = harness.browse(&mut browser, &format!("/shopify/install?{query}"), "*/*").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{query}");
    }
    let page = to_shop(&harness, &mut browser, &shop(1)).await;
    let back = decide(&harness, &page, "install").await;
    let other = back.replace("sandbox-1.", "sandbox-2.");
    let answer = harness.browse(&mut browser, &other, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "bad_hmac"));
    // Another browser cannot finish it, and nobody can finish it twice.
    let mut stranger = harness.browser(UserId::random()).await;
    let answer = harness.browse(&mut stranger, &back, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_state"));
    assert_eq!(harness.browse(&mut browser.clone(), &back, "*/*").await.status, 200);
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "used_state"));
    keep_tokens(&harness);
    // A merchant who does not install it changes nothing.
    let page = to_shop(&harness, &mut browser, &shop(2)).await;
    let back = decide(&harness, &page, "cancel").await;
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "cancelled"));
    assert_eq!(health(&harness, &shop(2)).await, "not linked");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_session_the_shop_must_say_whose_it_is() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let answer = install(&harness, &mut Browser::default(), &shop).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "no_session"));
    assert_eq!(health(&harness, &shop).await, "not linked");
    // One user has linked it: the shop's browser is that user's.
    let user = installed(&harness, &shop).await;
    let answer = install(&harness, &mut Browser::default(), &shop).await;
    assert_eq!((answer.status, &answer.json()["user_uuid"]), (200, &user.to_string().into()));
    // Two have: nobody knows.
    installed(&harness, &shop).await;
    assert_eq!(install(&harness, &mut Browser::default(), &shop).await.status, 400);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_shop_reaches_its_object_by_webhook() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    shopify(&harness).edit_shop(&shop, "name", "Renamed");
    until_named(&harness, user, &shop, "Renamed").await;
    let object = object(&harness, user, &shop).unwrap();
    assert_eq!(object["source"], "webhook");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_shopify_did_not_sign_is_refused() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    installed(&harness, &shop).await;
    let body = json!({"id": 1}).to_string();
    let good = shopify(&harness).sign(body.as_bytes());
    for (signature, names, status) in [
        (Some(good.as_str()), "x-shopify", 200),
        (Some(good.as_str()), "shopify", 200),
        (Some("AAAA"), "x-shopify", 401),
        (None, "x-shopify", 401),
        (Some("jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8="), "x-shopify", 401),
    ] {
        let mut request = harness
            .http
            .post(format!("{}/shopify/webhook", harness.base))
            .header(format!("{names}-topic"), "shop/update")
            .header(format!("{names}-shop-domain"), shop.as_str());
        if let Some(signature) = signature {
            request = request.header(format!("{names}-hmac-sha256"), signature);
        }
        assert_eq!(harness.send(request.body(body.clone())).await.status, status, "{signature:?}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_is_refreshed_once_for_all_links_of_the_shop() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let (one, two) = (installed(&harness, &shop).await, installed(&harness, &shop).await);
    // From here on tokens live so short that each is to be exchanged before its use.
    shopify(&harness).change(|state| state.token_life = Duration::from_secs(600));
    let user = installed(&harness, &shop).await;
    shopify(&harness).edit_shop(&shop, "name", "Refreshed");
    for user in [one, two, user] {
        until_named(&harness, user, &shop, "Refreshed").await;
    }
    let refreshes = shopify(&harness).look(|state| state.shops[&shop].app.refreshes);
    assert!(refreshes >= 1, "no token was refreshed");
    assert_eq!(health(&harness, &shop).await, "active");
    keep_tokens(&harness);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_refresh_is_asked_for_again_also_after_a_crash() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    // Each token is to be exchanged before its use, and is good for a while.
    shopify(&harness).change(|state| state.token_life = Duration::from_secs(600));
    let user = installed(&harness, &shop).await;
    shopify(&harness).set_fault(ShopFault::RefreshLost, true);
    shopify(&harness).edit_shop(&shop, "name", "Meanwhile");
    until("a refresh is carried out, and its answer is lost", async || {
        shopify(&harness).look(|state| state.shops[&shop].app.retry.is_some())
    })
    .await;
    // The token that is not over yet goes on.
    until_named(&harness, user, &shop, "Meanwhile").await;
    harness.daemon.kill_now().await;
    // From here on nothing but the pair that was lost is good.
    shopify(&harness).change(|state| {
        let app = &mut state.shops.get_mut(&shop).unwrap().app;
        let pair = app.pair.clone().unwrap();
        app.access.retain(|token, _| *token == pair.access);
    });
    shopify(&harness).set_fault(ShopFault::RefreshLost, false);
    harness.daemon.start().await.unwrap();
    shopify(&harness).edit_shop(&shop, "name", "Later");
    until_named(&harness, user, &shop, "Later").await;
    assert_eq!(health(&harness, &shop).await, "active");
    keep_tokens(&harness);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_refresh_that_comes_when_its_token_is_over_leads_to_the_next_one() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    shopify(&harness).change(|state| state.token_life = Duration::from_secs(2));
    let user = installed(&harness, &shop).await;
    shopify(&harness).set_fault(ShopFault::RefreshLost, true);
    shopify(&harness).edit_shop(&shop, "name", "Meanwhile");
    let lost = || shopify(&harness).look(|state| state.shops[&shop].app.retry.clone());
    until("a refresh is carried out, and its answer is lost", async || lost().is_some()).await;
    let (_, pair) = lost().unwrap();
    until("the token that was lost is over", async || pair.expires_at < WallTime::now()).await;
    shopify(&harness).change(|state| state.token_life = Duration::from_secs(3600));
    shopify(&harness).set_fault(ShopFault::RefreshLost, false);
    until_named(&harness, user, &shop, "Meanwhile").await;
    assert_eq!(health(&harness, &shop).await, "active");
    keep_tokens(&harness);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uninstalled_app_parks_the_link_and_an_installation_heals_it() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    shopify(&harness).uninstall(&shop);
    until_health(&harness, &shop, "uninstalled").await;
    assert!(object(&harness, user, &shop).is_some(), "the object stays until a redact or an unlink");
    let answer = install(&harness, &mut harness.browser(user).await, &shop).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(health(&harness, &shop).await, "active");
    // What comes late from before the installation changes nothing.
    let body = json!({"id": 1, "myshopify_domain": shop});
    assert_eq!(shopify(&harness).send(&shop, ShopTopic::Uninstalled, &body).await, Some(200));
    let body = json!({"shop_id": 1, "shop_domain": shop});
    assert_eq!(shopify(&harness).send(&shop, ShopTopic::ShopRedact, &body).await, Some(200));
    shopify(&harness).edit_shop(&shop, "name", "Alive");
    until_named(&harness, user, &shop, "Alive").await;
    assert_eq!(health(&harness, &shop).await, "active");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redact_after_an_uninstall_deletes_links_tokens_and_objects() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let (one, two) = (installed(&harness, &shop).await, installed(&harness, &shop).await);
    shopify(&harness).uninstall(&shop);
    until_health(&harness, &shop, "uninstalled").await;
    shopify(&harness).redact(&shop);
    until("nothing of the shop is left", async || {
        health(&harness, &shop).await == "not linked"
            && [one, two].iter().all(|user| object(&harness, *user, &shop).is_none())
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_about_a_customer_is_answered_and_kept_nowhere() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    installed(&harness, &shop).await;
    for topic in [ShopTopic::CustomersDataRequest, ShopTopic::CustomersRedact] {
        let customer = json!({"id": 7, "email": "customer@example.com", "phone": "+4930123456"});
        harness.keep_secret("customer@example.com");
        let body = json!({"shop_id": 1, "shop_domain": shop, "customer": customer});
        assert_eq!(shopify(&harness).send(&shop, topic, &body).await, Some(200));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_missing_for_a_part_leaves_that_part_out() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    shopify(&harness).set_fault(ShopFault::PoliciesDenied, true);
    let user = installed(&harness, &shop).await;
    let object = object(&harness, user, &shop).unwrap();
    assert_eq!(object["data"].get("policies"), None);
    assert_eq!(object["data"]["shop"]["name"], "Sandbox Shop 1");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_without_the_scope_for_products_waits_for_its_merchant() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let mut browser = harness.browser(UserId::random()).await;
    // A person can edit the scopes in the address.
    let page = to_shop(&harness, &mut browser, &shop).await.replace("read_products%2C", "");
    let back = decide(&harness, &page, "install").await;
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, &answer.json()["shop"]["missing_scopes"]), (200, &json!(["read_products"])));
    until_health(&harness, &shop, "scope_missing").await;
    assert_eq!(install(&harness, &mut browser, &shop).await.status, 200);
    until_health(&harness, &shop, "active").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_end_is_not_stored() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let mut browser = harness.browser(UserId::random()).await;
    shopify(&harness).set_fault(ShopFault::NotExpiring, true);
    let answer = install(&harness, &mut browser, &shop).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "shopify_refused"));
    assert_eq!(health(&harness, &shop).await, "not linked");
    shopify(&harness).set_fault(ShopFault::NotExpiring, false);
    assert_eq!(install(&harness, &mut browser, &shop).await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_is_frozen_locked_or_closed_waits_for_its_merchant() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    let faults = [(ShopFault::Frozen, "frozen"), (ShopFault::Locked, "locked"), (ShopFault::Inactive, "shop_gone")];
    for (fault, wanted) in faults {
        shopify(&harness).set_fault(fault, true);
        shopify(&harness).edit_shop(&shop, "name", wanted);
        until_health(&harness, &shop, wanted).await;
        shopify(&harness).set_fault(fault, false);
        assert_eq!(install(&harness, &mut harness.browser(user).await, &shop).await.status, 200);
        until_named(&harness, user, &shop, wanted).await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_made_for_each_shop_where_the_app_has_none() {
    let harness = Harness::plan().set("shopify.subscribe", "shop").start().await;
    let shop = shop(1);
    installed(&harness, &shop).await;
    let wanted = format!("{}/shopify/webhook", harness.base);
    let topics = ["APP_SCOPES_UPDATE", "APP_UNINSTALLED", "SHOP_UPDATE"];
    until("the shop has every subscription", async || {
        shopify(&harness).look(|state| {
            let made = &state.shops[&shop].app.subscriptions;
            topics.iter().all(|topic| made.get(*topic) == Some(&wanted))
        })
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shopify_may_be_away_throttle_and_answer_with_junk_and_the_object_stays() {
    let harness = Harness::plan().start().await;
    let shop = shop(1);
    let user = installed(&harness, &shop).await;
    let before = object(&harness, user, &shop).unwrap()["data"]["shop"]["name"].clone();
    let faults = [
        ShopFault::Unavailable,
        ShopFault::Reset,
        ShopFault::Truncated,
        ShopFault::Empty,
        ShopFault::Throttled,
        ShopFault::Refused,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        shopify(&harness).set_fault(fault, true);
        let asked = shopify(&harness).look(|state| state.shops[&shop].queries.values().sum::<u64>());
        shopify(&harness).edit_shop(&shop, "name", format!("Name {n}"));
        until(&format!("the trouble of {fault:?} is seen"), async || {
            let (_, value) = harness.admin(http::Method::GET, "/v1/links?source=shopify", "").await;
            value["links"][0]["reason"].is_string()
        })
        .await;
        let name = if n == 0 { before.clone() } else { format!("Name {}", n - 1).into() };
        assert_eq!(object(&harness, user, &shop).unwrap()["data"]["shop"]["name"], name, "{fault:?}");
        shopify(&harness).set_fault(fault, false);
        until_named(&harness, user, &shop, &format!("Name {n}")).await;
        assert!(shopify(&harness).look(|state| state.shops[&shop].queries.values().sum::<u64>()) > asked);
    }
    harness.finish().await;
}
