//! Addresses with a query, as receivers commonly have: called as they are written, and shown without the query.

use pagesyncd::core::model::UserId;

use crate::harness::{ADA, Harness, delivery, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_receivers_address_may_have_a_query_that_is_sent_and_not_shown() {
    let mut harness = Harness::plan().trace().build().await;
    let key = "a-key-of-the-receiver-in-its-address";
    harness.keep_secret(key);
    harness.set("notify.url", format!("{}?tenant=7&key={key}", harness.server.notify_url));
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    // The receiver checks the signature of each, and that its path is right.
    until("the receiver took them", async || harness.world().events_taken().len() >= harness.pages().len()).await;
    // While it is away the log says so, without the query.
    harness.world().set_fault(pagesyncd::sandbox::fault::Fault::EventsRefused, true);
    harness.world().edit_page(&harness.nth(0), "name", "Somebody else".into()).unwrap();
    until("the receiver is away", async || harness.status().await["notify"]["ok"] == false).await;
    harness.world().clear_faults();
    until("no event waits", async || harness.status().await["notify"]["waiting"] == 0).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_variables_may_have_a_query() {
    let key = "a-key-of-the-proxy-in-the-address";
    let harness = Harness::plan();
    let base = harness.base();
    let (redirect, webhook) =
        (format!("{base}/facebook/callback?tenant=7"), format!("{base}/facebook/webhook?key={key}"));
    let harness = harness.env("FACEBOOK_REDIRECT_URI", &redirect).env("FACEBOOK_WEBHOOK_ADDRESS", &webhook).trace();
    let harness = harness.build().await;
    harness.keep_secret(key);
    harness.world().change(|s| s.app.redirect_uris = [redirect.clone()].into());
    harness.daemon.start().await.unwrap();
    let user = UserId::random();
    let answer = harness.log_in(user, ADA, "all").await;
    assert_eq!((answer.status, answer.json()["webhook_test"]["status"].as_str()), (200, Some("success")));
    until("the subscription is in place", async || {
        harness.world().look(|s| s.app.subscription.as_ref().is_some_and(|app| app.callback_url == webhook))
    })
    .await;
    let log = harness.log();
    assert!(log.contains(&format!("{base}/facebook/webhook")), "the log names the address");
    // Facebook delivers there.
    let page = harness.nth(0);
    until("the page is subscribed", async || harness.world().look(|s| s.pages[&page].subscribed.is_some())).await;
    harness.world().edit_page(&page, "name", "Through the query".into()).unwrap();
    until("the change arrives", async || harness.is_true(user, &page)).await;
    let accepted = "pagesyncd_webhook_deliveries_total{result=\"accepted\"}";
    assert!(harness.metric(accepted).await >= 2.0);
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200, "the address without it works, too");
    harness.finish().await;
}
