//! `journalctl -u pagesyncd` shows the message alone: it must name the subject, the cause and the next step.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::Value;

use crate::harness::{ADA, Harness, until};

/// The events of the log, as the JSON format has them, whose message holds this text.
fn events(harness: &Harness, text: &str) -> Vec<Value> {
    let log = harness.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["message"].as_str().is_some_and(|message| message.contains(text))).collect()
}

/// The message of the one event that holds this text, once it is there.
async fn message(harness: &Harness, text: &str) -> String {
    until(&format!("the log has {text:?}"), async || !events(harness, text).is_empty()).await;
    let found = events(harness, text);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reload_names_the_key_and_its_mistake() {
    let mut harness = Harness::plan().start().await;
    let good = harness.setting("sync.debounce");
    harness.set("log.format", "json");
    harness.reload("applied").await;
    harness.set("sync.debounce", "soonish");
    harness.reload("refused").await;
    let said = message(&harness, "config: the reload is refused").await;
    assert!(said.contains("sync.debounce") && said.contains("is not a duration"), "{said}");
    assert!(said.contains("the earlier configuration stays in force; "), "{said}");
    let said = message(&harness, "config [sync.debounce]: ").await;
    assert!(said.contains("is not a duration"), "{said}");
    assert_eq!(events(&harness, "config [sync.debounce]: ")[0]["key"], "sync.debounce");
    // In the text format there is nothing beside the message, and it has both as well.
    harness.expect_errors("config");
    harness.set("sync.debounce", good);
    harness.set("log.format", "text");
    harness.reload("applied").await;
    harness.set("sync.debounce", "soonish");
    harness.reload("refused").await;
    until("the text names key and mistake", async || {
        let log = harness.log();
        log.lines()
            .any(|line| line.contains(" ERROR config [sync.debounce]: ") && line.ends_with(&said[said.len() - 20..]))
    })
    .await;
    assert!(!harness.log().contains(" key="), "a field is in the text");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_link_is_named_with_reason_and_remedy() {
    let mut harness = Harness::plan().start().await;
    harness.set("log.format", "json");
    harness.reload("applied").await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    let fault = Fault::Code { code: 190, subcode: 463 };
    harness.world().set_fault_for(fault, Scope { call: Some(Call::ReadPage), ..Scope::page(&page) });
    harness.sync(&page).await;
    let said = message(&harness, &format!("page [{user}/{page}]: parked")).await;
    assert!(said.contains("needs_relink") && said.contains("the login expired"), "{said}");
    assert!(said.contains("logs in again"), "{said}");
    // The fields are still there, for programs.
    let event = &events(&harness, "parked")[0];
    let fields = ["link", "health", "reason"].map(|name| event[name].as_str().unwrap_or_default().to_owned());
    assert_eq!(fields, [format!("facebook:{page}"), "needs_relink".to_owned(), "the login expired".to_owned()]);
    harness.world().clear_faults();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    until("the page is active", async || harness.health(&page).await == "active").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_and_dependencies_are_told_apart() {
    let mut harness = Harness::plan().start().await;
    // Each of the two app-level subscriptions is named by its object.
    for object in ["page", "permissions"] {
        let named = format!(" INFO subscription [{object}]: in place at ");
        until(&format!("{named} is logged"), async || harness.log().contains(&named)).await;
    }
    harness.set("log.format", "json");
    harness.reload("applied").await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().set_fault(Fault::SpacesSlowDown, true);
    harness.world().edit_page(&page, "name", "Written later".into()).unwrap();
    harness.sync(&page).await;
    let said = message(&harness, "spaces: failing").await;
    assert!(said.contains("503") && said.contains("retrying"), "{said}");
    harness.world().clear_faults();
    harness.until_true(user, std::slice::from_ref(&page)).await;
    let said = message(&harness, "spaces: answers again after ").await;
    assert!(said.contains(" failed "), "{said}");
    assert_eq!(events(&harness, "spaces: answers again")[0]["dependency"], "spaces");
    harness.finish().await;
}
