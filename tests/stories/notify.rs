//! Notices: what the platform's own program is told, in which order, and what becomes of it while that program is away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use pagesyncd::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use pagesyncd::sandbox::receiver::{RETRY_AFTER, Received};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::town::{ADA, BRUNO, Town, delivery, object_key, until};

const UPDATED: &str = "page.updated";

/// What was taken about a page, oldest first.
fn about(town: &Town, page: &str) -> Vec<Received> {
    let mut taken = town.world().notices_taken();
    taken.retain(|notice| notice.page() == Some(page));
    taken
}

fn words(notices: &[Received]) -> Vec<&str> {
    notices.iter().map(Received::word).collect()
}

fn data(notice: &Received) -> &Value {
    &notice.body["data"]
}

fn changed(notice: &Received) -> BTreeSet<String> {
    let changed = data(notice)["changed"].as_array().into_iter().flatten();
    changed.map(|field| field.as_str().unwrap().to_owned()).collect()
}

fn set<const N: usize>(fields: [&str; N]) -> BTreeSet<String> {
    fields.map(str::to_owned).into()
}

/// The specification's own library takes it.
fn verify(town: &Town, notice: &Received, secret: &str) -> bool {
    let mut headers = http::HeaderMap::new();
    headers.insert("webhook-id", notice.id.parse().unwrap());
    headers.insert("webhook-timestamp", notice.timestamp.into());
    headers.insert("webhook-signature", notice.signature.parse().unwrap());
    town.keep_secret(secret);
    Webhook::new(secret).unwrap().verify(&notice.bytes, &headers).is_ok()
}

async fn waiting(town: &Town) -> u64 {
    town.status().await["notify"]["waiting"].as_u64().unwrap()
}

async fn until_none_waits(town: &Town) {
    until("no notice waits", async || waiting(town).await == 0).await;
}

/// A town whose pages are linked and all of it told; what was told is forgotten by number.
async fn told(town: &Town) -> UserId {
    let user = town.linked().await;
    until_none_waits(town).await;
    user
}

async fn rename(town: &Town, user: UserId, page: &str, name: &str) {
    town.world().edit_page(page, "name", name.into()).unwrap();
    until("the object follows", async || town.is_true(user, page)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_linked_then_updated_with_all_its_fields() {
    let town = Town::plan().trace().start().await;
    let user = told(&town).await;
    for page in town.pages() {
        let notices = about(&town, &page);
        assert_eq!(words(&notices), ["page.linked", UPDATED]);
        for notice in &notices {
            assert!(verify(&town, notice, &town.server.notify_secret));
            assert_eq!(data(notice)["user"], json!(user.to_string()));
            assert_eq!(data(notice)["object"], json!(object_key(user, &page)));
            assert_eq!(notice.body["timestamp"].as_str().unwrap().len(), 20);
        }
        assert_eq!(data(&notices[0])["anew"], false);
        let object = town.object(user, &page).unwrap();
        let fields: BTreeSet<String> = object["data"][0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(changed(&notices[1]), fields);
    }
    assert_eq!(town.metric("pagesyncd_notices_total{type=\"page.linked\",outcome=\"delivered\"}").await, 6.0);
    assert_eq!(town.status().await["notify"]["ok"], true);
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_facebook_tells_is_told_on_with_the_field_that_changed() {
    let mut town = Town::plan().pages(2).start().await;
    let user = told(&town).await;
    let (page, other) = (town.nth(0), town.nth(1));
    rename(&town, user, &page, "Only the name").await;
    until("it is told", async || about(&town, &page).len() == 3).await;
    assert_eq!(changed(&about(&town, &page)[2]), set(["name"]));
    // What goes counts as changed, and what rotates does not.
    town.world().edit_page(&page, "phone", Value::Null).unwrap();
    town.world().edit_page(&page, "website", "https://new.example/".into()).unwrap();
    town.world().edit_page(&page, "picture", "another".into()).unwrap();
    until("both are told", async || {
        let told = about(&town, &page).iter().skip(3).flat_map(changed).collect::<BTreeSet<_>>();
        told == set(["phone", "website"])
    })
    .await;
    // An object that was altered is repaired, and nothing changed by that.
    let (puts, count) = (town.puts(user, &page), about(&town, &page).len());
    assert!(town.server.objects.alter(&object_key(user, &page)));
    town.set("sync.poll_interval", "2s");
    town.reload("applied").await;
    until("it is repaired", async || town.puts(user, &page) > puts).await;
    rename(&town, user, &page, "After the repair").await;
    until("the next change is told", async || about(&town, &page).len() == count + 1).await;
    assert_eq!(changed(about(&town, &page).last().unwrap()), set(["name"]));
    assert_eq!(about(&town, &other).len(), 2);
    town.finish().await;
}

/// Makes the notifier try at once what waits: other settings hold.
async fn nudge(town: &mut Town) {
    static TIMES: AtomicU64 = AtomicU64::new(11);
    town.set("notify.request_timeout", format!("{}s", TIMES.fetch_add(1, Ordering::Relaxed)));
    town.reload("applied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_over_a_crash_while_the_receiver_is_down() {
    let mut town = Town::plan().start().await;
    let user = told(&town).await;
    let pages = town.pages();
    town.world().set_fault(Fault::NoticesError, true);
    for page in &pages[..4] {
        rename(&town, user, page, &format!("In the dark {page}")).await;
    }
    assert_eq!(town.admin(Method::DELETE, &format!("/v1/pages/{}?keep_object=true", pages[5]), "").await.0, 200);
    until("all of it waits", async || waiting(&town).await == 5).await;
    until("some were tried", async || town.world().notice_attempts().iter().any(|n| !n.taken)).await;
    let tried: BTreeSet<String> =
        town.world().notice_attempts().iter().filter(|n| !n.taken).map(|n| n.id.clone()).collect();
    town.crash().await;
    assert_eq!(waiting(&town).await, 5);
    assert_eq!(town.status().await["notify"]["on"], true);
    // Behind what waited comes more.
    assert_eq!(town.admin(Method::DELETE, &format!("/v1/pages/{}", pages[0]), "").await.0, 200);
    town.world().clear_faults();
    nudge(&mut town).await;
    until_none_waits(&town).await;
    let taken: BTreeSet<String> = town.world().notices_taken().iter().map(|n| n.id.clone()).collect();
    let gone: Vec<_> = tried.difference(&taken).collect();
    // What waited for the page that was unlinked adds nothing any more; everything else kept its id.
    assert!(gone.len() <= 1, "{gone:?} never came");
    let tail = |page: &str| words(&about(&town, page)[2..]).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(tail(&pages[0]).last().map(String::as_str), Some("page.unlinked"));
    for page in &pages[1..4] {
        assert_eq!(tail(page), [UPDATED]);
        assert_eq!(changed(&about(&town, page)[2]), set(["name"]));
    }
    assert_eq!(tail(&pages[5]), ["page.unlinked"]);
    assert_eq!(data(&about(&town, &pages[5])[2])["object_kept"], true);
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_no_object_no_stop_and_no_readiness() {
    let town = Town::plan().start().await;
    let user = told(&town).await;
    let pages = town.pages();
    town.world().set_fault(Fault::NoticesHang, true);
    for round in 0..3 {
        for page in &pages {
            town.world().edit_page(page, "description", format!("Round {round}").into()).unwrap();
        }
        town.until_true(user, &pages).await;
    }
    town.settle().await;
    assert!(waiting(&town).await >= 6, "the receiver has taken some");
    assert_eq!(town.get("/readyz").await.status, 200);
    assert!(town.world().most_under_way(pagesyncd::sandbox::fault::Side::Notices) <= 4);
    town.restart().await;
    assert!(waiting(&town).await >= 6);
    town.world().clear_faults();
    until_none_waits(&town).await;
    for page in &pages {
        let told: BTreeSet<String> = about(&town, page)[2..].iter().flat_map(changed).collect();
        assert_eq!(told, set(["description"]));
    }
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_that_nobody_takes_become_a_few_with_all_their_fields() {
    let plan = Town::plan().pages(1).daemon(|setup| setup.debounce = std::time::Duration::from_millis(1));
    let mut town = plan.set("sync.burst", 1000).start().await;
    let user = told(&town).await;
    let page = town.nth(0);
    town.world().set_fault(Fault::NoticesError, true);
    let fields = ["category", "description", "name", "phone", "website"];
    for n in 0..100 {
        let text = if n % 5 == 4 { format!("https://{n}.example/") } else { format!("Text {n}") };
        town.world().edit_page(&page, fields[n % 5], text.into()).unwrap();
        until("the object follows", async || town.is_true(user, &page)).await;
        if n % 10 == 0 {
            assert!(waiting(&town).await <= 5);
        }
    }
    town.settle().await;
    assert!(town.puts(user, &page) > 50, "they became one write");
    assert!((1..=5).contains(&waiting(&town).await));
    town.crash().await;
    assert!((1..=5).contains(&waiting(&town).await));
    town.world().clear_faults();
    nudge(&mut town).await;
    until_none_waits(&town).await;
    let more = &about(&town, &page)[2..];
    assert!((1..=5).contains(&more.len()), "{:?}", words(more));
    assert_eq!(more.iter().flat_map(changed).collect::<BTreeSet<_>>(), set(fields));
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_needs_its_person_is_told_with_the_reason_and_told_healed() {
    let town = Town::plan().pages(3).start().await;
    let user = told(&town).await;
    let page = town.nth(1);
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    town.world().set_fault_for(Fault::Code { code: 190, subcode: 460 }, scope);
    town.sync(&page).await;
    until("it is told", async || about(&town, &page).len() == 3).await;
    let notice = about(&town, &page).remove(2);
    assert_eq!(notice.word(), "page.needs_relink");
    let shown = town.page(&page).await.unwrap();
    for key in ["health", "reason", "remedy", "since"] {
        assert_eq!(data(&notice)[key], shown[key], "{key}");
    }
    assert!(data(&notice)["reason"].as_str().unwrap().contains("password"));
    town.world().clear_faults();
    assert_eq!(town.log_in(user, ADA, "all").await.status, 200);
    until("it is told healed", async || about(&town, &page).len() == 4).await;
    let healed = about(&town, &page).remove(3);
    assert_eq!((healed.word(), &data(&healed)["anew"]), ("page.linked", &json!(true)));
    // A page that was well is linked anew as well, and its object did not change.
    until_none_waits(&town).await;
    town.settle().await;
    assert_eq!(words(&about(&town, &town.nth(0))), ["page.linked", UPDATED, "page.linked"]);
    // Who removes the app has every page told of.
    town.world().remove_app(ADA).unwrap();
    assert_eq!(town.world().send_deauthorize(ADA).await.unwrap(), 200);
    until("all are told", async || {
        town.pages()
            .iter()
            .all(|page| about(&town, page).last().is_some_and(|last| data(last)["health"] == "app_removed"))
    })
    .await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unlinked_is_told_and_what_is_linked_again_begins_anew() {
    let town = Town::plan().pages(2).start().await;
    let user = told(&town).await;
    for (page, keep) in town.pages().iter().zip([true, false]) {
        assert_eq!(town.admin(Method::DELETE, &format!("/v1/pages/{page}?keep_object={keep}"), "").await.0, 200);
        until("it is told", async || about(&town, page).len() == 3).await;
        let notice = about(&town, page).remove(2);
        assert_eq!((notice.word(), &data(&notice)["object_kept"]), ("page.unlinked", &json!(keep)));
    }
    town.settle().await;
    assert_eq!(town.log_in(user, ADA, "all").await.status, 200);
    for page in town.pages() {
        until("its new life is told", async || about(&town, &page).len() == 5).await;
        let notices = about(&town, &page);
        assert_eq!(words(&notices[3..]), ["page.linked", UPDATED]);
        assert_eq!(data(&notices[3])["anew"], false);
        assert_eq!(changed(&notices[4]), changed(&notices[1]));
    }
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_told_when_spaces_has_deleted_the_last_object() {
    // A delete that got no answer is made once more when it must be through, and that belongs to the deletion.
    let town = Town::plan().set("spaces.request_timeout", "1s").start().await;
    let ada = told(&town).await;
    let bruno = UserId::random();
    assert_eq!(town.log_in(bruno, BRUNO, "all").await.status, 200);
    town.until_true(bruno, &town.pages()[..3]).await;
    town.settle().await;
    until_none_waits(&town).await;
    let deletions = || {
        let mut taken = town.world().notices_taken();
        taken.retain(|notice| notice.word() == "deletion.completed");
        taken
    };
    town.world().set_fault(Fault::SpacesRefused, true);
    let (_, told) = town.world().send_data_deletion(ADA).await.unwrap();
    // Everything that is so by now is told: the links are gone, and the deletion is not done.
    until("the ends are told", async || {
        waiting(&town).await == 0
            && town.pages().iter().all(|page| {
                about(&town, page)
                    .iter()
                    .any(|n| n.word() == "page.unlinked" && data(n)["user"] == json!(ada.to_string()))
            })
    })
    .await;
    assert_eq!(deletions().len(), 0);
    town.crash().await;
    // What was taken a moment before may come once more.
    until_none_waits(&town).await;
    assert_eq!(deletions().len(), 0);
    town.world().set_fault(Fault::SpacesRefused, false);
    until("the deletion is told", async || !deletions().is_empty()).await;
    assert!(!town.server.objects.list().iter().any(|key| key.contains(&ada.to_string())));
    let notice = deletions().remove(0);
    assert_eq!(data(&notice)["confirmation_code"], told["confirmation_code"]);
    let went: BTreeSet<String> = data(&notice)["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|page| page["object"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(went, town.pages().iter().map(|page| object_key(ada, page)).collect());
    assert!(!String::from_utf8(notice.bytes.to_vec()).unwrap().contains(ADA));
    // Of whom nothing is known, nothing is left to delete.
    let (_, told) = town.world().send_data_deletion(ADA).await.unwrap();
    until("that is told at once", async || deletions().len() == 2).await;
    let second = deletions().remove(1);
    assert_eq!(*data(&second), json!({"confirmation_code": told["confirmation_code"], "pages": []}));
    town.settle().await;
    assert!(town.is_true(bruno, &town.nth(0)));
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_rotated_without_a_gap() {
    let mut town = Town::plan().pages(1).trace().start().await;
    let user = told(&town).await;
    let page = town.nth(0);
    let (old, new) = (town.server.notify_secret.clone(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQI");
    town.set("notify.secret", new);
    town.set("notify.previous_secret", old.as_str());
    town.reload("applied").await;
    rename(&town, user, &page, "Under two secrets").await;
    until("it is told", async || about(&town, &page).len() == 3).await;
    let notice = about(&town, &page).remove(2);
    assert_eq!((verify(&town, &notice, &old), verify(&town, &notice, new)), (true, true));
    town.world().set_notify_secrets([new.to_owned()]);
    town.set("notify.previous_secret", "");
    town.reload("applied").await;
    rename(&town, user, &page, "Under the new one").await;
    until("it is told", async || about(&town, &page).len() == 4).await;
    let notice = about(&town, &page).remove(3);
    assert_eq!((verify(&town, &notice, &old), verify(&town, &notice, new)), (false, true));
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_answer_is_tried_again_with_the_same_id() {
    let mut town = Town::plan().pages(1).start().await;
    let user = told(&town).await;
    let page = town.nth(0);
    let cases = [
        (Fault::NoticesError, "answers 500"),
        (Fault::NoticesReset, "out of reach"),
        (Fault::NoticesLostAnswer, "out of reach"),
        (Fault::NoticesGone, "wants no notices any more"),
        (Fault::NoticesRedirect, "set notify.url to where it leads"),
        (Fault::NoticesBusy, "answers 429"),
        (Fault::NoticesRejected, "does not take this notice"),
    ];
    for (fault, word) in cases {
        let before = town.world().notice_attempts().len();
        town.world().set_fault_for(fault, Scope::default().times(1));
        rename(&town, user, &page, &format!("Told through {fault}")).await;
        until("it was tried", async || town.world().notice_attempts().len() > before).await;
        until(&format!("{fault} is said"), async || town.log().contains(word)).await;
        if fault != Fault::NoticesRejected && town.world().notice_attempts().len() == before + 1 {
            let notify = town.status().await["notify"].clone();
            assert!(notify["ok"] == true || notify["error"].as_str().unwrap().contains(word), "{fault}: {notify}");
            assert_eq!(town.get("/readyz").await.status, 200);
        }
        if fault != Fault::NoticesBusy {
            nudge(&mut town).await;
        }
        until_none_waits(&town).await;
        let attempts = town.world().notice_attempts().split_off(before);
        assert_eq!(attempts.len(), 2, "{fault}");
        assert_eq!((&attempts[0].id, &attempts[0].bytes), (&attempts[1].id, &attempts[1].bytes), "{fault}");
        assert!(attempts[1].taken);
        if fault == Fault::NoticesBusy {
            let waited = attempts[1].at.since(attempts[0].at).as_secs();
            assert!(waited + 1 >= RETRY_AFTER, "{waited} s");
        }
        assert_eq!(town.status().await["notify"]["ok"], true);
    }
    let log = town.log();
    let said = |word: &str| log.lines().filter(|line| line.contains(" WARN ") && line.contains(word)).count();
    assert_eq!((said("answers 410"), said("answers 422")), (1, 1));
    assert!(!log.contains(&town.server.notify_url) || !log.contains("?"), "an address is in the log");
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_they_are_dropped_loudly_and_the_first_one_after_is_true() {
    let mut town = Town::plan().pages(2).start().await;
    let user = told(&town).await;
    let page = town.nth(0);
    town.world().set_fault(Fault::NoticesRefused, true);
    rename(&town, user, &page, "Nobody hears it").await;
    until("it waits", async || waiting(&town).await == 1).await;
    town.set("notify.url", "");
    town.reload("applied").await;
    until("it is dropped", async || waiting(&town).await == 0).await;
    until("that is said", async || town.log().contains("dropped the events that waited: 1")).await;
    town.world().clear_faults();
    // Nothing is decided meanwhile, and what Spaces holds is known all the same.
    rename(&town, user, &page, "Nobody is told").await;
    town.settle().await;
    assert_eq!((waiting(&town).await, town.status().await["notify"]["on"].clone()), (0, json!(false)));
    let text = String::from_utf8(town.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("notices  off"), "{text}");
    let url = town.server.notify_url.clone();
    town.set("notify.url", url);
    town.reload("applied").await;
    town.world().edit_page(&page, "description", "Told again".into()).unwrap();
    until("it is told", async || about(&town, &page).len() == 3).await;
    assert_eq!(changed(&about(&town, &page)[2]), set(["description"]));
    let text = String::from_utf8(town.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("notices  ok; 0 waiting"), "{text}");
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_has_every_object_told_with_all_its_fields() {
    let mut town = Town::plan().pages(3).start().await;
    ["]: is damaged (", "]: is restored from the backup log"].iter().for_each(|text| town.expect_errors(text));
    told(&town).await;
    assert_eq!(town.daemon.stop().await, Some(0));
    std::fs::remove_dir_all(town.setup.store_path.join("sled")).unwrap();
    town.daemon.start().await.unwrap();
    let all: BTreeMap<String, BTreeSet<String>> =
        town.pages().into_iter().map(|page| (page.clone(), changed(&about(&town, &page)[1]))).collect();
    for (page, fields) in &all {
        until("it is told anew", async || about(&town, page).len() == 3).await;
        let notice = about(&town, page).remove(2);
        assert_eq!((notice.word(), &changed(&notice)), (UPDATED, fields));
    }
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_panics_in_the_midst_of_sending_loses_nothing() {
    let mut town = Town::plan().drills().start().await;
    town.expect_panics("drill:");
    let user = told(&town).await;
    let pages = town.pages();
    town.world().set_fault(Fault::NoticesHang, true);
    for page in &pages {
        town.world().edit_page(page, "name", format!("Told slowly {page}").into()).unwrap();
    }
    town.until_true(user, &pages).await;
    until("all wait", async || waiting(&town).await == 6).await;
    town.drill("notifier").await;
    let restarts = "pagesyncd_actor_restarts_total{actor=\"notifier\"}";
    until("the notifier died", async || town.metric(restarts).await == 1.0).await;
    town.world().clear_faults();
    assert_eq!(town.deliver(delivery(&pages)).await.status, 200);
    until_none_waits(&town).await;
    for page in &pages {
        assert_eq!(changed(about(&town, page).last().unwrap()), set(["name"]));
    }
    town.finish().await;
}
