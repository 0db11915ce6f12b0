//! `journalctl -u pagesyncd` shows the message alone: it must name the subject, the cause and the next step.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::Value;

use crate::town::{ADA, Town, until};

/// The events of the log, as the JSON format has them, whose message holds this text.
fn events(town: &Town, text: &str) -> Vec<Value> {
    let log = town.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["message"].as_str().is_some_and(|message| message.contains(text))).collect()
}

/// The message of the one event that holds this text, once it is there.
async fn message(town: &Town, text: &str) -> String {
    until(&format!("the log has {text:?}"), async || !events(town, text).is_empty()).await;
    let found = events(town, text);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reload_names_the_key_and_its_mistake() {
    let mut town = Town::plan().start().await;
    let good = town.setting("sync.debounce");
    town.set("log.format", "json");
    town.reload("applied").await;
    town.set("sync.debounce", "soonish");
    town.reload("refused").await;
    let said = message(&town, "config: the reload is refused").await;
    assert!(said.contains("sync.debounce") && said.contains("is not a duration"), "{said}");
    assert!(said.contains("the earlier configuration stays in force; "), "{said}");
    let said = message(&town, "config [sync.debounce]: ").await;
    assert!(said.contains("is not a duration"), "{said}");
    assert_eq!(events(&town, "config [sync.debounce]: ")[0]["key"], "sync.debounce");
    // In the text format there is nothing beside the message, and it has both as well.
    town.expect_errors("config");
    town.set("sync.debounce", good);
    town.set("log.format", "text");
    town.reload("applied").await;
    town.set("sync.debounce", "soonish");
    town.reload("refused").await;
    until("the text names key and mistake", async || {
        let log = town.log();
        log.lines()
            .any(|line| line.contains(" ERROR config [sync.debounce]: ") && line.ends_with(&said[said.len() - 20..]))
    })
    .await;
    assert!(!town.log().contains(" key="), "a field is in the text");
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_link_is_named_with_reason_and_remedy() {
    let mut town = Town::plan().start().await;
    town.set("log.format", "json");
    town.reload("applied").await;
    let user = town.linked().await;
    let page = town.nth(0);
    let fault = Fault::Code { code: 190, subcode: 463 };
    town.world().set_fault_for(fault, Scope { call: Some(Call::ReadPage), ..Scope::page(&page) });
    town.sync(&page).await;
    let said = message(&town, &format!("page [{user}/{page}]: parked")).await;
    assert!(said.contains("needs_relink") && said.contains("the login expired"), "{said}");
    assert!(said.contains("logs in again"), "{said}");
    // The fields are still there, for programs.
    let event = &events(&town, "parked")[0];
    let fields = ["link", "health", "reason"].map(|name| event[name].as_str().unwrap_or_default().to_owned());
    assert_eq!(fields, [format!("{user}/{page}"), "needs_relink".to_owned(), "the login expired".to_owned()]);
    town.world().clear_faults();
    assert_eq!(town.log_in(user, ADA, "all").await.status, 200);
    until("the page is active", async || town.health(&page).await == "active").await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_and_dependencies_are_told_apart() {
    let mut town = Town::plan().start().await;
    // Each of the two app-level subscriptions is named by its object.
    for object in ["page", "permissions"] {
        let named = format!(" INFO subscription [{object}]: in place at ");
        until(&format!("{named} is logged"), async || town.log().contains(&named)).await;
    }
    town.set("log.format", "json");
    town.reload("applied").await;
    let user = town.linked().await;
    let page = town.nth(0);
    town.world().set_fault(Fault::SpacesSlowDown, true);
    town.world().edit_page(&page, "name", "Written later".into()).unwrap();
    town.sync(&page).await;
    let said = message(&town, "spaces: failing").await;
    assert!(said.contains("503") && said.contains("retrying"), "{said}");
    town.world().clear_faults();
    town.until_true(user, std::slice::from_ref(&page)).await;
    let said = message(&town, "spaces: answers again after ").await;
    assert!(said.contains(" failed "), "{said}");
    assert_eq!(events(&town, "spaces: answers again")[0]["dependency"], "spaces");
    town.finish().await;
}
