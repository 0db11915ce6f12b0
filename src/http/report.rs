//! The JSON after a login, and the progress of the first object of each link.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::answers;
use super::server::Answer;
use crate::health::{Health, Why};
use crate::house::House;
use crate::linking::{Changes, Linked, Listed};
use crate::logins::Login;
use crate::model::{Label, LinkKey};

/// The progress of a link's first object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    /// It is in Spaces.
    Stored,
    /// It is on its way; the trouble that delays it, where there is one.
    Pending(Option<String>),
    /// The link stopped.
    Stopped(Why),
    /// The link is gone.
    Unlinked,
}

/// The progress of one link's object.
pub(super) fn first_object(house: &House, link: &LinkKey) -> First {
    let Some(view) = house.store.view(link) else { return First::Unlinked };
    if let Health::Parked(parked) = &view.record.health {
        return First::Stopped(parked.why);
    }
    let since_link = view.synced.read_at.is_some_and(|at| at >= view.record.linked_at);
    if since_link && view.synced.digest.is_some() && !view.owed {
        return First::Stored;
    }
    First::Pending(house.directory.find(link).and_then(|place| place.board().trouble))
}

/// Waits until every link has its object or a reason why not, or the limit comes.
pub(super) async fn wait_for_objects(house: &House, links: &[LinkKey], deadline: Instant) -> Vec<First> {
    let mut progress = house.store.progress();
    loop {
        progress.mark_unchanged();
        let first: Vec<First> = links.iter().map(|link| first_object(house, link)).collect();
        let all_known = !first.iter().any(|f| matches!(f, First::Pending(_)));
        if all_known || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return first;
        }
    }
}

/// The answer for programs.
pub(super) fn json(login: &Login, linked: &Linked, first: Vec<First>, webhook_test: Value) -> Answer {
    let first: HashMap<LinkKey, First> = linked.links().into_iter().zip(first).collect();
    let of = |page: &Listed| first.get(&LinkKey::new(linked.user, page.id.clone())).cloned();
    let data: Vec<Value> = linked.pages.iter().map(listed_json).collect();
    let polling: Vec<Value> = linked
        .pages
        .iter()
        .map(|page| {
            let result = match (page.refused, of(page).unwrap_or(First::Pending(None))) {
                (Some(reason), _) => json!({"status": "error", "message": reason}),
                (None, First::Stored) => json!({"status": "success"}),
                (None, First::Pending(None)) => json!({"status": "pending", "message": "it finishes by itself"}),
                (None, First::Pending(Some(why))) => json!({"status": "pending", "message": why}),
                (None, First::Stopped(why)) => json!({"status": "error", "message": why.reason()}),
                (None, First::Unlinked) => json!({"status": "error", "message": "it was unlinked meanwhile"}),
            };
            json!({"page_id": page.id, "result": result})
        })
        .collect();
    let mut value = json!({
        "user_uuid": linked.user,
        "pages": {"data": data, "paging": {}},
        "webhook_test": webhook_test,
        "polling_test": polling,
        "missing_permissions": linked.missing_permissions,
        "incomplete": linked.incomplete,
        "changes": changes_json(&linked.changes),
    });
    if let Some(label) = &login.label {
        value["user_label"] = Label::as_str(label).into();
    }
    answers::json(StatusCode::OK, &value)
}

fn listed_json(page: &Listed) -> Value {
    let mut raw = page.raw.clone();
    raw.insert("linked".into(), page.refused.is_none().into());
    if let Some(reason) = page.refused {
        raw.insert("reason".into(), reason.into());
    }
    if let Some(warning) = page.warning {
        raw.insert("warning".into(), warning.into());
    }
    Value::Object(raw)
}

fn changes_json(changes: &Changes) -> Value {
    let lost: Vec<Value> = changes
        .lost
        .iter()
        .map(|lost| {
            let (reason, remedy) = (lost.why.reason(), lost.why.remedy());
            json!({"page_id": lost.page, "name": lost.name, "reason": reason, "remedy": remedy})
        })
        .collect();
    json!({"kept": changes.kept, "added": changes.added, "lost": lost})
}
