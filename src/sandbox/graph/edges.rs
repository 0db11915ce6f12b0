//! Persons, listings and pages.

use serde_json::{Map, Value, json};

use super::answer::{Answer, GraphError};
use super::ask::Ask;
use crate::sandbox::fault::{Call, Fault};
use crate::sandbox::world::state::{Page, State, TokenKind};
use crate::sandbox::world::tokens::{Caller, STRONG_TASKS};
use crate::sandbox::world::{World, is_page_field};

/// What a request for nothing known gets.
pub(crate) fn unknown(world: &World, ask: &Ask) -> GraphError {
    if let Err(error) = ask.caller(&world.lock().state) {
        return error;
    }
    match ask.segments.as_slice() {
        [id] => GraphError::missing(id),
        [_, edge, ..] => GraphError::new(100, 0, format!("(#100) Tried accessing nonexisting field ({edge})")),
        [] => GraphError::new(100, 0, "Unsupported get request."),
    }
}

pub(crate) fn me(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let inner = world.lock();
    let state = &inner.state;
    let person = match ask.caller(state)? {
        (Caller::Person(person), _) => person,
        // With a page's token "me" is the page.
        (Caller::Page { page, .. }, _) => {
            drop(inner);
            return page_node(world, ask, &page);
        }
        (Caller::App, _) => return Err(ask.person(state).err().unwrap_or_else(|| GraphError::missing("me"))),
    };
    if ask.segments.first().is_some_and(|id| id != "me" && *id != person) {
        return Err(GraphError::missing(&ask.segments[0]));
    }
    let mut node = Map::new();
    for field in ask.fields().unwrap_or_else(|| vec!["id".into(), "name".into()]) {
        match field.as_str() {
            "id" => node.insert("id".into(), person.clone().into()),
            "name" => node.insert("name".into(), state.persons.get(&person).map(|p| p.name.clone()).into()),
            "email" | "first_name" | "last_name" | "picture" => None,
            other => {
                let text = format!("(#100) Tried accessing nonexisting field ({other}) on node type (User)");
                return Err(GraphError::new(100, 0, text));
            }
        };
    }
    node.insert("id".into(), person.into());
    Ok(Answer::json(&node.into()))
}

pub(crate) fn permissions(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &world.lock().state;
    let (person, _) = ask.person(state)?;
    let person = &state.persons[&person];
    let row = |status: &str, permission: &String| json!({"permission": permission, "status": status});
    let granted = person.granted.iter().map(|p| row("granted", p));
    let rows: Vec<Value> = granted.chain(person.declined.iter().map(|p| row("declined", p))).collect();
    Ok(Answer::json(&json!({"data": rows})))
}

pub(crate) fn revoke(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let person = ask.person(&world.lock().state)?.0;
    match ask.segments.get(2) {
        Some(permission) => {
            let removed = world.remove_permission(&person, permission);
            removed.map_err(|_| GraphError::missing(&person))?;
        }
        None => {
            let removed = world.remove_app(&person);
            removed.map_err(|_| GraphError::missing(&person))?;
        }
    }
    Ok(Answer::json(&json!({"success": true})))
}

/// One part of a listing: where it starts, and whether the empty part before it was served.
struct Part<T> {
    items: Vec<T>,
    after: Option<String>,
    before: String,
}

/// Cuts the part asked for out of `all`. Parts may be shorter than `limit`, and one in `empty_every` is empty though
/// more follows.
fn part<T>(state: &State, ask: &Ask, all: Vec<T>) -> Result<Part<T>, GraphError> {
    let bad = || GraphError::new(100, 0, "(#100) Invalid cursor");
    let (start, served): (usize, usize) = match ask.param("after") {
        None => (0, 0),
        Some(cursor) => {
            let text = hex::decode(cursor).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(bad)?;
            let (start, served) = text.split_once(':').ok_or_else(bad)?;
            (start.parse().map_err(|_| bad())?, served.parse().map_err(|_| bad())?)
        }
    };
    let limit = ask.param("limit").and_then(|l| l.parse().ok()).unwrap_or(25).clamp(1, state.listing_size);
    let hollow = state.empty_every > 0 && served % state.empty_every == state.empty_every - 1 && start < all.len();
    let end = if hollow { start } else { (start + limit).min(all.len()) };
    let cursor = |at: usize| hex::encode(format!("{at}:{}", served + 1));
    let after = (end < all.len()).then(|| cursor(end));
    let items = all.into_iter().skip(start).take(end.saturating_sub(start)).collect();
    Ok(Part { items, after, before: cursor(start) })
}

/// The envelope of a listing. `next` holds the token in clear, as Graph's does.
fn listing(ask: &Ask, token: &str, part: Part<Value>) -> Answer {
    let mut paging = Map::new();
    if let Some(after) = &part.after {
        paging.insert("cursors".into(), json!({"before": part.before, "after": after}));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in ask.params.iter().filter(|(n, _)| !matches!(n.as_str(), "after" | "access_token")) {
            query.append_pair(name, value);
        }
        query.append_pair("access_token", token).append_pair("after", after);
        paging.insert("next".into(), format!("{}/v{}.0{}?{}", ask.base, ask.served, ask.path, query.finish()).into());
    } else if !part.items.is_empty() {
        paging.insert("cursors".into(), json!({"before": part.before, "after": part.before}));
    }
    Answer::json(&json!({"data": part.items, "paging": paging}))
}

pub(crate) fn accounts(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let inner = &mut *world.lock();
    let (person, token) = ask.person(&inner.state)?;
    if !inner.state.granted(&person, "pages_show_list") {
        return Ok(Answer::json(&json!({"data": []})));
    }
    let portfolio = inner.state.granted(&person, "business_management");
    let hidden = inner.switches.is_on(Fault::AccountsEmpty);
    let shown = |page: &Page| {
        let ticked = inner.state.persons[&person].ticked.contains(page.id());
        !hidden && !page.deleted && ticked && page.roles.contains_key(&person) && (portfolio || !page.portfolio)
    };
    let ids: Vec<String> = inner.state.pages.values().filter(|p| shown(p)).map(|p| p.id().to_owned()).collect();
    let cut = part(&inner.state, ask, ids)?;
    let fields = ask.fields().unwrap_or_else(|| {
        ["access_token", "category", "category_list", "name", "id", "tasks"].map(str::to_owned).to_vec()
    });
    let mut items = Vec::new();
    for id in cut.items {
        items.push(node(world, &mut inner.state, &id, &fields, Some((&person, &token)), true)?);
    }
    Ok(listing(ask, &token, Part { items, after: cut.after, before: cut.before }))
}

pub(crate) fn businesses(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &world.lock().state;
    let (person, token) = ask.person(state)?;
    if !state.granted(&person, "business_management") {
        return Err(GraphError { status: 400, ..GraphError::new(100, 0, "(#100) Missing Permission") });
    }
    let mine = state.businesses.values().filter(|b| b.persons.contains(&person));
    let all: Vec<Value> = mine.map(|b| json!({"id": b.id, "name": b.name})).collect();
    let cut = part(state, ask, all)?;
    Ok(listing(ask, &token, cut))
}

pub(crate) fn business_pages(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &mut world.lock().state;
    let (person, token) = ask.person(state)?;
    let business = state.businesses.get(&ask.segments[0]).filter(|b| b.persons.contains(&person));
    let Some(business) = business.filter(|_| state.granted(&person, "business_management")) else {
        return Err(GraphError::missing(&ask.segments[0]));
    };
    let held = if ask.call == Call::OwnedPages { &business.owned } else { &business.client };
    let alive = held.iter().filter(|id| state.pages.get(*id).is_some_and(|p| !p.deleted));
    let ids: Vec<String> = alive.cloned().collect();
    let cut = part(state, ask, ids)?;
    let fields = ask.fields().unwrap_or_else(|| vec!["id".into(), "name".into()]);
    let mut items = Vec::new();
    for id in cut.items {
        // These edges name pages and give no tokens.
        items.push(node(world, state, &id, &fields, None, true)?);
    }
    Ok(listing(ask, &token, Part { items, after: cut.after, before: cut.before }))
}

pub(crate) fn read_page(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    page_node(world, ask, &ask.segments[0])
}

fn page_node(world: &World, ask: &Ask, id: &str) -> Result<Answer, GraphError> {
    let state = &mut world.lock().state;
    let (caller, token) = ask.caller(state)?;
    let fields = ask.fields().unwrap_or_else(|| vec!["name".into(), "id".into()]);
    if state.pages.get(id).is_none_or(|p| p.deleted) {
        return Err(GraphError::missing(id));
    }
    let viewer = match &caller {
        Caller::App => return Err(GraphError::row(10, 0)),
        Caller::Page { page, person } => {
            if page != id || !state.granted(person, "pages_read_engagement") {
                return Err(GraphError::row(10, 0));
            }
            person
        }
        Caller::Person(person) => {
            if !state.pages[id].roles.contains_key(person) {
                return Err(GraphError::missing(id));
            }
            if !state.persons[person].ticked.contains(id) {
                return Err(GraphError::row(190, 0));
            }
            // Asking for the page's token is what a person's token is good for.
            let plain = fields.iter().all(|f| matches!(f.as_str(), "id" | "name"));
            if !plain && !fields.iter().any(|f| f == "access_token") {
                return Err(GraphError::row(190, 2069032));
            }
            person
        }
    };
    let node = node(world, state, id, &fields, Some((viewer, &token)), false)?;
    Ok(Answer::json(&node))
}

/// A page's node with the fields asked for. Empty fields are left out; one unknown field fails it all.
fn node(
    world: &World,
    state: &mut State,
    id: &str,
    fields: &[String],
    viewer: Option<(&str, &str)>,
    listed: bool,
) -> Result<Value, GraphError> {
    let mut shown = Map::new();
    for field in fields {
        let Some(page) = state.pages.get(id) else { return Err(GraphError::missing(id)) };
        if !is_page_field(&page.node, field) {
            let text = format!("(#100) Tried accessing nonexisting field ({field}) on node type (Page)");
            return Err(GraphError::new(100, 0, text));
        }
        if page.unsupported.contains(field) {
            return Err(GraphError::row(200, 2069031));
        }
        let value = match field.as_str() {
            "access_token" if listed && page.token_withheld => None,
            "access_token" => viewer.and_then(|(_, token)| own_token(state, token, id)).map(Value::from),
            "tasks" => viewer.and_then(|(person, _)| page.roles.get(person)).map(|tasks| json!(tasks)),
            "picture" => Some(picture(page, world.tick())),
            "is_webhooks_subscribed" => Some(page.subscribed.is_some().into()),
            plain => page.node.get(plain).cloned(),
        };
        if let Some(value) = value {
            shown.insert(field.clone(), value);
        }
    }
    shown.insert("id".into(), id.into());
    Ok(shown.into())
}

fn own_token(state: &mut State, token: &str, page: &str) -> Option<String> {
    match state.tokens.get(token)?.kind {
        TokenKind::Page => Some(token.to_owned()),
        TokenKind::UserShort | TokenKind::UserLong => state.page_token(token, page),
    }
}

/// Another signed address each time.
fn picture(page: &Page, tick: u64) -> Value {
    let version = page.node.get("picture").cloned().unwrap_or_default();
    let url = format!(
        "https://scontent.example/v/t39.30808-1/{}_{version}_n.jpg?stp=cp0_dst-jpg_s50x50&_nc_ht=scontent-{}&oh=00_{tick:016x}&oe={:08X}",
        page.id(),
        tick % 9,
        tick + 0x6920_0000
    );
    json!({"data": {"height": 50, "width": 50, "is_silhouette": false, "url": url}})
}

/// Makes the answer be about another page.
pub(crate) fn other_id(body: &mut Vec<u8>) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(body)
        && let Some(id) = value.get_mut("id")
    {
        *id = "999999999999999".into();
        *body = value.to_string().into_bytes();
    }
}

/// May the person behind a page token manage the page?
pub(crate) fn is_strong(state: &State, person: &str, page: &str) -> bool {
    let tasks = state.pages.get(page).and_then(|p| p.roles.get(person));
    tasks.is_some_and(|tasks| STRONG_TASKS.iter().any(|t| tasks.contains(*t)))
}
