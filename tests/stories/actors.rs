//! A fault in one part stays there: parts that panic come back, and nothing is lost or refused meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pagesyncd::sandbox::fault::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, delivery, object_key, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_panics_comes_back_and_its_neighbours_event_nothing() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = harness.linked().await;
    let pages = harness.pages();
    let restarts = "pagesyncd_actor_restarts_total{actor=\"page\"}";
    for round in 1..=2 {
        harness.drill(&format!("page/{}", pages[0])).await;
        until("the page died", async || harness.metric(restarts).await == f64::from(round)).await;
        for page in &pages {
            harness.world().edit_page(page, "name", format!("Round {round} of {page}").into()).unwrap();
        }
        harness.until_true(user, &pages[1..]).await;
        harness.until_true(user, &pages).await;
    }
    assert_eq!(harness.metric(restarts).await, 2.0);
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 6.0);
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_made_while_its_page_is_dead_is_found_by_the_next_one() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().edit_page(&page, "name", "Read by nobody".into()).unwrap();
    harness.drill(&format!("page/{page}")).await;
    until("the page is true again", async || harness.is_true(user, &page)).await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploader_that_panics_is_followed_by_one_that_knows_what_is_owed() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().set_fault(Fault::SpacesRefused, true);
    for page in &pages {
        harness.world().edit_page(page, "name", format!("Owed {page}").into()).unwrap();
    }
    until("everything is owed", async || harness.status().await["outbox"] == 6).await;
    harness.drill("uploader").await;
    let restarts = "pagesyncd_actor_restarts_total{actor=\"uploader\"}";
    until("the uploader died", async || harness.metric(restarts).await == 1.0).await;
    assert_eq!(harness.status().await["outbox"], 6);
    harness.world().clear_faults();
    harness.until_true(user, &pages).await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploader_that_panics_in_the_midst_of_writes_writes_no_object_twice_at_once() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().set_latency(std::time::Duration::from_millis(700));
    harness.world().set_fault(Fault::SpacesSlow, true);
    for page in &pages {
        harness.world().edit_page(page, "name", format!("Slowly {page}").into()).unwrap();
    }
    until("writes are under way", async || harness.status().await["outbox"] == 6).await;
    harness.drill("uploader").await;
    for page in &pages {
        harness.world().edit_page(page, "name", format!("Slowly again {page}").into()).unwrap();
    }
    harness.until_true(user, &pages).await;
    harness.complete().await;
    for page in &pages {
        assert_eq!(harness.world().max_concurrent_puts(&object_key(user, page)), 1);
    }
    harness.finish().await;
}

/// One request on a connection of its own.
async fn knock(address: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let good = answer.starts_with("HTTP/1.1 200");
    if good { Ok(()) } else { Err(std::io::Error::other(format!("answered {answer:?}"))) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_panics_comes_back_on_its_socket_and_refuses_nobody() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let address = harness.base.strip_prefix("http://").unwrap().to_owned();
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (address, over, served) = (address.clone(), over.clone(), served.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    knock(&address).await?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    let restarts = "pagesyncd_actor_restarts_total{actor=\"listener\"}";
    for round in 1..=2 {
        let before = served.load(Ordering::Relaxed);
        until("callers are served", async || served.load(Ordering::Relaxed) > before + 20).await;
        harness.drill("listener").await;
        until("the listener died", async || harness.metric(restarts).await == f64::from(round)).await;
        let before = served.load(Ordering::Relaxed);
        until("callers are served again", async || served.load(Ordering::Relaxed) > before + 20).await;
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let user = harness.linked().await;
    harness.until_true(user, &harness.pages()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_comes_back_and_one_that_does_it_twice_ends_the_process() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    harness.expect_errors("store: its thread");
    harness.expect_errors("]: cannot write (");
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().set_fault(Fault::WebhooksLost, true);
    let pid = harness.daemon.pid();
    for round in 0..2 {
        let mut tries = 0;
        until("the commit of a delivery panicked", async || {
            tries += 1;
            harness.drill("store").await;
            harness.world().edit_page(&page, "name", format!("Edited in round {round}, {tries}").into()).unwrap();
            let status = harness.deliver(delivery(&[&page])).await.status;
            until("deliveries are taken again", async || harness.deliver(delivery(&[&page])).await.status == 200).await;
            harness.until_true(user, std::slice::from_ref(&page)).await;
            harness.complete().await;
            // A commit of the daemon's own, such as that of a token's first check, may have been before it.
            status == 503
        })
        .await;
    }
    assert_eq!(harness.daemon.pid(), pid);
    harness.drill("store").await;
    harness.drill("store").await;
    harness.deliver(delivery(&[&page])).await;
    // The next commit, of any caller, is the second one.
    let next = harness.http.post(format!("{}/facebook/webhook", harness.base));
    let body = delivery(&[&harness.nth(1)]);
    let next = next.header("x-hub-signature-256", harness.world().sign(body.as_bytes())).body(body);
    until("the process ends", async || {
        // The daemon may be gone by now.
        let _ = next.try_clone().unwrap().send().await;
        harness.daemon.how_it_ended();
        harness.daemon.pid().is_none()
    })
    .await;
    assert_eq!(harness.daemon.how_it_ended(), "exit code 70");
    harness.daemon.start().await.unwrap();
    assert_eq!(harness.status().await["links"], 6);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_panics_loses_no_change() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = harness.linked().await;
    let pages = harness.pages();
    let restarts = "pagesyncd_actor_restarts_total{actor=\"dispatcher\"}";
    for round in 1..=3 {
        for (number, page) in pages.iter().enumerate() {
            harness.world().edit_page(page, "name", format!("Round {round} of {page}").into()).unwrap();
            if number == 3 {
                harness.drill("dispatcher").await;
            }
        }
        until("the dispatcher died", async || harness.metric(restarts).await == f64::from(round)).await;
        harness.until_true(user, &pages).await;
        harness.complete().await;
    }
    // A dispatcher that begins as after a reset undoes nothing.
    let second = harness.linked().await;
    harness.drill("dispatcher").await;
    harness.until_true(second, &pages).await;
    assert_eq!(harness.status().await["links"], 12);
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_actor_of_which_there_is_one_comes_back_and_does_its_work() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = harness.linked().await;
    let (page, gone) = (harness.nth(0), harness.nth(1));
    for actor in ["dispatcher", "uploader", "notifier", "subscriptions", "cleanups"] {
        harness.drill(actor).await;
        let restarts = format!("pagesyncd_actor_restarts_total{{actor=\"{actor}\"}}");
        until("it died", async || harness.metric(&restarts).await == 1.0).await;
        harness.world().edit_page(&page, "name", format!("After the {actor}").into()).unwrap();
        harness.until_true(user, std::slice::from_ref(&page)).await;
    }
    assert_eq!(harness.admin(http::Method::DELETE, &format!("/v1/pages/{gone}"), "").await.0, 200);
    until("its page is unsubscribed", async || harness.status().await["cleanups"].as_object().unwrap().is_empty())
        .await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_are_for_processes_that_were_started_for_them() {
    let harness = Harness::plan().start().await;
    for which in ["uploader", "listener", "page/1"] {
        assert_eq!(harness.admin(http::Method::POST, &format!("/v1/drill/{which}"), "").await.0, 404);
    }
    harness.finish().await;
}
