//! Pending work: counts of the work that the daemon can do, apart from the work that waits for a person.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::{Value, json};

use crate::harness::{ADA, Harness, delivery, until};

/// The three counts of pending reads, as metrics have them.
async fn gauges(harness: &Harness) -> (f64, f64, f64) {
    let due = harness.metric("pagesyncd_due").await;
    let parked = harness.metric("pagesyncd_due_parked").await;
    (due, parked, harness.metric("pagesyncd_oldest_owed_seconds").await)
}

/// The same counts in `status`.
fn counts(status: &Value) -> Value {
    json!([status["due"], status["due_parked"], status["oldest_owed_seconds"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_for_a_person_is_counted_apart_until_a_new_login() {
    let harness = Harness::plan().pages(3).start().await;
    let user = harness.linked().await;
    harness.complete().await;
    let (pages, page) = (harness.pages(), harness.nth(0));
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    harness.world().set_fault_for(Fault::Code { code: 190, subcode: 460 }, scope);
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    until("the page is parked", async || harness.health(&page).await == "needs_relink").await;
    until("nothing else is pending", async || harness.status().await["due"] == 0).await;
    // The mark stands, and a webhook does not change that.
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    assert_eq!(counts(&harness.status().await), json!([0, 1, 0]));
    assert_eq!(gauges(&harness).await, (0.0, 1.0, 0.0));
    let ready = harness.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    let shown = harness.page(&page).await.unwrap();
    assert_eq!((&shown["owed"], &shown["owed_parked"]), (&json!(false), &json!(true)), "{shown}");
    let other = harness.page(&pages[1]).await.unwrap();
    assert_eq!((&other["owed"], &other["owed_parked"]), (&json!(false), &json!(false)), "{other}");
    let text = String::from_utf8(harness.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("0 reads, 0 writes, oldest 0 s; 1 read waits for a person"), "{text}");
    let list = String::from_utf8(harness.run(&["pages"]).await.stdout).unwrap();
    assert!(list.contains("needs_relink, read waits for a person"), "{list}");
    // A restart finds the same.
    harness.restart().await;
    assert_eq!(counts(&harness.status().await), json!([0, 1, 0]));
    // The read of the new login hangs: it is the daemon's to make now.
    harness.world().clear_faults();
    let hang = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    harness.world().set_fault_for(Fault::GraphHang, hang);
    let (answer, ()) = tokio::join!(harness.log_in(user, ADA, "all"), async {
        until("the read is due", async || {
            let status = harness.status().await;
            status["due"] == 1 && status["due_parked"] == 0
        })
        .await;
        assert_eq!(harness.page(&page).await.unwrap()["owed"], true);
        until("its age counts", async || gauges(&harness).await.2 > 0.0).await;
        harness.world().clear_faults();
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    harness.complete().await;
    harness.until_true(user, &pages).await;
    assert_eq!(gauges(&harness).await, (0.0, 0.0, 0.0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_limit_holds_back_is_still_the_daemons_to_make() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    harness.complete().await;
    let page = harness.nth(0);
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    harness.world().set_fault_for(Fault::ThrottlePage, scope);
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    until("the page is throttled", async || harness.health(&page).await == "throttled").await;
    let status = harness.status().await;
    assert_eq!((&status["due"], &status["due_parked"]), (&json!(1), &json!(0)), "{status}");
    until("its age counts", async || gauges(&harness).await.2 > 0.0).await;
    harness.finish().await;
}
