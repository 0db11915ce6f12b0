//! The cookies of a browser: its session, and the note of the user that Pages were linked for last.

use http::{HeaderMap, HeaderValue, header};

use super::server::Answer;
use crate::context::Setup;
use crate::core::model::{Secret, WallTime};
use crate::sources::facebook::oauth::{LinkedAs, consent};
use crate::store::sessions::{Session, secret_hash};
use crate::store::{Store, Unavailable};

/// The cookie that names the session.
const SESSION: &str = "session_id";
/// The cookie that holds the note.
const LINKED_AS: &str = "linked_as";
const MAX_COOKIE: usize = 256;
const MAX_NOTE: usize = 512;
/// A browser may hold the cookie for several paths; each one costs a look into the store.
const MAX_SESSIONS: usize = 8;

/// The values of a cookie, in the order of the header, without quotes and without empty ones.
fn values<'a>(headers: &'a HeaderMap, wanted: &'static str, longest: usize) -> impl Iterator<Item = &'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let values = pairs.filter(move |(name, value)| *name == wanted && value.len() <= longest);
    values.map(|(_, value)| value.trim_matches('"')).filter(|value| !value.is_empty())
}

/// The cookies that may be ids of sessions, at most [`MAX_SESSIONS`] of them.
pub(crate) fn session_ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    values(headers, SESSION, MAX_COOKIE).take(MAX_SESSIONS)
}

/// The hash of each session id.
pub(super) fn session_hashes(headers: &HeaderMap) -> Vec<[u8; 32]> {
    session_ids(headers).map(secret_hash).collect()
}

/// The sessions that the cookies name and that live.
pub(super) async fn sessions(store: &Store, headers: &HeaderMap) -> Result<Vec<Session>, Unavailable> {
    let mut sessions = Vec::new();
    for id in session_ids(headers) {
        sessions.extend(store.session(id).await?);
    }
    Ok(sessions)
}

/// The session of a browser that sends several: the one made last, which is the platform's latest word. The order in
/// the header follows paths and not time.
pub(super) fn newest(sessions: Vec<Session>) -> Option<Session> {
    sessions.into_iter().max_by_key(|session| (session.issued_at, session.expires_at))
}

/// The note, and the hash of its cookie.
pub(super) fn linked_as(setup: &Setup, headers: &HeaderMap) -> Option<(LinkedAs, [u8; 32])> {
    let now = WallTime::now();
    let parse = |text: &str| Some((LinkedAs::parse(text, setup.states.signer(), now)?, secret_hash(text)));
    values(headers, LINKED_AS, MAX_NOTE).find_map(parse)
}

/// `Lax`, because the dialog's redirect back must carry it; `Secure` wherever the address is https.
fn set(answer: &mut Answer, setup: &Setup, name: &str, value: &str, path: &str, seconds: u64) {
    let secure = if setup.config.http.public_url.starts_with("https://") { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Gives the browser this session, for as long as it lives.
pub(super) fn set_session(answer: &mut Answer, setup: &Setup, session: &Session) {
    let seconds = session.expires_at.since(WallTime::now()).as_secs();
    set(answer, setup, SESSION, session.id.expose(), "/", seconds);
}

/// Gives the browser of a newcomer a secret that its state is bound to. It is no session.
pub(super) fn set_newcomer(answer: &mut Answer, setup: &Setup, secret: &Secret) {
    set(answer, setup, SESSION, secret.expose(), "/", crate::sources::oauth::STATE_LIFETIME.as_secs());
}

/// Notes the user of this login in the browser.
pub(super) fn set_linked_as(answer: &mut Answer, setup: &Setup, note: &LinkedAs) {
    let text = note.text(setup.states.signer(), WallTime::now());
    set(answer, setup, LINKED_AS, &text, "/facebook/login", consent::NOTE_LIFETIME.as_secs());
}
