//! Logins, answers of Graph and wishes of persons that overlap: the newer decision holds, whichever arrives first.

use futures_util::FutureExt;
use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::json;

use crate::harness::{ADA, Answer, Harness, until};

/// Answers to this call, about this page, wait until they are released.
fn hold(harness: &Harness, call: Call, page: Option<&str>) {
    let scope = Scope { call: Some(call), page: page.map(str::to_owned), times: None };
    harness.world().set_fault_for(Fault::GraphHeld, scope);
}

fn release(harness: &Harness) {
    harness.world().set_fault(Fault::GraphHeld, false);
}

async fn until_held(harness: &Harness, answers: u64) {
    until(&format!("{answers} answers of Graph wait"), async || harness.world().held() >= answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_about_an_old_token_does_not_park_a_page_that_was_ticked_again() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let page = &pages[5];
    // No hint about permissions comes between.
    harness.world().set_fault(Fault::WebhooksLost, true);
    hold(&harness, Call::ReadPage, Some(page));
    let others = pages[..5].join(",");
    let unticked = harness.log_in(user, ADA, &others);
    let ticked_again = async {
        until_held(&harness, 1).await;
        let released = async {
            // The second answer is to the page itself, with its new token; the first is about the old one.
            until_held(&harness, 2).await;
            release(&harness);
        };
        tokio::join!(harness.log_in(user, ADA, "all"), released).0
    };
    let (unticked, ticked_again) = tokio::join!(unticked, ticked_again);
    assert_eq!((unticked.status, ticked_again.status), (200, 200));
    assert_eq!(unticked.json()["changes"]["lost"], json!([]), "it is linked, with a newer token");
    // The page has handled the news about the old token when it reads again.
    harness.world().edit_page(page, "name", "Ticked again".into()).unwrap();
    harness.sync(page).await;
    harness.until_true(user, std::slice::from_ref(page)).await;
    assert_eq!(harness.health(page).await, "active");
    harness.finish().await;
}

/// Begins a login as Ada whose list of pages is kept back, lets `meanwhile` happen, and hands the answer of the login
/// out.
async fn login_with(harness: &Harness, user: UserId, meanwhile: impl Future<Output = ()>) -> Answer {
    hold(harness, Call::Accounts, None);
    let login = harness.log_in(user, ADA, "all");
    let decided = async {
        until_held(harness, 1).await;
        meanwhile.await;
        release(harness);
    };
    tokio::join!(login, decided).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_does_not_bring_back_a_person_who_is_gone() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let forgotten = std::cell::OnceCell::new();
    let asked_to_be_forgotten = async {
        let (status, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
        assert_eq!(status, 200);
        forgotten.set(reply["url"].as_str().unwrap().strip_prefix(&harness.base).unwrap().to_owned()).unwrap();
    };
    let answer = login_with(&harness, user, asked_to_be_forgotten).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "ended_meanwhile"));
    assert!(answer.text().contains("nothing was linked; start again"), "{}", answer.text());
    assert!(answer.json()["error"]["login_url"].as_str().unwrap().ends_with("/facebook/login"));
    let gone = async || harness.get(forgotten.get().unwrap()).await.text().contains("Your data is deleted");
    until("the deletion is done", gone).await;
    let nothing_is_left = async || {
        assert_eq!(harness.status().await["links"], 0);
        assert_eq!(harness.server.objects.list(), Vec::<String>::new());
        let known = json!({"ids": [ADA], "dry_run": true}).to_string();
        assert_eq!(harness.admin(Method::POST, "/v1/purge", &known).await.1["people"][0]["known"], false);
    };
    nothing_is_left().await;
    // Nothing of the person was stored when a list names them, or when they remove the app.
    let purged = async {
        let list = json!({"ids": [ADA]}).to_string();
        assert_eq!(harness.admin(Method::POST, "/v1/purge", &list).await.0, 200);
    };
    assert_eq!(login_with(&harness, user, purged).await.status, 409);
    let removed_the_app = async { assert_eq!(harness.world().send_deauthorize(ADA).await.unwrap(), 200) };
    assert_eq!(login_with(&harness, user, removed_the_app).await.status, 409);
    harness.crash().await;
    nothing_is_left().await;
    // A login that begins afterwards is a new grant.
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    harness.until_true(user, &harness.pages()).await;
    assert!(gone().await, "the deletion stays done");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_does_not_make_a_link_that_was_unlinked_meanwhile() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let unlinked = async { assert!(harness.run(&["unlink", &pages[0]]).await.status.success()) };
    let reply = login_with(&harness, user, unlinked).await.json();
    let page = reply["pages"]["data"].as_array().unwrap().iter().find(|page| page["id"] == pages[0].as_str()).unwrap();
    assert_eq!(page["linked"], false);
    assert!(page["reason"].as_str().unwrap().contains("unlinked while this login was under way"), "{page}");
    assert_eq!(reply["changes"]["kept"].as_array().unwrap().len(), 5);
    assert_eq!(reply["changes"]["lost"], json!([]));
    assert_eq!(harness.health(&pages[0]).await, "not linked");
    harness.until_true(user, &pages[1..]).await;
    until("its object is gone", async || harness.object(user, &pages[0]).is_none()).await;
    // The person may start again.
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_the_person_says_what_came_between() {
    let harness = Harness::plan().pages(2).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let unlinked = async { assert!(harness.run(&["unlink", &pages[0]]).await.status.success()) };
    let removed_the_app = async { assert_eq!(harness.world().send_deauthorize(ADA).await.unwrap(), 200) };
    let meanwhile = [
        ("Unlinked meanwhile", "To link them, log in again", unlinked.boxed_local()),
        ("Your Pages were not linked", "the app was removed on Facebook", removed_the_app.boxed_local()),
    ];
    for (title, words, decided) in meanwhile {
        hold(&harness, Call::Accounts, None);
        let mut browser = harness.browser(user).await;
        let dialog = harness.to_dialog(&mut browser).await;
        let back = harness.decide(&dialog, ADA, "all", "continue").await;
        // The page comes before the login has a result, and can be fetched again.
        let answer = harness.browse(&mut browser, &back, "text/html").await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let text = answer.text();
        let (_, id) = text.split_once("/facebook/login/result/").unwrap();
        let id: String = id.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        until_held(&harness, 1).await;
        decided.await;
        release(&harness);
        let path = format!("/facebook/login/result/{id}");
        until("the page has the result", async || {
            let text = harness.browse(&mut browser.clone(), &path, "text/html").await.text();
            text.contains(title) && text.contains(words)
        })
        .await;
    }
    harness.finish().await;
}
