//! Logins, answers of Graph and wishes of people that overlap: the newer decision holds, whichever arrives first.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};

use crate::town::{ADA, Town, until};

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
    assert_eq!(unticked.json()["changes"]["lost"], serde_json::json!([]), "it is linked, with a newer token");
    // What was heard of the old token lies behind the page when it reads again.
    town.world().edit_page(page, "name", "Ticked again".into()).unwrap();
    town.sync(page).await;
    town.until_true(user, std::slice::from_ref(page)).await;
    assert_eq!(town.health(page).await, "active");
    town.finish().await;
}
