//! Events: what the notifications of the platform's own program: their order, and their fate while that program is
//! away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use pagesyncd::sandbox::receiver::{RETRY_AFTER, Received};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{ADA, BRUNO, Harness, delivery, object_key, until};

const UPDATED: &str = "page.updated";

/// What was taken about a page, oldest first.
fn about(harness: &Harness, page: &str) -> Vec<Received> {
    let mut taken = harness.world().events_taken();
    taken.retain(|event| event.page() == Some(page));
    taken
}

fn words(events: &[Received]) -> Vec<&str> {
    events.iter().map(Received::word).collect()
}

fn data(event: &Received) -> &Value {
    &event.body["data"]
}

fn changed(event: &Received) -> BTreeSet<String> {
    let changed = data(event)["changed"].as_array().into_iter().flatten();
    changed.map(|field| field.as_str().unwrap().to_owned()).collect()
}

fn set<const N: usize>(fields: [&str; N]) -> BTreeSet<String> {
    fields.map(str::to_owned).into()
}

/// The specification's own library takes it.
fn verify(harness: &Harness, event: &Received, secret: &str) -> bool {
    let mut headers = http::HeaderMap::new();
    headers.insert("webhook-id", event.id.parse().unwrap());
    headers.insert("webhook-timestamp", event.timestamp.into());
    headers.insert("webhook-signature", event.signature.parse().unwrap());
    harness.keep_secret(secret);
    Webhook::new(secret).unwrap().verify(&event.bytes, &headers).is_ok()
}

async fn waiting(harness: &Harness) -> u64 {
    harness.status().await["notify"]["waiting"].as_u64().unwrap()
}

async fn until_none_waits(harness: &Harness) {
    until("no event waits", async || waiting(harness).await == 0).await;
}

/// A harness whose pages are linked and whose events are all delivered; the receiver forgets them.
async fn delivered(harness: &Harness) -> UserId {
    let user = harness.linked().await;
    until_none_waits(harness).await;
    user
}

async fn rename(harness: &Harness, user: UserId, page: &str, name: &str) {
    harness.world().edit_page(page, "name", name.into()).unwrap();
    until("the object follows", async || harness.is_true(user, page)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_linked_then_updated_with_all_its_fields() {
    let harness = Harness::plan().trace().start().await;
    let user = delivered(&harness).await;
    for page in harness.pages() {
        let events = about(&harness, &page);
        assert_eq!(words(&events), ["page.linked", UPDATED]);
        for event in &events {
            assert!(verify(&harness, event, &harness.server.notify_secret));
            assert_eq!(data(event)["user"], json!(user.to_string()));
            assert_eq!(data(event)["object"], json!(object_key(user, &page)));
            assert_eq!(event.body["timestamp"].as_str().unwrap().len(), 20);
        }
        assert_eq!(data(&events[0])["anew"], false);
        let object = harness.object(user, &page).unwrap();
        let fields: BTreeSet<String> = object["data"][0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(changed(&events[1]), fields);
    }
    assert_eq!(harness.metric("pagesyncd_events_total{type=\"page.linked\",outcome=\"delivered\"}").await, 6.0);
    assert_eq!(harness.status().await["notify"]["ok"], true);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_facebook_tells_is_told_on_with_the_field_that_changed() {
    let mut harness = Harness::plan().pages(2).start().await;
    let user = delivered(&harness).await;
    let (page, other) = (harness.nth(0), harness.nth(1));
    rename(&harness, user, &page, "Only the name").await;
    until("its event is delivered", async || about(&harness, &page).len() == 3).await;
    assert_eq!(changed(&about(&harness, &page)[2]), set(["name"]));
    // What goes counts as changed, and what rotates does not.
    harness.world().edit_page(&page, "phone", Value::Null).unwrap();
    harness.world().edit_page(&page, "website", "https://new.example/".into()).unwrap();
    harness.world().edit_page(&page, "picture", "another".into()).unwrap();
    until("both are reported", async || {
        let reply = about(&harness, &page).iter().skip(3).flat_map(changed).collect::<BTreeSet<_>>();
        reply == set(["phone", "website"])
    })
    .await;
    // An object that was altered is repaired, and nothing changed by that.
    let (puts, count) = (harness.puts(user, &page), about(&harness, &page).len());
    assert!(harness.server.objects.alter(&object_key(user, &page)));
    harness.set("sync.poll_interval", "2s");
    harness.reload("applied").await;
    until("it is repaired", async || harness.puts(user, &page) > puts).await;
    rename(&harness, user, &page, "After the repair").await;
    until("the next change is reported", async || about(&harness, &page).len() == count + 1).await;
    assert_eq!(changed(about(&harness, &page).last().unwrap()), set(["name"]));
    assert_eq!(about(&harness, &other).len(), 2);
    harness.finish().await;
}

/// Makes the notifier try at once what waits: other settings hold.
async fn nudge(harness: &mut Harness) {
    static TIMES: AtomicU64 = AtomicU64::new(11);
    harness.set("notify.request_timeout", format!("{}s", TIMES.fetch_add(1, Ordering::Relaxed)));
    harness.reload("applied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_over_a_crash_while_the_receiver_is_down() {
    let mut harness = Harness::plan().start().await;
    let user = delivered(&harness).await;
    let pages = harness.pages();
    harness.world().set_fault(Fault::EventsError, true);
    for page in &pages[..4] {
        rename(&harness, user, page, &format!("In the dark {page}")).await;
    }
    assert_eq!(harness.admin(Method::DELETE, &format!("/v1/pages/{}?keep_object=true", pages[5]), "").await.0, 200);
    until("all of it waits", async || waiting(&harness).await == 5).await;
    until("some were tried", async || harness.world().event_attempts().iter().any(|n| !n.taken)).await;
    let tried: BTreeSet<String> =
        harness.world().event_attempts().iter().filter(|n| !n.taken).map(|n| n.id.clone()).collect();
    harness.crash().await;
    // An object whose completion was not durable yet is written again, and its event comes with that.
    until("all of it waits again", async || waiting(&harness).await == 5).await;
    assert_eq!(harness.status().await["notify"]["on"], true);
    // Behind what waited comes more.
    assert_eq!(harness.admin(Method::DELETE, &format!("/v1/pages/{}", pages[0]), "").await.0, 200);
    harness.world().clear_faults();
    nudge(&mut harness).await;
    until_none_waits(&harness).await;
    let taken: BTreeSet<String> = harness.world().events_taken().iter().map(|n| n.id.clone()).collect();
    let gone: Vec<_> = tried.difference(&taken).collect();
    // What waited for the page that was unlinked adds nothing any more; everything else kept its id.
    assert!(gone.len() <= 1, "{gone:?} never came");
    let tail = |page: &str| words(&about(&harness, page)[2..]).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(tail(&pages[0]).last().map(String::as_str), Some("page.unlinked"));
    for page in &pages[1..4] {
        assert_eq!(tail(page), [UPDATED]);
        assert_eq!(changed(&about(&harness, page)[2]), set(["name"]));
    }
    assert_eq!(tail(&pages[5]), ["page.unlinked"]);
    assert_eq!(data(&about(&harness, &pages[5])[2])["object_kept"], true);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_no_object_no_stop_and_no_readiness() {
    let harness = Harness::plan().start().await;
    let user = delivered(&harness).await;
    let pages = harness.pages();
    harness.world().set_fault(Fault::EventsHang, true);
    for round in 0..3 {
        for page in &pages {
            harness.world().edit_page(page, "description", format!("Round {round}").into()).unwrap();
        }
        harness.until_true(user, &pages).await;
    }
    harness.complete().await;
    assert!(waiting(&harness).await >= 6, "the receiver has taken some");
    assert_eq!(harness.get("/readyz").await.status, 200);
    assert!(harness.world().most_under_way(pagesyncd::sandbox::fault::Side::Events) <= 4);
    harness.restart().await;
    assert!(waiting(&harness).await >= 6);
    harness.world().clear_faults();
    until_none_waits(&harness).await;
    for page in &pages {
        let reply: BTreeSet<String> = about(&harness, page)[2..].iter().flat_map(changed).collect();
        assert_eq!(reply, set(["description"]));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_that_nobody_takes_become_a_few_with_all_their_fields() {
    let plan = Harness::plan().pages(1).daemon(|setup| setup.debounce = std::time::Duration::from_millis(1));
    let mut harness = plan.set("sync.burst", 1000).start().await;
    let user = delivered(&harness).await;
    let page = harness.nth(0);
    harness.world().set_fault(Fault::EventsError, true);
    let fields = ["category", "description", "name", "phone", "website"];
    for n in 0..100 {
        let text = if n % 5 == 4 { format!("https://{n}.example/") } else { format!("Text {n}") };
        harness.world().edit_page(&page, fields[n % 5], text.into()).unwrap();
        until("the object follows", async || harness.is_true(user, &page)).await;
        if n % 10 == 0 {
            assert!(waiting(&harness).await <= 5);
        }
    }
    harness.complete().await;
    assert!(harness.puts(user, &page) > 50, "they became one write");
    assert!((1..=5).contains(&waiting(&harness).await));
    harness.crash().await;
    assert!((1..=5).contains(&waiting(&harness).await));
    harness.world().clear_faults();
    nudge(&mut harness).await;
    until_none_waits(&harness).await;
    let more = &about(&harness, &page)[2..];
    assert!((1..=5).contains(&more.len()), "{:?}", words(more));
    assert_eq!(more.iter().flat_map(changed).collect::<BTreeSet<_>>(), set(fields));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_needs_its_person_is_told_with_the_reason_and_told_healed() {
    let harness = Harness::plan().pages(3).start().await;
    let user = delivered(&harness).await;
    let page = harness.nth(1);
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    harness.world().set_fault_for(Fault::Code { code: 190, subcode: 460 }, scope);
    harness.sync(&page).await;
    until("its event is delivered", async || about(&harness, &page).len() == 3).await;
    let event = about(&harness, &page).remove(2);
    assert_eq!(event.word(), "page.needs_relink");
    let shown = harness.page(&page).await.unwrap();
    for key in ["health", "reason", "remedy", "since"] {
        assert_eq!(data(&event)[key], shown[key], "{key}");
    }
    assert!(data(&event)["reason"].as_str().unwrap().contains("password"));
    harness.world().clear_faults();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    until("its healing is delivered", async || about(&harness, &page).len() == 4).await;
    let healed = about(&harness, &page).remove(3);
    assert_eq!((healed.word(), &data(&healed)["anew"]), ("page.linked", &json!(true)));
    // A page that was well is linked anew as well, and its object did not change.
    until_none_waits(&harness).await;
    harness.complete().await;
    assert_eq!(words(&about(&harness, &harness.nth(0))), ["page.linked", UPDATED, "page.linked"]);
    // A person who removes the app causes an event for each page.
    harness.world().remove_app(ADA).unwrap();
    assert_eq!(harness.world().send_deauthorize(ADA).await.unwrap(), 200);
    until("all events are delivered", async || {
        harness
            .pages()
            .iter()
            .all(|page| about(&harness, page).last().is_some_and(|last| data(last)["health"] == "app_removed"))
    })
    .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unlinked_is_told_and_what_is_linked_again_begins_anew() {
    let harness = Harness::plan().pages(2).start().await;
    let user = delivered(&harness).await;
    for (page, keep) in harness.pages().iter().zip([true, false]) {
        assert_eq!(harness.admin(Method::DELETE, &format!("/v1/pages/{page}?keep_object={keep}"), "").await.0, 200);
        until("its event is delivered", async || about(&harness, page).len() == 3).await;
        let event = about(&harness, page).remove(2);
        assert_eq!((event.word(), &data(&event)["object_kept"]), ("page.unlinked", &json!(keep)));
    }
    harness.complete().await;
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    for page in harness.pages() {
        until("the events of the new link are delivered", async || about(&harness, &page).len() == 5).await;
        let events = about(&harness, &page);
        assert_eq!(words(&events[3..]), ["page.linked", UPDATED]);
        assert_eq!(data(&events[3])["anew"], false);
        assert_eq!(changed(&events[4]), changed(&events[1]));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_told_when_spaces_has_deleted_the_last_object() {
    // A delete that got no answer is made once more when it must be through, and that belongs to the deletion.
    let harness = Harness::plan().set("spaces.request_timeout", "1s").start().await;
    let ada = delivered(&harness).await;
    let bruno = UserId::random();
    assert_eq!(harness.log_in(bruno, BRUNO, "all").await.status, 200);
    harness.until_true(bruno, &harness.pages()[..3]).await;
    harness.complete().await;
    until_none_waits(&harness).await;
    let deletions = || {
        let mut taken = harness.world().events_taken();
        taken.retain(|event| event.word() == "deletion.completed");
        taken
    };
    harness.world().set_fault(Fault::SpacesRefused, true);
    let (_, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
    // Everything up to now is delivered: the links are gone, and the deletion is not done.
    until("the ends are delivered", async || {
        waiting(&harness).await == 0
            && harness.pages().iter().all(|page| {
                about(&harness, page)
                    .iter()
                    .any(|n| n.word() == "page.unlinked" && data(n)["user"] == json!(ada.to_string()))
            })
    })
    .await;
    assert_eq!(deletions().len(), 0);
    harness.crash().await;
    // What was taken a moment before may come once more.
    until_none_waits(&harness).await;
    assert_eq!(deletions().len(), 0);
    harness.world().set_fault(Fault::SpacesRefused, false);
    until("the end of the deletion is delivered", async || !deletions().is_empty()).await;
    assert!(!harness.server.objects.list().iter().any(|key| key.contains(&ada.to_string())));
    let event = deletions().remove(0);
    assert_eq!(data(&event)["confirmation_code"], reply["confirmation_code"]);
    let went: BTreeSet<String> = data(&event)["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|page| page["object"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(went, harness.pages().iter().map(|page| object_key(ada, page)).collect());
    assert!(!String::from_utf8(event.bytes.to_vec()).unwrap().contains(ADA));
    // Of whom nothing is known, nothing is left to delete.
    let (_, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
    until("that is delivered at once", async || deletions().len() == 2).await;
    let second = deletions().remove(1);
    assert_eq!(*data(&second), json!({"confirmation_code": reply["confirmation_code"], "pages": []}));
    harness.complete().await;
    assert!(harness.is_true(bruno, &harness.nth(0)));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_rotated_without_a_gap() {
    let mut harness = Harness::plan().pages(1).trace().start().await;
    let user = delivered(&harness).await;
    let page = harness.nth(0);
    let (old, new) = (harness.server.notify_secret.clone(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQI");
    harness.set("notify.secret", new);
    harness.set("notify.previous_secret", old.as_str());
    harness.reload("applied").await;
    rename(&harness, user, &page, "Under two secrets").await;
    until("its event is delivered", async || about(&harness, &page).len() == 3).await;
    let event = about(&harness, &page).remove(2);
    assert_eq!((verify(&harness, &event, &old), verify(&harness, &event, new)), (true, true));
    harness.world().set_notify_secrets([new.to_owned()]);
    harness.set("notify.previous_secret", "");
    harness.reload("applied").await;
    rename(&harness, user, &page, "Under the new one").await;
    until("its event is delivered", async || about(&harness, &page).len() == 4).await;
    let event = about(&harness, &page).remove(3);
    assert_eq!((verify(&harness, &event, &old), verify(&harness, &event, new)), (false, true));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_answer_is_tried_again_with_the_same_id() {
    let mut harness = Harness::plan().pages(1).start().await;
    let user = delivered(&harness).await;
    let page = harness.nth(0);
    let cases = [
        (Fault::EventsError, "answers 500"),
        (Fault::EventsReset, "out of reach"),
        (Fault::EventsLostAnswer, "out of reach"),
        (Fault::EventsGone, "wants no events any more"),
        (Fault::EventsRedirect, "set notify.url to where it leads"),
        (Fault::EventsBusy, "answers 429"),
        (Fault::EventsRejected, "does not take this event"),
    ];
    for (fault, word) in cases {
        let before = harness.world().event_attempts().len();
        harness.world().set_fault_for(fault, Scope::default().times(1));
        rename(&harness, user, &page, &format!("Edited through {fault}")).await;
        until("it was tried", async || harness.world().event_attempts().len() > before).await;
        until(&format!("{fault} is said"), async || harness.log().contains(word)).await;
        if fault != Fault::EventsRejected && harness.world().event_attempts().len() == before + 1 {
            let notify = harness.status().await["notify"].clone();
            assert!(notify["ok"] == true || notify["error"].as_str().unwrap().contains(word), "{fault}: {notify}");
            assert_eq!(harness.get("/readyz").await.status, 200);
        }
        if fault != Fault::EventsBusy {
            nudge(&mut harness).await;
        }
        until_none_waits(&harness).await;
        let attempts = harness.world().event_attempts().split_off(before);
        assert_eq!(attempts.len(), 2, "{fault}");
        assert_eq!((&attempts[0].id, &attempts[0].bytes), (&attempts[1].id, &attempts[1].bytes), "{fault}");
        assert!(attempts[1].taken);
        if fault == Fault::EventsBusy {
            let waited = attempts[1].at.since(attempts[0].at).as_secs();
            assert!(waited + 1 >= RETRY_AFTER, "{waited} s");
        }
        assert_eq!(harness.status().await["notify"]["ok"], true);
    }
    let log = harness.log();
    let said = |word: &str| log.lines().filter(|line| line.contains(" WARN ") && line.contains(word)).count();
    assert_eq!((said("answers 410"), said("answers 422")), (1, 1));
    assert!(!log.contains(&harness.server.notify_url) || !log.contains("?"), "an address is in the log");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_they_are_dropped_loudly_and_the_first_one_after_is_true() {
    let mut harness = Harness::plan().pages(2).start().await;
    let user = delivered(&harness).await;
    let page = harness.nth(0);
    harness.world().set_fault(Fault::EventsRefused, true);
    rename(&harness, user, &page, "Nobody hears it").await;
    until("it waits", async || waiting(&harness).await == 1).await;
    harness.set("notify.url", "");
    harness.reload("applied").await;
    until("it is dropped", async || waiting(&harness).await == 0).await;
    until("that is said", async || harness.log().contains("dropped the events that waited: 1")).await;
    harness.world().clear_faults();
    // Nothing is decided meanwhile, and what Spaces holds is known all the same.
    rename(&harness, user, &page, "Without an event").await;
    harness.complete().await;
    assert_eq!((waiting(&harness).await, harness.status().await["notify"]["on"].clone()), (0, json!(false)));
    let text = String::from_utf8(harness.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("events   off"), "{text}");
    let url = harness.server.notify_url.clone();
    harness.set("notify.url", url);
    harness.reload("applied").await;
    harness.world().edit_page(&page, "description", "Edited again".into()).unwrap();
    until("its event is delivered", async || about(&harness, &page).len() == 3).await;
    assert_eq!(changed(&about(&harness, &page)[2]), set(["description"]));
    let text = String::from_utf8(harness.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("events   ok; 0 waiting"), "{text}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_has_every_object_told_with_all_its_fields() {
    let mut harness = Harness::plan().pages(3).start().await;
    ["]: is damaged (", "]: is restored from the backup log"].iter().for_each(|text| harness.expect_errors(text));
    delivered(&harness).await;
    assert_eq!(harness.daemon.stop().await, Some(0));
    std::fs::remove_dir_all(harness.setup.store_path.join("sled")).unwrap();
    harness.daemon.start().await.unwrap();
    let all: BTreeMap<String, BTreeSet<String>> =
        harness.pages().into_iter().map(|page| (page.clone(), changed(&about(&harness, &page)[1]))).collect();
    for (page, fields) in &all {
        until("it is delivered anew", async || about(&harness, page).len() == 3).await;
        let event = about(&harness, page).remove(2);
        assert_eq!((event.word(), &changed(&event)), (UPDATED, fields));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_panics_in_the_midst_of_sending_loses_nothing() {
    let mut harness = Harness::plan().drills().start().await;
    harness.expect_panics("drill:");
    let user = delivered(&harness).await;
    let pages = harness.pages();
    harness.world().set_fault(Fault::EventsHang, true);
    for page in &pages {
        harness.world().edit_page(page, "name", format!("Edited slowly {page}").into()).unwrap();
    }
    harness.until_true(user, &pages).await;
    until("all wait", async || waiting(&harness).await == 6).await;
    harness.drill("notifier").await;
    let restarts = "pagesyncd_actor_restarts_total{actor=\"notifier\"}";
    until("the notifier died", async || harness.metric(restarts).await == 1.0).await;
    harness.world().clear_faults();
    assert_eq!(harness.deliver(delivery(&pages)).await.status, 200);
    until_none_waits(&harness).await;
    for page in &pages {
        assert_eq!(changed(about(&harness, page).last().unwrap()), set(["name"]));
    }
    harness.finish().await;
}
