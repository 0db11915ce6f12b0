//! Pending work: counts of the work that the daemon can do, apart from the work that waits for a person.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::{Value, json};

use crate::town::{ADA, Town, delivery, until};

/// The three counts of pending reads, as metrics have them.
async fn gauges(town: &Town) -> (f64, f64, f64) {
    let due = town.metric("pagesyncd_due").await;
    let parked = town.metric("pagesyncd_due_parked").await;
    (due, parked, town.metric("pagesyncd_oldest_owed_seconds").await)
}

/// The same counts in `status`.
fn counts(status: &Value) -> Value {
    json!([status["due"], status["due_parked"], status["oldest_owed_seconds"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_for_a_person_is_counted_apart_until_a_new_login() {
    let town = Town::plan().pages(3).start().await;
    let user = town.linked().await;
    town.settle().await;
    let (pages, page) = (town.pages(), town.nth(0));
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    town.world().set_fault_for(Fault::Code { code: 190, subcode: 460 }, scope);
    assert_eq!(town.deliver(delivery(&[&page])).await.status, 200);
    until("the page is parked", async || town.health(&page).await == "needs_relink").await;
    until("nothing else is pending", async || town.status().await["due"] == 0).await;
    // The mark stands, and a webhook does not change that.
    assert_eq!(town.deliver(delivery(&[&page])).await.status, 200);
    assert_eq!(counts(&town.status().await), json!([0, 1, 0]));
    assert_eq!(gauges(&town).await, (0.0, 1.0, 0.0));
    let ready = town.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    let shown = town.page(&page).await.unwrap();
    assert_eq!((&shown["owed"], &shown["owed_parked"]), (&json!(false), &json!(true)), "{shown}");
    let other = town.page(&pages[1]).await.unwrap();
    assert_eq!((&other["owed"], &other["owed_parked"]), (&json!(false), &json!(false)), "{other}");
    let text = String::from_utf8(town.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("0 reads, 0 writes, oldest 0 s; 1 read waits for a person"), "{text}");
    let list = String::from_utf8(town.run(&["pages"]).await.stdout).unwrap();
    assert!(list.contains("needs_relink, read waits for a person"), "{list}");
    // A restart finds the same.
    town.restart().await;
    assert_eq!(counts(&town.status().await), json!([0, 1, 0]));
    // The read of the new login hangs: it is the daemon's to make now.
    town.world().clear_faults();
    let hang = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    town.world().set_fault_for(Fault::GraphHang, hang);
    let (answer, ()) = tokio::join!(town.log_in(user, ADA, "all"), async {
        until("the read is due", async || {
            let status = town.status().await;
            status["due"] == 1 && status["due_parked"] == 0
        })
        .await;
        assert_eq!(town.page(&page).await.unwrap()["owed"], true);
        until("its age counts", async || gauges(&town).await.2 > 0.0).await;
        town.world().clear_faults();
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    town.settle().await;
    town.until_true(user, &pages).await;
    assert_eq!(gauges(&town).await, (0.0, 0.0, 0.0));
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_limit_holds_back_is_still_the_daemons_to_make() {
    let town = Town::plan().pages(2).start().await;
    town.linked().await;
    town.settle().await;
    let page = town.nth(0);
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    town.world().set_fault_for(Fault::ThrottlePage, scope);
    assert_eq!(town.deliver(delivery(&[&page])).await.status, 200);
    until("the page is throttled", async || town.health(&page).await == "throttled").await;
    let status = town.status().await;
    assert_eq!((&status["due"], &status["due_parked"]), (&json!(1), &json!(0)), "{status}");
    until("its age counts", async || gauges(&town).await.2 > 0.0).await;
    town.finish().await;
}
