//! Imports over links that stand: a token that works is not replaced by an older or a dead one, unless an operator
//! insists.

use std::process::Output;

use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::{Value, json};

use crate::harness::{ADA, Harness, until};

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The numbers of the lines that changed nothing, and a reason that all of them share a part of.
fn left(reply: &Value, reason: &str) -> Vec<u64> {
    let left = reply["left"].as_array().unwrap();
    left.iter().for_each(|line| assert!(line["reason"].as_str().unwrap().contains(reason), "{line}"));
    left.iter().map(|line| line["line"].as_u64().unwrap()).collect()
}

/// A token of this page that works, or does not any more.
fn token(harness: &Harness, page: &str, works: bool) -> String {
    harness.world().look(|s| {
        let mut of_page = s.tokens.iter().filter(|(_, token)| token.page.as_deref() == Some(page));
        of_page.find(|(_, token)| token.refused.is_none() == works).unwrap().0.clone()
    })
}

async fn import(harness: &Harness, user: UserId, tokens: &[(String, String)]) -> Value {
    let line = |(page, token): &(String, String)| json!({"user": user, "page_id": page, "access_token": token});
    let lines: Vec<String> = tokens.iter().map(|one| line(one).to_string()).collect();
    let (status, reply) = harness.admin(Method::POST, "/v1/import", &lines.join("\n")).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

async fn all_active(harness: &Harness, links: u64) {
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await as u64, links);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_export_does_not_replace_the_tokens_of_a_newer_login() {
    let harness = Harness::plan().pages(4).start().await;
    let user = harness.linked().await;
    let path = harness.scratch_dir().join("earlier.export");
    let path = path.to_str().unwrap();
    assert!(harness.run(&["export", path]).await.status.success());
    // The same export over the same links is no harm: each has the token that its line brings.
    let reply = document(&harness.run(&["import", path, "--json"]).await);
    assert_eq!((&reply["imported"], &reply["left"]), (&4.into(), &json!([])));
    harness.complete().await;
    harness.world().change_password(ADA).unwrap();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    harness.complete().await;
    for running in [true, false] {
        if !running {
            assert_eq!(harness.daemon.stop().await, Some(0));
        }
        let output = harness.run(&["import", path, "--json"]).await;
        assert_eq!(output.status.code(), Some(0));
        // Line 1 is the head, the last one the login.
        assert_eq!(left(&document(&output), "e"), [2, 3, 4, 5, 6]);
        let output = harness.run(&["import", path]).await;
        let (said, named) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("0 links imported, 5 left as they are") && said.contains("--replace"), "{said}");
        assert!(named.contains("line 3: left as it is: the link has a token that works and is not older"), "{named}");
        assert!(named.contains("line 6: left as it is: a newer login"), "{named}");
    }
    harness.daemon.start().await.unwrap();
    for page in harness.pages() {
        harness.sync(&page).await;
    }
    harness.world().edit_page(&harness.nth(0), "name", "Still read".into()).unwrap();
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    all_active(&harness, 4).await;
    // An operator may insist.
    let reply = document(&harness.run(&["import", path, "--replace", "--json"]).await);
    assert_eq!((&reply["imported"], &reply["left"]), (&4.into(), &json!([])));
    for page in harness.pages() {
        until("the old token is refused", async || harness.health(&page).await == "needs_relink").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_a_time_is_tried_before_it_replaces_a_token_that_works() {
    let harness = Harness::plan().pages(3).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().change_password(ADA).unwrap();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    // For another user, so that there are other tokens that work.
    let other = UserId::random();
    assert_eq!(harness.log_in(other, ADA, "all").await.status, 200);
    harness.complete().await;
    let of = |works: bool| -> Vec<(String, String)> {
        pages.iter().map(|page| (page.clone(), token(&harness, page, works))).collect()
    };
    let reply = import(&harness, user, &of(false)).await;
    assert_eq!((&reply["imported"], left(&reply, "Facebook refuses this token")), (&0.into(), vec![1, 2, 3]));
    // Where Facebook does not answer, nothing is replaced either.
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::ReadPage));
    let mut tokens: Vec<(String, String)> =
        pages.iter().map(|page| (page.clone(), "EAAPunknowntoken0123456789".into())).collect();
    harness.keep_secret("EAAPunknowntoken0123456789");
    let reply = import(&harness, user, &tokens).await;
    assert_eq!(left(&reply, "import the line again while"), [1, 2, 3]);
    harness.world().clear_faults();
    all_active(&harness, 6).await;
    // A token that works is taken, line by line.
    let exported = String::from_utf8(harness.run(&["export", "-"]).await.stdout).unwrap();
    assert!(exported.contains("granted_at") && exported.contains("logged_in_at"));
    let living = harness.world().look(|s| {
        let mut living: Vec<(String, String)> = s
            .tokens
            .iter()
            .filter(|(_, token)| token.refused.is_none())
            .filter_map(|(text, token)| Some((token.page.clone()?, text.clone())))
            .collect();
        living.retain(|(page, _)| page == &pages[0]);
        living
    });
    assert_eq!(living.len(), 2, "one for each user");
    tokens[0].1.clone_from(&living[0].1);
    let first = import(&harness, user, &tokens).await;
    tokens[0].1.clone_from(&living[1].1);
    let second = import(&harness, user, &tokens).await;
    for reply in [&first, &second] {
        assert_eq!((&reply["imported"], left(reply, "Facebook refuses")), (&1.into(), vec![2, 3]));
    }
    harness.world().edit_page(&pages[0], "name", "Read with another token".into()).unwrap();
    harness.until_true(user, &pages).await;
    harness.complete().await;
    all_active(&harness, 6).await;
    // A link that waits for a person gets whatever comes.
    harness.world().expire_token(ADA, Some(&pages[0])).unwrap();
    harness.sync(&pages[0]).await;
    until("the page waits", async || harness.health(&pages[0]).await == "needs_relink").await;
    let reply = import(&harness, user, &tokens[..1]).await;
    assert_eq!((&reply["imported"], &reply["left"]), (&1.into(), &json!([])));
    harness.finish().await;
}
