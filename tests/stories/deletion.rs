//! People who leave: the app is removed, or everything about them is to be forgotten.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use pagesyncd::core::cleanup::Cleanup;
use pagesyncd::core::model::{AppUserId, LinkKey, PageId, UserId};
use pagesyncd::sandbox::fault::Fault;
use pagesyncd::spaces::Versioning;
use pagesyncd::store::records::{account_context, cleanup_context, link_context};
use pagesyncd::store::seal::{Keyring, parse_key};
use serde_json::{Value, json};

use crate::harness::{ADA, Answer, BRUNO, Harness, delivery, object_key, until};
use crate::traces::Traces;

fn signed(secret: &str, claims: &Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    let mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let signature = mac.chain_update(&payload).finalize().into_bytes();
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims(person: &str, issued_at: u64) -> Value {
    json!({"user_id": person, "algorithm": "HMAC-SHA256", "issued_at": issued_at})
}

fn now() -> u64 {
    pagesyncd::core::model::WallTime::now().0 / 1000
}

async fn post(harness: &Harness, path: &str, signed_request: &str) -> Answer {
    harness.keep_secret(signed_request);
    let form = [("signed_request", signed_request)];
    harness.send(harness.http.post(format!("{}{path}", harness.base)).form(&form)).await
}

/// Ada with six pages and Bruno with three of them.
async fn two_people(harness: &Harness) -> (UserId, UserId) {
    let ada = harness.linked().await;
    let bruno = UserId::random();
    assert_eq!(harness.log_in(bruno, BRUNO, "all").await.status, 200);
    harness.until_true(bruno, &harness.pages()[..3]).await;
    harness.complete().await;
    (ada, bruno)
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_requests_that_are_not_facebooks_are_refused() {
    let harness = Harness::plan().trace().start().await;
    harness.linked().await;
    let secret = harness.server.app_secret.clone();
    let good = claims(ADA, now());
    let whole = signed(&secret, &good);
    let (signature, payload) = whole.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(claims(BRUNO, now()).to_string());
    let cases = [
        signed("another secret", &good),
        format!("{signature}.{other}"),
        format!("{signature}."),
        format!(".{payload}"),
        payload.to_owned(),
        format!("{}.{payload}", &signature[..signature.len() - 4]),
        signed(&secret, &json!({"user_id": ADA, "algorithm": "none", "issued_at": now()})),
        signed(&secret, &claims(ADA, now() - 2 * 24 * 3600)),
        signed(&secret, &claims(ADA, now() + 24 * 3600)),
        signed(&secret, &json!({"algorithm": "HMAC-SHA256", "issued_at": now()})),
        signed(&secret, &claims("../x", now())),
        "x".repeat(9000),
    ];
    for path in ["/facebook/deauthorize", "/facebook/data-deletion"] {
        for case in &cases {
            let answer = post(&harness, path, case).await;
            assert!(matches!(answer.status, 400 | 401), "{} {case}", answer.status);
            assert!(!answer.code().is_empty());
        }
        let bare = harness.send(harness.http.post(format!("{}{path}", harness.base)).body("other=1")).await;
        assert_eq!((bare.status, bare.code().as_str()), (400, "no_signed_request"));
        let large = harness.send(harness.http.post(format!("{}{path}", harness.base)).body("x".repeat(100_000))).await;
        assert_eq!((large.status, &large.headers["connection"]), (413, &"close".parse().unwrap()));
    }
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 6.0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_removes_the_app_has_their_links_stopped_and_nobody_else() {
    let harness = Harness::plan().start().await;
    let (ada, bruno) = two_people(&harness).await;
    let pages = harness.pages();
    harness.world().remove_app(ADA).unwrap();
    assert_eq!(harness.world().send_deauthorize(ADA).await.unwrap(), 200);
    assert_eq!(harness.metric("pagesyncd_links{health=\"app_removed\"}").await, 6.0);
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 3.0);
    // Her page is announced and asked no more; his are.
    let reads = harness.world().graph_reads(&pages[4]);
    assert_eq!(harness.deliver(delivery(&[&pages[4]])).await.status, 200);
    harness.world().edit_page(&pages[0], "name", "Bruno goes on".into()).unwrap();
    assert_eq!(harness.deliver(delivery(&[&pages[0]])).await.status, 200);
    until("his object follows", async || harness.is_true(bruno, &pages[0])).await;
    assert!(!harness.is_true(ada, &pages[0]) && harness.object(ada, &pages[0]).is_some());
    assert_eq!(harness.world().graph_reads(&pages[4]), reads);
    // It is so after a crash; and a new login brings them back.
    harness.crash().await;
    assert_eq!(harness.metric("pagesyncd_links{health=\"app_removed\"}").await, 6.0);
    assert_eq!(harness.log_in(ada, ADA, "all").await.status, 200);
    harness.until_true(ada, &pages).await;
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 9.0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_to_be_forgotten_is_and_the_status_page_tells_the_truth() {
    // After a start a lost write may land for twice this time, and the page says so.
    let harness = Harness::plan().set("spaces.request_timeout", "2s").trace().start().await;
    let (ada, bruno) = two_people(&harness).await;
    let pages = harness.pages();
    let before = harness.get("/facebook/data-deletion/00000000000000000000000000000000").await;
    assert_eq!(before.status, 404);
    harness.world().set_fault(Fault::SpacesRefused, true);
    let (status, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
    assert_eq!(status, 200);
    let (url, code) = (reply["url"].as_str().unwrap(), reply["confirmation_code"].as_str().unwrap());
    assert_eq!(reply.as_object().unwrap().len(), 2);
    assert!(url.starts_with(&harness.base) && url.ends_with(code) && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    let path = url.strip_prefix(&harness.base).unwrap().to_owned();
    // The links are gone at once, the objects wait for Spaces, and the page says so.
    assert_eq!(harness.status().await["links"], 3);
    let answer = harness.get(&path).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(answer.text().contains("being deleted") && answer.text().contains("6 of 6"), "{}", answer.text());
    assert!(harness.object(ada, &pages[5]).is_some());
    harness.crash().await;
    let answer = harness.get(&path).await.text();
    assert!(answer.contains("being deleted") && answer.contains("6 of 6"), "{answer}");
    until("it is not ready", async || harness.get("/readyz").await.status == 503).await;
    harness.world().set_fault(Fault::SpacesRefused, false);
    until("the page says that all is gone", async || harness.get(&path).await.text().contains("Your data is deleted"))
        .await;
    assert!(!harness.get(&path).await.text().contains("being deleted"));
    let keys = harness.server.objects.list();
    assert!(!keys.iter().any(|key| key.contains(&ada.to_string())), "{keys:?}");
    assert_eq!(keys.iter().filter(|key| key.contains(&bruno.to_string())).count(), 3);
    // Nothing of her is left in what the daemon knows: not in an export, not in a list, not in the deletion's record.
    let export = harness.run(&["export", "-"]).await;
    let (_, listed) = harness.admin(http::Method::GET, "/v1/pages", "").await;
    for text in [String::from_utf8(export.stdout).unwrap(), listed.to_string(), harness.get(&path).await.text()] {
        assert!(!text.contains(&ada.to_string()) && !text.contains(ADA), "{text}");
    }
    assert!(listed.to_string().contains(&bruno.to_string()));
    let known =
        harness.admin(http::Method::POST, "/v1/purge", &json!({"ids": [ADA], "dry_run": true}).to_string()).await.1;
    assert_eq!(known["people"][0]["known"], false);
    // It stays so after another start.
    harness.restart().await;
    assert!(harness.get(&path).await.text().contains("Your data is deleted"));
    // Nothing of it comes back, whatever is reply.
    harness.world().edit_page(&pages[0], "name", "After the deletion".into()).unwrap();
    assert_eq!(harness.deliver(delivery(&pages)).await.status, 200);
    until("the other person's object follows", async || harness.is_true(bruno, &pages[0])).await;
    harness.complete().await;
    assert!(!harness.server.objects.list().iter().any(|key| key.contains(&ada.to_string())));
    let unknown = harness.get("/facebook/data-deletion/00000000000000000000000000000000").await;
    assert_eq!(unknown.status, 404);
    harness.finish().await;
}

/// Sends a signed request that Meta wrote so many seconds ago.
async fn post_late(harness: &Harness, path: &str, seconds: u64) -> Answer {
    post(harness, path, &signed(&harness.server.app_secret, &claims(ADA, now() - seconds))).await
}

/// The text of the status page that a deletion answered with.
async fn status_page(harness: &Harness, answer: &Answer) -> String {
    assert_eq!((answer.status, answer.json().as_object().unwrap().len()), (200, 2), "Meta gets what it expects");
    let path = answer.json()["url"].as_str().unwrap().strip_prefix(&harness.base).unwrap().to_owned();
    harness.get(&path).await.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_arrives_late_ends_nothing_that_is_newer() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let answer = post_late(&harness, "/facebook/deauthorize", 3 * 3600).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "success"})));
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 6.0);
    let text = status_page(&harness, &post_late(&harness, "/facebook/data-deletion", 20 * 3600).await).await;
    assert!(text.contains("Nothing was deleted") && text.contains("6 linked pages stay"), "{text}");
    assert!(text.contains("ask for deletion again"), "{text}");
    assert_eq!(harness.status().await["links"], 6);

    // A grant from before the request goes, and the newer ones stay.
    let earlier = UserId::random();
    let token = harness.world().look(|s| {
        let token = s.tokens.iter().find(|(_, t)| t.page.as_deref() == Some(&pages[0]) && t.refused.is_none());
        token.unwrap().0.clone()
    });
    let day_ago = (now() - 23 * 3600) * 1000;
    let line = json!({"user": earlier, "page_id": pages[0], "access_token": token, "facebook_user_id": ADA,
        "granted_at": day_ago});
    assert_eq!(harness.admin(http::Method::POST, "/v1/import", &line.to_string()).await.1["imported"], 1);
    harness.until_true(earlier, &pages[..1]).await;
    harness.complete().await;
    let answer = post_late(&harness, "/facebook/data-deletion", 20 * 3600).await;
    until("the earlier grant's object is gone", async || harness.object(earlier, &pages[0]).is_none()).await;
    until("the page says so", async || {
        let text = status_page(&harness, &answer).await;
        text.contains("Your earlier data is deleted") && text.contains("6 linked pages stay")
    })
    .await;
    harness.crash().await;
    assert_eq!(harness.status().await["links"], 6);
    harness.world().edit_page(&pages[0], "name", "Still linked".into()).unwrap();
    harness.until_true(user, &pages).await;

    // Meta also signs the request that a browser gets with a login; that one is no wish to leave.
    let mut cookie = claims(ADA, now());
    cookie["code"] = "AQCode".into();
    for path in ["/facebook/deauthorize", "/facebook/data-deletion"] {
        let answer = post(&harness, path, &signed(&harness.server.app_secret, &cookie)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "signed_request_of_login"));
    }
    assert_eq!(harness.metric("pagesyncd_links{health=\"active\"}").await, 6.0);
    // One that was written just now ends everything.
    let answer = post_late(&harness, "/facebook/data-deletion", 1).await;
    until("all is gone", async || status_page(&harness, &answer).await.contains("Your data is deleted")).await;
    assert_eq!(harness.status().await["links"], 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_asked_for_twice_or_by_a_stranger_is_confirmed() {
    let harness = Harness::plan().start().await;
    harness.linked().await;
    let secret = harness.server.app_secret.clone();
    for person in [ADA, ADA, "2299999999999999"] {
        let answer = post(&harness, "/facebook/data-deletion", &signed(&secret, &claims(person, now()))).await;
        assert_eq!(answer.status, 200);
        let path = answer.json()["url"].as_str().unwrap().strip_prefix(&harness.base).unwrap().to_owned();
        until("it is done", async || harness.get(&path).await.text().contains("Your data is deleted")).await;
    }
    assert_eq!(harness.status().await["links"], 0);
    assert_eq!(harness.server.objects.list(), Vec::<String>::new());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_was_forgotten_may_come_again() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    harness.world().set_fault(Fault::SpacesRefused, true);
    assert_eq!(harness.world().send_data_deletion(ADA).await.unwrap().0, 200);
    // The objects to be deleted are overtaken by the ones of the new login.
    let answer = harness.log_in(user, ADA, "all");
    let (answer, ()) = tokio::join!(answer, async {
        until("the pages are linked anew", async || harness.status().await["links"] == 6).await;
        harness.world().set_fault(Fault::SpacesRefused, false);
    });
    assert_eq!(answer.status, 200);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    harness.until_true(user, &harness.pages()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_of_a_forgotten_persons_objects_is_left() {
    let harness = Harness::plan().pages(3).start().await;
    harness.server.objects.set_versioning(Versioning::On);
    let (ada, bruno) = two_people(&harness).await;
    let page = harness.nth(0);
    for name in ["One", "Two", "Three"] {
        harness.world().edit_page(&page, "name", name.into()).unwrap();
        until("both objects follow", async || harness.is_true(ada, &page) && harness.is_true(bruno, &page)).await;
        harness.complete().await;
    }
    let kept =
        |user: UserId| harness.server.objects.versioned().iter().filter(|k| k.contains(&user.to_string())).count();
    assert_eq!(harness.server.objects.versions(&object_key(ada, &page)).len(), 4);
    let (_, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
    let path = reply["url"].as_str().unwrap().strip_prefix(&harness.base).unwrap().to_owned();
    until("it is done", async || harness.get(&path).await.text().contains("Your data is deleted")).await;
    assert_eq!((kept(ada), kept(bruno)), (0, 3), "no version and no marker");
    assert!(!harness.get(&path).await.text().contains("older versions"));
    // An operator's unlink leaves none either.
    assert!(harness.run(&["unlink", &page]).await.status.success());
    until("his page's versions are gone", async || kept(bruno) == 2).await;
    let checked = String::from_utf8(harness.run_in_place(&["check", "--online"]).await.stderr).unwrap();
    assert!(checked.contains("keeps older versions"), "{checked}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bucket_does_not_tell_of_versions_nothing_is_claimed_of_them() {
    let harness = Harness::plan().pages(3).start().await;
    harness.server.objects.set_versioning(Versioning::Untold);
    let ada = harness.linked().await;
    let (_, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
    let path = reply["url"].as_str().unwrap().strip_prefix(&harness.base).unwrap().to_owned();
    until("it is done", async || harness.get(&path).await.text().contains("Your data is deleted")).await;
    assert!(harness.get(&path).await.text().contains("would not tell whether it keeps older versions"));
    assert!(harness.object(ada, &harness.nth(0)).is_none());
    assert_eq!(harness.log().matches("does not tell or does not delete older versions").count(), 1);
    harness.restart().await;
    assert!(harness.get(&path).await.text().contains("would not tell whether it keeps older versions"));
    harness.finish().await;
}

/// Tokens, name and id of a person.
fn marks_of(harness: &Harness, person: &str) -> Vec<String> {
    harness.world().look(|s| {
        let tokens = s.tokens.iter().filter(|(_, token)| token.person == person).map(|(text, _)| text.clone());
        tokens.chain([s.persons[person].name.clone(), person.to_owned()]).collect()
    })
}

/// The marks of a person that the store's files show to a holder of its key.
fn traces(harness: &Harness, user: UserId, person: &str, marks: &[String]) -> Vec<String> {
    let key = parse_key(harness.setting("store.key").as_str().unwrap()).unwrap();
    let ring = Keyring::new(*key, Vec::new());
    let open = |context: &[u8], sealed: &[u8]| ring.open(context, sealed).ok().map(|plain| plain.to_vec());
    let person: AppUserId = person.parse().unwrap();
    let mut contexts = vec![account_context(user, &person), cleanup_context(&Cleanup::Revoke(person))];
    for page in harness.pages() {
        let page: PageId = page.parse().unwrap();
        contexts.push(link_context(&LinkKey::new(user, page.clone())));
        contexts.push(cleanup_context(&Cleanup::Unsubscribe(page)));
    }
    let wanted: Vec<&str> = marks.iter().map(String::as_str).collect();
    Traces::of(&harness.setup.store_path, &ring.seal(b"", b""), &contexts, &open).shown(&wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_shows_as_done_has_left_no_trace_on_the_disk() {
    let harness = Harness::plan().start().await;
    let (ada, bruno) = two_people(&harness).await;
    // Older tokens than those in use are on the disk as well.
    assert_eq!(harness.log_in(ada, ADA, "all").await.status, 200);
    harness.complete().await;
    let (of_ada, of_bruno) = (marks_of(&harness, ADA), marks_of(&harness, BRUNO));
    let shown = traces(&harness, ada, ADA, &of_ada);
    assert!(shown.len() >= 9, "one login, six pages, name and id show to somebody who has the key: {shown:?}");
    let (status, reply) = harness.world().send_data_deletion(ADA).await.unwrap();
    assert_eq!(status, 200);
    let path = reply["url"].as_str().unwrap().strip_prefix(&harness.base).unwrap().to_owned();
    until("it is done", async || harness.get(&path).await.text().contains("Your data is deleted")).await;
    assert_eq!(traces(&harness, ada, ADA, &of_ada), Vec::<String>::new());
    assert!(traces(&harness, bruno, BRUNO, &of_bruno).len() >= 6);
    assert!(harness.status().await["store"]["erasing_since"].is_null());
    // A kill and a start bring nothing back.
    harness.crash().await;
    assert_eq!(traces(&harness, ada, ADA, &of_ada), Vec::<String>::new());
    // A deauthorization forgets the login, an unlink the token.
    harness.world().remove_app(BRUNO).unwrap();
    assert_eq!(harness.world().send_deauthorize(BRUNO).await.unwrap(), 200);
    for page in &harness.pages()[..3] {
        assert!(harness.run(&["unlink", page]).await.status.success());
    }
    until("nothing is left to do", async || harness.status().await["cleanups"].as_object().unwrap().is_empty()).await;
    harness.complete().await;
    until("it is erased", async || harness.status().await["store"]["erasing_since"].is_null()).await;
    assert_eq!(traces(&harness, bruno, BRUNO, &of_bruno), Vec::<String>::new());
    harness.finish().await;
}
