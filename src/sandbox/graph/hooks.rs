//! The two webhook subscriptions: the app's and each page's.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{Answer, GraphError};
use super::ask::Ask;
use super::edges::is_strong;
use crate::sandbox::activity::ActivityKind;
use crate::sandbox::world::World;
use crate::sandbox::world::state::{AppSubscription, PERMISSIONS, State};
use crate::sandbox::world::tokens::Caller;

/// Webhook fields of a page.
const FIELDS: &[&str] = &[
    "affiliation",
    "attire",
    "awards",
    "bio",
    "birthday",
    "category",
    "checkins",
    "company_overview",
    "culinary_team",
    "current_location",
    "description",
    "email",
    "feed",
    "follow",
    "founded",
    "general_info",
    "general_manager",
    "group_feed",
    "hometown",
    "hours",
    "inbox_labels",
    "leadgen",
    "live_videos",
    "location",
    "members",
    "mention",
    "message_deliveries",
    "message_echoes",
    "message_edits",
    "message_reactions",
    "message_reads",
    "messages",
    "messaging_account_linking",
    "messaging_handovers",
    "messaging_optins",
    "messaging_policy_enforcement",
    "messaging_postbacks",
    "messaging_referrals",
    "mission",
    "name",
    "page_about_story",
    "page_change_proposal",
    "page_upcoming_change",
    "parking",
    "payment_options",
    "personal_info",
    "personal_interests",
    "phone",
    "picture",
    "price_range",
    "product_review",
    "products",
    "public_transit",
    "ratings",
    "standby",
    "videos",
    "website",
];

fn check_fields(param: &str, fields: &[String], known: &[&str]) -> Result<(), GraphError> {
    if fields.is_empty() {
        return Err(GraphError::new(100, 0, format!("(#100) The parameter {param} is required")));
    }
    for (at, field) in fields.iter().enumerate() {
        if !known.contains(&field.as_str()) {
            let all = known.join(", ");
            let text = format!("(#100) Param {param}[{at}] must be one of {{{all}}} - got \"{field}\".");
            return Err(GraphError::new(100, 0, text));
        }
    }
    Ok(())
}

/// The page, for a page token of its own with the right permissions and role.
fn managed(state: &State, ask: &Ask) -> Result<(String, String), GraphError> {
    let id = &ask.segments[0];
    let (caller, _) = ask.caller(state)?;
    if state.pages.get(id).is_none_or(|p| p.deleted) {
        return Err(GraphError::missing(id));
    }
    let person = match caller {
        Caller::Page { page, person } if page == *id => person,
        Caller::Page { .. } => return Err(GraphError::missing(id)),
        Caller::Person(_) | Caller::App => return Err(GraphError::row(190, 2069032)),
    };
    for permission in ["pages_manage_metadata", "pages_show_list"] {
        if !state.granted(&person, permission) {
            let text = format!("(#200) Requires {permission} permission to manage the object");
            return Err(GraphError::new(200, 0, text));
        }
    }
    if !is_strong(state, &person, id) {
        return Err(GraphError::new(200, 0, "(#200) The user does not have sufficient permissions on this page"));
    }
    Ok((id.clone(), person))
}

pub(crate) fn read_subscribed(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &world.lock().state;
    let (page, _) = managed(state, ask)?;
    // Another app of the person comes first, so a client that takes the first app takes the wrong one.
    let other = json!({"category": "Business", "link": "https://other.example/", "name": "Some other app",
                       "id": "1999999999999999", "subscribed_fields": ["feed", "name"]});
    let mut data = vec![other];
    if let Some(fields) = &state.pages[&page].subscribed {
        data.push(json!({"category": "Business", "link": "https://pagesyncd.example/", "name": state.app.name,
                         "id": state.app.id, "subscribed_fields": fields}));
    }
    Ok(Answer::json(&json!({"data": data})))
}

pub(crate) fn subscribe(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let fields = ask.list("subscribed_fields");
    let page = {
        let state = &mut world.lock().state;
        let (page, person) = managed(state, ask)?;
        check_fields("subscribed_fields", &fields, FIELDS)?;
        let messenger = fields.iter().find(|f| f.starts_with("messag") || *f == "standby");
        if let Some(field) = messenger.filter(|_| !state.granted(&person, "pages_messaging")) {
            let text = format!(
                "(#200) To subscribe to the {field} field, one of these permissions is needed: pages_messaging"
            );
            return Err(GraphError::new(200, 0, text));
        }
        if let Some(entry) = state.pages.get_mut(&page) {
            entry.subscribed = Some(fields.iter().cloned().collect());
        }
        page
    };
    world.tell(ActivityKind::Webhook, Some(&page), true, format!("the page is subscribed to {}", fields.join(", ")));
    Ok(Answer::json(&json!({"success": true})))
}

pub(crate) fn unsubscribe(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &mut world.lock().state;
    let (page, _) = managed(state, ask)?;
    if let Some(entry) = state.pages.get_mut(&page) {
        entry.subscribed = None;
    }
    Ok(Answer::json(&json!({"success": true})))
}

fn app_only(state: &State, ask: &Ask) -> Result<(), GraphError> {
    match ask.caller(state)?.0 {
        Caller::App => Ok(()),
        Caller::Person(_) | Caller::Page { .. } => {
            let text = "(#15) This method must be called with an app access_token.";
            Err(GraphError { status: 400, ..GraphError::new(15, 0, text) })
        }
    }
}

pub(crate) fn read_app(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &world.lock().state;
    app_only(state, ask)?;
    let entry = |(object, app): (&str, &AppSubscription)| {
        let fields: Vec<Value> =
            app.fields.iter().map(|f| json!({"name": f, "version": format!("v{}.0", ask.served)})).collect();
        json!({"object": object, "callback_url": app.callback_url, "active": true,
               "include_values": app.include_values, "fields": fields})
    };
    let both = [("page", &state.app.subscription), ("permissions", &state.app.permissions)];
    let data: Vec<Value> = both.into_iter().filter_map(|(object, app)| Some(entry((object, app.as_ref()?)))).collect();
    Ok(Answer::json(&json!({"data": data})))
}

pub(crate) fn app_unsubscribe(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &mut world.lock().state;
    app_only(state, ask)?;
    let gone: BTreeSet<String> = ask.list("fields").into_iter().collect();
    for (object, subscription) in [("page", &mut state.app.subscription), ("permissions", &mut state.app.permissions)] {
        match subscription {
            _ if ask.param("object").is_some_and(|asked| asked != object) => {}
            Some(app) if !gone.is_empty() => app.fields.retain(|f| !gone.contains(f)),
            subscription => *subscription = None,
        }
    }
    Ok(Answer::json(&json!({"success": true})))
}

pub(crate) async fn app_subscribe(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    ask.refuse_removed()?;
    let need = |name: &str| {
        let text = format!("(#100) The parameter {name} is required");
        ask.param(name).filter(|v| !v.is_empty()).ok_or_else(|| GraphError::new(100, 0, text))
    };
    app_only(&world.lock().state, ask)?;
    let about_people: Vec<&str> = PERMISSIONS.iter().copied().chain(["connected"]).collect();
    let object = need("object")?;
    let known = match object {
        "page" => FIELDS,
        "permissions" => &about_people,
        _ => return Err(GraphError::new(100, 0, "(#100) Param object must be one of {page, permissions}")),
    };
    let fields = ask.list("fields");
    check_fields("fields", &fields, known)?;
    let (callback_url, verify_token) = (need("callback_url")?, need("verify_token")?);
    handshake(world, callback_url, verify_token).await?;
    let include_values = matches!(ask.param("include_values"), Some("true" | "1"));
    let subscription = Some(AppSubscription {
        callback_url: callback_url.to_owned(),
        verify_token: verify_token.to_owned(),
        fields: fields.iter().cloned().collect(),
        include_values,
    });
    world.change(|s| match object {
        "page" => s.app.subscription = subscription,
        _ => s.app.permissions = subscription,
    });
    world.tell(ActivityKind::Webhook, None, true, format!("the app is subscribed to {}", fields.join(", ")));
    Ok(Answer::json(&json!({"success": true})))
}

/// Asks the callback to prove that it knows the token, while the subscriber waits.
async fn handshake(world: &World, callback_url: &str, verify_token: &str) -> Result<(), GraphError> {
    let challenge = format!("{}", 1_000_000_000 + world.tick() * 7919);
    let failed = |what: String| {
        let text = format!("(#2200) Callback verification failed with the following errors: {what}");
        Err(GraphError { status: 400, ..GraphError::new(2200, 0, text) })
    };
    let query = [("hub.mode", "subscribe"), ("hub.challenge", &challenge), ("hub.verify_token", verify_token)];
    let sent = world.http().get(callback_url).query(&query).timeout(Duration::from_secs(10)).send().await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(_) => return failed("HTTP Status Code = 0; the callback could not be reached".into()),
    };
    if answer.status().as_u16() != 200 {
        let (code, words) = (answer.status().as_u16(), answer.status().canonical_reason().unwrap_or_default());
        return failed(format!("HTTP Status Code = {code}; HTTP Message = {words}"));
    }
    match answer.text().await {
        Ok(text) if text == challenge => Ok(()),
        _ => failed("HTTP Status Code = 200; the challenge did not come back".into()),
    }
}
