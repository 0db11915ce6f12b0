//! Addresses with a query, as receivers commonly have: called as they are written, and shown without the query.

use pagesyncd::model::UserId;

use crate::town::{ADA, Town, delivery, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_receivers_address_may_have_a_query_that_is_sent_and_not_shown() {
    let mut town = Town::plan().trace().build().await;
    let key = "a-key-of-the-receiver-in-its-address";
    town.keep_secret(key);
    town.set("notify.url", format!("{}?tenant=7&key={key}", town.server.notify_url));
    town.daemon.start().await.unwrap();
    town.linked().await;
    // The receiver checks the signature of each, and that its path is right.
    until("the receiver took them", async || town.world().notices_taken().len() >= town.pages().len()).await;
    // While it is away the log says so, without the query.
    town.world().set_fault(pagesyncd::sandbox::fault::Fault::NoticesRefused, true);
    town.world().edit_page(&town.nth(0), "name", "Somebody else".into()).unwrap();
    until("the receiver is away", async || town.status().await["notify"]["ok"] == false).await;
    town.world().clear_faults();
    until("no notice waits", async || town.status().await["notify"]["waiting"] == 0).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_variables_may_have_a_query() {
    let key = "a-key-of-the-proxy-in-the-address";
    let town = Town::plan();
    let base = town.base();
    let (redirect, webhook) =
        (format!("{base}/facebook/callback?tenant=7"), format!("{base}/facebook/webhook?key={key}"));
    let town = town.env("FACEBOOK_REDIRECT_URI", &redirect).env("FACEBOOK_WEBHOOK_ADDRESS", &webhook).trace();
    let town = town.build().await;
    town.keep_secret(key);
    town.world().change(|s| s.app.redirect_uris = [redirect.clone()].into());
    town.daemon.start().await.unwrap();
    let user = UserId::random();
    let answer = town.log_in(user, ADA, "all").await;
    assert_eq!((answer.status, answer.json()["webhook_test"]["status"].as_str()), (200, Some("success")));
    until("the subscription is in place", async || {
        town.world().look(|s| s.app.subscription.as_ref().is_some_and(|app| app.callback_url == webhook))
    })
    .await;
    let log = town.log();
    assert!(log.contains(&format!("{base}/facebook/webhook")), "the log names the address");
    // Facebook delivers there.
    let page = town.nth(0);
    until("the page is subscribed", async || town.world().look(|s| s.pages[&page].subscribed.is_some())).await;
    town.world().edit_page(&page, "name", "Through the query".into()).unwrap();
    until("the change arrives", async || town.is_true(user, &page)).await;
    let accepted = "pagesyncd_webhook_deliveries_total{result=\"accepted\"}";
    assert!(town.metric(accepted).await >= 2.0);
    assert_eq!(town.deliver(delivery(&[&page])).await.status, 200, "the address without it works, too");
    town.finish().await;
}
