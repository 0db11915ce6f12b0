//! What the daemon says of itself, as JSON: for `status`, `pages`, the admin door and the console alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::health::Signs;
use crate::house::House;
use crate::model::Millis;
use crate::store::{Condition, Counts, LinkView};

fn moment(at: Option<Millis>) -> Value {
    at.filter(|at| at.0 > 0).map_or(Value::Null, |at| at.rfc3339().into())
}

/// The store's counts, with the links that are throttled at this moment counted as such, as in the list of pages.
pub fn counts(house: &House) -> Counts {
    let now = Millis::now();
    let mut counts = house.store.counts();
    for link in house.directory.throttled(Millis::steady()) {
        let Some(view) = house.store.view(&link) else { continue };
        let signs = Signs { expires_at: view.record.checked.expires_at, throttled_until: None };
        let counted = view.record.health.shown(signs, now).word;
        if view.record.health.is_active()
            && let Some(count) = counts.health.get_mut(counted)
        {
            *count = count.saturating_sub(1);
            *counts.health.entry("throttled").or_default() += 1;
        }
    }
    counts.health.retain(|_, count| *count > 0);
    counts
}

/// The whole daemon.
pub fn status_json(house: &House) -> Value {
    let now = Millis::now();
    let counts = counts(house);
    let setup = house.setup();
    let store = match &*house.store.condition().borrow() {
        Condition::Up => {
            json!({
                "ok": true,
                "bytes_on_disk": house.store.size_on_disk(),
                "damaged_records": counts.damaged,
                "sealing": house.store.sealing().ok(),
                "erasing_since": moment(house.store.erasing_since()),
            })
        }
        Condition::Down(reason) => json!({"ok": false, "error": &**reason}),
    };
    let mut store = store;
    if let Some(mended) = house.store.mended() {
        store["mended"] = mended.into();
    }
    let source = if setup.kept { "kept" } else { "file" };
    let mut config = json!({"loaded_at": setup.loaded_at.rfc3339(), "source": source});
    if let Some(error) = house.reload_error() {
        config["last_error"] = error.into();
    }
    let gate = house.gate.status();
    let blocked_until = gate.app_blocked_secs.map(|secs| now.plus(Duration::from_secs(secs)));
    let mut gate = json!(gate);
    gate["app_blocked_until"] = moment(blocked_until);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started_at": house.started_at.rfc3339(),
        "uptime_seconds": Millis::steady().since(house.started_at).as_secs(),
        "links": counts.links,
        "health": counts.health,
        "due": counts.due,
        "due_parked": counts.due_parked,
        "outbox": counts.outbox,
        "chores": counts.chores,
        "oldest_owed_seconds": counts.oldest_owed.map_or(0, |since| now.since(since).as_secs()),
        "config": config,
        "store": store,
        "graph": {"fare": house.graph.fare(), "gate": gate, "version": setup.graph.version()},
        "spaces": house.spaces.fare(),
        "notify": notify_json(house, now),
    })
}

/// Notices: on or off, how many wait, since when the oldest, and how the receiver fares.
fn notify_json(house: &House, now: Millis) -> Value {
    let counts = house.store.notice_counts();
    let mut notify = json!({
        "on": house.setup().receiver.is_some(),
        "waiting": counts.waiting,
        "oldest_seconds": counts.oldest.map_or(0, |since| now.since(since).as_secs()),
    });
    if let (Some(notify), Ok(Value::Object(fare))) = (notify.as_object_mut(), serde_json::to_value(house.notify.fare()))
    {
        notify.extend(fare);
    }
    notify
}

/// Every linked page.
pub fn pages_json(house: &House) -> Value {
    let pages: Vec<Value> = house.store.views().iter().map(|view| link_json(house, view)).collect();
    json!({"pages": pages})
}

/// The links of one page; `None` when it is not linked.
pub fn page_json(house: &House, page: &crate::model::PageId) -> Option<Value> {
    let links = house.store.links_of_page(page);
    let views: Vec<Value> =
        links.iter().filter_map(|l| house.store.view(l)).map(|view| link_json(house, &view)).collect();
    (!views.is_empty()).then(|| json!({"pages": views}))
}

fn link_json(house: &House, view: &LinkView) -> Value {
    let board = house.directory.find(&view.key).map(|place| place.board()).unwrap_or_default();
    let (now, record, checked) = (Millis::now(), &view.record, &view.record.checked);
    let throttled_until = board.throttled_until.filter(|until| *until > Millis::steady()).map(Millis::on_the_wall);
    let signs = Signs { expires_at: checked.expires_at, throttled_until };
    let shown = record.health.shown(signs, now);
    let mut link = json!({
        "page_id": view.key.page,
        "user": view.key.user,
        "name": record.name,
        "health": shown.word,
        "object_changed_at": moment(view.synced.changed_at),
        "last_read_at": moment(view.synced.read_at),
        "next_poll_at": moment(board.next_poll_at.map(Millis::on_the_wall)),
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
    also("reason", shown.reason.map(str::to_owned).or(board.trouble));
    also("remedy", shown.remedy.map(str::to_owned));
    also("since", shown.since.map(Millis::rfc3339));
    also("until", shown.until.map(Millis::rfc3339));
    let ends = checked.data_access_ends(now).filter(|_| record.health.is_active());
    also(
        "warning",
        ends.map(|at| format!("access to the person's data ends at {}; a new login renews it", at.rfc3339())),
    );
    link
}
