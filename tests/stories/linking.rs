//! Linking pages: the way of a person through the login, and what lies there afterwards.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::{Value, json};

use crate::harness::{ADA, BRUNO, Browser, CHIDI, Harness, object_key, until};

const WEBHOOK_FIELDS: [&str; 9] =
    ["name", "category", "description", "email", "phone", "website", "location", "hours", "picture"];

fn ids(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|page| page["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_links_every_page_also_of_portfolios_and_of_later_parts_of_the_listing() {
    // Listings come in parts of four, every third of them empty; every fifth page is held through a portfolio.
    let harness = Harness::plan().pages(23).listing(4).trace().start().await;
    let user = UserId::random();
    let answer = harness.log_in(user, ADA, "all").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert!(!answer.text().contains("access_token"));
    let reply = answer.json();
    let all: BTreeSet<String> = harness.pages().into_iter().collect();
    assert_eq!(reply["user_uuid"], user.to_string());
    assert_eq!(ids(&reply["pages"]["data"]), all);
    assert_eq!(reply["pages"]["paging"], json!({}));
    assert_eq!(reply["webhook_test"]["status"], "success");
    let polled = reply["polling_test"].as_array().unwrap();
    assert_eq!(polled.len(), all.len());
    for page in polled {
        assert!(all.contains(page["page_id"].as_str().unwrap()));
        assert_eq!(page["result"]["status"], "success", "{page}");
    }
    for page in &all {
        assert!(harness.is_true(user, page), "{page}");
        let object = harness.object(user, page).unwrap();
        assert_eq!(object["schema"], "pagesyncd/page_data/1");
        assert_eq!((&object["page_id"], &object["user"]), (&page.as_str().into(), &user.to_string().into()));
        assert_eq!((&object["source"], &object["graph_version"]), (&"link".into(), &"v26.0".into()));
        assert_eq!((object["data"].as_array().unwrap().len(), &object["paging"]), (1, &json!({})));
        let fetched = object["fetched_at"].as_str().unwrap();
        assert!(fetched.len() == 20 && fetched.ends_with('Z') && &fetched[10..11] == "T", "{fetched}");
        assert_eq!(object.as_object().unwrap().len(), 8);
        let put = harness.world().last_put(&object_key(user, page)).unwrap();
        assert_eq!((put.acl.as_deref(), put.content_type.as_deref()), (Some("private"), Some("application/json")));
    }
    let wanted: BTreeSet<String> = WEBHOOK_FIELDS.map(str::to_owned).into();
    until("both subscriptions name every field", async || {
        harness.world().look(|s| {
            let app = s.app.subscription.as_ref().is_some_and(|app| app.fields.is_superset(&wanted));
            app && s.pages.values().all(|p| p.subscribed.as_ref().is_some_and(|fields| fields.is_superset(&wanted)))
        })
    })
    .await;
    let callback = harness.world().look(|s| s.app.subscription.clone()).unwrap();
    assert_eq!(callback.callback_url, format!("{}/facebook/webhook", harness.base));
    assert!(callback.include_values);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_a_page_for_people() {
    let harness = Harness::plan().start().await;
    let page = harness.nth(0);
    harness.world().edit_page(&page, "name", "<Fish & Chips>".into()).unwrap();
    let (_, login) = harness.session(UserId::random()).await;
    let mut browser = Browser::default();
    let answer = harness.browse(&mut browser, &login, "text/html,*/*").await;
    assert_eq!(answer.status, 302);
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    let back = harness.decide(answer.header("location"), ADA, "all", "continue").await;
    let answer = harness.browse(&mut browser, &back, "text/html,application/xhtml+xml").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/html"));
    let text = answer.text();
    assert!(text.contains("&lt;Fish &amp; Chips&gt;") && !text.contains("<Fish"), "{text}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_a_token_is_reported_and_the_others_are_linked() {
    let harness = Harness::plan().pages(4).start().await;
    let withheld = harness.nth(1);
    harness.world().change(|s| s.pages.get_mut(&withheld).unwrap().token_withheld = true);
    let user = UserId::random();
    let reply = harness.log_in(user, ADA, "all").await.json();
    let pages = reply["pages"]["data"].as_array().unwrap();
    assert_eq!(pages.len(), 4);
    for page in pages {
        assert_eq!(page["linked"], page["id"] != withheld.as_str(), "{page}");
    }
    let refused = reply["polling_test"].as_array().unwrap().iter().find(|p| p["page_id"] == withheld.as_str()).unwrap();
    assert_eq!(refused["result"]["status"], "error");
    assert!(refused["result"]["message"].as_str().unwrap().contains("role"));
    assert_eq!(harness.status().await["links"], 3);
    assert!(harness.object(user, &withheld).is_none());
    // A role that is too weak gives no token either.
    let reply = harness.log_in(UserId::random(), CHIDI, "all").await.json();
    assert_eq!(reply["pages"]["data"][0]["linked"], false);
    assert_eq!(harness.status().await["links"], 3);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_dialog_is_answered_in_both_of_its_forms() {
    let harness = Harness::plan().start().await;
    let mut browser = harness.browser(UserId::random()).await;
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, ADA, "all", "cancel").await;
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "cancelled"));
    assert!(answer.text().contains("/facebook/login"));
    // Facebook's other way to say so has no `error` key.
    let dialog = harness.to_dialog(&mut browser).await;
    let state = state_of(&dialog);
    let path = format!("/facebook/callback?error_code=1349126&error_message=App+not+set+up&state={state}");
    let answer = harness.browse(&mut browser, &path, "text/html").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("App not set up") && answer.text().contains("Start again"));
    assert_eq!(harness.status().await["links"], 0);
    harness.finish().await;
}

fn state_of(dialog: &str) -> String {
    let url = url::Url::parse(dialog).unwrap();
    url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_works_once_and_only_in_the_browser_that_it_was_made_for() {
    let harness = Harness::plan().start().await;
    let user = UserId::random();
    let mut browser = harness.browser(user).await;
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, ADA, "all", "continue").await;
    let with = |state: &str| back.replace(&state_of(&back), state);
    let refused = async |browser: &Browser, url: &str| {
        let answer = harness.browse(&mut browser.clone(), url, "*/*").await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.code()
    };
    // Missing, forged, another browser's, no browser's.
    let bare = back.split("&state=").next().unwrap();
    assert_eq!(refused(&browser, bare).await, "malformed");
    let state = state_of(&back);
    let flipped = format!("{}{}", &state[..state.len() - 8], "AAAAAAAA");
    assert_eq!(refused(&browser, &with(&flipped)).await, "bad_state");
    assert_eq!(refused(&browser, &with("x")).await, "bad_state");
    let other = harness.browser(UserId::random()).await;
    assert_eq!(refused(&other, &back).await, "bad_state");
    assert_eq!(refused(&Browser::default(), &back).await, "no_session");
    assert_eq!(harness.world().calls(Call::ExchangeCode), 0);
    // The right one still works, once.
    assert_eq!(harness.browse(&mut browser, &back, "*/*").await.status, 200);
    assert_eq!(refused(&browser, &back).await, "used_state");
    assert_eq!(harness.world().calls(Call::ExchangeCode), 1);
    // Used up is used up, also after a crash.
    harness.crash().await;
    assert_eq!(refused(&browser, &back).await, "used_state");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_session_there_is_no_login_unless_new_users_are_allowed() {
    let mut harness = Harness::plan().start().await;
    let answer = harness.get("/facebook/login").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "no_session"));
    let mut stranger = Browser { cookie: Some("0123456789abcdef0123456789abcdef".into()) };
    assert_eq!(harness.browse(&mut stranger, "/facebook/login", "*/*").await.status, 400);
    let answer = harness.browse(&mut Browser::default(), "/facebook/login", "text/html").await;
    assert!(answer.status == 400 && answer.header("content-type").starts_with("text/html"));
    harness.set("session.allow_new", true);
    harness.reload("applied").await;
    let mut browser = Browser::default();
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, BRUNO, "all", "continue").await;
    let reply = harness.browse(&mut browser, &back, "*/*").await.json();
    let user: UserId = reply["user_uuid"].as_str().unwrap().parse().unwrap();
    let pages: Vec<String> = ids(&reply["pages"]["data"]).into_iter().collect();
    assert_eq!(pages.len(), 3);
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_link_works_once() {
    let harness = Harness::plan().start().await;
    let user = UserId::random();
    let (_, login) = harness.session(user).await;
    let mut browser = Browser::default();
    assert_eq!(harness.browse(&mut browser, &login, "*/*").await.status, 302);
    assert_eq!(harness.browse(&mut Browser::default(), &login, "*/*").await.status, 400);
    // The browser that followed it stays known.
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, ADA, "all", "continue").await;
    let reply = harness.browse(&mut browser, &back, "*/*").await.json();
    assert_eq!(reply["user_uuid"], user.to_string());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_pages_are_linked_and_stored_within_fifteen_seconds() {
    let harness = Harness::plan().pages(200).start().await;
    let user = UserId::random();
    let started = Instant::now();
    let answer = harness.log_in(user, ADA, "all").await;
    assert_eq!(answer.status, 200);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(answer.json()["pages"]["data"].as_array().unwrap().len(), 200);
    let pages = harness.pages();
    harness.until_true(user, &pages).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_in_time_though_graph_is_slow_and_the_login_finishes_by_itself() {
    let harness = Harness::plan().start().await;
    harness.world().set_latency(Duration::from_secs(13));
    harness.world().set_fault_for(Fault::GraphSlow, Scope::call(Call::Accounts));
    let user = UserId::random();
    let started = Instant::now();
    let answer = harness.log_in(user, ADA, "all").await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!((answer.status, &answer.json()["status"]), (202, &"pending".into()));
    assert_eq!(answer.json()["user_uuid"], user.to_string());
    harness.world().set_latency(Duration::ZERO);
    let pages = harness.pages();
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_login_heals_a_parked_page() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().change_password(ADA).unwrap();
    harness.world().edit_page(&page, "name", "Renamed while locked out".into()).unwrap();
    until("the page waits for a person", async || harness.health(&page).await == "needs_relink").await;
    let reply = harness.page(&page).await.unwrap();
    assert!(reply["reason"].as_str().unwrap().contains("password"), "{reply}");
    assert_ne!(harness.object(user, &page).unwrap()["data"][0]["name"], "Renamed while locked out");
    // It asks Graph nothing more; the others find out with their next read.
    let reads = harness.world().graph_reads(&page);
    harness.sync(&page).await;
    let other = harness.nth(1);
    harness.sync(&other).await;
    until("another page was asked and parked", async || harness.health(&other).await == "needs_relink").await;
    assert_eq!(harness.world().graph_reads(&page), reads);
    let answer = harness.log_in(user, ADA, "all").await;
    assert_eq!(answer.status, 200);
    let pages = harness.pages();
    harness.until_true(user, &pages).await;
    for page in &pages {
        assert_eq!(harness.health(page).await, "active");
    }
    assert_eq!(harness.status().await["links"], pages.len());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_who_link_one_page_have_an_object_each() {
    let harness = Harness::plan().start().await;
    let ada = harness.linked().await;
    let bruno = UserId::random();
    assert_eq!(harness.log_in(bruno, BRUNO, "all").await.status, 200);
    let shared = harness.pages()[..3].to_vec();
    harness.until_true(bruno, &shared).await;
    harness.world().edit_page(&shared[0], "name", "Shared by two".into()).unwrap();
    harness.until_true(ada, &shared).await;
    harness.until_true(bruno, &shared).await;
    assert_eq!(harness.status().await["links"], 9);
    let keys = harness.server.objects.list();
    assert_eq!(keys.iter().filter(|key| key.contains(&bruno.to_string())).count(), 3);
    harness.finish().await;
}
