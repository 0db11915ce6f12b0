//! The receiver of events: it accepts them at `POST /events`, verifies each by the Standard Webhooks specification,
//! with code of its own, and records it.
//!
//! These count as violations: a signature with none of the receiver's secrets, the same id with another content, a
//! request to the target of a redirect. A timestamp that is off by more than five minutes is refused like a wrong
//! signature, but is the clock's fault.

mod memory;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::activity::ActivityKind;
use super::fault::{Call, Fault, Side};
use super::wire::{Body, Broken, Handler, collect, full};
use super::world::World;
use crate::core::model::WallTime;

pub(crate) use self::memory::Memory;
pub use self::memory::Received;

/// Where the daemon posts.
pub(crate) const PATH: &str = "/events";
const BODY_LIMIT: usize = 1 << 20;
/// The oldest are forgotten.
const KEPT: usize = 20_000;
/// How far a timestamp may be off, in seconds.
const TOLERANCE: u64 = 5 * 60;
const OFF: &str = "its timestamp is off";
/// The `Retry-After` while the receiver is busy, in seconds.
pub const RETRY_AFTER: u64 = 3;

impl World {
    /// The secrets of which one must have signed an event.
    pub fn set_notify_secrets(&self, secrets: impl IntoIterator<Item = String>) {
        self.lock().receiver.secrets = secrets.into_iter().collect();
    }

    /// Every attempt to deliver an event that could be read, oldest first.
    pub fn event_attempts(&self) -> Vec<Received> {
        self.lock().receiver.received.iter().cloned().collect()
    }

    /// The accepted events, oldest first, each once.
    pub fn events_taken(&self) -> Vec<Received> {
        let mut seen = BTreeSet::new();
        let mut taken = self.event_attempts();
        taken.retain(|event| event.taken && seen.insert(event.id.clone()));
        taken
    }

    /// The latest attempts, newest first.
    pub(crate) fn last_events(&self, count: usize) -> Vec<Received> {
        self.lock().receiver.received.iter().rev().take(count).cloned().collect()
    }

    fn remember(&self, mut event: Received, taken: bool) {
        event.taken = taken;
        let words = describe(&event);
        let page = event.page().map(str::to_owned);
        let mut inner = self.lock();
        let twin = inner.receiver.bodies.insert(event.id.clone(), event.bytes.clone());
        if twin.is_some_and(|twin| twin != event.bytes) {
            inner.activity.violation(format!("the event {} came with two contents", event.id));
        }
        if inner.receiver.received.len() == KEPT {
            inner.receiver.received.pop_front();
        }
        inner.receiver.received.push_back(event);
        drop(inner);
        self.tell(ActivityKind::Event, page.as_deref(), taken, words);
    }
}

fn describe(event: &Received) -> String {
    match event.body["data"]["changed"].as_array() {
        Some(changed) => {
            let fields: Vec<&str> = changed.iter().filter_map(Value::as_str).collect();
            let few = fields.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = if fields.len() > 5 { format!(" and {} more", fields.len() - 5) } else { String::new() };
            format!("event {}: {few}{more}", event.word())
        }
        None => format!("event {}", event.word()),
    }
}

pub(crate) fn handler(world: World) -> Handler {
    std::sync::Arc::new(move |request| {
        let world = world.clone();
        Box::pin(async move { answer(&world, request).await })
    })
}

async fn answer(world: &World, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
    let _inside = world.enter(Side::Events);
    let (head, body) = request.into_parts();
    if (head.method.as_str(), head.uri.path()) != ("POST", PATH) {
        world.lock().activity.violation(format!("the receiver was asked for {} {}", head.method, head.uri.path()));
        return Ok(plain(404));
    }
    let Some(bytes) = collect(body, BODY_LIMIT).await else { return Ok(plain(413)) };
    let event = match read(world, &head.headers, bytes) {
        Ok(event) => event,
        Err(wrong) => {
            if wrong != OFF {
                world.lock().activity.violation(format!("an event is not as it should be: {wrong}"));
            }
            world.tell(ActivityKind::Event, None, false, format!("an event is refused: {wrong}"));
            return Ok(plain(401));
        }
    };
    let struck = world.strike(Call::Event, event.page());
    let outcome = struck.first().map_or("ok".to_owned(), |fault| fault.to_string());
    world.note(Call::Event, "POST", PATH, event.page(), &outcome);
    let Some(fault) = struck.first() else {
        world.remember(event, true);
        return Ok(plain(204));
    };
    // A receiver whose answer is lost has the event.
    world.remember(event, *fault == Fault::EventsLostAnswer);
    match fault {
        Fault::EventsHang => std::future::pending().await,
        Fault::EventsReset | Fault::EventsLostAnswer => Err(Broken),
        Fault::EventsGone => Ok(plain(410)),
        Fault::EventsRejected => Ok(plain(422)),
        Fault::EventsRedirect => Ok(with(plain(307), "location", "/elsewhere")),
        Fault::EventsBusy => Ok(with(plain(429), "retry-after", &RETRY_AFTER.to_string())),
        _ => Ok(plain(500)),
    }
}

fn plain(status: u16) -> Response<Body> {
    let mut answer = Response::new(full(if status == 204 { "" } else { "the receiver of the sandbox says no" }));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

fn with(mut answer: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    if let Ok(value) = value.parse() {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// The event, if its signature is right.
fn read(world: &World, headers: &HeaderMap, bytes: Bytes) -> Result<Received, &'static str> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let id = header("webhook-id").ok_or("it has no webhook-id")?;
    let timestamp = header("webhook-timestamp").and_then(|t| t.parse::<u64>().ok()).ok_or("it has no timestamp")?;
    let signature = header("webhook-signature").ok_or("it has no signature")?;
    if header("content-type") != Some("application/json") {
        return Err("it is no application/json");
    }
    if (WallTime::now().0 / 1000).abs_diff(timestamp) > TOLERANCE {
        return Err(OFF);
    }
    let secrets = world.lock().receiver.secrets.clone();
    if !secrets.iter().any(|secret| is_signed(secret, id, timestamp, &bytes, signature)) {
        return Err("no secret made its signature");
    }
    let body = serde_json::from_slice(&bytes).map_err(|_| "its body is no JSON")?;
    let (id, signature) = (id.to_owned(), signature.to_owned());
    Ok(Received { at: WallTime::now(), id, timestamp, signature, bytes, body, taken: false })
}

fn is_signed(secret: &str, id: &str, timestamp: u64, bytes: &[u8], signature: &str) -> bool {
    let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let Some(mac) = key.and_then(|key| Hmac::<Sha256>::new_from_slice(&key).ok()) else { return false };
    let signed = [format!("{id}.{timestamp}.").as_bytes(), bytes].concat();
    let expected = STANDARD.encode(mac.chain_update(signed).finalize().into_bytes());
    let versions = signature.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    versions.fold(false, |found, one| found | bool::from(one.as_bytes().ct_eq(expected.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_vector_is_taken_and_a_changed_one_is_not() {
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let (id, at) = ("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553);
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = "v1a,xx v1,AAAA v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        assert!(is_signed(secret, id, at, body, signature));
        assert!(!is_signed(secret, id, at + 1, body, signature));
        assert!(!is_signed(secret, id, at, b"{}", signature));
        assert!(!is_signed(secret, id, at, body, "v1,"));
        assert!(!is_signed("whsec_AAAA", id, at, body, signature));
    }
}
