//! The command line: exit codes, what is printed, and the interfaces that the verbs go through.

use std::process::Output;

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use pagesyncd::sandbox::postgres::Postgres;
use pagesyncd::sandbox::world::state::TokenKind;
use pagesyncd::store::shared::schema::SCHEMA;
use serde_json::{Value, json};

use crate::harness::{ADA, Browser, Harness, delivery, free_port, object_key, until};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn document(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", err(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Ada's tokens for pages, as she had them from Facebook.
fn tokens(harness: &Harness) -> Vec<(String, String)> {
    harness.world().look(|s| {
        let alive = s.tokens.iter().filter(|(_, t)| t.kind == TokenKind::Page && t.person == ADA && t.expires_at == 0);
        alive.map(|(text, t)| (t.page.clone().unwrap(), text.clone())).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_64_and_help_is_0() {
    let harness = Harness::plan().build().await;
    for arguments in [
        &["sink"][..],
        &["sync"],
        &["sync", "../x"],
        &["sync", "12", "--user", "nobody"],
        &["unlink", "12", "--keep"],
        &["session"],
        &["session", "--user", "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10", "--ttl", "long"],
        &["import"],
        &["status", "--colour"],
    ] {
        let output = harness.run(arguments).await;
        assert_eq!(code(&output), 64, "{arguments:?}: {}", err(&output));
        assert!(out(&output).is_empty() && !err(&output).is_empty());
    }
    for arguments in [&["--help"][..], &["status", "--help"], &["--version"]] {
        let output = harness.run(arguments).await;
        assert_eq!(code(&output), 0, "{arguments:?}: {}", err(&output));
        assert!(out(&output).contains("pagesyncd") && err(&output).is_empty());
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_verbs_that_need_one_say_so_with_69() {
    let harness = Harness::plan().build().await;
    let user = UserId::random().to_string();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["pages"],
        &["sync", "12"],
        &["unlink", "12"],
        &["session", "--user", &user],
    ] {
        let output = harness.run(arguments).await;
        assert_eq!(code(&output), 69, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("no daemon answers") && err(&output).lines().count() == 2, "{}", err(&output));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keygen_prints_a_good_key_each_time_another() {
    use base64::Engine;
    let harness = Harness::plan().build().await;
    let first = out(&harness.run(&["keygen"]).await).trim().to_owned();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(&first).unwrap().len(), 32);
    let second = document(&harness.run(&["keygen", "--json"]).await);
    assert_ne!(second["key"], first);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_every_finding_and_asks_graph_and_spaces_when_told_to() {
    let mut harness = Harness::plan().build().await;
    let output = harness.run(&["check"]).await;
    assert_eq!((code(&output), out(&output).contains("good")), (0, true), "{}", err(&output));
    let output = harness.run(&["check", "--online"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(document(&harness.run(&["check", "--online", "--json"]).await)["ok"], true);
    assert_eq!(harness.server.objects.list(), Vec::<String>::new());
    // Wrong where only asking shows it.
    let (secret, key) = (harness.setting("facebook.app_secret"), harness.setting("spaces.secret_key"));
    harness.set("facebook.app_secret", "not-the-secret-of-this-app");
    harness.set("spaces.secret_key", "not-the-secret-key-of-this-bucket");
    assert_eq!(code(&harness.run(&["check"]).await), 0);
    let output = harness.run(&["check", "--online"]).await;
    assert_eq!(code(&output), 78);
    assert!(err(&output).contains("facebook: ") && err(&output).contains("spaces: "), "{}", err(&output));
    harness.set("facebook.app_secret", secret);
    harness.set("spaces.secret_key", key);
    // Wrong on its face: all of it at once, from `check` and from `run` alike.
    harness.set("http.listen", "everywhere");
    harness.set("sync.debounse", "2s");
    harness.set("spaces.region", "New York");
    harness.set("store.key", "a key that is too short");
    harness.set("admin.listen", "0.0.0.0:9100");
    for verb in ["check", "run"] {
        let output = harness.run(&[verb]).await;
        assert_eq!(code(&output), 78, "{verb}");
        for named in ["http.listen", "sync.debounse", "debounce", "spaces.region", "store.key", "admin.listen"] {
            assert!(err(&output).contains(named), "{verb} does not name {named}: {}", err(&output));
        }
    }
    let output = harness.run(&["check", "--json"]).await;
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &reply["ok"]), (78, &false.into()));
    let findings = reply["findings"].as_array().unwrap();
    let region = findings.iter().find(|f| f["key"] == "spaces.region").unwrap_or_else(|| panic!("{reply}"));
    let text = std::fs::read_to_string(&harness.config).unwrap();
    let line = text.lines().position(|line| line.contains("New York")).unwrap() + 1;
    assert_eq!((&region["file"], &region["line"]), (&json!(harness.config), &json!(line)), "{reply}");
    assert_eq!((&region["column"], &region["severity"]), (&json!(1), &json!("error")), "{reply}");
    harness.set("spaces.bucket", "");
    let reply: Value = serde_json::from_slice(&harness.run(&["check", "--json"]).await.stdout).unwrap();
    let bucket = reply["findings"].as_array().unwrap().iter().find(|f| f["key"] == "spaces.bucket");
    assert!(bucket.is_some_and(|f| f["line"].is_u64() && f["hint"].is_string()), "{reply}");
    let torn = harness.scratch_dir().join("torn.toml");
    std::fs::write(&torn, "[http]\nlisten = \n").unwrap();
    let output = harness.run_with(&["check", "--json"], Some(&torn)).await;
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &reply["findings"][0];
    assert_eq!((&first["file"], &first["line"]), (&json!(torn), &json!(2)), "{reply}");
    assert!(first["column"].as_u64().is_some_and(|column| column > 1), "{reply}");
    let output = harness.run_with(&["check"], Some(&harness.scratch_dir().join("nothing.toml"))).await;
    assert!(code(&output) == 78 && err(&output).contains("nothing.toml"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_is_74_and_one_in_use_75() {
    let mut harness = Harness::plan().start().await;
    harness.linked().await;
    let (key, socket) = (harness.setting("store.key"), harness.setting("admin.socket"));
    let listen = harness.setting("http.listen");
    let path = harness.setting("store.path");
    // Everything but the store is another's.
    harness.set("admin.socket", harness.scratch_dir().join("other.sock").to_string_lossy().into_owned());
    harness.set("http.listen", format!("127.0.0.1:{}", free_port()));
    let output = harness.run(&["run"]).await;
    assert_eq!(code(&output), 75, "{}", err(&output));
    assert!(err(&output).contains(path.as_str().unwrap()), "{}", err(&output));
    // Everything but the listener is another's.
    harness.set("store.path", harness.scratch_dir().join("other").to_string_lossy().into_owned());
    harness.set("http.listen", listen);
    let output = harness.run(&["run"]).await;
    assert_eq!((code(&output), err(&output).contains("http.listen")), (75, true), "{}", err(&output));
    harness.set("admin.socket", socket);
    harness.set("http.listen", format!("127.0.0.1:{}", free_port()));
    let output = harness.run(&["run"]).await;
    assert_eq!((code(&output), err(&output).contains("admin.socket")), (75, true), "{}", err(&output));
    assert_eq!(harness.daemon.stop().await, Some(0));
    // The wrong key is found at the start, by name.
    harness.set("store.path", path.clone());
    harness.set("store.key", out(&harness.run(&["keygen"]).await).trim());
    let output = harness.run(&["run"]).await;
    assert_eq!((code(&output), err(&output).contains("store.key")), (74, true), "{}", err(&output));
    harness.set("store.key", key);
    // A file where the folder should be.
    let file = harness.scratch_dir().join("file");
    std::fs::write(&file, "no folder").unwrap();
    harness.set("store.path", file.to_string_lossy().into_owned());
    let output = harness.run(&["run"]).await;
    assert_eq!((code(&output), err(&output).contains("scratch/file")), (74, true), "{}", err(&output));
    harness.set("store.path", path);
    harness.daemon.start().await.unwrap();
    assert_eq!(harness.status().await["links"], 6);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_brings_the_tables_of_a_shared_database_forward() {
    let mut harness = Harness::plan().start().await;
    let output = harness.run(&["migrate"]).await;
    assert_eq!((code(&output), err(&output).contains("store.url")), (78, true), "{}", err(&output));
    let made = Postgres::fast(&harness.scratch_dir().join("postgres"));
    let Some(mut server) = Postgres::for_test(made) else { return harness.finish().await };
    harness.set("store.url", server.url());
    for _ in 0..2 {
        let output = harness.run(&["migrate", "--check"]).await;
        assert_eq!((code(&output), err(&output).contains("pagesyncd migrate")), (78, true), "{}", err(&output));
    }
    let output = harness.run(&["migrate"]).await;
    assert_eq!((code(&output), out(&output).contains(&format!("schema {SCHEMA}"))), (0, true), "{}", err(&output));
    for arguments in [&["migrate", "--json"][..], &["migrate", "--check", "--json"]] {
        let document = document(&harness.run(arguments).await);
        assert_eq!(document, json!({"from": SCHEMA, "to": SCHEMA, "pending": false}));
    }
    let wrong = server.url().replace("pagesyncd:", "pagesyncd:hunter22");
    harness.set("store.url", wrong);
    let output = harness.run(&["migrate"]).await;
    assert_eq!((code(&output), err(&output).contains("store.url")), (78, true), "{}", err(&output));
    assert!(!err(&output).contains("hunter22"), "{}", err(&output));
    harness.set("store.url", server.url());
    server.stop();
    let output = harness.run(&["migrate"]).await;
    assert_eq!((code(&output), err(&output).contains("127.0.0.1")), (69, true), "{}", err(&output));
    harness.set("store.url", "");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_pages_and_sync_print_text_and_json() {
    let harness = Harness::plan().pages(3).start().await;
    let output = harness.run(&["pages"]).await;
    assert_eq!((code(&output), out(&output).as_str()), (0, ""));
    assert!(err(&output).contains("session"), "{}", err(&output));
    assert_eq!(document(&harness.run(&["pages", "--json"]).await), json!({"pages": []}));
    let user = harness.linked().await;
    let page = harness.nth(1);
    let status = document(&harness.run(&["status", "--json"]).await);
    assert_eq!((&status["links"], &status["due"], &status["outbox"]), (&3.into(), &0.into(), &0.into()));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["config"]["loaded_at"].is_string() && status["config"].get("last_error").is_none());
    let text = out(&harness.run(&["status"]).await);
    for word in ["links    3", "store    ok", "spaces   ok"] {
        assert!(text.contains(word), "{text}");
    }
    let pages = document(&harness.run(&["--json", "pages"]).await);
    let listed = pages["pages"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    for entry in listed {
        for key in ["page_id", "user", "name", "health", "object_changed_at", "last_read_at", "next_poll_at", "owed"] {
            assert!(entry.get(key).is_some_and(|value| !value.is_null()), "{key}: {entry}");
        }
        assert_eq!((&entry["health"], &entry["user"]), (&"active".into(), &user.to_string().into()));
    }
    let text = out(&harness.run(&["pages"]).await);
    assert_eq!(text.lines().count(), 4);
    assert!(text.lines().any(|line| line.contains(&page) && line.contains("active")), "{text}");
    harness.world().edit_page(&page, "about", "Silently".into()).unwrap();
    let output = harness.run(&["sync", &page]).await;
    assert_eq!((code(&output), out(&output).contains(&page)), (0, true), "{}", err(&output));
    until("the page is read", async || harness.is_true(user, &page)).await;
    let reply = document(&harness.run(&["sync", &page, "--user", &user.to_string(), "--json"]).await);
    assert_eq!((&reply["page_id"], &reply["users"]), (&page.as_str().into(), &json!([user])));
    let output = harness.run(&["sync", "4711"]).await;
    assert_eq!((code(&output), err(&output).contains("linked")), (64, true), "{}", err(&output));
    harness.finish().await;
}

/// The ids in a list of links or pages, in its order.
fn ids(list: &Value, name: &str, id: &str) -> Vec<String> {
    list[name].as_array().unwrap().iter().map(|link| link[id].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_a_choice_an_order_and_a_limit() {
    let harness = Harness::plan().pages(4).start().await;
    harness.linked().await;
    harness.complete().await;
    let pages = harness.pages();
    for (page, name) in pages.iter().zip(["delta", "Alpha", "charlie", "Bravo"]) {
        harness.world().edit_page(page, "name", name.into()).unwrap();
        assert_eq!(harness.deliver(delivery(&[page])).await.status, 200);
        until("the name is known", async || harness.page(page).await.unwrap()["name"] == name).await;
        harness.complete().await;
    }
    let list = async |arguments: &[&str]| {
        let arguments = [arguments, &["--json"]].concat();
        ids(&document(&harness.run(&arguments).await), "links", "id")
    };
    let by_name: Vec<String> = [1, 3, 2, 0].iter().map(|n| pages[*n].clone()).collect();
    assert_eq!(list(&["links", "--sort", "name"]).await, by_name);
    assert_eq!(list(&["links", "--sort", "name", "--limit", "2"]).await, by_name[..2]);
    assert_eq!(list(&["links", "--sort", "id"]).await, pages);
    assert_eq!(list(&["links", "--limit", "3"]).await.len(), 3);
    // The one whose token ended waits for a person, with the read that was to be made.
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&pages[2]) };
    harness.world().set_fault_for(Fault::Code { code: 190, subcode: 460 }, scope);
    assert_eq!(harness.deliver(delivery(&[&pages[2]])).await.status, 200);
    until("the page is parked", async || harness.health(&pages[2]).await == "needs_relink").await;
    assert_eq!(list(&["links", "--health", "needs_relink"]).await, pages[2..3]);
    assert_eq!(list(&["links", "--pending"]).await, pages[2..3]);
    assert_eq!(list(&["links", "--health", "active", "--limit", "9"]).await.len(), 3);
    assert_eq!(list(&["links", "--sort", "health", "--limit", "1"]).await, pages[2..3]);
    assert!(list(&["links", "--health", "frozen"]).await.is_empty());
    let pages_listed = document(&harness.run(&["pages", "--sort", "name", "--json"]).await);
    assert_eq!(ids(&pages_listed, "pages", "page_id"), by_name);
    let text = out(&harness.run(&["links", "--sort", "name", "--health", "active"]).await);
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert!(rows.len() == 3 && rows[0].contains("Alpha") && rows[2].contains("delta"), "{text}");
    let output = harness.run(&["links", "--health", "frozen"]).await;
    assert_eq!((code(&output), out(&output).as_str(), err(&output).as_str()), (0, "", "no such link\n"));
    for (arguments, named) in [
        (["links", "--health", "ill"], "scope_missing"),
        (["pages", "--sort", "size"], "next-poll"),
        (["links", "--limit", "0"], "1.."),
    ] {
        let output = harness.run(&arguments).await;
        assert!(code(&output) == 64 && err(&output).contains(named), "{arguments:?}: {}", err(&output));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_prints_what_the_documents_say_and_near_topics_for_an_unknown_one() {
    let harness = Harness::plan().build().await;
    for (topic, part) in [
        (&["needs_login"][..], "the merchant opens the app"),
        (&["spaces.max_in_flight"], "values: a whole number from 1 to 256"),
        (&["exit", "69"], "the daemon or the shared database does not answer"),
        (&["several_users"], "say `user` or `all`"),
        (&["Health", "of", "links"], "The links from `needs_relink` on are parked."),
    ] {
        let output = harness.run(&[&["explain"], topic].concat()).await;
        assert!(code(&output) == 0 && out(&output).contains(part), "{topic:?}: {}{}", out(&output), err(&output));
    }
    let reply = document(&harness.run(&["explain", "frozen", "--json"]).await);
    assert_eq!(reply["entries"][0]["document"], "docs/operations.md", "{reply}");
    for (topic, near) in [("neds_login", "needs_login"), ("max_in_flight", "spaces.max_in_flight"), ("76", "75")] {
        let output = harness.run(&["explain", topic]).await;
        assert!(code(&output) == 64 && err(&output).contains(near), "{topic}: {}", err(&output));
    }
    let all = out(&harness.run(&["explain"]).await);
    for topic in ["needs_relink", "store.url", "other_user", "pagesyncd_due"] {
        assert!(all.split_whitespace().any(|word| word == topic), "{topic}: {all}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_the_command_line_opens_the_login() {
    let harness = Harness::plan().start().await;
    let user = UserId::random();
    let output = harness.run(&["session", "--user", &user.to_string(), "--ttl", "1h", "--json"]).await;
    let reply = document(&output);
    let (id, url) = (reply["session_id"].as_str().unwrap(), reply["login_url"].as_str().unwrap());
    assert_eq!(reply.as_object().unwrap().len(), 2);
    harness.keep_secret(id);
    harness.keep_secret(url.split_once("login=").unwrap().1);
    let mut browser = Browser { cookie: Some(id.to_owned()) };
    let answer = harness.browse(&mut browser, "/facebook/login", "*/*").await;
    assert_eq!(answer.status, 302);
    let age = answer.header("set-cookie").split("Max-Age=").nth(1).unwrap().split(';').next().unwrap();
    assert!((3000..=3600).contains(&age.parse::<u32>().unwrap()), "{age}");
    assert_eq!(harness.browse(&mut Browser::default(), url, "*/*").await.status, 302);
    let text = out(&harness.run(&["session", "--user", &user.to_string()]).await);
    let (id, url) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
    let id = id.strip_prefix("session_id ").unwrap().trim();
    let url = url.strip_prefix("login_url").unwrap().trim();
    harness.keep_secret(id);
    harness.keep_secret(url.split_once("login=").unwrap().1);
    let mut browser = Browser { cookie: Some(id.to_owned()) };
    assert_eq!(harness.browse(&mut browser, "/facebook/login", "*/*").await.status, 302);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlink_deletes_the_object_and_ends_the_subscription_unless_told_to_keep_it() {
    let harness = Harness::plan().pages(4).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let output = harness.run(&["unlink", &pages[0]]).await;
    assert_eq!((code(&output), out(&output).contains(&pages[0])), (0, true), "{}", err(&output));
    until("the object is gone", async || harness.object(user, &pages[0]).is_none()).await;
    until("the page is unsubscribed", async || harness.world().look(|s| s.pages[&pages[0]].subscribed.is_none())).await;
    let reply = document(&harness.run(&["unlink", &pages[1], "--keep-object", "--json"]).await);
    assert_eq!((&reply["object"], &reply["users"]), (&"kept".into(), &json!([user])));
    until("the page is unsubscribed", async || harness.world().look(|s| s.pages[&pages[1]].subscribed.is_none())).await;
    assert_eq!(harness.status().await["links"], 2);
    // Another user's link is another link.
    let stranger = UserId::random().to_string();
    assert_eq!(code(&harness.run(&["unlink", &pages[2], "--user", &stranger]).await), 64);
    assert_eq!(code(&harness.run(&["unlink", &pages[0]]).await), 64);
    assert_eq!(code(&harness.run(&["unlink", &pages[2], "--user", &user.to_string()]).await), 0);
    until("the object is gone", async || harness.object(user, &pages[2]).is_none()).await;
    // What follows for the page that is left shows that nothing came back.
    harness.world().edit_page(&pages[3], "name", "The last one".into()).unwrap();
    until("the last page follows", async || harness.is_true(user, &pages[3])).await;
    harness.complete().await;
    harness.restart().await;
    let keys = harness.server.objects.list();
    assert_eq!(keys, [object_key(user, &pages[1]), object_key(user, &pages[3])]);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_imported_into_a_running_daemon_and_into_a_stopped_one() {
    let harness = Harness::plan().pages(5).trace().start().await;
    harness.linked().await;
    let tokens = tokens(&harness);
    assert_eq!(tokens.len(), 5);
    for running in [true, false] {
        let user = UserId::random();
        let mut lines: Vec<String> = tokens
            .iter()
            .map(|(page, token)| {
                json!({"user": user, "page_id": page, "access_token": token, "facebook_user_id": ADA}).to_string()
            })
            .collect();
        lines.insert(1, "not json EAAPnottobeprinted0123456789".into());
        lines.insert(3, String::new());
        lines.insert(
            4,
            json!({"user": "nobody", "page_id": "1", "access_token": "EAAPnottobeprinted0123456789"}).to_string(),
        );
        lines.push(json!({"user": user, "page_id": "1"}).to_string());
        harness.keep_secret("EAAPnottobeprinted0123456789");
        let file = harness.scratch_dir().join("links.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        if !running {
            assert_eq!(harness.daemon.stop().await, Some(0));
        }
        let output = harness.run(&["import", file.to_str().unwrap()]).await;
        assert_eq!(code(&output), 65, "{}", err(&output));
        let said = format!("{}{}", out(&output), err(&output));
        for named in ["line 2", "line 5", "line 9", "5"] {
            assert!(said.contains(named), "{named}: {said}");
        }
        if !running {
            harness.daemon.start().await.unwrap();
        }
        harness.until_true(user, &harness.pages()).await;
        // Once more changes nothing.
        let reply = harness.run(&["import", file.to_str().unwrap(), "--json"]).await;
        let reply: Value = serde_json::from_slice(&reply.stdout).unwrap();
        let bad: Vec<u64> = reply["bad"].as_array().unwrap().iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
        assert_eq!((&reply["imported"], bad.as_slice()), (&5.into(), &[2, 5, 9][..]));
    }
    assert_eq!(harness.status().await["links"], 15);
    harness.complete().await;
    // Nothing good in it, or no such file.
    let file = harness.scratch_dir().join("bad.jsonl");
    std::fs::write(&file, "{}\n").unwrap();
    assert_eq!(code(&harness.run(&["import", file.to_str().unwrap()]).await), 65);
    assert_eq!(code(&harness.run(&["import", "/nowhere/links.jsonl"]).await), 74);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_address_on_loopback_shows_and_changes_nothing() {
    let address = format!("127.0.0.1:{}", free_port());
    let listen = address.clone();
    let harness = Harness::plan().pages(2).daemon(|setup| setup.admin_listen = listen).drills().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    let ask = async |method: &str, path: &str| {
        harness.send(harness.http.request(method.parse().unwrap(), format!("http://{address}{path}"))).await
    };
    for path in ["/metrics", "/v1/status", "/v1/pages", &format!("/v1/pages/{page}"), "/healthz"] {
        assert_eq!(ask("GET", path).await.status, 200, "{path}");
    }
    for (method, path) in [
        ("POST", format!("/v1/pages/{page}/sync")),
        ("DELETE", format!("/v1/pages/{page}")),
        ("POST", "/v1/sessions".into()),
        ("POST", "/v1/import".into()),
        ("POST", "/v1/drill/uploader".into()),
        ("POST", "/v1/status".into()),
    ] {
        let answer = ask(method, &path).await;
        assert!(matches!(answer.status, 403..=405), "{method} {path}: {}", answer.status);
    }
    assert_eq!(ask("GET", "/v1/pages/4711").await.status, 404);
    assert_eq!(ask("GET", "/facebook/login").await.status, 404);
    assert_eq!((harness.status().await["links"].clone(), harness.is_true(user, &page)), (2.into(), true));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_find_every_metric_they_rely_on() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    let page = harness.nth(0);
    harness.world().edit_page(&page, "name", "For the figures".into()).unwrap();
    until("it is written", async || harness.metric("pagesyncd_mark_to_object_seconds_count").await >= 3.0).await;
    harness.complete().await;
    let text = harness.metrics().await;
    for name in [
        "pagesyncd_links{health=\"active\"} 2",
        "pagesyncd_due 0",
        "pagesyncd_due_parked 0",
        "pagesyncd_outbox 0",
        "pagesyncd_oldest_owed_seconds 0",
        "pagesyncd_webhook_deliveries_total{result=\"accepted\"}",
        "pagesyncd_graph_requests_total{call=\"read_page\",outcome=\"ok\"}",
        "pagesyncd_spaces_requests_total{op=\"put\",outcome=\"ok\"}",
        "pagesyncd_objects_unchanged_total",
        concat!("pagesyncd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "pagesyncd_webhook_ack_seconds_bucket{le=",
        "pagesyncd_mark_to_object_seconds_bucket{le=",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing in:\n{text}");
    }
    assert!(text.ends_with('\n') && !text.contains("# EOF"), "Prometheus text has no end mark");
    harness.finish().await;
}
