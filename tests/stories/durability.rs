//! A delivery that was answered 200 is reflected in Spaces, whatever dies in between.

use pagesyncd::model::UserId;
use pagesyncd::sandbox::fault::Fault;

use crate::town::{ADA, Town, delivery, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_answered_survives_a_kill_right_after_the_answer() {
    let town = Town::plan().trace().start().await;
    let user = town.linked().await;
    town.world().set_fault(Fault::WebhooksLost, true);
    for round in 0..5 {
        let page = town.nth(round);
        town.world().edit_page(&page, "name", format!("Told before the end {round}").into()).unwrap();
        assert_eq!(town.deliver(delivery(&[&page])).await.status, 200);
        town.daemon.kill_now().await;
        assert!(!town.is_true(user, &page));
        town.daemon.start().await.unwrap();
        until("what was told is written", async || town.is_true(user, &page)).await;
    }
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_spaces_survives_a_kill() {
    let town = Town::plan().start().await;
    let user = town.linked().await;
    let pages = town.pages();
    town.world().set_fault(Fault::SpacesRefused, true);
    for page in &pages {
        town.world().edit_page(page, "name", format!("Waiting {page}").into()).unwrap();
    }
    until("everything is read and waits", async || town.status().await["outbox"] == 6).await;
    until("no read is owed", async || town.status().await["due"] == 0).await;
    let reads: u64 = pages.iter().map(|page| town.world().graph_reads(page)).sum();
    town.crash().await;
    let status = town.status().await;
    assert_eq!((&status["outbox"], &status["links"]), (&6.into(), &6.into()));
    assert!(pages.iter().all(|page| !town.is_true(user, page)));
    // The bodies lie in the store: Graph need not be asked again.
    town.world().set_fault(Fault::GraphReset, true);
    town.crash().await;
    town.world().set_fault(Fault::SpacesRefused, false);
    town.until_true(user, &pages).await;
    town.world().clear_faults();
    assert_eq!(pages.iter().map(|page| town.world().graph_reads(page)).sum::<u64>(), reads);
    town.settle().await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_large_login_loses_no_page() {
    for gentle in [true, false] {
        let town = Town::plan().pages(80).start().await;
        let user = UserId::random();
        let mut browser = town.browser(user).await;
        let dialog = town.to_dialog(&mut browser).await;
        let back = town.decide(&dialog, ADA, "all", "continue").await;
        let request = town.http.get(&back).header("cookie", format!("session_id={}", browser.cookie.unwrap()));
        let browsing = tokio::spawn(request.send());
        until("some pages are done and others are not", async || {
            let status = town.status().await;
            let owed = status["due"].as_u64().unwrap() + status["outbox"].as_u64().unwrap();
            status["links"] == 80 && owed > 0
        })
        .await;
        if gentle {
            town.restart().await;
        } else {
            town.crash().await;
        }
        // Whatever the browser saw, the pages are linked.
        let _ = browsing.await.unwrap();
        town.until_true(user, &town.pages()).await;
        town.settle().await;
        town.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_after_kill_under_load_loses_nothing() {
    let town = Town::plan().pages(12).start().await;
    let user = town.linked().await;
    let pages = town.pages();
    for round in 0..6 {
        if round == 3 {
            town.world().set_fault(Fault::SpacesSlow, true);
            town.world().set_latency(std::time::Duration::from_millis(50));
        }
        let accepted = "pagesyncd_webhook_deliveries_total{result=\"accepted\"}";
        let before = town.metric(accepted).await;
        let (world, edited) = (town.world().clone(), pages.clone());
        let editing = tokio::spawn(async move {
            for number in 0..15 {
                for page in &edited {
                    world.edit_page(page, "name", format!("Round {round}, edit {number} of {page}").into()).unwrap();
                }
                tokio::task::yield_now().await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        until("some were taken", async || town.metric(accepted).await >= before + 2.0).await;
        town.crash().await;
        editing.await.unwrap();
    }
    until("every webhook is delivered", async || town.world().undelivered() == 0).await;
    town.until_true(user, &pages).await;
    town.settle().await;
    town.until_true(user, &pages).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_links_are_the_same_after_a_crash() {
    let town = Town::plan().start().await;
    let user = town.linked().await;
    let mut browser = town.browser(user).await;
    let (_, login) = town.session(user).await;
    let health = town.health(&town.nth(0)).await;
    town.crash().await;
    assert_eq!(town.status().await["links"], 6);
    assert_eq!(town.health(&town.nth(0)).await, health);
    assert_eq!(town.browse(&mut browser, "/facebook/login", "*/*").await.status, 302);
    assert_eq!(town.browse(&mut crate::town::Browser::default(), &login, "*/*").await.status, 302);
    town.crash().await;
    assert_eq!(town.browse(&mut crate::town::Browser::default(), &login, "*/*").await.status, 400);
    town.finish().await;
}
