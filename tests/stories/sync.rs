//! Objects follow their pages: announced by webhooks, found by polls, in spite of what Graph and Spaces do meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::json;

use crate::harness::{ADA, Harness, delivery, object_key, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_on_facebook_is_followed_by_the_object() {
    let harness = Harness::plan().trace().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    for (field, value) in [
        ("name", "Café Größe 😀 </script>".into()),
        ("phone", "+49 451 123".into()),
        ("emails", serde_json::json!(["a@example.org", "b@example.org"])),
        ("website", serde_json::Value::Null),
        ("hours", serde_json::json!({"mon_1_open": "07:00", "mon_1_close": "19:00"})),
    ] {
        harness.world().edit_page(&page, field, value).unwrap();
        until(&format!("{field} is in the object"), async || harness.is_true(user, &page)).await;
    }
    assert_eq!(harness.object(user, &page).unwrap()["source"], "webhook");
    harness.complete().await;
    let reply = harness.page(&page).await.unwrap();
    assert_eq!((&reply["name"], &reply["health"]), (&"Café Größe 😀 </script>".into(), &"active".into()));
    assert_eq!(reply["owed"], false);
    for moment in ["object_changed_at", "last_read_at", "next_poll_at"] {
        assert!(reply[moment].as_str().unwrap().ends_with('Z'), "{reply}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_finds_the_same_page_writes_nothing_though_picture_addresses_rotate() {
    let harness = Harness::plan().pages(2).start().await;
    let user = harness.linked().await;
    let (page, puts) = (harness.nth(0), harness.puts(user, &harness.nth(0)));
    let before = harness.metric("pagesyncd_objects_unchanged_total").await;
    for round in 1..=5 {
        let unchanged = "pagesyncd_objects_unchanged_total";
        assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
        until("the read found nothing new", async || harness.metric(unchanged).await >= before + f64::from(round))
            .await;
    }
    assert_eq!(harness.puts(user, &page), puts);
    // The same read does write when there is something.
    harness.world().edit_page(&page, "description", "Something".into()).unwrap();
    until("the edit is written", async || harness.is_true(user, &page)).await;
    harness.complete().await;
    assert_eq!(harness.puts(user, &page), puts + 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_webhooks_for_one_page_are_at_most_three_reads_and_three_writes() {
    let plan = Harness::plan().pages(2).daemon(|setup| {
        setup.debounce = Duration::from_secs(2);
        setup.burst = 3;
        setup.refill = Duration::from_secs(60);
    });
    let harness = plan.start().await;
    let user = harness.linked().await;
    // The login's own read is paid for by the page's budget as well, so the burst has what is left of it.
    let page = harness.nth(0);
    let (reads, puts) = (harness.world().graph_reads(&page), harness.puts(user, &page));
    harness.world().set_fault(Fault::WebhooksLost, true);
    let accepted = harness.metric("pagesyncd_webhook_deliveries_total{result=\"accepted\"}").await;
    let body = delivery(&[&page]);
    let signature = harness.world().sign(body.as_bytes());
    let url = format!("{}/facebook/webhook", harness.base);
    let senders = (0..8).map(|sender| {
        let (http, url, body, signature) = (harness.http.clone(), url.clone(), body.clone(), signature.clone());
        let (world, page) = (harness.world().clone(), page.clone());
        tokio::spawn(async move {
            for round in 0..625 {
                if sender == 0 && round % 100 == 0 {
                    world.edit_page(&page, "about", format!("Edit {round}").into()).unwrap();
                }
                let request = http.post(&url).header("x-hub-signature-256", &signature).body(body.clone());
                assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let accepted = harness.metric("pagesyncd_webhook_deliveries_total{result=\"accepted\"}").await - accepted;
    assert_eq!(accepted, 5000.0);
    // The last change is written in the end, after the debounce or when the budget has one more; and then nothing is
    // owed, so that nothing more is read of these five thousand.
    let owed = async || harness.metric("pagesyncd_due").await + harness.metric("pagesyncd_outbox").await;
    until("nothing is owed", async || owed().await == 0.0).await;
    assert!(harness.is_true(user, &page), "the last edit is not written");
    let (reads, puts) = (harness.world().graph_reads(&page) - reads, harness.puts(user, &page) - puts);
    assert!((1..=3).contains(&reads) && (1..=3).contains(&puts), "{reads} reads, {puts} writes");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_finds_what_no_webhook_tells_and_mends_what_was_done_to_objects() {
    let harness = Harness::plan().daemon(|setup| setup.poll_interval = Duration::from_secs(2)).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().edit_page(&pages[0], "fan_count", 123_456.into()).unwrap();
    assert_eq!(harness.world().undelivered(), 0);
    until("the silent edit is found", async || harness.is_true(user, &pages[0])).await;
    assert_eq!(harness.object(user, &pages[0]).unwrap()["source"], "poll");
    assert!(harness.server.objects.delete(&object_key(user, &pages[1])));
    assert!(harness.server.objects.alter(&object_key(user, &pages[2])));
    until("the lost object is back", async || harness.is_true(user, &pages[1])).await;
    until("the altered object is mended", async || harness.is_true(user, &pages[2])).await;
    assert!(harness.metric("pagesyncd_objects_repaired_total").await >= 2.0);
    // Subscriptions that Meta dropped come back with the poll.
    harness.world().drop_subscription(&pages[3]).unwrap();
    until("the page is subscribed again", async || {
        harness.world().look(|s| s.pages[&pages[3]].subscribed.as_ref().is_some_and(|fields| fields.contains("name")))
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_sync_reads_the_page_at_once() {
    let harness = Harness::plan().pages(2).start().await;
    let user = harness.linked().await;
    let page = harness.nth(1);
    harness.world().edit_page(&page, "followers_count", 7.into()).unwrap();
    harness.sync(&page).await;
    until("the silent edit is written", async || harness.is_true(user, &page)).await;
    assert_eq!(harness.object(user, &page).unwrap()["source"], "manual");
    let (status, answer) = harness.admin(http::Method::POST, "/v1/pages/4711/sync", "").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &"not_linked".into()));
    let (status, answer) = harness.admin(http::Method::POST, "/v1/pages/..%2f/sync", "").await;
    assert_eq!((status, &answer["error"]["code"]), (400, &"bad_request".into()));
    let elsewhere = format!("/v1/pages/{page}/sync?user={}", UserId::random());
    assert_eq!(harness.admin(http::Method::POST, &elsewhere, "").await.0, 404);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_graph_refuses_are_left_out_and_named_once() {
    let fields =
        ["id", "name", "mood", "favourite_colour", "about", "phone", "picture"].map(toml::Value::from).to_vec();
    let harness = Harness::plan().pages(3).set("facebook.page_fields", fields).build().await;
    let odd = harness.nth(1);
    harness.world().change(|s| s.pages.get_mut(&odd).unwrap().unsupported.insert("phone".into()));
    harness.daemon.start().await.unwrap();
    let user = UserId::random();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    let pages = harness.pages();
    until("every page has its object", async || pages.iter().all(|page| harness.object(user, page).is_some())).await;
    for page in &pages {
        let object = harness.object(user, page).unwrap();
        let data = object["data"][0].as_object().unwrap();
        assert!(data.contains_key("name") && data.contains_key("about") && !data.contains_key("mood"), "{object}");
        assert_eq!(data.contains_key("phone"), *page != odd);
    }
    harness.complete().await;
    // From now on nothing refused is asked for.
    let refused = |harness: &Harness| {
        let bad = harness
            .world()
            .outcomes()
            .into_iter()
            .filter(|(call, outcome, _)| *call == Call::ReadPage && outcome.starts_with("error"));
        bad.map(|(_, _, count)| count).sum::<u64>()
    };
    let before = refused(&harness);
    assert!(before >= 2);
    for page in &pages {
        harness.world().edit_page(page, "name", "Again".into()).unwrap();
    }
    until("the edits are written", async || {
        pages.iter().all(|page| harness.object(user, page).is_some_and(|o| o["data"][0]["name"] == "Again"))
    })
    .await;
    assert_eq!(refused(&harness), before);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_from_graph_never_reaches_an_object() {
    let kinds = [
        Fault::JunkHtml,
        Fault::JunkEmpty,
        Fault::JunkTruncated,
        Fault::JunkFalse,
        Fault::JunkOtherPage,
        Fault::GraphReset,
        Fault::GraphResetMidBody,
        Fault::GraphLostAnswer,
        Fault::GraphUnavailable,
        Fault::Code { code: 1, subcode: 0 },
        Fault::Code { code: 2, subcode: 0 },
    ];
    let harness = Harness::plan().pages(kinds.len()).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    // Each page meets one kind, twice.
    let before: BTreeMap<&String, _> = pages.iter().map(|page| (page, harness.object(user, page))).collect();
    for (page, fault) in pages.iter().zip(kinds) {
        let scope = Scope { call: Some(Call::ReadPage), page: Some(page.clone()), times: Some(2) };
        harness.world().set_fault_for(fault, scope);
    }
    let reads: Vec<u64> = pages.iter().map(|page| harness.world().graph_reads(page)).collect();
    for page in &pages {
        harness.world().edit_page(page, "name", format!("New name of {page}").into()).unwrap();
    }
    until("every page met its junk", async || {
        pages.iter().zip(&reads).all(|(page, before)| harness.world().graph_reads(page) > *before)
    })
    .await;
    for page in &pages {
        let now = harness.object(user, page);
        assert!(now == before[page] || harness.is_true(user, page), "{page}: {now:?}");
        assert_eq!(harness.health(page).await, "active");
    }
    harness.until_true(user, &pages).await;
    harness.complete().await;
    for page in &pages {
        assert!(harness.page(page).await.unwrap().get("reason").is_none());
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_page_waits_as_long_as_it_is_told_and_its_neighbours_do_not() {
    let harness = Harness::plan().pages(3).start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().set_fault_for(Fault::ThrottleBusiness, Scope::page(page.as_str()));
    harness.world().edit_page(&page, "name", "Held back".into()).unwrap();
    until("the page is held", async || harness.health(&page).await == "throttled").await;
    let (reads, reply) = (harness.world().graph_reads(&page), harness.page(&page).await.unwrap());
    assert!(reply["reason"].is_string() && reply["owed"] == true, "{reply}");
    // However often it is notified, it does not ask; its neighbour does.
    for _ in 0..20 {
        assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    }
    harness.sync(&page).await;
    for neighbour in [harness.nth(1), harness.nth(2)] {
        harness.world().edit_page(&neighbour, "name", "Not held".into()).unwrap();
        until("the neighbour is written", async || harness.is_true(user, &neighbour)).await;
    }
    assert_eq!(harness.world().graph_reads(&page), reads);
    // What it owes is owed across a restart, which is also the end of what it was reply.
    harness.world().clear_faults();
    harness.restart().await;
    until("the page catches up", async || harness.is_true(user, &page)).await;
    harness.finish().await;
}

/// Edits all pages while Spaces misbehaves, and wants everything written when it is well again.
async fn spaces_trouble(fault: Fault) {
    let harness = Harness::plan().pages(8).set("spaces.request_timeout", "1s").start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().set_fault(fault, true);
    for round in 0..3 {
        for page in &pages {
            harness.world().edit_page(page, "name", format!("{fault} {round} {page}").into()).unwrap();
        }
        let newest = format!("{fault} {round}");
        until("every page is read", async || {
            let status = harness.status().await;
            status["due"] == 0 && harness.world().undelivered() == 0 && status["outbox"].as_u64() > Some(0)
        })
        .await;
        assert!(pages.iter().all(|page| !harness.is_true(user, page)), "{newest} is written already");
    }
    // A delivery that was answered late comes again, and marks its page once more.
    until("each page waits for its write", async || {
        harness.status().await["outbox"] == 8
            && harness.metric("pagesyncd_outbox").await == 8.0
            && harness.metric("pagesyncd_due").await == 0.0
    })
    .await;
    until("it is not ready", async || {
        let ready = harness.get("/readyz").await;
        ready.status == 503 && ready.json()["spaces"]["ok"] == false
    })
    .await;
    harness.world().clear_faults();
    harness.until_true(user, &pages).await;
    harness.complete().await;
    until("it is ready", async || harness.get("/readyz").await.status == 200).await;
    for page in &pages {
        assert_eq!(harness.world().max_concurrent_puts(&object_key(user, page)), 1);
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_refuses_connections_gets_everything_when_it_is_back() {
    spaces_trouble(Fault::SpacesRefused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_is_overloaded_gets_everything_when_it_is_back() {
    spaces_trouble(Fault::SpacesSlowDown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_refuses_the_credentials_gets_everything_when_they_are_right_again() {
    spaces_trouble(Fault::SpacesWrongSignature).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_lost_its_bucket_gets_everything_when_it_is_back() {
    spaces_trouble(Fault::SpacesNoBucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_resets_connections_gets_everything_when_it_is_back() {
    spaces_trouble(Fault::SpacesReset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_breaks_off_in_the_midst_of_uploads_gets_everything_when_it_is_back() {
    spaces_trouble(Fault::SpacesResetMidBody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_hangs_gets_everything_when_it_is_back() {
    spaces_trouble(Fault::SpacesHang).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_spaces_lost_lead_to_no_older_object() {
    let harness = Harness::plan().pages(4).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().set_fault_for(Fault::SpacesLostAnswer, Scope::default().times(6));
    for round in 0..4 {
        for page in &pages {
            harness.world().edit_page(page, "name", format!("Round {round} of {page}").into()).unwrap();
        }
        until("the webhooks are out", async || harness.world().undelivered() == 0).await;
    }
    harness.until_true(user, &pages).await;
    harness.complete().await;
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_daemon_was_down_is_caught_up_with() {
    let harness = Harness::plan().daemon(|setup| setup.poll_interval = Duration::from_secs(3)).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    assert_eq!(harness.daemon.stop().await, Some(0));
    harness.world().set_fault(Fault::WebhooksLost, true);
    for page in &pages {
        harness.world().edit_page(page, "about", format!("While nobody looked at {page}").into()).unwrap();
    }
    assert!(pages.iter().all(|page| !harness.is_true(user, page)));
    harness.daemon.start().await.unwrap();
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_was_kept_back_over_a_restart_still_counts() {
    let harness = Harness::plan().pages(3).start().await;
    let user = harness.linked().await;
    let page = harness.nth(2);
    harness.world().set_fault(Fault::WebhooksLate, true);
    harness.world().edit_page(&page, "name", "Edited late".into()).unwrap();
    harness.restart().await;
    assert!(!harness.is_true(user, &page));
    harness.world().set_fault(Fault::WebhooksLate, false);
    until("the late webhook is followed", async || harness.is_true(user, &page)).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_loss_of_a_token_has_its_own_word_and_is_not_tried_again() {
    let harness = Harness::plan().pages(6).start().await;
    harness.linked().await;
    let pages = harness.pages();
    let ada = ADA;
    // Not even a word about permissions: each page finds out by itself.
    harness.world().set_fault(Fault::WebhooksLost, true);
    harness.world().lose_role(ada, &pages[0]).unwrap();
    harness.world().untick(&pages[1]).unwrap();
    harness.world().expire_token(ada, Some(&pages[2])).unwrap();
    harness.world().delete_page(&pages[3]).unwrap();
    for page in &pages[..4] {
        harness.sync(page).await;
    }
    let words = ["lost_role", "needs_relink", "needs_relink", "page_gone"];
    for (page, word) in pages.iter().zip(words) {
        until(&format!("{page} is {word}"), async || harness.health(page).await == word).await;
        let reply = harness.page(page).await.unwrap();
        assert!(reply["reason"].is_string() && reply["next_poll_at"].is_null(), "{reply}");
    }
    harness.world().change_password(ada).unwrap();
    harness.sync(&pages[4]).await;
    until("the last one is parked", async || harness.health(&pages[4]).await == "needs_relink").await;
    assert_eq!(harness.health(&pages[5]).await, "active");
    for (health, count) in [("active", 1.0), ("needs_relink", 3.0), ("lost_role", 1.0), ("page_gone", 1.0)] {
        assert_eq!(harness.metric(&format!("pagesyncd_links{{health=\"{health}\"}}")).await, count, "{health}");
    }
    // Webhooks for them are thanked for; a restart does not forget.
    assert_eq!(harness.deliver(delivery(&pages[..5])).await.status, 200);
    let reads = |harness: &Harness| pages[..5].iter().map(|page| harness.world().graph_reads(page)).sum::<u64>();
    let before = reads(&harness);
    harness.restart().await;
    harness.sync(&pages[5]).await;
    until("the last page learns of the password", async || harness.health(&pages[5]).await == "needs_relink").await;
    assert_eq!(reads(&harness), before);
    assert_eq!(harness.health(&pages[0]).await, "lost_role");
    harness.finish().await;
}

/// How many times each page was read and its object written.
fn counts(harness: &Harness, user: UserId) -> Vec<(u64, u64)> {
    harness.pages().iter().map(|page| (harness.world().graph_reads(page), harness.puts(user, page))).collect()
}

/// Reads every page once more, on an operator's wish. Whatever was still to come has come then.
async fn sync_all(harness: &Harness) {
    let pages = harness.pages();
    let before: Vec<u64> = pages.iter().map(|page| harness.world().graph_reads(page)).collect();
    for page in &pages {
        harness.sync(page).await;
    }
    until("each page was read again", async || {
        pages.iter().zip(&before).all(|(page, before)| harness.world().graph_reads(page) > *before)
    })
    .await;
    harness.complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_imported_is_read_once_and_written_once() {
    let harness = Harness::plan().pages(24).start().await;
    let user = harness.linked().await;
    let exported = harness.scratch_dir().join("links.export");
    let exported = exported.to_str().unwrap();
    assert!(harness.run(&["export", exported]).await.status.success());
    // A first start with everything owed: the links were imported while no daemon ran, into an empty store.
    assert_eq!(harness.daemon.stop().await, Some(0));
    let store = harness.setting("store.path").as_str().unwrap().to_owned();
    std::fs::remove_dir_all(&store).unwrap();
    assert!(harness.run(&["import", exported]).await.status.success());
    let before = counts(&harness, user);
    harness.daemon.start().await.unwrap();
    harness.complete().await;
    sync_all(&harness).await;
    let made: Vec<(u64, u64)> =
        counts(&harness, user).iter().zip(&before).map(|(now, before)| (now.0 - before.0, now.1 - before.1)).collect();
    assert_eq!(made, vec![(2, 1); 24], "one read at the start, one for the wish, and one write");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_imported_into_a_running_daemon_are_read_once_and_written_once() {
    let harness = Harness::plan().pages(12).start().await;
    harness.linked().await;
    let exported = String::from_utf8(harness.run(&["export", "-"]).await.stdout).unwrap();
    let user = UserId::random();
    let tokens = harness.world().look(|s| {
        let living = s.tokens.iter().filter(|(_, token)| token.page.is_some() && token.refused.is_none());
        living.map(|(text, token)| (token.page.clone().unwrap(), text.clone())).collect::<Vec<_>>()
    });
    assert!(exported.lines().count() > tokens.len());
    let before = counts(&harness, user);
    let lines: Vec<String> = tokens
        .iter()
        .map(|(page, token)| json!({"user": user, "page_id": page, "access_token": token}).to_string())
        .collect();
    assert_eq!(harness.admin(http::Method::POST, "/v1/import", &lines.join("\n")).await.1["imported"], 12);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    // The other user's links of these pages are read for the wish as well.
    sync_all(&harness).await;
    let made: Vec<(u64, u64)> =
        counts(&harness, user).iter().zip(&before).map(|(now, before)| (now.0 - before.0, now.1 - before.1)).collect();
    assert_eq!(made, vec![(3, 1); 12]);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_comes_before_the_first_read_began_is_answered_by_it() {
    let harness = Harness::plan().pages(1).start().await;
    let (user, page) = (UserId::random(), harness.nth(0));
    // The page looks after its subscription before it claims the mark and reads.
    harness.world().set_fault_for(Fault::GraphHeld, Scope::call(Call::ReadSubscribed));
    let wished = async {
        until("the page has begun", async || harness.world().held() == 1).await;
        harness.sync(&page).await;
        harness.world().set_fault(Fault::GraphHeld, false);
    };
    let (answer, ()) = tokio::join!(harness.log_in(user, ADA, "all"), wished);
    assert_eq!(answer.status, 200);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    sync_all(&harness).await;
    assert_eq!(counts(&harness, user), [(2, 1)], "one read for the link and the first wish, one for the second");
    harness.finish().await;
}
