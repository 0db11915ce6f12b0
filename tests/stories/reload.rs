//! Reloading: what a good file changes at once, and how a bad one changes nothing.

use std::collections::BTreeSet;

use pagesyncd::sandbox::fault::Fault;
use serde_json::json;
use tokio::net::TcpStream;

use crate::town::{Town, delivery, free_port, sha256, until};

/// Why the last reload was refused.
async fn last_error(town: &Town) -> String {
    town.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_poll_interval_is_followed() {
    let mut town = Town::plan().start().await;
    let user = town.linked().await;
    let pages = town.pages();
    for page in &pages {
        town.world().edit_page(page, "fan_count", 99_999.into()).unwrap();
    }
    town.settle().await;
    assert!(pages.iter().all(|page| !town.is_true(user, page)));
    town.set("sync.poll_interval", "2s");
    town.reload("applied").await;
    town.until_true(user, &pages).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_page_fields_shape_the_next_object() {
    let mut town = Town::plan().pages(2).start().await;
    let user = town.linked().await;
    let page = town.nth(0);
    town.set("facebook.page_fields", vec!["id".to_owned(), "name".into(), "category".into()]);
    town.reload("applied").await;
    town.sync(&page).await;
    until("the object has these fields alone", async || {
        let keys: Option<BTreeSet<String>> =
            town.object(user, &page).map(|o| o["data"][0].as_object().unwrap().keys().cloned().collect());
        keys == Some(["category", "id", "name"].map(str::to_owned).into())
    })
    .await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_spaces_credentials_are_used_at_once() {
    let mut town = Town::plan().trace().start().await;
    let user = town.linked().await;
    let pages = town.pages();
    let (key, secret) = ("SANDBOXSECONDKEY", "second-secret-key-of-this-bucket");
    town.world().set_spaces_keys([(key.to_owned(), secret.to_owned())]);
    for page in &pages {
        town.world().edit_page(page, "name", format!("Under a new key {page}").into()).unwrap();
    }
    until("the old key is refused", async || {
        let ready = town.get("/readyz").await;
        ready.status == 503 && ready.json()["spaces"]["ok"] == false
    })
    .await;
    town.set("spaces.access_key", key);
    town.set("spaces.secret_key", secret);
    town.reload("applied").await;
    town.until_true(user, &pages).await;
    until("it is ready", async || town.get("/readyz").await.status == 200).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verify_token_the_limits_and_the_log_level_change() {
    let mut town = Town::plan().pages(2).daemon(|setup| setup.log_level = "info".into()).start().await;
    town.linked().await;
    let old = town.setting("facebook.verify_token").as_str().unwrap().to_owned();
    let new = "another-verify-token-of-this-app";
    let shake = |token: &str| format!("/facebook/webhook?hub.mode=subscribe&hub.challenge=7&hub.verify_token={token}");
    let body = format!("{{\"object\":\"page\",\"x\":\"{}\"}}", "x".repeat(5000));
    assert_eq!(town.deliver(body.clone()).await.status, 200);
    assert!(!town.log().contains(" DEBUG "));
    town.set("facebook.verify_token", new);
    town.set("http.max_body_bytes", 4096);
    town.set("log.level", "trace");
    town.reload("applied").await;
    assert_eq!(town.get(&shake(new)).await.status, 200);
    assert_eq!(town.get(&shake(&old)).await.status, 403);
    assert_eq!(town.deliver(body).await.status, 413);
    assert_eq!(town.deliver(delivery(&town.pages())).await.status, 200);
    until("the log tells more", async || town.log().contains(" DEBUG ")).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_secret_is_rotated_without_a_gap() {
    let mut town = Town::plan().trace().start().await;
    let user = town.linked().await;
    let (page, old) = (town.nth(0), town.server.app_secret.clone());
    let new = "00112233445566778899aabbccddeeff";
    town.world().change(|s| s.app.require_proof = true);
    town.set("facebook.app_secret", new);
    town.set("facebook.previous_app_secret", old.as_str());
    town.world().change(|s| s.app.secret = new.into());
    town.reload("applied").await;
    let body = delivery(&[&page]);
    for secret in [old.as_str(), new] {
        let signature = sha256(secret, body.as_bytes());
        assert_eq!(town.post_hook(body.clone(), &[("x-hub-signature-256", &signature)]).await.status, 200);
    }
    // Proofs are made with the new one.
    town.world().edit_page(&page, "name", "After the rotation".into()).unwrap();
    until("the page is read with a good proof", async || town.is_true(user, &page)).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_moves_and_the_webhook_address_with_it() {
    let mut town = Town::plan().start().await;
    let user = town.linked().await;
    let old = town.base.strip_prefix("http://").unwrap().to_owned();
    let address = format!("127.0.0.1:{}", free_port());
    let base = format!("http://{address}");
    town.server.register(&base);
    town.set("http.listen", address.as_str());
    town.set("http.public_url", base.as_str());
    town.reload("applied").await;
    town.base = base.clone();
    town.setup.public_url = base.clone();
    assert_eq!(town.get("/healthz").await.status, 200);
    until("the old door is closed", async || TcpStream::connect(&old).await.is_err()).await;
    until("Facebook knows the new address", async || {
        let callback = town.world().look(|s| s.app.subscription.as_ref().map(|app| app.callback_url.clone()));
        callback == Some(format!("{base}/facebook/webhook"))
    })
    .await;
    town.world().edit_page(&town.nth(0), "name", "At the new address".into()).unwrap();
    town.until_true(user, &town.pages()).await;
    // A taken address is refused, and the door stays where it is.
    town.expect_errors("http.listen");
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    town.set("http.listen", taken.local_addr().unwrap().to_string());
    town.reload("refused").await;
    let error = town.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("http.listen"), "{error}");
    assert_eq!(town.get("/healthz").await.status, 200);
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_webhook_fields_are_subscribed_at_both_levels() {
    let mut town = Town::plan().start().await;
    town.linked().await;
    let wider = ["name", "category", "mission", "founded", "phone"];
    town.set("facebook.webhook_fields", wider.map(toml::Value::from).to_vec());
    town.reload("applied").await;
    let wanted: BTreeSet<String> = wider.map(str::to_owned).into();
    until("both levels name the new fields", async || {
        town.world().look(|s| {
            let app = s.app.subscription.as_ref().is_some_and(|app| app.fields.is_superset(&wanted));
            app && s.pages.values().all(|p| p.subscribed.as_ref().is_some_and(|fields| fields.is_superset(&wanted)))
        })
    })
    .await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_is_told_and_is_forgotten_after_a_good_one() {
    let mut town = Town::plan().trace().start().await;
    town.expect_errors(" ERROR config");
    let user = town.linked().await;
    let loaded = town.status().await["config"]["loaded_at"].clone();
    let good = std::fs::read_to_string(&town.config).unwrap();
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
        std::fs::write(&town.config, &text).unwrap();
        town.reload("refused").await;
        let error = last_error(&town).await;
        assert!(!error.is_empty() && error.contains(named), "{named:?}: {error}");
    }
    // What cannot change in a running process is refused by its name.
    for (key, value) in [("store.path", "/nowhere/at/all"), ("admin.socket", "/nowhere/admin.sock")] {
        let old = town.setting(key);
        town.set(key, value);
        town.set("sync.poll_interval", "1s");
        town.reload("refused").await;
        let error = last_error(&town).await;
        assert!(error.contains(key), "{error}");
        town.set(key, old);
    }
    town.set("sync.poll_interval", "24h");
    std::fs::remove_file(&town.config).unwrap();
    town.reload("refused").await;
    assert!(!last_error(&town).await.is_empty());
    assert_eq!(town.status().await["config"]["loaded_at"], loaded);
    assert!(String::from_utf8_lossy(&town.run_in_place(&["status"]).await.stdout).contains("refused"));
    // All the while it works by the settings that it has.
    town.world().edit_page(&town.nth(0), "name", "Under the old settings".into()).unwrap();
    town.until_true(user, &town.pages()).await;
    town.write_config();
    town.reload("applied").await;
    assert_eq!(town.status().await["config"].get("last_error"), None);
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_no_delivery() {
    let mut town = Town::plan().start().await;
    let user = town.linked().await;
    town.world().set_fault(Fault::WebhooksDuplicated, true);
    for round in 0..10 {
        for page in town.pages() {
            town.world().edit_page(&page, "name", format!("Round {round} of {page}").into()).unwrap();
        }
        town.set("sync.refill", format!("{}ms", 100 + round));
        town.set("spaces.max_in_flight", 1 + round);
        town.set("facebook.max_in_flight", 20 + round);
        town.reload("applied").await;
    }
    town.until_true(user, &town.pages()).await;
    town.settle().await;
    assert_eq!(town.deliver(json!({"object": "page"}).to_string()).await.status, 200);
    town.finish().await;
}
