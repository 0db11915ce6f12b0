//! What the status page is made of, without a browser: the page's policy, the guard against pages of elsewhere, a page
//! of links and what cannot be meant by one, and the stream of events.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use pagesyncd::core::model::UserId;
use serde_json::{Value, json};

use super::harness::{ADA, Answer, Harness, LIMIT, Plan, delivery, free_port, until};

async fn daemon(plan: Plan) -> (Harness, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    (plan.daemon(|setup| setup.admin_listen = address).start().await, url)
}

async fn get(harness: &Harness, url: &str, path: &str) -> Answer {
    harness.send(harness.http.get(format!("{url}{path}"))).await
}

/// The messages of an open stream.
struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(harness: &Harness, url: &str, after: Option<&str>) -> Stream {
        let request = harness.http.get(format!("{url}/v1/events")).timeout(4 * LIMIT);
        let request = after.iter().fold(request, |request, id| request.header("last-event-id", *id));
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Stream { answer, text: String::new() }
    }

    /// The next message: its event and its data. `None` at the end of the stream, which is a clean one.
    async fn next(&mut self, harness: &Harness) -> Option<(String, Value)> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                let (event, data) = (field("event: ").to_owned(), field("data: ").to_owned());
                self.text = rest.to_owned();
                if !event.is_empty() {
                    return Some((event, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.answer.chunk()).await.expect("a message in time").unwrap()?;
            harness.hear("/v1/events", &chunk);
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Reads until such a message.
    async fn until(&mut self, harness: &Harness, wanted: impl Fn(&str, &Value) -> bool) -> Value {
        loop {
            let (event, data) = self.next(harness).await.expect("the stream goes on");
            if wanted(&event, &data) {
                return data;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lets_nothing_in_and_is_for_names_of_this_machine() {
    let (harness, url) = daemon(Harness::plan().pages(2)).await;
    let page = get(&harness, &url, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let parts: BTreeSet<String> =
        page.text().split('"').filter(|text| text.starts_with("/assets/")).map(str::to_owned).collect();
    assert!(parts.len() >= 2, "{parts:?}");
    for path in parts.iter().map(String::as_str).chain(["/", "/assets/links.js"]) {
        let answer = get(&harness, &url, path).await;
        let policy = answer.header("content-security-policy");
        assert_eq!(answer.status, 200, "{path}");
        for wanted in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(wanted), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    assert!(
        !page.text().contains("http://")
            || page.text().matches("http://").count() == page.text().matches("http://www.w3.org/2000/svg").count()
    );
    assert_eq!(get(&harness, &url, "/assets/none.js").await.status, 404);
    assert_eq!(harness.send(harness.http.post(format!("{url}/"))).await.status, 405);

    for path in ["/", "/v1/links", "/v1/status", "/v1/events", "/metrics"] {
        for (host, status) in [("evil.example:9100", 421), ("10.1.2.3", 421), ("localhost:1", 200), ("[::1]", 200)] {
            let request = harness.http.get(format!("{url}{path}")).header("host", host);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path} {host}");
        }
    }
    // The socket is reached by a browser through a forwarded port. Clients that are no browsers name any host there.
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::UnixStream::connect(harness.daemon.socket()).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        harness.hear(path, answer.as_bytes());
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let browser = ("accept-language", "en");
    assert_eq!(ask(Method::GET, "/", &[("host", "localhost:9100"), browser]).await, "200");
    assert_eq!(ask(Method::GET, "/v1/links", &[("host", "evil.example"), browser]).await, "421");
    assert_eq!(ask(Method::GET, "/v1/links", &[("host", "evil.example")]).await, "200");
    let sync = format!("/v1/pages/{}/sync", harness.nth(0));
    assert_eq!(
        ask(Method::POST, &sync, &[("host", "localhost:9100"), ("origin", "http://localhost:9100")]).await,
        "403"
    );
    assert_eq!(ask(Method::POST, &sync, &[("host", "localhost")]).await, "404", "it is not linked");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_links_have_each_link_once_and_bad_wishes_are_named() {
    let harness = Harness::plan().pages(7).start().await;
    let user = harness.linked().await;
    let get = async |path: &str| harness.admin(Method::GET, path, "").await;
    let (_, whole) = get("/v1/links").await;
    assert_eq!(whole.as_object().unwrap().keys().collect::<Vec<_>>(), ["links"], "without a limit it is as it was");
    assert!(whole["links"][0].get("pending").is_none() && whole["links"][0].get("login_url").is_none());
    for sort in ["user", "id", "name", "changed", "health", "next-poll", "pending"] {
        for reverse in [false, true] {
            let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let (status, page) = get(&format!("/v1/links?limit=3&sort={sort}&reverse={reverse}{after}")).await;
                assert_eq!((status, &page["total"]), (200, &7.into()), "{page}");
                seen.extend(
                    page["links"].as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap().to_owned()),
                );
                pages += 1;
                match page["next"].as_str() {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
            let ids: BTreeSet<&String> = seen.iter().collect();
            assert_eq!((pages, seen.len(), ids.len()), (3, 7, 7), "{sort} {reverse}: {seen:?}");
        }
    }
    let ids = async |query: &str| -> Vec<String> {
        let (_, page) = get(&format!("/v1/links?limit=50&{query}")).await;
        page["links"].as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap().to_owned()).collect()
    };
    let (by_id, mut by_user) = (ids("sort=id").await, ids("sort=user&reverse=true").await);
    by_user.reverse();
    assert_eq!((&by_id, by_user), (&harness.pages(), ids("").await));
    let total = async |query: &str| get(&format!("/v1/links?limit=2&{query}")).await.1["total"].as_u64().unwrap();
    let page = harness.nth(0);
    let name = harness.page(&page).await.unwrap()["name"].as_str().unwrap().to_uppercase();
    let part: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    assert_eq!(total(&format!("search={part}")).await, 1);
    assert_eq!(total(&format!("search={page}")).await, 1);
    assert_eq!(total(&format!("search={user}")).await, 7);
    assert_eq!((total("source=shopify").await, total("source=facebook").await), (0, 7));
    assert_eq!((total("health=active").await, total("health=throttled").await), (7, 0));
    assert_eq!((total("waiting=true").await, total("pending=true").await), (0, 0));
    harness.world().expire_token(ADA, None).unwrap();
    harness.sync(&page).await;
    until("it waits for a person", async || harness.health(&page).await == "needs_relink").await;
    let (_, waiting) = get("/v1/links?limit=5&waiting=true").await;
    let link = &waiting["links"][0];
    assert_eq!((&waiting["total"], &link["id"]), (&1.into(), &page.as_str().into()));
    assert_eq!(link["login_url"], format!("{}/facebook/login", harness.base));
    assert_eq!((&link["pending"]["read"], &link["pending"]["writes"]), (&"manual".into(), &0.into()), "{link}");
    assert_eq!((total("pending=true").await, total("health=needs_relink").await), (1, 1));
    let (_, shown) = get(&format!("/v1/links/facebook/{page}")).await;
    assert_eq!(shown["links"][0]["login_url"], link["login_url"]);

    let next = get("/v1/links?limit=3&sort=name").await.1["next"].as_str().unwrap().to_owned();
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("limit=5&after=x", "after"),
        (&format!("limit=5&after={next}"), "after"),
        (&format!("limit=5&sort=name&reverse=true&after={next}"), "after"),
        ("limit=5&sort=size", "sort"),
        ("limit=5&health=well", "health"),
        ("limit=5&source=myspace", "source"),
        ("limit=5&pending=perhaps", "pending"),
        (&format!("limit=5&search={}", "x".repeat(300)), "search"),
        ("limit=5&colour=red", "known are"),
        ("search=fern", "search"),
        ("sort=name", "sort"),
    ] {
        let (status, answer) = get(&format!("/v1/links?{query}")).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains(named), "{query}: {status} {answer}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_status_and_events_and_goes_on_where_it_was() {
    let (harness, url) = daemon(Harness::plan().pages(3)).await;
    let mut stream = Stream::open(&harness, &url, None).await;
    let started = stream.until(&harness, |event, _| event == "event").await;
    assert_eq!((&started["kind"], &started["ok"]), (&"daemon".into(), &true.into()));
    let status = stream.until(&harness, |event, _| event == "status").await;
    assert_eq!((&status["links"], &status["version"]), (&0.into(), &env!("CARGO_PKG_VERSION").into()));
    let user = harness.linked().await;
    let linked = stream.until(&harness, |event, data| event == "event" && data["kind"] == "linked").await;
    assert_eq!(linked["link"]["user"], user.to_string());
    stream.until(&harness, |event, data| event == "status" && data["links"] == 3 && data["due"] == 0).await;
    let page = harness.nth(1);
    harness.world().edit_page(&page, "name", "Its list is to be read again".into()).unwrap();
    stream.until(&harness, |event, _| event == "links").await;
    harness.world().expire_token(ADA, None).unwrap();
    harness.sync(&page).await;
    let parked = stream.until(&harness, |event, data| event == "event" && data["kind"] == "health").await;
    assert_eq!((&parked["link"]["id"], &parked["ok"]), (&page.as_str().into(), &false.into()));
    assert!(parked["text"].as_str().unwrap().starts_with("needs_relink: "), "{parked}");
    harness.reload("applied").await;
    stream.until(&harness, |event, data| event == "event" && data["kind"] == "config").await;

    // From an event on, or from the first one where the id is of another process.
    let first = async |after: Option<&str>| {
        let mut stream = Stream::open(&harness, &url, after).await;
        stream.until(&harness, |event, _| event == "event").await
    };
    let id = parked["id"].as_str().unwrap();
    assert_eq!(first(Some(id)).await["kind"], "config");
    for other in [None, Some("77-1"), Some("nonsense")] {
        assert_eq!(first(other).await["id"], started["id"]);
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_few_and_end_with_the_daemon() {
    let (harness, url) = daemon(Harness::plan().pages(1)).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&harness, &url, None).await);
    }
    let refused = get(&harness, &url, "/v1/events").await;
    assert_eq!((refused.status, refused.code(), refused.header("retry-after")), (503, "unavailable".into(), "5"));
    // One that its client leaves makes way.
    drop(streams.pop());
    until("a stream is free", async || {
        let request = harness.http.get(format!("{url}/v1/events"));
        request.send().await.unwrap().status().as_u16() == 200
    })
    .await;
    let began = std::time::Instant::now();
    harness.daemon.signal(signal_hook::consts::SIGTERM).unwrap();
    for stream in &mut streams {
        while stream.next(&harness).await.is_some() {}
    }
    until("the daemon has ended", async || harness.daemon.pid().is_none()).await;
    // A listener that has to cut off its connections says so.
    assert!(!harness.log().contains("connections are cut off"), "{:?}", began.elapsed());
    harness.daemon.start().await.unwrap();
    harness.finish().await;
}

/// What a look through many links costs; run with `--nocapture` to see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_through_many_links_lets_deliveries_through() {
    const LINKS: usize = 5000;
    let (harness, url) = daemon(Harness::plan().pages(1)).await;
    harness.world().set_fault("graph_hang".parse().unwrap(), true);
    let user = UserId::random();
    let line = |n: usize| {
        json!({"user": user, "page_id": format!("8{n:09}"), "access_token": format!("token-of-nobody-{n}"),
               "name": format!("Page {n}")})
    };
    let lines: Vec<String> = (0..LINKS).map(|n| line(n).to_string()).collect();
    let (status, reply) = harness.admin(Method::POST, "/v1/import", &lines.join("\n")).await;
    assert_eq!((status, &reply["imported"]), (200, &LINKS.into()), "{reply}");
    let began = std::time::Instant::now();
    // More at a time than may search at a time; all are answered.
    let searches = (0..12).map(|_| get(&harness, &url, "/v1/links?limit=50&sort=name&search=page%2049"));
    let delivered = harness.deliver(delivery(&["8000000001"]));
    let (answers, delivered) = tokio::join!(futures_util::future::join_all(searches), delivered);
    assert_eq!(delivered.status, 200);
    for answer in answers {
        assert_eq!((answer.status, &answer.json()["total"]), (200, &111.into()));
    }
    println!("12 searches through {LINKS} links took {:?}", began.elapsed());
    harness.world().clear_faults();
    tokio::time::timeout(Duration::from_secs(60), harness.finish()).await.unwrap();
}
