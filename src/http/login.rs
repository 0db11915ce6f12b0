//! The start of a login: whose browser is this, and off to the dialog.
//!
//! A browser is known by the `session_id` cookie, or becomes known by a one-time login link. The `state` that goes to
//! the dialog is signed, expires, and is bound to the session; that it works once is the store's to see to.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use rand::TryRngCore;
use url::form_urlencoded;

use super::answers;
use super::server::Answer;
use crate::house::{House, Setup};
use crate::model::{Millis, UserId};
use crate::oauth::{Dialog, dialog_url};
use crate::store::Unavailable;
use crate::store::sessions::{Session, secret_hash};

/// The cookie.
const COOKIE: &str = "session_id";
const MAX_COOKIE: usize = 256;
/// A browser may hold the cookie for several paths; each one costs a look into the store.
const MAX_SESSIONS: usize = 8;

/// `GET /facebook/login`.
pub(super) async fn begin(house: &Arc<House>, request: &Request<Incoming>) -> Answer {
    let setup = house.setup();
    let session = match find_session(house, &setup, request).await {
        Ok(Some(session)) => session,
        Ok(None) => return no_session(request),
        Err(error) => return unavailable(&error),
    };
    let mut nonce = [0u8; 16];
    if rand::rngs::OsRng.try_fill_bytes(&mut nonce).is_err() {
        return answers::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "no randomness from the system");
    }
    let state = setup.states.mint(session.user, secret_hash(session.id.expose()), Millis::now(), nonce);
    let redirect_uri = setup.config.redirect_uri();
    let dialog = Dialog {
        dialog_url: &setup.config.facebook.dialog_url,
        version: &setup.config.facebook.graph_version,
        app_id: &setup.config.facebook.app_id,
        redirect_uri: &redirect_uri,
        scopes: &setup.config.facebook.scopes,
    };
    let rerequest = parameter(request, "rerequest").is_some();
    let mut answer = answers::redirect(&dialog_url(&dialog, &state, rerequest));
    if let Ok(cookie) = HeaderValue::from_str(&cookie(&setup, &session)) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// A login link first, since whoever follows one means it; then the cookie; then, where allowed, a new user.
async fn find_session(
    house: &House,
    setup: &Setup,
    request: &Request<Incoming>,
) -> Result<Option<Session>, Unavailable> {
    if let Some(login) = parameter(request, "login")
        && let Some(session) = house.store.take_login(&login).await?
    {
        return Ok(Some(session));
    }
    if let Some(session) = session_of(house, request)? {
        return Ok(Some(session));
    }
    if setup.config.session.allow_new {
        return house.store.new_session(UserId::random(), setup.config.session.ttl).await.map(Some);
    }
    Ok(None)
}

/// The session that the request's cookie names.
pub(super) fn session_of(house: &House, request: &Request<Incoming>) -> Result<Option<Session>, Unavailable> {
    for id in session_ids(request.headers()) {
        if let Some(session) = house.store.session(id)? {
            return Ok(Some(session));
        }
    }
    Ok(None)
}

/// What the cookies give as ids of sessions, at most [`MAX_SESSIONS`] of them.
pub(crate) fn session_ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let values = pairs.filter(|(name, value)| *name == COOKIE && value.len() <= MAX_COOKIE);
    values.map(|(_, value)| value.trim_matches('"')).filter(|id| !id.is_empty()).take(MAX_SESSIONS)
}

/// `Lax`, because the dialog's redirect back must carry it; `Secure` wherever the address is https.
fn cookie(setup: &Setup, session: &Session) -> String {
    let secure = if setup.config.http.public_url.starts_with("https://") { "; Secure" } else { "" };
    let age = session.expires_at.since(Millis::now()).as_secs();
    format!("{COOKIE}={}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}", session.id.expose())
}

fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(super) fn unavailable(error: &Unavailable) -> Answer {
    tracing::warn!(%error, "a login cannot be served");
    answers::unavailable("the login cannot be kept at the moment; try again in a minute", 30)
}

fn no_session(request: &Request<Incoming>) -> Answer {
    let message =
        "this browser has no session here; open the login link that the platform gave you, or ask for a new one";
    if answers::wants_html(request.headers()) {
        let body = format!("<p>{}.</p>", answers::escape(message));
        return answers::page(StatusCode::BAD_REQUEST, "No session", &body);
    }
    answers::error(StatusCode::BAD_REQUEST, "no_session", message)
}
