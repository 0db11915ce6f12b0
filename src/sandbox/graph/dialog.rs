//! The login dialog, with a note that it is a sandbox.
//!
//! A browser gets a form; a test posts the form's fields to the same address, with the same query: `person` (an
//! app-scoped id; the first person without it), `pages` (ids joined by commas, or `all`), `decision` (`continue` or
//! `cancel`). Redirect addresses are matched exactly, and a wrong one gets a page, never a redirect.

use std::collections::BTreeSet;

use super::answer::Answer;
use super::ask::Ask;
use crate::sandbox::world::World;
use crate::sandbox::world::state::{PERMISSIONS, State};

const STYLE: &str = include_str!("dialog.css");
const SCRIPT: &str = include_str!("dialog.js");

/// Text that is safe between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

pub(crate) fn answer(world: &World, ask: &Ask) -> Answer {
    let redirect = match check(&world.lock().state, ask) {
        Ok(redirect) => redirect,
        Err(words) => return Answer::html(400, frame("Something is wrong", &format!("<p>{}</p>", escape(&words)))),
    };
    if ask.method == "POST" { decide(world, ask, &redirect) } else { form(&world.lock().state, ask) }
}

/// The redirect address, or Facebook's complaint about the request.
fn check(state: &State, ask: &Ask) -> Result<String, String> {
    if ask.param("client_id") != Some(&state.app.id) {
        return Err("Invalid App ID: the provided app ID does not look like a valid app ID.".into());
    }
    if ask.param("response_type").is_some_and(|t| t != "code") {
        return Err("Invalid response_type.".into());
    }
    let redirect = ask.param("redirect_uri").unwrap_or_default();
    if !state.app.redirect_uris.contains(redirect) {
        return Err("URL blocked: this redirect failed because the redirect URI is not white-listed in the app's \
                    client OAuth settings."
            .into());
    }
    let strange = ask.list("scope").into_iter().find(|scope| !PERMISSIONS.contains(&scope.as_str()));
    match strange {
        Some(scope) => Err(format!("Invalid Scopes: {scope}. This message is only shown to developers.")),
        None => Ok(redirect.to_owned()),
    }
}

fn decide(world: &World, ask: &Ask, redirect: &str) -> Answer {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if ask.param("decision") == Some("continue") {
        let code = match consent(world, ask, redirect) {
            Ok(code) => code,
            Err(words) => return Answer::html(400, frame("Something is wrong", &format!("<p>{}</p>", escape(&words)))),
        };
        query.append_pair("code", &code);
    } else {
        query
            .append_pair("error", "access_denied")
            .append_pair("error_code", "200")
            .append_pair("error_description", "Permissions error")
            .append_pair("error_reason", "user_denied");
    }
    if let Some(state) = ask.param("state") {
        query.append_pair("state", state);
    }
    let joint = if redirect.contains('?') { '&' } else { '?' };
    Answer::redirect(format!("{redirect}{joint}{}#_=_", query.finish()))
}

/// The person accepts for the pages ticked. Only pages that the person runs can be ticked.
fn consent(world: &World, ask: &Ask, redirect: &str) -> Result<String, String> {
    let (person, pages) = {
        let state = &world.lock().state;
        let first = state.persons.keys().next().cloned().unwrap_or_default();
        let person = ask.param("person").map_or(first, str::to_owned);
        let own = |id: &String| state.pages.get(id).is_some_and(|p| !p.deleted && p.roles.contains_key(&person));
        let wanted: BTreeSet<String> = match ask.param("pages") {
            Some("all") => state.pages.keys().cloned().collect(),
            _ => ask.list("pages").into_iter().collect(),
        };
        let pages: BTreeSet<String> = wanted.into_iter().filter(own).collect();
        (person, pages)
    };
    // A declined permission is asked for again only if the app requests that.
    let mut scopes = ask.list("scope");
    if ask.param("auth_type") != Some("rerequest") {
        let declined = world.look(|s| s.persons.get(&person).map(|p| p.declined.clone())).unwrap_or_default();
        scopes.retain(|scope| !declined.contains(scope));
    }
    world.log_in(&person, &scopes, pages).map_err(|e| e.to_string())?;
    Ok(world.lock().state.mint_code(&person, redirect))
}

fn form(state: &State, ask: &Ask) -> Answer {
    let action = {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let known = ["client_id", "redirect_uri", "state", "scope", "response_type", "auth_type"];
        for name in known {
            if let Some(value) = ask.param(name) {
                query.append_pair(name, value);
            }
        }
        format!("?{}", query.finish())
    };
    let persons: String = state
        .persons
        .values()
        .map(|p| format!("<option value=\"{}\">{}</option>", escape(&p.id), escape(&p.name)))
        .collect();
    let pages: String = state
        .pages
        .values()
        .filter(|p| !p.deleted)
        .map(|p| {
            let roles = p.roles.keys().cloned().collect::<Vec<_>>().join(" ");
            let category = p.node.get("category").and_then(|c| c.as_str()).unwrap_or_default();
            let id = escape(p.id());
            format!(
                "<label class=page data-page=\"{id}\" data-roles=\"{}\"><input type=checkbox value=\"{id}\" checked>\
                 <span><b>{}</b><small>{}</small></span></label>",
                escape(&roles),
                escape(p.name()),
                escape(category)
            )
        })
        .collect();
    let scopes: String = ask.list("scope").iter().map(|s| format!("<li>{}</li>", escape(s))).collect();
    let body = format!(
        "<p class=lead><b>{app}</b> would like to look after your Pages.</p>\
         <form id=dialog method=post action=\"{action}\">\
         <label class=who>You are <select id=person name=person>{persons}</select></label>\
         <div class=bar><input id=filter type=search placeholder=\"Find a Page\" aria-label=\"Find a Page\">\
         <button type=button id=all>All</button><button type=button id=none>None</button></div>\
         <div id=pages>{pages}</div><input type=hidden name=pages id=chosen value=all>\
         <details><summary>Permissions asked for</summary><ul>{scopes}</ul></details>\
         <div class=foot><button name=decision value=cancel id=cancel>Cancel</button>\
         <button name=decision value=continue id=continue class=main>Continue</button></div></form>\
         <script>{SCRIPT}</script>",
        app = escape(&state.app.name),
        action = escape(&action),
    );
    Answer::html(200, frame("Log in", &body))
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><title>{title} - sandbox</title><link rel=icon href=\"data:,\"><style>{STYLE}</style></head><body><main>\
         <header><span class=mark>f</span><span>{title}</span><em>sandbox</em></header>{body}\
         <p class=note>This is not Facebook. It is the local world of the pagesyncd sandbox: nothing here leaves this \
         machine.</p></main></body></html>"
    )
}
