//! What the daemon says of itself, as JSON: for `status`, `pages`, the admin door and the console alike.

use serde_json::{Value, json};

use crate::house::House;
use crate::model::Millis;
use crate::store::{Condition, LinkView};

fn moment(at: Option<Millis>) -> Value {
    at.filter(|at| at.0 > 0).map_or(Value::Null, |at| at.rfc3339().into())
}

/// The whole daemon.
pub fn status_json(house: &House) -> Value {
    let now = Millis::now();
    let counts = house.store.counts();
    let setup = house.setup();
    let store = match &*house.store.condition().borrow() {
        Condition::Up => {
            json!({"ok": true, "bytes_on_disk": house.store.size_on_disk(), "damaged_records": counts.damaged})
        }
        Condition::Down(reason) => json!({"ok": false, "error": &**reason}),
    };
    let mut store = store;
    if let Some(mended) = house.store.mended() {
        store["mended"] = mended.into();
    }
    let mut config = json!({"loaded_at": setup.loaded_at.rfc3339()});
    if let Some(error) = house.reload_error() {
        config["last_error"] = error.into();
    }
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": house.started_at.rfc3339(),
        "uptime_seconds": now.since(house.started_at).as_secs(),
        "links": counts.links,
        "health": counts.health,
        "due": counts.due,
        "outbox": counts.outbox,
        "oldest_owed_seconds": counts.oldest_owed.map_or(0, |since| now.since(since).as_secs()),
        "config": config,
        "store": store,
        "graph": {"fare": house.graph.fare(), "gate": house.gate.status(), "version": setup.graph.version()},
        "spaces": house.spaces.fare(),
    })
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
    let now = Millis::now();
    let throttled = board.throttled_until.filter(|until| *until > now && view.record.health.is_active());
    let health = if throttled.is_some() { "throttled" } else { view.record.health.word() };
    let mut link = json!({
        "page_id": view.key.page,
        "user": view.key.user,
        "name": view.record.name,
        "health": health,
        "object_changed_at": moment(view.synced.changed_at),
        "last_read_at": moment(view.synced.read_at),
        "next_poll_at": moment(board.next_poll_at),
        "owed": view.owed,
        "linked_at": moment(Some(view.record.linked_at)),
        "webhook_fields": view.record.subscribed,
    });
    let reason = view.record.health.reason().map(str::to_owned).or(board.trouble);
    if let Some(reason) = reason {
        link["reason"] = reason.into();
    }
    link
}
