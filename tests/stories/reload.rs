//! Reloading: what a good file changes at once, and how a bad one changes nothing.

use std::collections::BTreeSet;

use pagesyncd::sandbox::fault::Fault;
use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{Harness, delivery, free_port, sha256, until};

/// Why the last reload was refused.
async fn last_error(harness: &Harness) -> String {
    harness.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_poll_interval_is_followed() {
    let mut harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for page in &pages {
        harness.world().edit_page(page, "fan_count", 99_999.into()).unwrap();
    }
    harness.complete().await;
    assert!(pages.iter().all(|page| !harness.is_true(user, page)));
    harness.set("sync.poll_interval", "2s");
    harness.reload("applied").await;
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_page_fields_shape_the_next_object() {
    let mut harness = Harness::plan().pages(2).start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.set("facebook.page_fields", vec!["id".to_owned(), "name".into(), "category".into()]);
    harness.reload("applied").await;
    harness.sync(&page).await;
    until("the object has these fields alone", async || {
        let keys: Option<BTreeSet<String>> =
            harness.object(user, &page).map(|o| o["data"][0].as_object().unwrap().keys().cloned().collect());
        keys == Some(["category", "id", "name"].map(str::to_owned).into())
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_spaces_credentials_are_used_at_once() {
    let mut harness = Harness::plan().trace().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let (key, secret) = ("SANDBOXSECONDKEY", "second-secret-key-of-this-bucket");
    harness.world().set_spaces_keys([(key.to_owned(), secret.to_owned())]);
    for page in &pages {
        harness.world().edit_page(page, "name", format!("Under a new key {page}").into()).unwrap();
    }
    until("the old key is refused", async || {
        let ready = harness.get("/readyz").await;
        ready.status == 503 && ready.json()["spaces"]["ok"] == false
    })
    .await;
    harness.set("spaces.access_key", key);
    harness.set("spaces.secret_key", secret);
    harness.reload("applied").await;
    harness.until_true(user, &pages).await;
    until("it is ready", async || harness.get("/readyz").await.status == 200).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verify_token_the_limits_and_the_log_level_change() {
    let mut harness = Harness::plan().pages(2).daemon(|setup| setup.log_level = "info".into()).start().await;
    harness.linked().await;
    let old = harness.setting("facebook.verify_token").as_str().unwrap().to_owned();
    let new = "another-verify-token-of-this-app";
    let shake = |token: &str| format!("/facebook/webhook?hub.mode=subscribe&hub.challenge=7&hub.verify_token={token}");
    let body = format!("{{\"object\":\"page\",\"x\":\"{}\"}}", "x".repeat(5000));
    assert_eq!(harness.deliver(body.clone()).await.status, 200);
    assert!(!harness.log().contains(" DEBUG "));
    harness.set("facebook.verify_token", new);
    harness.set("http.max_body_bytes", 4096);
    harness.set("log.level", "trace");
    harness.reload("applied").await;
    assert_eq!(harness.get(&shake(new)).await.status, 200);
    assert_eq!(harness.get(&shake(&old)).await.status, 403);
    assert_eq!(harness.deliver(body).await.status, 413);
    assert_eq!(harness.deliver(delivery(&harness.pages())).await.status, 200);
    assert_eq!(harness.deliver("{\"object\":\"page\"}").await.status, 200);
    until("the log tells more", async || harness.log().contains(" DEBUG ")).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_secret_is_rotated_without_a_gap() {
    let mut harness = Harness::plan().trace().start().await;
    let user = harness.linked().await;
    let (page, old) = (harness.nth(0), harness.server.app_secret.clone());
    let new = "00112233445566778899aabbccddeeff";
    harness.world().change(|s| s.app.require_proof = true);
    harness.set("facebook.app_secret", new);
    harness.set("facebook.previous_app_secret", old.as_str());
    harness.world().change(|s| s.app.secret = new.into());
    harness.reload("applied").await;
    let body = delivery(&[&page]);
    for secret in [old.as_str(), new] {
        let signature = sha256(secret, body.as_bytes());
        assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature-256", &signature)]).await.status, 200);
    }
    // Proofs are made with the new one.
    harness.world().edit_page(&page, "name", "After the rotation".into()).unwrap();
    until("the page is read with a good proof", async || harness.is_true(user, &page)).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_moves_and_the_webhook_address_with_it() {
    let mut harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let old = harness.base.strip_prefix("http://").unwrap().to_owned();
    let address = format!("127.0.0.1:{}", free_port());
    let base = format!("http://{address}");
    harness.server.register(&base);
    harness.set("http.listen", address.as_str());
    harness.set("http.public_url", base.as_str());
    harness.reload("applied").await;
    harness.base = base.clone();
    harness.setup.public_url = base.clone();
    assert_eq!(harness.get("/healthz").await.status, 200);
    until("the old listener is closed", async || TcpStream::connect(&old).await.is_err()).await;
    until("Facebook knows the new address", async || {
        let callback = harness.world().look(|s| s.app.subscription.as_ref().map(|app| app.callback_url.clone()));
        callback == Some(format!("{base}/facebook/webhook"))
    })
    .await;
    harness.world().edit_page(&harness.nth(0), "name", "At the new address".into()).unwrap();
    harness.until_true(user, &harness.pages()).await;
    // A taken address is refused, and the listener stays where it is.
    harness.expect_errors("http.listen");
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    harness.set("http.listen", taken.local_addr().unwrap().to_string());
    harness.reload("refused").await;
    let error = harness.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("http.listen"), "{error}");
    assert_eq!(harness.get("/healthz").await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_webhook_fields_are_subscribed_at_both_levels() {
    let mut harness = Harness::plan().start().await;
    harness.linked().await;
    let wider = ["name", "category", "mission", "founded", "phone"];
    harness.set("facebook.webhook_fields", wider.map(toml::Value::from).to_vec());
    harness.reload("applied").await;
    let wanted: BTreeSet<String> = wider.map(str::to_owned).into();
    until("both levels name the new fields", async || {
        harness.world().look(|s| {
            let app = s.app.subscription.as_ref().is_some_and(|app| app.fields.is_superset(&wanted));
            app && s.pages.values().all(|p| p.subscribed.as_ref().is_some_and(|fields| fields.is_superset(&wanted)))
        })
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_is_told_and_is_forgotten_after_a_good_one() {
    let mut harness = Harness::plan().trace().start().await;
    harness.expect_errors(" ERROR config");
    let user = harness.linked().await;
    let loaded = harness.status().await["config"]["loaded_at"].clone();
    let good = std::fs::read_to_string(&harness.config).unwrap();
    // The line that breaks is the one with the secret in it.
    let broken = good.replace("app_secret = \"", "app_secret = \"\" \"");
    for (text, named) in [
        (broken, ""),
        (good.replace("debounce = ", "debounse = "), "sync.debounse"),
        (good.replace("burst = 100", "burst = -1"), "sync.burst"),
        (good.replace("[sync]", "[synk]"), "synk"),
        (good.replace("region = \"nyc3\"", "region = \"New York\""), "spaces.region"),
        (String::new(), "facebook.app_id"),
    ] {
        assert_ne!(text, good);
        std::fs::write(&harness.config, &text).unwrap();
        harness.reload("refused").await;
        let error = last_error(&harness).await;
        assert!(!error.is_empty() && error.contains(named), "{named:?}: {error}");
    }
    // What cannot change in a running process is refused by its name.
    for (key, value) in [("store.path", "/nowhere/at/all"), ("admin.socket", "/nowhere/admin.sock")] {
        let old = harness.setting(key);
        harness.set(key, value);
        harness.set("sync.poll_interval", "1s");
        harness.reload("refused").await;
        let error = last_error(&harness).await;
        assert!(error.contains(key), "{error}");
        harness.set(key, old);
    }
    harness.set("sync.poll_interval", "24h");
    std::fs::remove_file(&harness.config).unwrap();
    harness.reload("refused").await;
    assert!(!last_error(&harness).await.is_empty());
    assert_eq!(harness.status().await["config"]["loaded_at"], loaded);
    assert!(String::from_utf8_lossy(&harness.run_in_place(&["status"]).await.stdout).contains("refused"));
    // All the while it works by the settings that it has.
    harness.world().edit_page(&harness.nth(0), "name", "Under the old settings".into()).unwrap();
    harness.until_true(user, &harness.pages()).await;
    harness.write_config();
    harness.reload("applied").await;
    assert_eq!(harness.status().await["config"].get("last_error"), None);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_no_delivery() {
    let mut harness = Harness::plan().start().await;
    let user = harness.linked().await;
    harness.world().set_fault(Fault::WebhooksDuplicated, true);
    for round in 0..10 {
        for page in harness.pages() {
            harness.world().edit_page(&page, "name", format!("Round {round} of {page}").into()).unwrap();
        }
        harness.set("sync.refill", format!("{}ms", 100 + round));
        harness.set("spaces.max_in_flight", 1 + round);
        harness.set("facebook.max_in_flight", 20 + round);
        harness.reload("applied").await;
    }
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    assert_eq!(harness.deliver(json!({"object": "page"}).to_string()).await.status, 200);
    harness.finish().await;
}
