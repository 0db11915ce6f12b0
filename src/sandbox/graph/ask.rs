//! A request to Graph, parsed.

use std::collections::BTreeMap;

use http::request::Parts;

use super::answer::GraphError;
use crate::sandbox::fault::Call;
use crate::sandbox::world::World;
use crate::sandbox::world::state::State;
use crate::sandbox::world::tokens::Caller;

/// One request to Graph.
pub(crate) struct Ask {
    pub(crate) method: String,
    /// The path without the version.
    pub(crate) path: String,
    pub(crate) segments: Vec<String>,
    /// Query and form together. Lists (`a=1&a=2`) are joined by commas.
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) token: Option<String>,
    pub(crate) call: Call,
    /// The version that answers: the newest alive where none is named, the oldest for one that is dead.
    pub(crate) served: u32,
    version_asked: Option<u32>,
    newest: u32,
    /// `http://host`, for links to the next part of a listing.
    pub(crate) base: String,
    conditional: bool,
}

impl Ask {
    pub(crate) fn new(world: &World, head: &Parts, body: &[u8], host: String) -> Self {
        let mut segments: Vec<String> =
            head.uri.path().split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let version_asked = segments.first().and_then(|s| version(s));
        if version_asked.is_some() {
            segments.remove(0);
        }
        let mut params = BTreeMap::new();
        let form = head.headers.get("content-type").and_then(|t| t.to_str().ok()).unwrap_or_default();
        let form = if form.starts_with("application/x-www-form-urlencoded") { body } else { b"" };
        let query = head.uri.query().unwrap_or_default().as_bytes();
        for (name, value) in url::form_urlencoded::parse(query).chain(url::form_urlencoded::parse(form)) {
            params
                .entry(name.into_owned())
                .and_modify(|all: &mut String| {
                    all.push(',');
                    all.push_str(&value);
                })
                .or_insert_with(|| value.into_owned());
        }
        let bearer = head.headers.get("authorization").and_then(|a| a.to_str().ok());
        let bearer = bearer.and_then(|a| a.strip_prefix("Bearer ")).map(|t| t.trim().to_owned());
        let token = bearer.or_else(|| params.get("access_token").cloned());
        let (oldest, newest) = world.look(|s| s.versions);
        let method = params.get("method").cloned().unwrap_or_else(|| head.method.as_str().to_owned()).to_uppercase();
        let call = world.look(|s| classify(s, &method, &segments, &params));
        Ask {
            path: format!("/{}", segments.join("/")),
            method,
            segments,
            params,
            token,
            call,
            served: version_asked.unwrap_or(newest).clamp(oldest, newest),
            version_asked,
            newest,
            base: format!("http://{host}"),
            conditional: head.headers.contains_key("if-none-match"),
        }
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// A comma list.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let text = self.param(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }

    /// The page the request is about.
    pub(crate) fn page(&self) -> Option<&str> {
        let about = matches!(self.call, Call::ReadPage | Call::ReadSubscribed | Call::Subscribe | Call::Unsubscribe);
        self.segments.first().map(String::as_str).filter(|_| about)
    }

    /// The fields asked for, without their modifiers and sub-selections.
    pub(crate) fn fields(&self) -> Option<Vec<String>> {
        let text = self.param("fields")?;
        let (mut depth, mut fields, mut word) = (0_i32, Vec::new(), String::new());
        for c in text.chars().chain([',']) {
            match c {
                '{' | '(' => depth += 1,
                '}' | ')' => depth -= 1,
                ',' if depth == 0 => {
                    let name = word.split('.').next().unwrap_or_default().trim().to_owned();
                    if !name.is_empty() {
                        fields.push(name);
                    }
                    word.clear();
                }
                c if depth == 0 => word.push(c),
                _ => {}
            }
        }
        Some(fields)
    }

    /// What v26.0 took away from all versions, and versions that never were.
    pub(crate) fn refuse_removed(&self) -> Result<(), GraphError> {
        if let Some(asked) = self.version_asked.filter(|v| *v > self.newest) {
            return Err(GraphError::new(2500, 0, format!("Unknown path components: /v{asked}.0{}", self.path)));
        }
        for gone in ["ids", "date_format", "debug", "pretty"] {
            if self.params.contains_key(gone) {
                return Err(GraphError::new(100, 0, format!("(#100) The parameter {gone} is no longer supported")));
            }
        }
        if self.conditional {
            return Err(GraphError::new(100, 0, "(#100) Conditional requests are no longer supported"));
        }
        Ok(())
    }

    /// Who asks; checks the proof when there is one or must be one.
    pub(crate) fn caller(&self, state: &State) -> Result<(Caller, String), GraphError> {
        let Some(token) = self.token.as_deref().filter(|t| !t.is_empty()) else {
            return Err(GraphError::row(104, 0));
        };
        let proof = self.param("appsecret_proof");
        if proof.is_none() && state.app.require_proof {
            let text = "API calls from the server require an appsecret_proof argument";
            return Err(GraphError { kind: "GraphMethodException", ..GraphError::new(100, 0, text) });
        }
        if proof.is_some_and(|p| p != crate::sandbox::sign::hmac_sha256_hex(&state.app.secret, token.as_bytes())) {
            let text = "Invalid appsecret_proof provided in the API argument";
            return Err(GraphError { kind: "GraphMethodException", ..GraphError::new(100, 0, text) });
        }
        Ok((state.caller(token)?, token.to_owned()))
    }

    /// The person who asks with a user token; a page's token is a page's and has no such edge.
    pub(crate) fn person(&self, state: &State) -> Result<(String, String), GraphError> {
        match self.caller(state)? {
            (Caller::Person(person), token) => Ok((person, token)),
            (Caller::Page { .. }, _) => {
                let edge = self.segments.get(1).map_or("", String::as_str);
                let text = format!("(#100) Tried accessing nonexisting field ({edge}) on node type (Page)");
                Err(GraphError::new(100, 0, text))
            }
            (Caller::App, _) => {
                let text = "An active access token must be used to query information about the current user.";
                Err(GraphError::new(2500, 0, text))
            }
        }
    }
}

fn version(segment: &str) -> Option<u32> {
    let (major, minor) = segment.strip_prefix('v')?.split_once('.')?;
    minor.parse::<u32>().ok().and(major.parse().ok())
}

fn classify(state: &State, method: &str, segments: &[String], params: &BTreeMap<String, String>) -> Call {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let person = |id: &str| id == "me" || state.persons.contains_key(id);
    match (method, parts.as_slice()) {
        (_, ["dialog", "oauth"]) => Call::Dialog,
        ("GET" | "POST", ["oauth", "access_token"]) => match params.get("grant_type").map(String::as_str) {
            Some("fb_exchange_token") => Call::ExtendToken,
            Some("client_credentials") => Call::AppToken,
            _ => Call::ExchangeCode,
        },
        ("GET", ["debug_token"]) => Call::DebugToken,
        ("GET", [id]) if person(id) => Call::Me,
        ("GET", [id, "permissions"]) if person(id) => Call::Permissions,
        ("DELETE", [id, "permissions"] | [id, "permissions", _]) if person(id) => Call::Revoke,
        ("GET", [id, "accounts"]) if person(id) => Call::Accounts,
        ("GET", [id, "businesses"]) if person(id) => Call::Businesses,
        ("GET", [id, "owned_pages"]) if state.businesses.contains_key(*id) => Call::OwnedPages,
        ("GET", [id, "client_pages"]) if state.businesses.contains_key(*id) => Call::ClientPages,
        ("GET", [_, "subscribed_apps"]) => Call::ReadSubscribed,
        ("POST", [_, "subscribed_apps"]) => Call::Subscribe,
        ("DELETE", [_, "subscribed_apps"]) => Call::Unsubscribe,
        ("GET", [id, "subscriptions"]) if *id == state.app.id => Call::ReadAppSubscriptions,
        ("POST", [id, "subscriptions"]) if *id == state.app.id => Call::AppSubscribe,
        ("DELETE", [id, "subscriptions"]) if *id == state.app.id => Call::AppUnsubscribe,
        ("GET", [id]) if id.bytes().all(|b| b.is_ascii_digit()) => Call::ReadPage,
        _ => Call::OtherGraph,
    }
}
