//! What the console shows, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, Console, Pulse, acts};
use crate::core::model::WallTime;
use crate::sandbox::Objects;
use crate::sandbox::fault::{Call, Fault, Side};
use crate::sandbox::world::state::{Page, State, TokenKind};

const ROWS: usize = 25;
const MOST_ROWS: usize = 200;
const EVENTS: usize = 30;

/// How an object compares with its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Equal,
    Behind,
    Damaged,
    /// The link is gone, and the delete is pending.
    Leaving,
    /// The link is gone, and the object was left on purpose.
    Unlinked,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Standing::Equal => "equal",
            Standing::Behind => "behind",
            Standing::Damaged => "damaged",
            Standing::Leaving => "leaving",
            Standing::Unlinked => "unlinked",
        }
    }
}

/// What the console shows of a page, without its history.
struct Row {
    node: Map<String, Value>,
    deleted: bool,
    subscribed: Option<BTreeSet<String>>,
}

impl Row {
    fn of(page: &Page) -> Self {
        Row { node: page.node.clone(), deleted: page.deleted, subscribed: page.subscribed.clone() }
    }
}

/// Compares an object with the page's node: its standing, and the fields that differ. Picture addresses rotate and do
/// not count.
fn compare(node: &Map<String, Value>, object: &Value) -> (Standing, Vec<String>) {
    let Some(data) = object["data"][0].as_object() else { return (Standing::Damaged, Vec::new()) };
    let differs = |(field, value): &(&String, &Value)| *field != "picture" && node.get(*field) != Some(*value);
    let differing: Vec<String> = data.iter().filter(differs).map(|(field, _)| field.clone()).collect();
    (if differing.is_empty() { Standing::Equal } else { Standing::Behind }, differing)
}

/// The keys of the objects in Spaces, by page.
fn keys_by_page(keys: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut by_page: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in keys {
        let page = key.split('/').nth(3).filter(|_| key.starts_with("users/")).map(str::to_owned);
        if let Some(page) = page {
            by_page.entry(page).or_default().push(key);
        }
    }
    by_page
}

/// The daemon's links, to tell objects that are linked from those that are not.
struct Links {
    known: BTreeSet<(String, String)>,
    asked_at: WallTime,
    deletes_owed: bool,
}

impl Links {
    fn of(pulse: &Pulse) -> Self {
        let text = |link: &Value, key: &str| link[key].as_str().map(str::to_owned);
        let links = pulse.pages["pages"].as_array().into_iter().flatten();
        let known = links.filter_map(|link| Some((text(link, "user")?, text(link, "page_id")?))).collect();
        let deletes_owed = pulse.status["outbox"].as_u64() != Some(0);
        Links { known, asked_at: pulse.asked_at, deletes_owed }
    }

    /// The standing of an object whose link is gone; `None` while it is linked, or where that is not known: an object
    /// that was written since the daemon was asked may have a new link.
    fn parted(&self, objects: Option<&Objects>, key: &str) -> Option<Standing> {
        let mut parts = key.split('/').skip(1);
        let (user, page) = (parts.next()?.to_owned(), parts.nth(1)?.to_owned());
        let written_at = objects?.written_at(key)?;
        if self.known.contains(&(user, page)) || written_at.0 + 1 >= self.asked_at.0 {
            return None;
        }
        Some(if self.deletes_owed { Standing::Leaving } else { Standing::Unlinked })
    }
}

impl Console {
    /// How an object compares, and the fields in which it differs.
    fn standing(&self, links: &Links, node: &Map<String, Value>, key: &str, object: &Value) -> (Standing, Vec<String>) {
        let (standing, differing) = compare(node, object);
        (links.parted(self.world.objects(), key).unwrap_or(standing), differing)
    }

    pub(super) fn object(&self, key: &str) -> Value {
        let bytes = self.world.objects().and_then(|objects| objects.get(key));
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn keys(&self) -> BTreeMap<String, Vec<String>> {
        keys_by_page(self.world.objects().map(|objects| objects.list()).unwrap_or_default())
    }

    /// The links of a page, as the daemon lists them.
    fn links(&self, page: &str) -> Vec<Value> {
        let pulse = self.pulse.borrow().clone();
        let all = pulse.pages["pages"].as_array();
        all.into_iter().flatten().filter(|link| link["page_id"] == page).cloned().collect()
    }

    /// What is wrong with the links of each page, in the daemon's words; pages without a problem are left out.
    fn ailing(&self) -> BTreeMap<String, String> {
        let pulse = self.pulse.borrow().clone();
        let links = pulse.pages["pages"].as_array().into_iter().flatten();
        let ailing = links.filter(|link| link["health"] != "active");
        ailing
            .filter_map(|link| Some((link["page_id"].as_str()?.to_owned(), link["health"].as_str()?.to_owned())))
            .collect()
    }

    /// The latest edit: which page, when, and when an object had it. `standing` is that of the page's objects.
    fn last_edit(&self, keys: &BTreeMap<String, Vec<String>>) -> Value {
        let Some(edit) = self.world.last_edit() else { return Value::Null };
        let Some(row) = self.world.look(|s| s.pages.get(&edit.page).map(Row::of)) else { return Value::Null };
        let keys = keys.get(&edit.page).map(Vec::as_slice).unwrap_or_default();
        let links = Links::of(&self.pulse.borrow());
        let standing = self.row(&row, keys, None, &links)["standing"].take();
        json!({"page": edit.page, "name": row.node.get("name"), "at": edit.at, "stored_at": edit.stored_at,
               "standing": standing})
    }

    pub(super) fn state(&self) -> Value {
        let setup = self.world.daemon_setup();
        let pulse = self.pulse.borrow().clone();
        let keys = self.keys();
        let objects = keys.values().map(Vec::len).sum::<usize>();
        let on = self.world.faults();
        let faults: Vec<Value> = Fault::all()
            .map(|fault| {
                let side = match fault {
                    Fault::Code { .. } => "codes",
                    plain => match plain.side() {
                        Side::Graph => "graph",
                        Side::Webhooks => "webhooks",
                        Side::Spaces => "spaces",
                        Side::Events => "events",
                    },
                };
                let is_on = on.iter().any(|(f, _)| *f == fault);
                json!({"name": fault.to_string(), "title": fault.title(), "side": side, "on": is_on})
            })
            .chain(self.shop_faults())
            .collect();
        let (persons, pages, subscription) = self.world.look(|s| {
            let persons: Vec<Value> = s
                .persons
                .values()
                .map(|p| {
                    let runs = s.pages.values().filter(|page| page.roles.contains_key(&p.id)).count();
                    let alive = s.tokens.values().filter(|t| t.person == p.id && t.refused.is_none()).count();
                    let known = s.tokens.values().any(|t| t.person == p.id);
                    let (unnoticed, notice_by) = unnoticed(s, &p.id, &pulse.pages);
                    json!({"id": p.id, "name": p.name, "runs": runs, "ticked": p.ticked.len(), "tokens": alive,
                           "known": known, "unnoticed": unnoticed, "notice_by": notice_by})
                })
                .collect();
            let subscription = s.app.subscription.as_ref().map(|a| json!({"fields": a.fields}));
            (persons, s.pages.len(), subscription)
        });
        json!({
            "persons": persons,
            "users": self.world.demo_users(),
            "pages": pages,
            "shops": self.shops(),
            "objects": objects,
            "faults": faults,
            "subscription": subscription,
            "acts": {"person": acts::of_persons(setup.as_ref()), "page": acts::of_pages(setup.as_ref())},
            "differs": acts::differences(setup.as_ref()),
            "last_edit": self.last_edit(&keys),
            "undelivered": self.world.undelivered(),
            "events": self.received_events(),
            "violations": self.world.violations(),
            "reads": self.world.calls(Call::ReadPage),
            "puts": self.world.calls(Call::Put),
            // Asked now: the pulse may be older.
            "daemon": self.control.state(),
            "daemons": self.daemons(&pulse),
            "status": pulse.status,
        })
    }

    /// The latest events, newest first.
    fn received_events(&self) -> Vec<Value> {
        let page =
            |id: Option<&str>| self.world.look(|s| id.and_then(|id| s.pages.get(id)).map(|p| p.name().to_owned()));
        let last = self.world.last_events(EVENTS);
        last.iter()
            .map(|event| {
                json!({"id": event.id, "at": event.at, "type": event.word(), "taken": event.taken,
                   "page": event.page(), "name": page(event.page()), "data": event.body["data"]})
            })
            .collect()
    }

    pub(super) fn pages(&self, query: &str) -> Value {
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let number = |name: &str, default| query.get(name).and_then(|n| n.parse().ok()).unwrap_or(default);
        let (offset, limit) = (number("offset", 0), number("limit", ROWS).min(MOST_ROWS));
        let search = query.get("search").map(|s| s.to_lowercase()).unwrap_or_default();
        let linked_only = query.get("linked").is_some_and(|v| v == "1");
        let keys = self.keys();
        // Objects are read after the lock is released, because files are slow.
        let (total, found): (usize, Vec<Row>) = self.world.look(|s| {
            let fits = |page: &&Page| {
                let named = page.name().to_lowercase().contains(&search) || page.id().contains(&search);
                named && (!linked_only || keys.contains_key(page.id()))
            };
            let found: Vec<&Page> = s.pages.values().filter(fits).collect();
            (found.len(), found.iter().skip(offset).take(limit).map(|page| Row::of(page)).collect())
        });
        let none = Vec::new();
        let keys_of = |row: &Row| keys.get(row.node["id"].as_str().unwrap_or_default()).unwrap_or(&none);
        let ailing = self.ailing();
        let health = |row: &Row| ailing.get(row.node["id"].as_str().unwrap_or_default());
        let links = Links::of(&self.pulse.borrow());
        let holders = self.holders();
        let rows = found.iter().map(|row| {
            let mut shown = self.row(row, keys_of(row), health(row), &links);
            shown["daemon"] = row.node["id"].as_str().and_then(|id| holders.get(id)).cloned().into();
            shown
        });
        let rows: Vec<Value> = rows.collect();
        json!({"total": total, "offset": offset, "limit": limit, "rows": rows})
    }

    fn row(&self, row: &Row, keys: &[String], health: Option<&String>, links: &Links) -> Value {
        let standing = |key: &String| self.standing(links, &row.node, key, &self.object(key)).0;
        let standings: Vec<Standing> = keys.iter().map(standing).collect();
        let standing = match standings.iter().find(|s| **s != Standing::Equal) {
            Some(other) => other.word(),
            None if standings.is_empty() => "none",
            None => "equal",
        };
        json!({
            "id": row.node.get("id"),
            "name": row.node.get("name"),
            "category": row.node.get("category"),
            "deleted": row.deleted,
            "subscribed": row.subscribed.is_some(),
            "objects": keys.len(),
            "standing": standing,
            "health": health,
        })
    }

    pub(super) fn page(&self, id: &str) -> Answer {
        let found = self.world.look(|s| {
            let page = s.pages.get(id)?;
            let roles: Vec<Value> = page
                .roles
                .keys()
                .filter_map(|person| s.persons.get(person))
                .map(|p| json!({"id": p.id, "name": p.name}))
                .collect();
            Some((Row::of(page), page.revision, roles))
        });
        let Some((mut page, revision, roles)) = found else {
            return Err((StatusCode::NOT_FOUND, "there is no such page".into()));
        };
        let links = self.links(id);
        let all = Links::of(&self.pulse.borrow());
        let mut objects = Vec::new();
        for key in self.keys().remove(id).unwrap_or_default() {
            let object = self.object(&key);
            let (standing, differing) = self.standing(&all, &page.node, &key, &object);
            objects.push(json!({
                "key": key,
                "user": key.split('/').nth(1),
                "standing": standing.word(),
                "differing": differing,
                "puts": self.world.puts(&key),
                "json": object,
            }));
        }
        // Here it is a counter; what a read shows of it changes each time.
        page.node.remove("picture");
        Ok(json!({
            "id": id,
            "name": page.node.get("name"),
            "node": page.node,
            "deleted": page.deleted,
            "subscribed": page.subscribed,
            "revision": revision,
            "reads": self.world.graph_reads(id),
            "roles": roles,
            "links": links,
            "daemon": self.holders().get(id),
            "objects": objects,
        }))
    }
}

/// The number of links that the daemon shows as active though all tokens of this person for the page are refused, and
/// the next poll of the first of them.
fn unnoticed(state: &State, person: &str, links: &Value) -> (usize, Value) {
    let mut alive: BTreeMap<&str, bool> = BTreeMap::new();
    for token in state.tokens.values().filter(|token| token.person == person && token.kind == TokenKind::Page) {
        let Some(page) = token.page.as_deref() else { continue };
        *alive.entry(page).or_default() |= token.refused.is_none();
    }
    let dead = |link: &&Value| {
        let page = link["page_id"].as_str().unwrap_or_default();
        link["health"] == "active" && alive.get(page) == Some(&false)
    };
    let theirs: Vec<&Value> = links["pages"].as_array().into_iter().flatten().filter(dead).collect();
    let soonest = theirs.iter().filter_map(|link| link["next_poll_at"].as_str()).min();
    (theirs.len(), soonest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_is_judged_by_the_fields_an_object_has() {
        let node = json!({"id": "1", "name": "A", "about": "x", "picture": 3});
        let node = node.as_object().unwrap();
        let object = |name: &str| json!({"data": [{"id": "1", "name": name, "picture": {"data": {}}}]});
        assert_eq!(compare(node, &object("A")), (Standing::Equal, vec![]));
        assert_eq!(compare(node, &object("B")), (Standing::Behind, vec!["name".to_owned()]));
        assert_eq!(compare(node, &json!({"somebody": "else"})).0, Standing::Damaged);
    }
}
