//! The user of a login: login links, sessions, new users; and the pages that the person sees.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::{Value, json};

use crate::harness::{ADA, Answer, BRUNO, Harness, Plan, until};

const PAGE: &str = "text/html,application/xhtml+xml";
const BACK: &str = "https://fern.example/settings?tab=pages";

/// A platform with a name and a way back to it.
fn plan() -> Plan {
    Harness::plan().set("http.platform_name", "Fern & Co").set("http.return_url", BACK)
}

/// A browser that keeps all its cookies.
#[derive(Clone, Default)]
struct Jar {
    cookies: BTreeMap<String, String>,
    /// `X-Forwarded-For`, as a proxy sends it.
    forwarded: Option<String>,
}

impl Jar {
    fn with_session(id: &str) -> Jar {
        Jar { cookies: [("session_id".to_owned(), id.to_owned())].into(), forwarded: None }
    }

    /// Without the session, as when it ended.
    fn later(&self) -> Jar {
        let mut jar = self.clone();
        jar.cookies.remove("session_id");
        jar
    }

    async fn send(&mut self, harness: &Harness, mut request: reqwest::RequestBuilder) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some(forwarded) = &self.forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        let answer = harness.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            harness.keep_secret(value);
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    async fn get(&mut self, harness: &Harness, url: &str, accept: &str) -> Answer {
        let url = if url.starts_with('/') { format!("{}{url}", harness.base) } else { url.to_owned() };
        self.send(harness, harness.http.get(url).header("accept", accept)).await
    }

    async fn post(&mut self, harness: &Harness, path: &str, form: &[(&str, &str)], accept: &str) -> Answer {
        let request = harness.http.post(format!("{}{path}", harness.base)).header("accept", accept).form(form);
        self.send(harness, request).await
    }

    /// From the dialog, whose address this is, back to the daemon.
    async fn finish(&mut self, harness: &Harness, dialog: &str, pages: &str, accept: &str) -> Answer {
        let back = harness.decide(dialog, ADA, pages, "continue").await;
        self.get(harness, &back, accept).await
    }
}

/// Mints a session with a label; its id, and the path and query of its login link.
async fn session(harness: &Harness, user: UserId, more: Value) -> (String, String) {
    let mut wish = json!({"user": user});
    wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, minted) = harness.admin(Method::POST, "/v1/sessions", &wish.to_string()).await;
    assert_eq!(status, 200, "{minted}");
    let (id, url) = (minted["session_id"].as_str().unwrap(), minted["login_url"].as_str().unwrap());
    harness.keep_secret(id);
    harness.keep_secret(url.split_once("login=").unwrap().1);
    (id.to_owned(), url.strip_prefix(&harness.setup.public_url).unwrap().to_owned())
}

fn max_age(answer: &Answer) -> u64 {
    let cookie = answer.header("set-cookie");
    let age = cookie.split("Max-Age=").nth(1).unwrap_or_else(|| panic!("no cookie: {cookie}"));
    age.split(';').next().unwrap().parse().unwrap()
}

fn refused(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (400, code), "{}", answer.text());
    assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("location"));
}

/// The value of an attribute's first use in a page, unescaped.
fn attribute(page: &str, before: &str) -> String {
    let rest = page.split(before).nth(1).unwrap_or_else(|| panic!("no {before} in {page}"));
    rest.split('"').next().unwrap().replace("&amp;", "&")
}

/// The way back to the platform stands on a page, and the platform's name.
fn leads_back(answer: &Answer) {
    let text = answer.text();
    assert!(answer.header("content-type").starts_with("text/html"), "{text}");
    assert!(
        text.contains("href=\"https://fern.example/settings?tab=pages\"") && text.contains("Back to Fern &amp; Co")
    );
    assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">") && text.contains("<h1>"), "{text}");
    assert!(text.contains("name=\"viewport\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_link_that_opens_nothing_is_refused_whatever_the_cookie_says() {
    let harness = plan().start().await;
    let user = UserId::random();
    let (id, used) = session(&harness, user, json!({})).await;
    assert_eq!(Jar::default().get(&harness, &used, "*/*").await.status, 302);
    let (_, fresh) = session(&harness, user, json!({})).await;
    let garbled = [
        used.clone(),
        used[..used.len() - 1].to_owned(),
        format!("{fresh}x"),
        fresh.replace("login=", "login=%00"),
        "/facebook/login?login=".to_owned(),
        "/facebook/login?login".to_owned(),
        format!("{fresh}&login=x"),
        "/facebook/login?rerequest=1&login=nothing".to_owned(),
    ];
    for mut jar in [Jar::default(), Jar::with_session("unknown"), Jar::with_session(&id)] {
        for link in &garbled {
            let answer = jar.get(&harness, link, "*/*").await;
            refused(&answer, "bad_login_link");
            assert_eq!(answer.json()["error"]["return_url"], BACK);
            let answer = jar.get(&harness, link, PAGE).await;
            assert_eq!(answer.status, 400);
            leads_back(&answer);
            assert!(answer.text().contains("does not work any more"), "{}", answer.text());
        }
    }
    // One that is over. Looking does not use it up, as this browser is known for another user.
    let (_, short) = session(&harness, UserId::random(), json!({"ttl": "1s"})).await;
    let mut jar = Jar::with_session(&id);
    until("the link is over", async || jar.get(&harness, &short, "*/*").await.status == 400).await;
    refused(&jar.get(&harness, &short, "*/*").await, "bad_login_link");
    // The one that was garbled works still, and the cookie without a link.
    assert_eq!(jar.get(&harness, &fresh, "*/*").await.status, 302);
    assert_eq!(jar.get(&harness, "/facebook/login", "*/*").await.status, 302);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_link_for_another_user_asks_first() {
    let harness = plan().start().await;
    let (ada, bruno) = (UserId::random(), UserId::random());
    let (id, _) = session(&harness, ada, json!({"label": "Ada's <Bakery>"})).await;
    let (_, link) = session(&harness, bruno, json!({"label": "Bruno & Sons"})).await;
    let mut jar = Jar::with_session(&id);
    // However often it is fetched: nothing is used up, nothing is set.
    let mut page = String::new();
    for _ in 0..3 {
        let answer = jar.get(&harness, &format!("{link}&rerequest=1"), PAGE).await;
        page = answer.text();
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("location"));
        assert!(page.contains("Ada&#39;s &lt;Bakery&gt;") || page.contains("Ada's &lt;Bakery&gt;"), "{page}");
        assert!(page.contains("Bruno &amp; Sons"), "{page}");
        leads_back(&answer);
    }
    let program = jar.get(&harness, &link, "*/*").await;
    assert_eq!((program.status, program.code().as_str()), (409, "other_user"));
    let reply = program.json();
    assert_eq!(reply["known_user"], json!({"user": ada, "label": "Ada's <Bakery>"}));
    assert_eq!(reply["link_user"], json!({"user": bruno, "label": "Bruno & Sons"}));
    assert!(!program.headers.contains_key("set-cookie"));
    // A form elsewhere brings no cookie, or another browser's, or a confirmation of its own login.
    let action = attribute(&page, "<form method=\"post\" action=\"");
    let path = action.strip_prefix(&harness.base).unwrap().to_owned();
    let confirmation = attribute(&page, "name=\"confirmation\" value=\"");
    let form = [("confirmation", confirmation.as_str()), ("rerequest", "1")];
    let (stranger, _) = session(&harness, ada, json!({})).await;
    for mut other in [Jar::default(), Jar::with_session(&stranger)] {
        refused(&other.post(&harness, &path, &form, "*/*").await, "bad_confirmation");
        let answer = other.post(&harness, &path, &form, PAGE).await;
        assert_eq!(answer.status, 400);
        leads_back(&answer);
    }
    let flipped = format!("{}AAAA", &confirmation[..confirmation.len() - 4]);
    refused(&jar.post(&harness, &path, &[("confirmation", &flipped)], "*/*").await, "bad_confirmation");
    refused(&jar.post(&harness, &path, &[], "*/*").await, "bad_confirmation");
    // Staying is another way on.
    assert_eq!(jar.clone().get(&harness, &attribute(&page, "class=\"button\" href=\""), PAGE).await.status, 302);
    // The person's word, once.
    let answer = jar.post(&harness, &path, &form, PAGE).await;
    assert_eq!(answer.status, 303);
    assert!(answer.header("location").contains("auth_type=rerequest"));
    assert!((1..=3600).contains(&max_age(&answer)), "{}", answer.header("set-cookie"));
    let dialog = answer.header("location").to_owned();
    let mut once_more = Jar::with_session(&id);
    refused(&once_more.post(&harness, &path, &form, "*/*").await, "bad_login_link");
    let reply = jar.finish(&harness, &dialog, "all", "*/*").await.json();
    assert_eq!((&reply["user_uuid"], &reply["user_label"]), (&json!(bruno), &json!("Bruno & Sons")));
    harness.until_true(bruno, &harness.pages()).await;
    assert_eq!(harness.status().await["links"], 6);
    assert!(!harness.log().contains("Bruno & Sons"), "a label is in the log");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_remembers_whom_it_linked_for_when_the_session_is_over() {
    let harness = plan().start().await;
    let (ada, bruno) = (UserId::random(), UserId::random());
    let (_, link) = session(&harness, ada, json!({"label": "Ada"})).await;
    let mut jar = Jar::default();
    let answer = jar.get(&harness, &link, PAGE).await;
    assert_eq!(answer.status, 302, "a browser that is known for nobody goes on at once");
    assert!((1..=3600).contains(&max_age(&answer)), "{}", answer.header("set-cookie"));
    let dialog = answer.header("location").to_owned();
    let page = jar.finish(&harness, &dialog, "all", PAGE).await;
    assert!(page.text().contains("Ada") && page.text().contains("at Fern &amp; Co"), "{}", page.text());
    let mut jar = jar.later();
    let (_, same) = session(&harness, ada, json!({})).await;
    assert_eq!(jar.clone().get(&harness, &same, PAGE).await.status, 302);
    let (_, other) = session(&harness, bruno, json!({})).await;
    let page = jar.get(&harness, &other, PAGE).await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("Ada") && text.contains(&bruno.to_string()), "without a label the UUID is shown: {text}");
    let confirmation = attribute(&text, "name=\"confirmation\" value=\"");
    let form = [("confirmation", confirmation.as_str())];
    // The note is no session.
    refused(&jar.get(&harness, "/facebook/login", "*/*").await, "no_session");
    let answer = jar.post(&harness, "/facebook/login/confirm", &form, PAGE).await;
    assert_eq!(answer.status, 303);
    let dialog = answer.header("location").to_owned();
    assert_eq!(jar.finish(&harness, &dialog, "all", "*/*").await.json()["user_uuid"], json!(bruno));
    // From here on it is known for the other one.
    let (_, again) = session(&harness, bruno, json!({})).await;
    assert_eq!(jar.later().get(&harness, &again, PAGE).await.status, 302);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_login_link_stays_short_and_a_longer_one_of_the_same_user_stays_long() {
    let harness = Harness::plan().start().await;
    let user = UserId::random();
    let (id, link) = session(&harness, user, json!({"ttl": "20d"})).await;
    let mut jar = Jar::default();
    assert!(max_age(&jar.get(&harness, &link, "*/*").await) <= 3600);
    assert!(max_age(&jar.get(&harness, "/facebook/login", "*/*").await) <= 3600, "it does not grow by being used");
    let mut platform = Jar::with_session(&id);
    let (_, link) = session(&harness, user, json!({})).await;
    let answer = platform.get(&harness, &link, "*/*").await;
    assert_eq!(answer.status, 302);
    assert!(max_age(&answer) > 19 * 24 * 3600, "{}", answer.header("set-cookie"));
    assert_eq!(platform.cookies["session_id"], id);
    refused(&platform.get(&harness, &link, "*/*").await, "bad_login_link");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_is_plain_text_without_line_breaks() {
    let harness = Harness::plan().start().await;
    let user = UserId::random().to_string();
    for (label, why) in [("", "empty"), ("two\nlines", "control character"), (&"x".repeat(81), "longer than 80")] {
        let output = harness.run(&["session", "--user", &user, "--label", label]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(64) && said.contains(why), "{said}");
        let wish = json!({"user": user, "label": label}).to_string();
        let (status, reply) = harness.admin(Method::POST, "/v1/sessions", &wish).await;
        assert!(status == 400 && reply["error"]["message"].as_str().unwrap().contains(why), "{reply}");
    }
    let output = harness.run(&["session", "--user", &user, "--label", "Fern & Sons", "--json"]).await;
    let minted: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (id, url) = (minted["session_id"].as_str().unwrap(), minted["login_url"].as_str().unwrap());
    harness.keep_secret(id);
    harness.keep_secret(url.split_once("login=").unwrap().1);
    let mut jar = Jar::with_session(id);
    let dialog = jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
    assert_eq!(jar.finish(&harness, &dialog, "all", "*/*").await.json()["user_label"], "Fern & Sons");
    harness.finish().await;
}

/// Size of the file in which sessions are kept beside the database.
fn backup_bytes(harness: &Harness) -> u64 {
    std::fs::metadata(harness.setup.store_path.join("links.journal")).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_a_session_stores_nothing_until_it_is_finished() {
    let harness = plan().set("session.allow_new", true).start().await;
    let before = backup_bytes(&harness);
    let mut jar = Jar::default();
    let mut dialog = String::new();
    for _ in 0..500 {
        let answer = jar.later().get(&harness, "/facebook/login", "*/*").await;
        assert_eq!(answer.status, 302);
        let answer = jar.get(&harness, "/facebook/login", "*/*").await;
        assert!(max_age(&answer) <= 600);
        dialog = answer.header("location").to_owned();
    }
    // A dialog that is cancelled and one that gives no Page make no user either.
    let back = harness.decide(&dialog, ADA, "all", "cancel").await;
    assert_eq!(jar.get(&harness, &back, "*/*").await.code(), "cancelled");
    dialog = jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
    let answer = jar.finish(&harness, &dialog, "", "*/*").await;
    assert_eq!((answer.status, answer.headers.contains_key("set-cookie")), (200, false), "{}", answer.text());
    harness.crash().await;
    assert_eq!(backup_bytes(&harness), before, "something was stored");
    // A finished one does, and the browser is known from then on.
    dialog = jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
    let began = jar.cookies["session_id"].clone();
    let back = harness.decide(&dialog, BRUNO, "all", "continue").await;
    let mut other = Jar::with_session("another-browser");
    refused(&other.get(&harness, &back, "*/*").await, "bad_state");
    refused(&Jar::default().get(&harness, &back, "*/*").await, "no_session");
    let answer = jar.get(&harness, &back, "*/*").await;
    let user = answer.json()["user_uuid"].clone();
    assert_ne!(jar.cookies["session_id"], began, "the session is a fresh one");
    assert_eq!(harness.status().await["links"], 3);
    harness.crash().await;
    dialog = jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
    let back = harness.decide(&dialog, BRUNO, "all", "continue").await;
    assert_eq!(jar.get(&harness, &back, "*/*").await.json()["user_uuid"], user);
    assert_eq!(harness.status().await["links"], 3);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_users_have_an_hourly_limit_for_each_address_and_in_total() {
    let harness = plan()
        .set("session.allow_new", true)
        .set("session.max_new_users", 5)
        .set("session.max_new_users_per_address", 2)
        .start()
        .await;
    let log_in = async |forwarded: Option<&str>| {
        let mut jar = Jar { forwarded: forwarded.map(str::to_owned), ..Jar::default() };
        let dialog = jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
        let back = harness.decide(&dialog, BRUNO, "all", "continue").await;
        jar.get(&harness, &back, "*/*").await
    };
    let one = Some("192.0.2.1");
    assert_eq!((log_in(one).await.status, log_in(one).await.status), (200, 200));
    let asked = harness.world().calls(Call::ExchangeCode);
    // Another name in front of the proxy's is the client's own invention.
    for forwarded in [one, Some("198.51.100.9, 192.0.2.1")] {
        let answer = log_in(forwarded).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many"), "{}", answer.text());
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 60);
    }
    assert_eq!(harness.world().calls(Call::ExchangeCode), asked, "nothing is asked of Facebook");
    let other = Some("192.0.2.2");
    assert_eq!((log_in(other).await.status, log_in(other).await.status), (200, 200));
    assert_eq!(log_in(None).await.status, 200, "a client whom no proxy names counts in the total");
    assert_eq!(log_in(Some("192.0.2.3")).await.code(), "too_many");
    assert_eq!(harness.log().matches("refused by the limit").count(), 2, "one message for each limit");
    // Users that are known go on.
    assert_eq!(harness.log_in(UserId::random(), ADA, "all").await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sessions_the_state_decides_and_before_that_the_one_made_last() {
    let harness = Harness::plan().start().await;
    let (ada, bruno) = (UserId::random(), UserId::random());
    let (first, _) = session(&harness, ada, json!({})).await;
    let (second, _) = session(&harness, bruno, json!({})).await;
    let both = [format!("session_id={first}; session_id={second}"), format!("session_id={second}; session_id={first}")];
    for cookies in &both {
        let send = async |url: &str| {
            let url = if url.starts_with('/') { format!("{}{url}", harness.base) } else { url.to_owned() };
            harness.send(harness.http.get(url).header("cookie", cookies)).await
        };
        for (id, user) in [(&first, ada), (&second, bruno)] {
            let dialog = Jar::with_session(id).get(&harness, "/facebook/login", "*/*").await;
            let back = harness.decide(dialog.header("location"), ADA, "all", "continue").await;
            let answer = send(&back).await;
            assert_eq!((answer.status, &answer.json()["user_uuid"]), (200, &json!(user)), "{}", answer.text());
        }
        let dialog = send("/facebook/login").await;
        let back = harness.decide(dialog.header("location"), ADA, "all", "continue").await;
        assert_eq!(send(&back).await.json()["user_uuid"], json!(bruno), "the order in the header says nothing");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dead_end_leads_back_to_the_platform() {
    let harness = plan().start().await;
    let (id, _) = session(&harness, UserId::random(), json!({})).await;
    let mut known = Jar::with_session(&id);
    let dialog = async |jar: &mut Jar| jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
    let cancelled = harness.decide(&dialog(&mut known).await, ADA, "all", "cancel").await;
    let finished = harness.decide(&dialog(&mut known).await, ADA, "all", "continue").await;
    let other = dialog(&mut Jar::with_session(&session(&harness, UserId::random(), json!({})).await.0)).await;
    let others = harness.decide(&other, ADA, "all", "continue").await;
    assert_eq!(known.get(&harness, &finished, "*/*").await.status, 200);
    let nobody = Jar::default();
    let again = format!("href=\"{}/facebook/login\"", harness.base);
    for (jar, url, code, restarts) in [
        (&nobody, "/facebook/login", "no_session", false),
        (&nobody, finished.as_str(), "no_session", false),
        (&known, cancelled.as_str(), "cancelled", true),
        (&known, finished.as_str(), "used_state", true),
        (&known, others.as_str(), "bad_state", true),
        (&known, "/facebook/callback?code=x", "malformed", true),
    ] {
        // The state of the cancelled one is good once, so the page comes first.
        let page = jar.clone().get(&harness, url, PAGE).await;
        assert_eq!(page.status, 400, "{url}");
        leads_back(&page);
        assert_eq!(page.text().contains(&again), restarts, "{code}: {}", page.text());
        if code != "cancelled" {
            let answer = jar.clone().get(&harness, url, "*/*").await;
            assert_eq!((answer.code().as_str(), &answer.json()["error"]["return_url"]), (code, &json!(BACK)));
            assert_eq!(answer.json()["error"]["login_url"].is_string(), restarts, "{code}");
        }
    }
    let page = known.get(&harness, "/facebook/login/result/unknown", PAGE).await;
    assert_eq!(page.status, 404);
    leads_back(&page);
    harness.finish().await;
}

/// The text of a page between two of its headings or to its end.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("id=\"{heading}\"")).unwrap_or_else(|| panic!("no section {heading} in {page}"));
    let end = page[start..].find("</section>").unwrap();
    &page[start..start + end]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_after_a_login_says_what_stopped_once_and_mends_it_with_one_button() {
    let harness = plan().start().await;
    let user = UserId::random();
    let (id, _) = session(&harness, user, json!({"label": "Ada's Bakery"})).await;
    let mut jar = Jar::with_session(&id);
    let log_in = async |jar: &mut Jar, pages: &str| {
        let dialog = jar.get(&harness, "/facebook/login", "*/*").await.header("location").to_owned();
        jar.finish(&harness, &dialog, pages, PAGE).await
    };
    let pages = harness.pages();
    let names: Vec<String> = harness.world().look(|s| s.pages.values().map(|page| page.name().to_owned()).collect());
    log_in(&mut jar, "all").await;
    harness.until_true(user, &pages).await;
    harness.complete().await;
    let answer = log_in(&mut jar, &pages[..4].join(",")).await;
    let text = answer.text();
    assert_eq!(answer.status, 200);
    leads_back(&answer);
    assert!(text.contains("<h1>2 of your Pages have stopped</h1>"), "{text}");
    assert!(text.contains("Ada's Bakery") || text.contains("Ada&#39;s Bakery"), "{text}");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(text.matches(&format!("<bdi>{name}</bdi>")).count(), 1, "{name} in {text}");
        let part = section(&text, if number < 4 { "linked" } else { "stopped" });
        assert!(part.contains(name), "{name} in {part}");
    }
    assert!(section(&text, "stopped").contains("you did not choose it this time"));
    let again = format!("href=\"{}/facebook/login?rerequest=1\"", harness.base);
    assert_eq!((text.matches("class=\"button\"").count(), text.matches(&again).count()), (1, 1), "{text}");
    for word in ["token", "the person", "webhook", "unlink", "/v1/", "dashboard"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    // The button mends it.
    let dialog = jar.get(&harness, "/facebook/login?rerequest=1", "*/*").await.header("location").to_owned();
    let text = jar.finish(&harness, &dialog, "all", PAGE).await.text();
    assert!(text.contains("<h1>Your pages are linked</h1>") && !text.contains("id=\"stopped\""), "{text}");
    // A permission that was declined is named in the same way.
    harness.world().change(|s| {
        let ada = s.persons.get_mut(ADA).unwrap();
        ada.declines.insert("business_management".into());
    });
    let text = log_in(&mut jar, "all").await.text();
    assert!(section(&text, "permissions").contains("business portfolio") && text.contains(&again), "{text}");
    let text = log_in(&mut jar, "").await.text();
    assert!(text.contains(&again), "{text}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_a_page_at_once_and_it_fills_in() {
    let harness = plan().pages(40).start().await;
    let user = UserId::random();
    let (_, link) = session(&harness, user, json!({"label": "Ada's Bakery"})).await;
    let mut jar = Jar::default();
    let dialog = jar.get(&harness, &link, PAGE).await.header("location").to_owned();
    // Facebook takes its time for the list, and Spaces is away when it comes.
    harness.world().set_latency(Duration::from_secs(10));
    harness.world().set_fault_for(Fault::GraphSlow, Scope::call(Call::Accounts));
    harness.world().set_fault(Fault::SpacesRefused, true);
    let first = jar.finish(&harness, &dialog, "all", PAGE).await;
    assert_eq!(first.status, 202);
    let text = first.text();
    assert!(text.contains("Linking your Pages") && text.contains("Bakery") && text.contains("Fern &amp; Co"), "{text}");
    let at = attribute(&text, "data-at=\"");
    assert!(text.contains(&format!("<noscript><meta http-equiv=\"refresh\" content=\"3;url={at}\"></noscript>")));
    let policy = first.header("content-security-policy");
    assert!(policy.contains("script-src 'sha256-") && policy.contains("connect-src 'self'"), "{policy}");
    // It is this browser's alone.
    let (stranger, _) = session(&harness, user, json!({})).await;
    assert_eq!(Jar::with_session(&stranger).get(&harness, &at, PAGE).await.status, 404);
    assert_eq!(Jar::default().get(&harness, &at, PAGE).await.status, 404);
    assert_eq!(jar.get(&harness, &at, PAGE).await.status, 200);
    let page = async |what: &str, holds: &dyn Fn(&str) -> bool| {
        let mut text = String::new();
        until(what, async || {
            text = jar.clone().get(&harness, &at, PAGE).await.text();
            holds(&text)
        })
        .await;
        text
    };
    let text = page("the Pages are listed", &|text| text.contains("storing goes on by itself")).await;
    assert!(text.contains("0 of 40 Pages are stored so far") && text.contains("http-equiv"), "{text}");
    harness.world().set_fault(Fault::SpacesRefused, false);
    let text = page("all of them are stored", &|text| text.matches("linked and stored").count() == 40).await;
    assert!(!text.contains("http-equiv"), "it goes on for ever: {text}");
    assert!(text.contains("<h1>Your pages are linked</h1>"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_behind_the_page_says_so_on_it() {
    let harness = plan().start().await;
    let (_, link) = session(&harness, UserId::random(), json!({})).await;
    let mut jar = Jar::default();
    let dialog = jar.get(&harness, &link, PAGE).await.header("location").to_owned();
    harness.world().set_fault_for(Fault::GraphHang, Scope::call(Call::ExchangeCode));
    let text = jar.finish(&harness, &dialog, "all", PAGE).await.text();
    let at = attribute(&text, "data-at=\"");
    harness.world().set_fault(Fault::GraphUnavailable, true);
    harness.world().set_fault(Fault::GraphHang, false);
    until("the page says so", async || {
        jar.get(&harness, &at, PAGE).await.text().contains("Your Pages were not linked")
    })
    .await;
    let answer = jar.get(&harness, &at, PAGE).await;
    assert!(answer.text().contains("Start again") && !answer.text().contains("http-equiv"), "{}", answer.text());
    leads_back(&answer);
    harness.finish().await;
}
