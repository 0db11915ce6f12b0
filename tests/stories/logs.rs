//! The log as an operator reads it: one line for each thing that happened, found by its link and by its delivery; lines
//! that repeat are counted; the level is changed for a while.

use std::time::Duration;

use hyper::Method;
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::{Value, json};

use crate::harness::{Harness, delivery, free_port, until};

/// The events of the log in the JSON format, of this link.
fn of_link(harness: &Harness, page: &str) -> Vec<Value> {
    let log = harness.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["link"] == format!("facebook:{page}")).collect()
}

/// The first word of a message, which is its component.
fn component(event: &Value) -> &str {
    event["message"].as_str().unwrap().split([' ', ':']).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_one_line_each_for_webhook_read_and_write_under_one_id() {
    let plan = Harness::plan().pages(2).daemon(|setup| setup.log_level = "info".into());
    let harness = plan.set("log.format", "json").start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    // The line follows the commit.
    let is_written = || of_link(&harness, &page).iter().any(|event| component(event) == "spaces");
    until("the first write is logged", async || is_written()).await;
    let before = of_link(&harness, &page).len();
    harness.world().edit_page(&page, "name", "A new name".into()).unwrap();
    harness.until_true(user, std::slice::from_ref(&page)).await;
    harness.complete().await;
    until("the write is logged", async || of_link(&harness, &page).len() >= before + 3).await;
    let events = of_link(&harness, &page).split_off(before);
    let trail = [component(&events[0]), component(&events[1]), component(&events[2])];
    assert_eq!((trail, events.len()), (["webhook", "page", "spaces"], 3), "{events:#?}");
    let id = events[0]["delivery"].as_str().unwrap();
    assert!(id.len() == 10 && events.iter().all(|event| event["delivery"] == id), "{events:#?}");
    assert!(events.iter().all(|event| event["user"] == user.to_string() && event["level"] == "INFO"), "{events:#?}");
    assert_eq!((&events[1]["result"], &events[1]["cause"]), (&"changed".into(), &"webhook".into()));
    assert!(events.iter().all(|event| event["message"].as_str().unwrap().contains(id)), "text names it as well");

    // Nothing is new this time, and nothing is written.
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    until("the read is logged", async || of_link(&harness, &page).len() >= before + 5).await;
    let events = of_link(&harness, &page).split_off(before + 3);
    assert_eq!((component(&events[0]), &events[1]["result"]), ("webhook", &"unchanged".into()), "{events:#?}");
    assert!(events[0]["delivery"] != id && events[0]["delivery"] == events[1]["delivery"], "{events:#?}");
    // An operator's wish is no delivery.
    harness.sync(&page).await;
    until("that read is logged", async || of_link(&harness, &page).len() >= before + 6).await;
    let event = of_link(&harness, &page).pop().unwrap();
    assert_eq!((&event["cause"], &event["delivery"]), (&"manual".into(), &Value::Null));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_many_links_is_written_a_few_times_and_then_counted() {
    let plan = Harness::plan().pages(16).daemon(|setup| setup.log_level = "info".into());
    let harness = plan.set("log.summarize", "1h").start().await;
    harness.linked().await;
    harness.complete().await;
    let refused = Fault::Code { code: 100, subcode: 0 };
    harness.world().set_fault_for(refused, Scope { call: Some(Call::ReadPage), ..Scope::default() });
    for page in harness.pages() {
        harness.sync(&page).await;
    }
    let trouble = async |page: &String| harness.page(page).await.unwrap()["reason"].is_string();
    for page in &harness.pages() {
        until("its trouble shows", async || trouble(page).await).await;
    }
    harness.world().clear_faults();
    let refused = |log: &str| log.lines().filter(|line| line.contains("]: the read is refused (")).count();
    assert_eq!(refused(&harness.log()), 10);
    let log = {
        let path = harness.scratch_dir().join("../daemon.log");
        harness.finish_and(async || std::fs::read_to_string(path).unwrap()).await
    };
    assert_eq!(refused(&log), 11);
    let summary = log.lines().find(|line| line.contains(" WARN log: ")).unwrap();
    let count = summary.split(" log: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    // Some may have been tried twice.
    assert!(count.parse::<u32>().unwrap() >= 6, "{summary}");
    assert!(summary.contains(" more like this in ") && summary.contains("the last of them: page ["), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_of_a_module_is_changed_for_a_while() {
    let listen = format!("127.0.0.1:{}", free_port());
    let admin = listen.clone();
    let harness =
        Harness::plan().daemon(|setup| (setup.log_level, setup.admin_listen) = ("info".into(), admin)).start().await;
    harness.linked().await;
    let said = async |arguments: &[&str]| {
        let output = harness.run(&[&["log-level"], arguments].concat()).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let hears = async || {
        let before = harness.log().len();
        assert_eq!(harness.deliver("{\"object\":\"page\"}").await.status, 200);
        harness.log()[before..].contains(" DEBUG webhook: a delivery names no page")
    };
    assert_eq!(said(&[]).await, (Some(0), "info as configured\n".to_owned()));
    assert!(!hears().await);
    let (code, text) = said(&["info,pagesyncd::http=debug"]).await;
    assert!(code == Some(0) && text.starts_with("info,pagesyncd::http=debug until 2"), "{text}");
    assert!(text.ends_with("Z, then info as configured\n"), "{text}");
    assert!(hears().await);
    assert_eq!(said(&["--reset"]).await, (Some(0), "info as configured\n".to_owned()));
    assert!(!hears().await);
    // It ends by itself, and with a reload.
    assert_eq!(said(&["debug", "--for", "1s"]).await.0, Some(0));
    until("it is over", async || {
        harness.log().matches(" INFO log: the level is info again, as configured").count() == 2
    })
    .await;
    assert!(!hears().await);
    assert_eq!(said(&["debug", "--for", "7d"]).await.0, Some(0));
    harness.reload("applied").await;
    assert!(!hears().await);
    // A slip is named with the nearest that exists, and changes nothing.
    for (slip, near) in [
        ("info,pagesyncd::stor=debug", "the nearest is pagesyncd::store"),
        ("loud", "the nearest is "),
        ("info,pagesynd::http=debug", "the nearest is pagesyncd::http"),
    ] {
        let (code, text) = said(&[slip]).await;
        assert!(code == Some(64) && text.contains(near), "{slip}: {text}");
    }
    assert_eq!(said(&["debug", "--for", "8d"]).await.0, Some(64));
    let shown = harness.admin(Method::GET, "/v1/log", "").await;
    assert_eq!(shown, (200, json!({"level": "info", "configured": "info", "until": null})));
    assert_eq!(harness.admin(Method::POST, "/v1/log", "").await.0, 405);
    // The listener that only reads shows it, and changes nothing.
    let read_only = reqwest::get(format!("http://{listen}/v1/log")).await.unwrap();
    assert_eq!(read_only.status(), 200);
    let changing = reqwest::Client::new().delete(format!("http://{listen}/v1/log")).send().await.unwrap();
    assert_eq!(changing.status(), 405);
    // What carries tokens stays closed.
    assert_eq!(said(&["trace,hyper=trace,reqwest=trace"]).await.0, Some(0));
    harness.sync(&harness.nth(0)).await;
    harness.complete().await;
    tokio::time::timeout(Duration::from_secs(60), harness.finish()).await.unwrap();
}
