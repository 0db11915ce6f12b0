//! What the console shows, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, Console};
use crate::sandbox::fault::{Call, Fault, Side};
use crate::sandbox::world::state::Page;

const ROWS: usize = 25;
const MOST_ROWS: usize = 200;
const NOTICES: usize = 30;

/// How an object stands to its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Equal,
    Behind,
    Damaged,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Standing::Equal => "equal",
            Standing::Behind => "behind",
            Standing::Damaged => "damaged",
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

impl Console {
    fn object(&self, key: &str) -> Value {
        let bytes = self.world.objects().and_then(|objects| objects.get(key));
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn keys(&self) -> BTreeMap<String, Vec<String>> {
        keys_by_page(self.world.objects().map(|objects| objects.list()).unwrap_or_default())
    }

    /// The links of a page, as the daemon lists them.
    fn links(&self, page: &str) -> Vec<Value> {
        let pulse = self.pulse.borrow().clone();
        let all = pulse.pages["pages"].as_array();
        all.into_iter().flatten().filter(|link| link["page_id"] == page).cloned().collect()
    }

    /// What is wrong with the links of each page, in the daemon's word; pages of which all is well are left out.
    fn ailing(&self) -> BTreeMap<String, String> {
        let pulse = self.pulse.borrow().clone();
        let links = pulse.pages["pages"].as_array().into_iter().flatten();
        let ailing = links.filter(|link| link["health"] != "active");
        ailing
            .filter_map(|link| Some((link["page_id"].as_str()?.to_owned(), link["health"].as_str()?.to_owned())))
            .collect()
    }

    pub(super) fn state(&self) -> Value {
        let pulse = self.pulse.borrow().clone();
        let objects = self.keys().values().map(Vec::len).sum::<usize>();
        let on = self.world.faults();
        let faults: Vec<Value> = Fault::all()
            .map(|fault| {
                let side = match fault {
                    Fault::Code { .. } => "codes",
                    plain => match plain.side() {
                        Side::Graph => "graph",
                        Side::Webhooks => "webhooks",
                        Side::Spaces => "spaces",
                        Side::Notices => "notices",
                    },
                };
                let is_on = on.iter().any(|(f, _)| *f == fault);
                json!({"name": fault.to_string(), "title": fault.title(), "side": side, "on": is_on})
            })
            .collect();
        let (people, pages, subscription) = self.world.look(|s| {
            let people: Vec<Value> = s
                .people
                .values()
                .map(|p| {
                    let runs = s.pages.values().filter(|page| page.roles.contains_key(&p.id)).count();
                    let alive = s.tokens.values().filter(|t| t.person == p.id && t.refused.is_none()).count();
                    let known = s.tokens.values().any(|t| t.person == p.id);
                    json!({"id": p.id, "name": p.name, "runs": runs, "ticked": p.ticked.len(), "tokens": alive,
                           "known": known})
                })
                .collect();
            let subscription = s.app.subscription.as_ref().map(|a| json!({"fields": a.fields}));
            (people, s.pages.len(), subscription)
        });
        json!({
            "people": people,
            "users": self.world.demo_users(),
            "pages": pages,
            "objects": objects,
            "faults": faults,
            "subscription": subscription,
            "undelivered": self.world.undelivered(),
            "notices": self.notices(),
            "violations": self.world.violations(),
            "reads": self.world.calls(Call::ReadPage),
            "puts": self.world.calls(Call::Put),
            // Asked at this moment: the pulse may not have beaten yet.
            "daemon": self.control.state(),
            "status": pulse.status,
        })
    }

    /// The notices that came last, newest first.
    fn notices(&self) -> Vec<Value> {
        let page =
            |id: Option<&str>| self.world.look(|s| id.and_then(|id| s.pages.get(id)).map(|p| p.name().to_owned()));
        let last = self.world.last_notices(NOTICES);
        last.iter()
            .map(|notice| {
                json!({"id": notice.id, "at": notice.at, "type": notice.word(), "taken": notice.taken,
                   "page": notice.page(), "name": page(notice.page()), "data": notice.body["data"]})
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
        // Objects are read after the look: files are slow, and the world waits for nobody.
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
        let rows: Vec<Value> = found.iter().map(|row| self.row(row, keys_of(row), health(row))).collect();
        json!({"total": total, "offset": offset, "limit": limit, "rows": rows})
    }

    fn row(&self, row: &Row, keys: &[String], health: Option<&String>) -> Value {
        let standings: Vec<Standing> = keys.iter().map(|key| compare(&row.node, &self.object(key)).0).collect();
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
                .filter_map(|person| s.people.get(person))
                .map(|p| json!({"id": p.id, "name": p.name}))
                .collect();
            Some((Row::of(page), page.revision, roles))
        });
        let Some((mut page, revision, roles)) = found else {
            return Err((StatusCode::NOT_FOUND, "there is no such page".into()));
        };
        let links = self.links(id);
        let mut objects = Vec::new();
        for key in self.keys().remove(id).unwrap_or_default() {
            let object = self.object(&key);
            let (standing, differing) = compare(&page.node, &object);
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
            "objects": objects,
        }))
    }
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
