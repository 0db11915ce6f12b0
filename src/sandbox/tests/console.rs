use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Method;
use serde_json::json;

use super::*;
use crate::core::model::{PageId, UserId};
use crate::sandbox::console::{self, DaemonControl, DaemonState, Running};
use crate::sandbox::fault::Fault;

#[derive(Default)]
struct Stub {
    runs: AtomicBool,
    refused: Arc<AtomicBool>,
}

impl DaemonControl for Stub {
    fn state(&self) -> DaemonState {
        match self.runs.load(Ordering::SeqCst) {
            true => DaemonState::Running { pid: 4242 },
            false => DaemonState::Stopped { how: "killed by signal 9".into() },
        }
    }

    fn start(&self) -> BoxFuture<'_, Result<(), String>> {
        self.runs.store(true, Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }

    fn kill(&self) -> BoxFuture<'_, Result<(), String>> {
        self.runs.store(false, Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }

    fn ask<'a>(&'a self, _method: Method, _path: &'a str, _body: &'a str) -> BoxFuture<'a, Option<Value>> {
        async { None }.boxed()
    }

    fn status_json(&self) -> BoxFuture<'_, Option<Value>> {
        let spaces = match self.refused.load(Ordering::SeqCst) {
            true => json!({"ok": false, "error": "put: connection refused"}),
            false => json!({"ok": true}),
        };
        let status = json!({"version": "0", "links": 0, "due": 0, "outbox": 0, "spaces": spaces});
        async { self.runs.load(Ordering::SeqCst).then_some(status) }.boxed()
    }

    fn pages_json(&self) -> BoxFuture<'_, Option<Value>> {
        async { Some(json!({"pages": []})) }.boxed()
    }

    fn shops_json(&self) -> BoxFuture<'_, Option<Value>> {
        let link = json!({"source": "shopify", "id": "sandbox-1.myshopify.com", "health": "uninstalled"});
        async move { Some(json!({"links": [link]})) }.boxed()
    }

    fn mint_login(&self, user: UserId) -> BoxFuture<'_, Result<String, String>> {
        async move { Ok(format!("http://127.0.0.1:5000/login/{user}")) }.boxed()
    }

    fn sync(&self, _page: PageId) -> BoxFuture<'_, Result<(), String>> {
        async { Err("the daemon does not run".into()) }.boxed()
    }
}

struct Console {
    bench: Bench,
    running: Running,
    refused: Arc<AtomicBool>,
}

impl Console {
    async fn new(pages: usize) -> Self {
        let bench = Bench::new(pages).await;
        let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let refused = Arc::new(AtomicBool::new(false));
        let stub = Stub { refused: refused.clone(), ..Stub::default() };
        let running = console::serve(addr, bench.server.world.clone(), Arc::new(stub)).await.unwrap();
        Console { bench, running, refused }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running.url())
    }

    async fn see(&self, path: &str) -> Value {
        self.bench.http.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    async fn press(&self, name: &str, body: Value) -> (u16, Value) {
        let answer = self.bench.http.post(self.url(&format!("api/{name}"))).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

#[tokio::test]
async fn only_this_machine_and_only_its_own_page() {
    let console = Console::new(1).await;
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let http = &console.bench.http;
    assert_eq!(status(http.get(console.url(""))).await, 200);
    let port = console.running.addr.port();
    for name in ["evil.example", "127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""]
    {
        for host in [name.to_owned(), format!("{name}:{port}"), format!("127.0.0.1@{name}")] {
            assert_eq!(status(http.get(console.url("")).header("host", &host)).await, 403, "{host:?}");
        }
    }
    for name in ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]"] {
        for host in [name.to_owned(), format!("{name}:{port}")] {
            assert_eq!(status(http.get(console.url("")).header("host", &host)).await, 200, "{host:?}");
        }
    }
    let calm = || http.post(console.url("api/calm"));
    assert_eq!(status(calm().json(&json!({}))).await, 200);
    assert_eq!(status(calm().json(&json!({})).header("origin", "http://evil.example")).await, 403);
    assert_eq!(status(calm().body("{}").header("content-type", "text/plain")).await, 403);
    assert_eq!(
        status(calm().json(&json!({})).header("origin", console.running.url().trim_end_matches('/'))).await,
        200
    );
    assert_eq!(status(http.delete(console.url("api/calm")).json(&json!({}))).await, 405);
    let all: SocketAddr = "0.0.0.0:0".parse().unwrap();
    assert!(console::serve(all, console.bench.server.world.clone(), Arc::new(Stub::default())).await.is_err());
}

#[tokio::test]
async fn buttons_do_what_they_say() {
    let console = Console::new(40).await;
    let world = &console.bench.server.world;
    let page = console.bench.page(3);
    let edit = json!({"page": page, "field": "name", "value": "Zebra & Sons"});
    assert_eq!(console.press("edit", edit).await, (200, json!({"changed": true})));
    let found = console.see("api/pages?search=zebra%20%26").await;
    assert_eq!((found["total"].as_u64(), &found["rows"][0]["id"]), (Some(1), &page.as_str().into()));
    let part = console.see("api/pages?offset=30&limit=25").await;
    assert_eq!((part["total"].as_u64(), part["rows"].as_array().unwrap().len()), (Some(40), 10));
    assert_eq!(console.see(&format!("api/pages/{page}")).await["node"]["name"], "Zebra & Sons");

    assert_eq!(console.press("fault", json!({"fault": "spaces_slow_down", "on": true})).await.0, 200);
    assert!(world.is_fault_on(Fault::SpacesSlowDown));
    assert_eq!(console.press("fault", json!({"fault": "no_such", "on": true})).await.0, 400);
    console.press("calm", json!({})).await;
    assert!(world.faults().is_empty());

    assert_eq!(console.press("shuffle", json!({"count": 7})).await.1["changed"], 7);
    assert_eq!(console.press("person", json!({"person": ADA, "action": "change_password"})).await.0, 200);
    assert_eq!(console.press("person", json!({"person": "1", "action": "change_password"})).await.0, 400);
    assert_eq!(console.press("page", json!({"page": page, "action": "delete"})).await.0, 200);
    assert_eq!(
        console.press("page", json!({"page": page, "action": "sync"})).await.1["error"],
        "the daemon does not run"
    );
    assert_eq!(console.press("daemon", json!({"action": "start"})).await.1["daemon"]["pid"], 4242);
    assert_eq!(console.press("daemon", json!({"action": "kill"})).await.1["daemon"]["state"], "stopped");
    let user = console.see("api/state").await["users"][0].clone();
    let login = console.press("login", json!({"user": user})).await.1["url"].as_str().unwrap().to_owned();
    assert!(login.ends_with(user.as_str().unwrap()));
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let console = Console::new(2).await;
    let mut stream = console.bench.http.get(console.url("api/events")).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let page = console.bench.page(0);
    // The first message is the daemon's pulse; from then on the stream is surely listening.
    while !text.contains("event: daemon") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    console.bench.server.world.edit_page(&page, "name", "Heard".into()).unwrap();
    while !text.contains("event: world") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(
        text.contains("\"kind\":\"edit\"") && text.contains("\"name\":\"Heard\"") && text.contains(&page),
        "{text}"
    );
    console.running.stop().await;
    assert!(!matches!(stream.chunk().await, Ok(Some(_))), "a stopped console ends its streams");
}

#[tokio::test]
async fn the_feed_is_there_for_those_who_come_later_and_names_what_the_daemon_cannot_reach() {
    let console = Console::new(2).await;
    let world = &console.bench.server.world;
    world.edit_page(&console.bench.page(0), "name", "Seen later".into()).unwrap();
    world.set_fault(Fault::SpacesRefused, true);
    console.refused.store(true, Ordering::SeqCst);
    assert_eq!(console.press("daemon", json!({"action": "start"})).await.0, 200);
    let feed = async || console.see("api/feed").await.as_array().unwrap().clone();
    let kind = |events: &[Value], kind: &str| events.iter().find(|event| event["kind"] == kind).cloned();
    let failure = loop {
        if let Some(event) = kind(&feed().await, "daemon") {
            break event;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let text = failure["text"].as_str().unwrap();
    assert!(text.contains("Spaces fails") && text.contains("connection refused"), "{text}");
    assert!(text.contains(&Fault::SpacesRefused.title()) && failure["ok"] == false, "{text}");
    console.refused.store(false, Ordering::SeqCst);
    world.clear_faults();
    while !feed().await.iter().any(|event| event["text"] == "pagesyncd: Spaces answers again") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let events = feed().await;
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
    assert_eq!(kind(&events, "edit").unwrap()["name"], "Seen later");
    let state = console.see("api/state").await;
    assert_eq!(
        (&state["last_edit"]["page"], &state["last_edit"]["standing"]),
        (&console.bench.page(0).into(), &"none".into())
    );
    let actions = state["acts"]["person"].as_array().unwrap().len();
    assert_eq!(actions, 7);
}

#[tokio::test]
async fn a_shop_shows_its_products_and_its_buttons_do_what_they_say() {
    let console = Console::new(1).await;
    let shopify = &console.bench.server.shopify;
    let shop = "sandbox-1.myshopify.com";
    let name = shop.parse().unwrap();
    shopify.change(|state| state.shops.get_mut(&name).unwrap().app.installed = true);
    while console.see("api/state").await["shops"][0]["health"] != "uninstalled" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = console.see("api/state").await;
    assert_eq!((&state["shops"][0]["products"], &state["shops"][1]["health"]), (&json!(8), &Value::Null));
    let see = async |query: &str| console.see(&format!("api/shops/{shop}?{query}")).await;
    let first = see("").await["rows"][0].clone();
    assert_eq!((&first["title"], &first["standing"]), (&json!("Blue Lamp"), &json!("none")));
    let id = first["id"].as_u64().unwrap();
    let press = async |more: Value| {
        let mut body = json!({"shop": shop, "product": id});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        console.press("product", body).await
    };
    let edit = |title: &str, price: &str| json!({"action": "edit", "title": title, "price": price, "stock": 3});
    assert_eq!(press(edit("Zebra", "7.5")).await, (200, json!({"changed": true})));
    assert_eq!(press(edit("Zebra", "7.50")).await, (200, json!({"changed": false})));
    assert_eq!(press(json!({"action": "sell"})).await.0, 200);
    let found = see("search=zeb").await;
    assert_eq!((&found["total"], &found["rows"][0]["price"]), (&json!(1), &json!("7.50")));
    assert_eq!(see(&format!("product={id}")).await["selected"]["stock"], 2);
    assert_eq!((press(edit("Zebra", "dear")).await.0, press(edit(" ", "1")).await.0), (400, 400));
    let created = press(json!({"action": "create", "title": "Brand new"})).await.1["product"].as_u64().unwrap();
    assert_eq!(see(&format!("product={created}")).await["selected"]["title"], "Brand new");
    assert_eq!((press(json!({"action": "delete"})).await.0, press(json!({"action": "delete"})).await.0), (200, 400));
    let switch = |fault: &str| json!({"shop": shop, "fault": fault, "on": true});
    assert_eq!(console.press("shop_fault", switch("shopify_throttled")).await.0, 200);
    assert_eq!(console.press("shop_fault", switch("shopify_refused")).await.0, 400);
    assert_eq!(console.press("fault", json!({"fault": "shopify_html", "on": true})).await.0, 200);
    let state = console.see("api/state").await;
    let on: Vec<&Value> = state["faults"].as_array().unwrap().iter().filter(|fault| fault["on"] == true).collect();
    assert_eq!((on.len(), &on[0]["name"], &state["shops"][0]["faults"]), (1, &json!("shopify_html"), &json!(1)));
    console.press("calm", json!({})).await;
    assert!(shopify.look(|state| state.faults.is_empty() && state.shops[&name].faults.is_empty()));
    assert_eq!(console.press("shop", json!({"shop": shop, "action": "uninstall"})).await.0, 200);
    assert_eq!(console.see("api/state").await["shops"][0]["installed"], false);
    assert_eq!(console.bench.http.get(console.url("api/shops/nobody")).send().await.unwrap().status(), 404);
    let feed = console.see("api/feed").await.to_string();
    assert!(feed.contains("Zebra was edited") && feed.contains("the app was uninstalled"), "{feed}");
}
