//! The state of the daemon as JSON, for `status`, `pages`, the admin listener and the console.

use std::time::Duration;

use serde_json::{Value, json};

use crate::context::Context;
use crate::core::health::HealthInputs;
use crate::core::model::{MonoTime, PageId, WallTime};
use crate::store::{Condition, Counts, LinkView, Unavailable};

fn moment(at: Option<WallTime>) -> Value {
    at.filter(|at| at.0 > 0).map_or(Value::Null, |at| at.rfc3339().into())
}

/// The store's counts, with the links that are throttled at this moment counted as such, as in the list of pages.
///
/// # Errors
/// [`Unavailable`].
pub async fn counts(context: &Context) -> Result<Counts, Unavailable> {
    let now = WallTime::now();
    let mut counts = context.store.counts().await?;
    for link in context.pages.throttled(MonoTime::now()) {
        let Some(view) = context.store.view(&link).await? else { continue };
        let signs = HealthInputs { expires_at: view.record.checked.expires_at, throttled_until: None };
        let counted = view.record.health.shown(signs, now).word;
        if view.record.health.is_active()
            && let Some(count) = counts.health.get_mut(counted)
        {
            *count = count.saturating_sub(1);
            *counts.health.entry("throttled").or_default() += 1;
        }
    }
    counts.health.retain(|_, count| *count > 0);
    Ok(counts)
}

/// The store: whether it works, and its size.
async fn store_json(context: &Context, counts: &Result<Counts, Unavailable>) -> Value {
    let sealing = context.store.sealing().await.ok();
    let mut store = match (&*context.store.condition().borrow(), counts) {
        (Condition::Up, Ok(counts)) => {
            json!({
                "ok": true,
                "bytes_on_disk": context.store.size_on_disk(),
                "damaged_records": counts.damaged,
                "sealing": sealing,
                "erasing_since": moment(context.store.erasing_since()),
            })
        }
        (Condition::Up, Err(error)) => json!({"ok": false, "error": &*error.reason}),
        (Condition::Down(reason), _) => json!({"ok": false, "error": &**reason}),
    };
    if let Some(mended) = context.store.mended() {
        store["mended"] = mended.into();
    }
    store
}

/// The whole daemon. What only the store knows is null while it cannot be read.
pub async fn status_json(context: &Context) -> Value {
    let now = WallTime::now();
    let counts = counts(context).await;
    let setup = context.setup();
    let store = store_json(context, &counts).await;
    let counts = counts.ok();
    let count = |of: fn(&Counts) -> u64| counts.as_ref().map(of);
    let oldest_owed = counts.as_ref().map(|c| c.oldest_owed.map_or(0, |since| now.since(since).as_secs()));
    let source = if setup.kept { "kept" } else { "file" };
    let mut config = json!({"loaded_at": setup.loaded_at.rfc3339(), "source": source});
    if let Some(error) = context.reload_error() {
        config["last_error"] = error.into();
    }
    let gate = context.gate.status();
    let blocked_until = gate.app_blocked_secs.map(|secs| now.plus(Duration::from_secs(secs)));
    let mut gate = json!(gate);
    gate["app_blocked_until"] = moment(blocked_until);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started_at": context.started_at.rfc3339(),
        "uptime_seconds": MonoTime::now().since(context.started).as_secs(),
        "links": count(|c| c.links),
        "health": counts.as_ref().map(|c| &c.health),
        "due": count(|c| c.due),
        "due_parked": count(|c| c.due_parked),
        "outbox": count(|c| c.outbox),
        "cleanups": counts.as_ref().map(|c| &c.cleanups),
        "oldest_owed_seconds": oldest_owed,
        "config": config,
        "store": store,
        "graph": {"health": context.graph.health(), "gate": gate, "version": setup.graph.version()},
        "spaces": context.spaces.health(),
        "notify": notify_json(context, now).await,
    })
}

/// Events: on or off, how many wait, since when the oldest, and how the receiver fares.
async fn notify_json(context: &Context, now: WallTime) -> Value {
    let counts = context.store.event_counts().await.ok();
    let mut notify = json!({
        "on": context.setup().receiver.is_some(),
        "waiting": counts.map(|c| c.waiting),
        "oldest_seconds": counts.map(|c| c.oldest.map_or(0, |since| now.since(since).as_secs())),
    });
    if let (Some(notify), Ok(Value::Object(health))) =
        (notify.as_object_mut(), serde_json::to_value(context.notify.health()))
    {
        notify.extend(health);
    }
    notify
}

/// Every linked page.
///
/// # Errors
/// [`Unavailable`].
pub async fn pages_json(context: &Context) -> Result<Value, Unavailable> {
    let views = context.store.views().await?;
    let pages: Vec<Value> = views.iter().map(|view| link_json(context, view)).collect();
    Ok(json!({"pages": pages}))
}

/// The links of one page; `None` when it is not linked.
///
/// # Errors
/// [`Unavailable`].
pub async fn page_json(context: &Context, page: &PageId) -> Result<Option<Value>, Unavailable> {
    let mut views = Vec::new();
    for link in context.store.links_of_page(page).await? {
        views.extend(context.store.view(&link).await?.map(|view| link_json(context, &view)));
    }
    Ok((!views.is_empty()).then(|| json!({"pages": views})))
}

fn link_json(context: &Context, view: &LinkView) -> Value {
    let status = context.pages.find(&view.key).unwrap_or_default();
    let (now, record, checked) = (WallTime::now(), &view.record, &view.record.checked);
    let throttled_until = status.throttled_until.filter(|until| *until > MonoTime::now()).map(MonoTime::to_wall);
    let signs = HealthInputs { expires_at: checked.expires_at, throttled_until };
    let shown = record.health.shown(signs, now);
    let mut link = json!({
        "page_id": view.key.page(),
        "user": view.key.user,
        "name": record.name,
        "health": shown.word,
        "object_changed_at": moment(view.synced.changed_at),
        "last_read_at": moment(view.synced.read_at),
        "next_poll_at": moment(status.next_poll_at.map(MonoTime::to_wall)),
        "owed": view.owed,
        "owed_parked": view.owed_parked,
        "linked_at": moment(Some(record.linked_at)),
        "checked_at": moment(checked.at),
        "token_expires_at": moment(checked.expires_at),
        "data_access_expires_at": moment(checked.data_access_expires_at),
        "webhook_fields": record.subscribed,
        "refused_webhook_fields": record.refused_webhook_fields,
    });
    let mut also = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            link[key] = value.into();
        }
    };
    // A passing trouble is worth a reason, and nobody has to do anything about it.
    also("reason", shown.reason.map(str::to_owned).or(status.trouble));
    also("remedy", shown.remedy.map(str::to_owned));
    also("since", shown.since.map(WallTime::rfc3339));
    also("until", shown.until.map(WallTime::rfc3339));
    let ends = checked.data_access_ends(now).filter(|_| record.health.is_active());
    also(
        "warning",
        ends.map(|at| format!("access to the person's data ends at {}; a new login renews it", at.rfc3339())),
    );
    link
}
