//! What is left to do for persons after a link is gone, what Facebook tells of their permissions, and lists of persons
//! to forget.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use pagesyncd::sandbox::receiver::Received;
use serde_json::{Value, json};

use crate::harness::{ADA, BRUNO, Harness, Plan, delivery, object_key, until};

/// Calls whose answer is lost are over soon.
fn plan() -> Plan {
    Harness::plan().set("facebook.request_timeout", "2s").set("spaces.request_timeout", "2s")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn is_subscribed(harness: &Harness, page: &str) -> bool {
    harness.world().look(|s| s.pages[page].subscribed.is_some())
}

async fn cleanups(harness: &Harness) -> Value {
    harness.status().await["cleanups"].clone()
}

/// Every link's token was looked at, so that the next look is a day away if nothing asks for one.
async fn looked_at(harness: &Harness) {
    for page in harness.pages() {
        harness.sync(&page).await;
        until("the tokens are looked at", async || {
            let (_, listed) = harness.admin(Method::GET, &format!("/v1/pages/{page}"), "").await;
            listed["pages"].as_array().unwrap().iter().all(|link| link["checked_at"].is_string())
        })
        .await;
    }
    harness.complete().await;
}

async fn no_cleanups(harness: &Harness) {
    until("nothing is left to do", async || cleanups(harness).await == json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_page_is_unsubscribed_whatever_comes_between() {
    let harness = plan().trace().start().await;
    harness.linked().await;
    let page = harness.nth(0);
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::Unsubscribe));
    let output = harness.run(&["unlink", &page]).await;
    assert!(output.status.success() && out(&output).contains("being deleted"), "{}", out(&output));
    assert_eq!(cleanups(&harness).await, json!({"unsubscribe": 1}));
    until("it is tried", async || harness.world().calls(Call::Unsubscribe) > 0).await;
    harness.crash().await;
    assert_eq!(cleanups(&harness).await["unsubscribe"], 1);
    assert!(out(&harness.run(&["status"]).await).contains("1 unsubscribe"));
    assert!(is_subscribed(&harness, &page));
    harness.world().clear_faults();
    until("the page is unsubscribed", async || !is_subscribed(&harness, &page)).await;
    no_cleanups(&harness).await;
    // The token is dead, and nothing more can be done: said once, and it is over.
    let page = harness.nth(1);
    harness.world().expire_token(ADA, Some(&page)).unwrap();
    harness.run(&["unlink", &page]).await;
    no_cleanups(&harness).await;
    assert_eq!(harness.log().matches("cannot be unsubscribed").count(), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_linked_again_keeps_its_subscription() {
    let harness = plan().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    for fault in [Fault::GraphUnavailable, Fault::GraphLostAnswer, Fault::GraphHang] {
        harness.world().set_fault_for(fault, Scope::call(Call::Unsubscribe));
        let tried = harness.world().calls(Call::Unsubscribe);
        harness.run(&["unlink", &page, "--user", &user.to_string()]).await;
        until("it is tried", async || harness.world().calls(Call::Unsubscribe) > tried).await;
        assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
        harness.crash().await;
        harness.world().clear_faults();
        no_cleanups(&harness).await;
        until("the page is subscribed", async || is_subscribed(&harness, &page)).await;
        harness.world().edit_page(&page, "name", format!("After {fault}").into()).unwrap();
        until("and the change arrives", async || harness.is_true(user, &page)).await;
        harness.complete().await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_arrives_behind_a_new_subscription_does_not_end_it() {
    let harness = Harness::plan().set("facebook.request_timeout", "15s").start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().set_latency(Duration::from_secs(8));
    harness.world().set_fault_for(Fault::GraphSlow, Scope::call(Call::Unsubscribe).times(1));
    let ended = || {
        let outcomes = harness.world().outcomes();
        outcomes.iter().filter(|(call, ..)| *call == Call::Unsubscribe).map(|(.., count)| count).sum::<u64>()
    };
    harness.run(&["unlink", &page]).await;
    until("the call is on its way", async || !harness.world().is_fault_on(Fault::GraphSlow)).await;
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    looked_at(&harness).await;
    until("the page is subscribed", async || is_subscribed(&harness, &page)).await;
    assert_eq!(ended(), 0, "the call is still on its way");
    until("it arrives", async || ended() == 1).await;
    no_cleanups(&harness).await;
    until("the page is subscribed again", async || is_subscribed(&harness, &page)).await;
    harness.world().edit_page(&page, "name", "After all".into()).unwrap();
    until("and the change arrives", async || harness.is_true(user, &page)).await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lands_after_an_unlink_is_deleted_again_and_a_linked_pages_object_is_not() {
    let harness = Harness::plan().set("spaces.request_timeout", "5s").start().await;
    let user = harness.linked().await;
    let (gone, back) = (harness.nth(0), harness.nth(1));
    let key = object_key(user, &gone);
    let late = harness.server.objects.get(&key).unwrap();
    // Killed while Spaces owes an answer: nobody knows what is still on its way.
    harness.world().set_fault(Fault::SpacesRefused, true);
    harness.run(&["unlink", &gone]).await;
    harness.run(&["unlink", &back]).await;
    harness.crash().await;
    harness.world().clear_faults();
    until("both are to be deleted again", async || cleanups(&harness).await["delete_again"] == 2).await;
    assert!(harness.object(user, &gone).is_none());
    harness.crash().await;
    assert!(harness.server.objects.land(&key, &late));
    assert_eq!(harness.log_in(user, ADA, &back).await.status, 200);
    harness.until_true(user, std::slice::from_ref(&back)).await;
    no_cleanups(&harness).await;
    assert!(harness.object(user, &gone).is_none(), "the late write is gone again");
    assert!(harness.is_true(user, &back));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_link_of_a_person_takes_the_app_out_of_their_account_if_that_is_wished() {
    let harness = plan().pages(2).trace().start().await;
    let user = harness.linked().await;
    assert_eq!(harness.log_in(user, BRUNO, "all").await.status, 200);
    let (one, two) = (harness.nth(0), harness.nth(1));
    // Bruno's token took the place of Ada's, so the links are his.
    let bruno = json!([{"facebook_user_id": BRUNO, "outcome": "still_linked", "links": 1}]);
    let (status, reply) = harness.admin(Method::DELETE, &format!("/v1/pages/{one}?revoke=true"), "").await;
    assert_eq!((status, &reply["revoke"]), (200, &bruno));
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::Revoke));
    let output = harness.run(&["unlink", &two, "--revoke"]).await;
    assert!(out(&output).contains("is being taken out"), "{}", out(&output));
    until("it is tried", async || harness.world().calls(Call::Revoke) > 0).await;
    harness.crash().await;
    harness.world().clear_faults();
    until("the app is gone from the account", async || harness.world().look(|s| s.persons[BRUNO].granted.is_empty()))
        .await;
    no_cleanups(&harness).await;
    let alive =
        |person: &str| harness.world().look(|s| s.tokens.values().any(|t| t.person == person && t.refused.is_none()));
    assert!(!alive(BRUNO) && alive(ADA));
    // An imported link has no login that could be revoked.
    let token = harness.world().look(|s| {
        let living = s.tokens.iter().find(|(_, t)| t.person == ADA && t.page.is_some() && t.refused.is_none());
        living.map(|(text, t)| (t.page.clone().unwrap(), text.clone())).unwrap()
    });
    let someone = "2210000000000999";
    let line =
        json!({"user": UserId::random(), "page_id": token.0, "access_token": token.1, "facebook_user_id": someone});
    assert_eq!(harness.admin(Method::POST, "/v1/import", &line.to_string()).await.0, 200);
    let output = harness.run(&["unlink", &token.0, "--revoke"]).await;
    assert!(out(&output).contains("no login of theirs is stored"), "{}", out(&output));
    no_cleanups(&harness).await;
    harness.finish().await;
}

/// A delivery that says nothing but whom it is about.
fn about(persons: &[&str]) -> String {
    let entries: Vec<Value> = persons
        .iter()
        .map(|id| json!({"id": id, "uid": id, "time": 1, "changed_fields": ["pages_show_list"]}))
        .collect();
    json!({"object": "permissions", "entry": entries}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_taken_back_shows_long_before_the_next_poll() {
    let harness = plan().start().await;
    let user = harness.linked().await;
    assert_eq!(harness.log_in(UserId::random(), BRUNO, "all").await.status, 200);
    until("the app is notified of permissions", async || {
        harness
            .world()
            .look(|s| s.app.permissions.as_ref().is_some_and(|app| app.fields.contains("pages_read_engagement")))
    })
    .await;
    looked_at(&harness).await;
    assert!(harness.world().remove_permission(ADA, "pages_read_engagement").unwrap());
    for page in harness.pages() {
        until("her link waits for her", async || {
            let (_, listed) = harness.admin(Method::GET, &format!("/v1/pages/{page}"), "").await;
            let links = listed["pages"].as_array().cloned().unwrap_or_default();
            links.iter().any(|link| link["user"] == user.to_string() && link["health"] == "revoked")
        })
        .await;
    }
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 3.0, "his are as they were");
    // The word of a delivery is not believed: it is a reason to look.
    let checks = harness.world().calls(Call::DebugToken);
    assert_eq!(harness.deliver(about(&[BRUNO, "2299999999999999", "0"])).await.status, 200);
    until("his tokens are looked at", async || harness.world().calls(Call::DebugToken) >= checks + 3).await;
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 3.0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_unticked_is_found_out_at_once() {
    let harness = plan().start().await;
    harness.linked().await;
    let pages = harness.pages();
    until("the app is notified of permissions", async || harness.world().look(|s| s.app.permissions.is_some())).await;
    looked_at(&harness).await;
    harness.world().untick(&pages[3]).unwrap();
    until("the page waits for her", async || harness.health(&pages[3]).await == "needs_relink").await;
    assert_eq!(harness.page(&pages[3]).await.unwrap()["reason"], "the page was not ticked in a later login");
    assert_eq!(harness.health(&pages[0]).await, "active");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_was_answered_survives_a_kill_and_a_flood_is_a_trickle() {
    let harness = plan().start().await;
    harness.linked().await;
    looked_at(&harness).await;
    harness.world().set_fault(Fault::WebhooksLost, true);
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::DebugToken));
    harness.world().remove_permission(ADA, "pages_read_engagement").unwrap();
    let before = harness.world().calls(Call::DebugToken);
    for _ in 0..100 {
        assert_eq!(harness.deliver(about(&[ADA])).await.status, 200);
    }
    let asked = harness.world().calls(Call::DebugToken) - before;
    assert!(asked <= 6 * 4, "{asked} calls for a hundred deliveries about six links");
    harness.crash().await;
    harness.world().clear_faults();
    until("all of her links wait for her", async || harness.metric("pagesyncd_links{health=\"revoked\"}").await == 6.0)
        .await;
    // Nothing is owed to who waits: another delivery about her is thanked for.
    assert_eq!(harness.deliver(about(&[ADA])).await.status, 200);
    assert_eq!(harness.deliver(delivery(&harness.pages())).await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_comes_while_a_token_is_looked_at_is_another_reason_to_look() {
    let harness = plan().start().await;
    harness.linked().await;
    looked_at(&harness).await;
    harness.world().set_fault(Fault::WebhooksLost, true);
    harness.world().set_latency(Duration::from_secs(1));
    harness.world().set_fault_for(Fault::GraphSlow, Scope::call(Call::DebugToken));
    let before = harness.world().calls(Call::DebugToken);
    until("each was looked at while hints came", async || {
        assert_eq!(harness.deliver(about(&[ADA])).await.status, 200);
        harness.world().calls(Call::DebugToken) >= before + 6
    })
    .await;
    harness.world().remove_permission(ADA, "pages_read_engagement").unwrap();
    assert_eq!(harness.deliver(about(&[ADA])).await.status, 200);
    harness.world().clear_faults();
    until("all of her links wait for her", async || harness.metric("pagesyncd_links{health=\"revoked\"}").await == 6.0)
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_people_is_forgotten_by_a_running_daemon_and_by_a_stopped_one() {
    let harness = plan().trace().start().await;
    let ada = harness.linked().await;
    let bruno = UserId::random();
    assert_eq!(harness.log_in(bruno, BRUNO, "all").await.status, 200);
    harness.until_true(bruno, &harness.pages()[..3]).await;
    harness.complete().await;
    let file = harness.scratch_dir().join("people.csv");
    let path = file.to_str().unwrap().to_owned();
    let document = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
    std::fs::write(
        &file,
        format!("\u{feff}user_id,reason\r\n# November\r\n\r\n{ADA},asked\r\nada@example.org\r\n42,x\r\n{ADA}\r\n"),
    )
    .unwrap();
    let dry = document(&harness.run(&["purge", &path, "--dry-run", "--json"]).await);
    assert_eq!(dry["people"][0], json!({"id": ADA, "known": true, "links": 6, "objects": 6}));
    assert_eq!(dry["totals"], json!({"people": 2, "known": 1, "unknown": 1, "links": 6, "objects": 6, "bad": 1}));
    assert_eq!((&dry["bad"][0]["line"], &dry["dry_run"]), (&5.into(), &true.into()));
    assert_eq!(harness.status().await["links"], 9, "a dry run changes nothing");

    let output = harness.run(&["purge", &path]).await;
    let (said, complained) = (out(&output), String::from_utf8(output.stderr.clone()).unwrap());
    assert!(
        output.status.code() == Some(65) && complained.contains("line 5") && !complained.contains("ada@"),
        "{complained}"
    );
    assert!(said.contains("42: unknown") && said.contains(&format!("{ADA}: 6 links, confirmation code ")), "{said}");
    let code = said.split("confirmation code ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let place = format!("/facebook/data-deletion/{code}");
    until("it is done", async || harness.get(&place).await.text().contains("Your data is deleted")).await;
    let of = |user: UserId| harness.server.objects.list().iter().filter(|key| key.contains(&user.to_string())).count();
    assert_eq!((of(ada), of(bruno)), (0, 3));
    // Once more: nobody is known any more.
    let again = document(&harness.run(&["purge", &path, "--json"]).await);
    assert_eq!((&again["totals"]["known"], &again["totals"]["unknown"]), (&0.into(), &2.into()));

    assert_eq!(harness.daemon.stop().await, Some(0));
    std::fs::write(&file, BRUNO).unwrap();
    let dry = out(&harness.run(&["purge", &path, "--dry-run"]).await);
    assert!(dry.contains("3 links and 3 objects would go"), "{dry}");
    let output = harness.run(&["purge", &path]).await;
    assert!(out(&output).contains("when the daemon runs next"), "{}", out(&output));
    assert_eq!(of(bruno), 3);
    harness.daemon.start().await.unwrap();
    until("his objects are gone", async || of(bruno) == 0).await;
    assert_eq!(harness.status().await["links"], 0);
    until("what a list did while no daemon ran is reported", async || {
        let reply = harness.world().events_taken();
        let of_him = |event: &&Received| event.body["data"]["user"] == bruno.to_string();
        reply.iter().filter(of_him).filter(|event| event.word() == "page.unlinked").count() == 3
    })
    .await;

    std::fs::write(&file, "nobody\n").unwrap();
    assert_eq!(harness.run(&["purge", &path]).await.status.code(), Some(65));
    assert_eq!(harness.run(&["purge", "/nowhere/people"]).await.status.code(), Some(74));
    for (body, status) in [
        ("{}", 400),
        ("{\"ids\":[\"../x\"]}", 400),
        ("{\"ids\":[],\"dry-run\":true}", 400),
        ("{\"ids\":[7,\"8\"],\"dry_run\":true}", 200),
    ] {
        assert_eq!(harness.admin(Method::POST, "/v1/purge", body).await.0, status, "{body}");
    }
    let many: BTreeSet<u32> = (0..10_001).collect();
    assert_eq!(harness.admin(Method::POST, "/v1/purge", &json!({"ids": many}).to_string()).await.0, 400);
    harness.finish().await;
}
