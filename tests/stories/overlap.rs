//! Logins, answers of Graph and wishes of people that overlap: the newer decision holds, whichever arrives first.

use futures_util::FutureExt;
use http::Method;
use pagesyncd::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::json;

use crate::town::{ADA, Answer, Town, until};

/// Answers to this call, about this page, wait until they are released.
fn hold(town: &Town, call: Call, page: Option<&str>) {
    let scope = Scope { call: Some(call), page: page.map(str::to_owned), times: None };
    town.world().set_fault_for(Fault::GraphHeld, scope);
}

fn release(town: &Town) {
    town.world().set_fault(Fault::GraphHeld, false);
}

async fn until_held(town: &Town, answers: u64) {
    until(&format!("{answers} answers of Graph wait"), async || town.world().held() >= answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_about_an_old_token_does_not_park_a_page_that_was_ticked_again() {
    let town = Town::plan().start().await;
    let user = town.linked().await;
    let pages = town.pages();
    let page = &pages[5];
    // No hint about permissions comes between.
    town.world().set_fault(Fault::WebhooksLost, true);
    hold(&town, Call::ReadPage, Some(page));
    let others = pages[..5].join(",");
    let unticked = town.log_in(user, ADA, &others);
    let ticked_again = async {
        until_held(&town, 1).await;
        let released = async {
            // The second answer is to the page itself, with its new token; the first is about the old one.
            until_held(&town, 2).await;
            release(&town);
        };
        tokio::join!(town.log_in(user, ADA, "all"), released).0
    };
    let (unticked, ticked_again) = tokio::join!(unticked, ticked_again);
    assert_eq!((unticked.status, ticked_again.status), (200, 200));
    assert_eq!(unticked.json()["changes"]["lost"], json!([]), "it is linked, with a newer token");
    // The page has handled the news about the old token when it reads again.
    town.world().edit_page(page, "name", "Ticked again".into()).unwrap();
    town.sync(page).await;
    town.until_true(user, std::slice::from_ref(page)).await;
    assert_eq!(town.health(page).await, "active");
    town.finish().await;
}

/// Begins a login as Ada whose list of pages is kept back, lets `meanwhile` happen, and hands the answer of the login out.
async fn login_with(town: &Town, user: UserId, meanwhile: impl Future<Output = ()>) -> Answer {
    hold(town, Call::Accounts, None);
    let login = town.log_in(user, ADA, "all");
    let decided = async {
        until_held(town, 1).await;
        meanwhile.await;
        release(town);
    };
    tokio::join!(login, decided).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_does_not_bring_back_a_person_who_is_gone() {
    let town = Town::plan().start().await;
    let user = town.linked().await;
    let forgotten = std::cell::OnceCell::new();
    let asked_to_be_forgotten = async {
        let (status, told) = town.world().send_data_deletion(ADA).await.unwrap();
        assert_eq!(status, 200);
        forgotten.set(told["url"].as_str().unwrap().strip_prefix(&town.base).unwrap().to_owned()).unwrap();
    };
    let answer = login_with(&town, user, asked_to_be_forgotten).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "ended_meanwhile"));
    assert!(answer.text().contains("nothing was linked; start again"), "{}", answer.text());
    assert!(answer.json()["error"]["login_url"].as_str().unwrap().ends_with("/facebook/login"));
    let gone = async || town.get(forgotten.get().unwrap()).await.text().contains("Your data is deleted");
    until("the deletion is done", gone).await;
    let nothing_is_left = async || {
        assert_eq!(town.status().await["links"], 0);
        assert_eq!(town.server.objects.list(), Vec::<String>::new());
        let known = json!({"ids": [ADA], "dry_run": true}).to_string();
        assert_eq!(town.admin(Method::POST, "/v1/purge", &known).await.1["people"][0]["known"], false);
    };
    nothing_is_left().await;
    // Nothing of the person was stored when a list names them, or when they remove the app.
    let purged = async {
        let list = json!({"ids": [ADA]}).to_string();
        assert_eq!(town.admin(Method::POST, "/v1/purge", &list).await.0, 200);
    };
    assert_eq!(login_with(&town, user, purged).await.status, 409);
    let removed_the_app = async { assert_eq!(town.world().send_deauthorize(ADA).await.unwrap(), 200) };
    assert_eq!(login_with(&town, user, removed_the_app).await.status, 409);
    town.crash().await;
    nothing_is_left().await;
    // A login that begins afterwards is a new grant.
    assert_eq!(town.log_in(user, ADA, "all").await.status, 200);
    town.until_true(user, &town.pages()).await;
    assert!(gone().await, "the deletion stays done");
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_does_not_make_a_link_that_was_unlinked_meanwhile() {
    let town = Town::plan().start().await;
    let user = town.linked().await;
    let pages = town.pages();
    let unlinked = async { assert!(town.run(&["unlink", &pages[0]]).await.status.success()) };
    let told = login_with(&town, user, unlinked).await.json();
    let page = told["pages"]["data"].as_array().unwrap().iter().find(|page| page["id"] == pages[0].as_str()).unwrap();
    assert_eq!(page["linked"], false);
    assert!(page["reason"].as_str().unwrap().contains("unlinked while this login was under way"), "{page}");
    assert_eq!(told["changes"]["kept"].as_array().unwrap().len(), 5);
    assert_eq!(told["changes"]["lost"], json!([]));
    assert_eq!(town.health(&pages[0]).await, "not linked");
    town.until_true(user, &pages[1..]).await;
    until("its object is gone", async || town.object(user, &pages[0]).is_none()).await;
    // The person may start again.
    assert_eq!(town.log_in(user, ADA, "all").await.status, 200);
    town.until_true(user, &pages).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_the_person_says_what_came_between() {
    let town = Town::plan().pages(2).start().await;
    let user = town.linked().await;
    let pages = town.pages();
    let unlinked = async { assert!(town.run(&["unlink", &pages[0]]).await.status.success()) };
    let removed_the_app = async { assert_eq!(town.world().send_deauthorize(ADA).await.unwrap(), 200) };
    let meanwhile = [
        ("Unlinked meanwhile", "To link them, log in again", unlinked.boxed_local()),
        ("Your Pages were not linked", "the app was removed on Facebook", removed_the_app.boxed_local()),
    ];
    for (title, words, decided) in meanwhile {
        hold(&town, Call::Accounts, None);
        let mut browser = town.browser(user).await;
        let dialog = town.to_dialog(&mut browser).await;
        let back = town.decide(&dialog, ADA, "all", "continue").await;
        // The page comes before the login has a result, and can be fetched again.
        let answer = town.browse(&mut browser, &back, "text/html").await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let text = answer.text();
        let (_, id) = text.split_once("/facebook/login/result/").unwrap();
        let id: String = id.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        until_held(&town, 1).await;
        decided.await;
        release(&town);
        let path = format!("/facebook/login/result/{id}");
        until("the page has the result", async || {
            let text = town.browse(&mut browser.clone(), &path, "text/html").await.text();
            text.contains(title) && text.contains(words)
        })
        .await;
    }
    town.finish().await;
}
