//! Webhooks from Meta: the handshake, and deliveries.
//!
//! The order is what makes it safe: limits, the signature over the raw bytes, only then parsing; then the marks, and
//! when they are durable, 200. A delivery without a usable signature header is refused before its body is read.
//!
//! A delivery's content is a hint and is not applied: whatever an entry says, and in whatever shape (`changes` with or
//! without values, `changed_fields`, `messaging`), its page is marked and read. Meta repeats, reorders and batches
//! deliveries; marks make all of that harmless.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, StatusCode};
use hyper::body::{Body, Incoming};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::answers;
use super::body::{self, NoBody};
use super::server::{Answer, Conn};
use crate::config::Config;
use crate::house::House;
use crate::model::{Cause, PageId};
use crate::signature::verify_webhook;

const MAX_CHALLENGE: usize = 256;
/// When Meta should come back after a 503.
const RETRY_AFTER_SECS: u32 = 5;
/// How long a delivery waits for the disk.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// The GET handshake: the bare challenge, or 403.
pub(super) fn handshake(house: &House, query: &str) -> Answer {
    let setup = house.setup();
    let (mut mode, mut token, mut challenge) = (None, None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "hub.mode" => mode = Some(value),
            "hub.verify_token" => token = Some(value),
            "hub.challenge" => challenge = Some(value),
            _ => {}
        }
    }
    let expected = setup.config.facebook.verify_token.expose();
    let known = token.is_some_and(|token| bool::from(token.as_bytes().ct_eq(expected.as_bytes())));
    let plain = |c: &str| !c.is_empty() && c.len() <= MAX_CHALLENGE && c.bytes().all(|b| b.is_ascii_graphic());
    match challenge {
        Some(challenge) if known && mode.as_deref() == Some("subscribe") && plain(&challenge) => {
            answers::text(StatusCode::OK, challenge.into_owned())
        }
        _ => answers::error(StatusCode::FORBIDDEN, "forbidden", "this is not the handshake of a known subscription"),
    }
}

/// A delivery.
pub(super) async fn deliver(house: &Arc<House>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let started = Instant::now();
    let (result, answer) = match accept(house, request, conn).await {
        Ok(()) => ("accepted", answers::json(StatusCode::OK, &json!({"status": "success"}))),
        Err(refusal) => refusal.answer(),
    };
    house.metrics.delivery(result, started.elapsed());
    answer
}

enum Refusal {
    Signature,
    NoBody(NoBody),
    NotJson,
    NotDurable,
}

impl Refusal {
    fn answer(self) -> (&'static str, Answer) {
        match self {
            Refusal::Signature => (
                "bad_signature",
                answers::error(
                    StatusCode::UNAUTHORIZED,
                    "bad_signature",
                    "the delivery is not signed with the app secret",
                ),
            ),
            Refusal::NoBody(why) => {
                let result = match why {
                    NoBody::TooLarge => "too_large",
                    NoBody::TooSlow => "too_slow",
                    NoBody::Broken => "malformed",
                };
                (result, answers::no_body(why))
            }
            Refusal::NotJson => {
                ("malformed", answers::error(StatusCode::BAD_REQUEST, "not_json", "the body is not JSON"))
            }
            Refusal::NotDurable => {
                let text = "the delivery cannot be made durable at the moment; send it again";
                ("unavailable", answers::unavailable(text, RETRY_AFTER_SECS))
            }
        }
    }
}

async fn accept(house: &Arc<House>, request: Request<Incoming>, conn: &Conn) -> Result<(), Refusal> {
    let setup = house.setup();
    let http = &setup.config.http;
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > http.max_body_bytes as u64 {
        return Err(Refusal::NoBody(NoBody::TooLarge));
    }
    let signatures = Signatures::of(&head.headers, &setup.config).ok_or(Refusal::Signature)?;
    let whole = body::read(body, http.max_body_bytes, http.body_timeout, conn).await.map_err(Refusal::NoBody)?;
    if !signatures.cover(&whole.bytes, &setup.config) {
        return Err(Refusal::Signature);
    }
    let delivery: Delivery = match serde_json::from_slice(&whole.bytes) {
        Ok(delivery) => delivery,
        // JSON, and not an object: about nobody.
        Err(error) if error.is_data() => Delivery::default(),
        Err(_) => return Err(Refusal::NotJson),
    };
    mark(house, delivery).await
}

/// Everything named is marked durably, then told.
async fn mark(house: &Arc<House>, delivery: Delivery) -> Result<(), Refusal> {
    if !delivery.is_about_pages {
        tracing::debug!("a delivery about something else");
        return Ok(());
    }
    let named: Vec<PageId> = delivery.pages.into_iter().collect();
    // A disk that hangs is answered like one that refuses; a mark that is made after all does no harm.
    let marked = tokio::time::timeout(DURABLE_WITHIN, house.store.mark_pages(&named, Cause::Webhook)).await;
    let links = marked.map_err(|_| Refusal::NotDurable)?.map_err(|_| Refusal::NotDurable)?;
    tracing::debug!(pages = named.len(), links = links.len(), "a delivery is durable");
    house.directory.tell(&links, Cause::Webhook);
    Ok(())
}

/// The signature headers of a request, well formed.
struct Signatures {
    sha256: Option<String>,
    sha1: Option<String>,
}

impl Signatures {
    /// `None` when no header could ever fit: refused before the body is read.
    fn of(headers: &HeaderMap, config: &Config) -> Option<Self> {
        let header = |name: &str, prefix: &str, digits: usize| {
            let value = headers.get(name)?.to_str().ok()?;
            let hex = value.strip_prefix(prefix)?;
            let formed = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
            formed.then(|| value.to_owned())
        };
        let present = headers.contains_key("x-hub-signature-256");
        let sha256 = header("x-hub-signature-256", "sha256=", 64);
        let sha1 = header("x-hub-signature", "sha1=", 40).filter(|_| !present && config.facebook.accept_sha1);
        (sha256.is_some() || sha1.is_some()).then_some(Signatures { sha256, sha1 })
    }

    fn cover(&self, body: &[u8], config: &Config) -> bool {
        let f = &config.facebook;
        let secrets: Vec<_> = [Some(&f.app_secret), f.previous_app_secret.as_ref()].into_iter().flatten().collect();
        verify_webhook(self.sha256.as_deref(), self.sha1.as_deref(), body, &secrets, f.accept_sha1)
    }
}

/// What is read of a delivery: what it is about, and every id that an entry names. Everything else is passed over
/// without being kept, and nothing that is JSON is refused: one odd entry must not cost the pages that others name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Delivery {
    is_about_pages: bool,
    pages: BTreeSet<PageId>,
}

impl<'de> Deserialize<'de> for Delivery {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut delivery = Delivery::default();
        from.deserialize_any(Members(|key: &str, value: Node| match (key, value) {
            ("object", Node::Text(object)) => delivery.is_about_pages |= object == "page",
            ("entry", Node::Ids(ids)) => delivery.pages.extend(ids),
            _ => {}
        }))?;
        Ok(delivery)
    }
}

/// A value as far as it matters here: text, or the ids of the objects in it.
enum Node {
    Text(String),
    Ids(Vec<PageId>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

/// Longer text is no id and no word that is known here.
const MAX_WORD: usize = 64;

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(if text.len() <= MAX_WORD { text.to_owned() } else { String::new() }))
    }

    /// Meta's samples have ids as text and as numbers.
    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Ids(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Ids(Vec::new()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Ids(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Ids(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut ids = Vec::new();
        while let Some(Entry(found)) = items.next_element()? {
            ids.extend(found);
        }
        Ok(Node::Ids(ids))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Node, A::Error> {
        NodeVisitor::ids_of(members).map(Node::Ids)
    }
}

impl NodeVisitor {
    fn ids_of<'de, A: MapAccess<'de>>(mut members: A) -> Result<Vec<PageId>, A::Error> {
        let mut ids = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            if key == "id" {
                let Word(word) = members.next_value()?;
                ids.extend(word.and_then(|word| word.parse().ok()));
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(ids)
    }
}

/// One entry: the ids that stand directly in it.
struct Entry(Vec<PageId>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match from.deserialize_any(NodeVisitor)? {
            Node::Ids(ids) => Entry(ids),
            Node::Text(_) => Entry(Vec::new()),
        })
    }
}

/// Text or a number; nothing for anything else.
struct Word(Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match from.deserialize_any(NodeVisitor)? {
            Node::Text(text) => Word(Some(text)),
            Node::Ids(_) => Word(None),
        })
    }
}

/// Hands each member of an object to a closure; anything but an object has none.
struct Members<F>(F);

impl<'de, F: FnMut(&str, Node)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            if key == "object" || key == "entry" {
                let value = members.next_value()?;
                (self.0)(&key, value);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(body: &str) -> Vec<String> {
        let delivery: Delivery = serde_json::from_str(body).unwrap();
        assert!(delivery.is_about_pages, "{body}");
        delivery.pages.into_iter().map(String::from).collect()
    }

    #[test]
    fn every_shape_names_its_pages() {
        for body in [
            r#"{"object":"page","entry":[{"id":"123","time":1458692752,"changes":[{"field":"name","value":"New"}]}]}"#,
            r#"{"object":"page","entry":[{"id":"123","time":1449589360,"changes":[{"field":"parking"}]}]}"#,
            r#"{"object":"page","entry":[{"id":123,"time":1458692752,"changed_fields":["name","phone"]}]}"#,
            r#"{"object":"page","entry":[{"id":"123","messaging":[{"sender":{"id":"9"},"message":{"text":"hi"}}]}]}"#,
            r#"{"entry":[{"changes":[{"field":"x","value":[[{}]]}],"id":"123"}],"object":"page","extra":{"a":[1]}}"#,
        ] {
            assert_eq!(pages(body), ["123"], "{body}");
        }
        assert_eq!(pages(r#"{"object":"page","entry":[{"id":"1"},{"id":"2"},{"id":"1"}]}"#), ["1", "2"]);
    }

    #[test]
    fn strange_entries_name_nobody() {
        for body in [
            r#"{"object":"page"}"#,
            r#"{"object":"page","entry":[{}]}"#,
            r#"{"object":"page","entry":[{"id":null}]}"#,
            r#"{"object":"page","entry":[{"id":{"a":1}}]}"#,
            r#"{"object":"page","entry":[{"id":"../x"}]}"#,
            r#"{"object":"page","entry":[{"id":-5}]}"#,
            r#"{"object":"page","entry":"123"}"#,
            r#"{"object":"page","entry":[{"changes":[{"id":"123"}]}]}"#,
        ] {
            assert!(pages(body).is_empty(), "{body}");
        }
    }

    #[test]
    fn an_odd_entry_costs_no_other_page() {
        for body in [
            r#"{"object":"page","entry":[{"id":"123"},"x",7,null,[[]],{"id":true}]}"#,
            r#"{"entry":[{"id":"123","id":[1]}],"object":"page","object":"page"}"#,
            r#"{"object":"page","entry":{"id":"123"}}"#,
            r#"{"object":"page","entry":[],"entry":[{"id":123}]}"#,
        ] {
            assert_eq!(pages(body), ["123"], "{body}");
        }
        for body in ["[]", "\"page\"", "7", "null"] {
            assert!(serde_json::from_str::<Delivery>(body).is_err_and(|e| e.is_data()), "{body}");
        }
    }
}
