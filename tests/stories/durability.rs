//! A delivery that was answered 200 is reflected in Spaces, whatever dies in between.

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::Fault;

use crate::harness::{ADA, Harness, delivery, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_answered_survives_a_kill_right_after_the_answer() {
    let harness = Harness::plan().trace().start().await;
    let user = harness.linked().await;
    harness.world().set_fault(Fault::WebhooksLost, true);
    for round in 0..5 {
        let page = harness.nth(round);
        harness.world().edit_page(&page, "name", format!("Edited before the end {round}").into()).unwrap();
        assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
        harness.daemon.kill_now().await;
        assert!(!harness.is_true(user, &page));
        harness.daemon.start().await.unwrap();
        until("the announced change is written", async || harness.is_true(user, &page)).await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_spaces_survives_a_kill() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().set_fault(Fault::SpacesRefused, true);
    for page in &pages {
        harness.world().edit_page(page, "name", format!("Waiting {page}").into()).unwrap();
    }
    until("everything is read and waits", async || harness.status().await["outbox"] == 6).await;
    until("no read is owed", async || harness.status().await["due"] == 0).await;
    // What is answered after them is durable after them.
    harness.session(user).await;
    let reads: u64 = pages.iter().map(|page| harness.world().graph_reads(page)).sum();
    harness.crash().await;
    let status = harness.status().await;
    assert_eq!((&status["outbox"], &status["links"]), (&6.into(), &6.into()));
    assert!(pages.iter().all(|page| !harness.is_true(user, page)));
    // The bodies lie in the store: Graph need not be asked again.
    harness.world().set_fault(Fault::GraphReset, true);
    harness.crash().await;
    harness.world().set_fault(Fault::SpacesRefused, false);
    harness.until_true(user, &pages).await;
    harness.world().clear_faults();
    assert_eq!(pages.iter().map(|page| harness.world().graph_reads(page)).sum::<u64>(), reads);
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_large_login_loses_no_page() {
    for gentle in [true, false] {
        let harness = Harness::plan().pages(80).start().await;
        let user = UserId::random();
        let mut browser = harness.browser(user).await;
        let dialog = harness.to_dialog(&mut browser).await;
        let back = harness.decide(&dialog, ADA, "all", "continue").await;
        let request = harness.http.get(&back).header("cookie", format!("session_id={}", browser.cookie.unwrap()));
        let browsing = tokio::spawn(request.send());
        until("some pages are done and others are not", async || {
            let status = harness.status().await;
            let owed = status["due"].as_u64().unwrap() + status["outbox"].as_u64().unwrap();
            harness.log().contains("pages are linked") && owed > 0
        })
        .await;
        if gentle {
            harness.restart().await;
        } else {
            harness.crash().await;
        }
        // Whatever the browser saw, the pages are linked.
        let _ = browsing.await.unwrap();
        harness.until_true(user, &harness.pages()).await;
        harness.complete().await;
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_after_kill_under_load_loses_nothing() {
    let harness = Harness::plan().pages(12).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for round in 0..6 {
        if round == 3 {
            harness.world().set_fault(Fault::SpacesSlow, true);
            harness.world().set_latency(std::time::Duration::from_millis(50));
        }
        let accepted = "pagesyncd_webhook_deliveries_total{result=\"accepted\"}";
        let before = harness.metric(accepted).await;
        let (world, edited) = (harness.world().clone(), pages.clone());
        let editing = tokio::spawn(async move {
            for number in 0..15 {
                for page in &edited {
                    world.edit_page(page, "name", format!("Round {round}, edit {number} of {page}").into()).unwrap();
                }
                tokio::task::yield_now().await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        until("some were taken", async || harness.metric(accepted).await >= before + 2.0).await;
        harness.crash().await;
        editing.await.unwrap();
    }
    until("every webhook is delivered", async || harness.world().undelivered() == 0).await;
    harness.until_true(user, &pages).await;
    harness.complete().await;
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_links_are_the_same_after_a_crash() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let mut browser = harness.browser(user).await;
    let (_, login) = harness.session(user).await;
    let health = harness.health(&harness.nth(0)).await;
    harness.crash().await;
    assert_eq!(harness.status().await["links"], 6);
    assert_eq!(harness.health(&harness.nth(0)).await, health);
    assert_eq!(harness.browse(&mut browser, "/facebook/login", "*/*").await.status, 302);
    assert_eq!(harness.browse(&mut crate::harness::Browser::default(), &login, "*/*").await.status, 302);
    harness.crash().await;
    assert_eq!(harness.browse(&mut crate::harness::Browser::default(), &login, "*/*").await.status, 400);
    harness.finish().await;
}
