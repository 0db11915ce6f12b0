//! The JSON after a login, and the progress of the first object of each link.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::context::logins::Login;
use crate::core::health::{Health, ParkReason};
use crate::core::model::{Label, LinkKey};
use crate::http::responses;
use crate::http::server::Answer;
use crate::services::login::{Changes, Linked, Listed};

/// The progress of a link's first object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum First {
    /// It is in Spaces.
    Stored,
    /// It is on its way; the trouble that delays it, where there is one.
    Pending(Option<String>),
    /// The link stopped.
    Stopped(ParkReason),
    /// The link is gone.
    Unlinked,
}

impl First {
    /// The progress as a program reads it.
    pub(in crate::http) fn to_json(&self) -> Value {
        match self {
            First::Stored => json!({"status": "success"}),
            First::Pending(None) => json!({"status": "pending", "message": "it finishes by itself"}),
            First::Pending(Some(why)) => json!({"status": "pending", "message": why}),
            First::Stopped(why) => json!({"status": "error", "message": why.reason()}),
            First::Unlinked => json!({"status": "error", "message": "it was unlinked meanwhile"}),
        }
    }
}

const STORE_AWAY: &str = "the daemon's store cannot be read at the moment";

/// The progress of one link's object.
pub(in crate::http) async fn first_object(context: &Context, link: &LinkKey) -> First {
    let view = match context.store.view(link).await {
        Ok(Some(view)) => view,
        Ok(None) => return First::Unlinked,
        Err(_) => return First::Pending(Some(STORE_AWAY.to_owned())),
    };
    if let Health::Parked(parked) = &view.record.health {
        return First::Stopped(parked.why);
    }
    // A link that gets a token is owed a read in the same transaction; when nothing is owed, that read was made.
    if view.synced.digest.is_some() && !view.owed {
        return First::Stored;
    }
    First::Pending(context.pages.find(link).and_then(|status| status.trouble))
}

/// Waits until every link has its object or a reason why not, or the limit comes.
pub(in crate::http) async fn wait_for_objects(context: &Context, links: &[LinkKey], deadline: Instant) -> Vec<First> {
    let mut progress = context.store.feed().changed();
    loop {
        progress.mark_unchanged();
        let mut first = Vec::with_capacity(links.len());
        for link in links {
            first.push(first_object(context, link).await);
        }
        let all_known = !first.iter().any(|f| matches!(f, First::Pending(_)));
        if all_known || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return first;
        }
    }
}

/// The answer for programs.
pub(in crate::http) fn json(login: &Login, linked: &Linked, first: Vec<First>, webhook_test: Value) -> Answer {
    let first: HashMap<LinkKey, First> = linked.links().into_iter().zip(first).collect();
    let of = |page: &Listed| first.get(&LinkKey::new(linked.user, page.id.clone())).cloned();
    let data: Vec<Value> = linked.pages.iter().map(listed_json).collect();
    let polling: Vec<Value> = linked
        .pages
        .iter()
        .map(|page| {
            let result = match page.refused {
                Some(reason) => json!({"status": "error", "message": reason}),
                None => of(page).unwrap_or(First::Pending(None)).to_json(),
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
    responses::json(StatusCode::OK, &value)
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
