//! What Facebook sends: webhooks, and the two callbacks with a signed request.
//!
//! Changes wait in a queue of the world. The sender makes one delivery of all that wait and retries it until the
//! callback answers 200, at growing intervals and for a limited time. Each delivery is retried on its own, so they may
//! overtake each other. Faults double, reverse, delay or drop deliveries.

mod change;

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::ActivityKind;
use super::fault::Fault;
use super::sign;
use super::world::{EditError, World};
use crate::core::model::WallTime;

use self::change::Object;
pub(crate) use self::change::WebhookChange;

const BATCH: usize = 1000;
const ATTEMPTS: u32 = 200;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// One delivery's body, and what it is about.
#[derive(Debug, Clone)]
struct Letter {
    object: Object,
    body: String,
}

/// Why Facebook could not speak.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// There is no such person or page.
    #[error(transparent)]
    Nobody(#[from] EditError),
    /// The app has set no address.
    #[error("the app has no address for this callback yet")]
    NoAddress,
    /// The daemon could not be reached, or its answer could not be read.
    #[error("the callback could not be reached")]
    Unreachable(#[source] reqwest::Error),
}

impl From<reqwest::Error> for CallbackError {
    fn from(error: reqwest::Error) -> Self {
        CallbackError::Unreachable(error.without_url())
    }
}

impl World {
    /// The `X-Hub-Signature-256` that Facebook would put on this body.
    pub fn sign(&self, body: &[u8]) -> String {
        format!("sha256={}", sign::hmac_sha256_hex(&self.look(|s| s.app.secret.clone()), body))
    }

    /// Posts a webhook with this body and this `X-Hub-Signature-256` (none at all for `None`), once, to where the app
    /// is subscribed. Returns the status.
    pub async fn send_raw(&self, body: impl Into<Vec<u8>>, signature: Option<&str>) -> Result<u16, CallbackError> {
        let callback = self.look(|s| s.app.subscription.as_ref().map(|app| app.callback_url.clone()));
        let mut request = self.http().post(callback.ok_or(CallbackError::NoAddress)?).body(body.into());
        request = request.header("content-type", "application/json").timeout(ANSWER_WITHIN);
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        Ok(request.send().await?.status().as_u16())
    }

    fn claims(&self, person: &str) -> Result<String, CallbackError> {
        if !self.look(|s| s.persons.contains_key(person)) {
            return Err(EditError::NoPerson(person.chars().take(64).collect()).into());
        }
        let now = WallTime::now().0 / 1000;
        let claims = json!({"user_id": person, "algorithm": "HMAC-SHA256", "issued_at": now, "expires": now + 3600});
        Ok(sign::signed_request(&self.look(|s| s.app.secret.clone()), &claims))
    }

    /// Tells the app that the person removed it. Returns the status.
    pub async fn send_deauthorize(&self, person: &str) -> Result<u16, CallbackError> {
        let address = self.look(|s| s.app.deauthorize_url.clone()).ok_or(CallbackError::NoAddress)?;
        let form = [("signed_request", self.claims(person)?)];
        let status = self.http().post(address).form(&form).timeout(ANSWER_WITHIN).send().await?.status();
        self.tell(ActivityKind::Webhook, None, status == 200, format!("deauthorize callback: {}", status.as_u16()));
        Ok(status.as_u16())
    }

    /// Tells the app that the person wants their data deleted. Returns the status and what was answered (`null` when
    /// that is no JSON).
    pub async fn send_data_deletion(&self, person: &str) -> Result<(u16, Value), CallbackError> {
        let address = self.look(|s| s.app.data_deletion_url.clone()).ok_or(CallbackError::NoAddress)?;
        let form = [("signed_request", self.claims(person)?)];
        let answer = self.http().post(address).form(&form).timeout(ANSWER_WITHIN).send().await?;
        let status = answer.status().as_u16();
        self.tell(ActivityKind::Webhook, None, status == 200, format!("data deletion callback: {status}"));
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }

    /// Webhooks that wait to be sent or did not get their 200 so far.
    pub fn undelivered(&self) -> usize {
        let inner = self.lock();
        inner.changes.len() + inner.retrying
    }
}

/// Sends the world's changes, until stopped.
pub(crate) async fn run(world: World, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = world.change_queued().notified() => {}
        }
        // Edits that come together travel together.
        tokio::time::sleep(Duration::from_millis(5)).await;
        for (changes, letters) in deliveries(&world) {
            for letter in letters {
                let (world, stop) = (world.clone(), stop.clone());
                tasks.spawn(async move {
                    tokio::select! { () = stop.cancelled() => {}, () = deliver(&world, &letter) => {} }
                    world.lock().retrying -= changes;
                });
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Makes deliveries of the changes that wait: each with its number of changes, two alike when doubled.
fn deliveries(world: &World) -> Vec<(usize, Vec<Letter>)> {
    let mut inner = world.lock();
    let inner = &mut *inner;
    if inner.switches.is_on(Fault::WebhooksLate) {
        return Vec::new();
    }
    let mut all: Vec<WebhookChange> = inner.changes.drain(..).collect();
    if inner.switches.is_on(Fault::WebhooksLost) {
        return Vec::new();
    }
    if inner.switches.is_on(Fault::WebhooksReordered) {
        all.reverse();
    }
    let bare = inner.switches.is_on(Fault::WebhooksBare);
    let copies = if inner.switches.is_on(Fault::WebhooksDuplicated) { 2 } else { 1 };
    // Counted before the lock goes, so that nothing seems delivered in between.
    inner.retrying += all.len() * copies;
    let letters = all.chunk_by(|a, b| a.object == b.object).flat_map(|about| about.chunks(BATCH));
    letters
        .map(|batch| {
            let object = batch[0].object;
            let values = object.subscription(&inner.state).is_some_and(|app| app.include_values) && !bare;
            (batch.len(), vec![Letter { object, body: body(batch, values) }; copies])
        })
        .collect()
}

/// Neighbours about one page or person share an entry; one may have several entries all the same.
fn body(changes: &[WebhookChange], values: bool) -> String {
    let time = WallTime::now().0 / 1000;
    let object = changes.first().map_or(Object::Page, |change| change.object);
    let entry = |mut entry: Value| {
        if object == Object::Permissions {
            entry["uid"] = entry["id"].clone();
        }
        entry
    };
    let entries: Vec<Value> = changes
        .chunk_by(|a, b| a.id == b.id)
        .map(|group| {
            if !values {
                let fields: Vec<&str> = group.iter().map(|n| n.field.as_str()).collect();
                return entry(json!({"id": group[0].id, "time": time, "changed_fields": fields}));
            }
            let changes: Vec<Value> = group
                .iter()
                .map(|n| match &n.value {
                    Some(value) => json!({"field": n.field, "value": value}),
                    None => json!({"field": n.field}),
                })
                .collect();
            entry(json!({"id": group[0].id, "time": time, "changes": changes}))
        })
        .collect();
    sign::meta_json(&json!({"object": object.word(), "entry": entries}))
}

async fn deliver(world: &World, letter: &Letter) {
    let mut pause = FIRST_PAUSE;
    for _ in 0..ATTEMPTS {
        match attempt(world, letter).await {
            Ok(200) => {
                world.tell(ActivityKind::Webhook, None, true, "webhook delivered");
                return;
            }
            Ok(status) => world.tell(ActivityKind::Webhook, None, false, format!("webhook answered {status}")),
            Err(_) => world.tell(ActivityKind::Webhook, None, false, "webhook not answered"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    world.tell(ActivityKind::Webhook, None, false, "webhook given up");
}

async fn attempt(world: &World, letter: &Letter) -> Result<u16, CallbackError> {
    let body = &letter.body;
    let (secret, callback) =
        world.look(|s| (s.app.secret.clone(), letter.object.subscription(s).map(|a| a.callback_url.clone())));
    let secret = if world.is_fault_on(Fault::WebhooksForged) { "somebody else's" } else { secret.as_str() };
    let mut request = world.http().post(callback.ok_or(CallbackError::NoAddress)?);
    request = request.header("content-type", "application/json").header("user-agent", "facebookexternalua");
    request = request.header("x-hub-signature", format!("sha1={}", sign::hmac_sha1_hex(secret, body.as_bytes())));
    if !world.is_fault_on(Fault::WebhooksSha1) {
        let signature = format!("sha256={}", sign::hmac_sha256_hex(secret, body.as_bytes()));
        request = request.header("x-hub-signature-256", signature);
    }
    Ok(request.timeout(ANSWER_WITHIN).body(body.to_owned()).send().await?.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_metas_shapes() {
        let changes = [
            WebhookChange::change("1", "name", Some("Grün".into())),
            WebhookChange::change("1", "phone", None),
            WebhookChange::change("2", "hours", None),
        ];
        let read = |values| serde_json::from_str::<Value>(&body(&changes, values)).unwrap();
        let (full, bare) = (read(true), read(false));
        assert_eq!(full["entry"][0]["changes"], json!([{"field": "name", "value": "Grün"}, {"field": "phone"}]));
        assert_eq!(bare["entry"][0]["changed_fields"], json!(["name", "phone"]));
        assert_eq!(bare["entry"][1]["id"], "2");
        let gone = WebhookChange::revoked("77", "pages_show_list", &["1".to_owned()].into());
        let persons: Value = serde_json::from_str(&body(&[gone], true)).unwrap();
        let value = json!({"verb": "revoked", "target_ids": ["1"]});
        assert_eq!((&persons["object"], &persons["entry"][0]["uid"]), (&"permissions".into(), &"77".into()));
        assert_eq!(persons["entry"][0]["changes"], json!([{"field": "pages_show_list", "value": value}]));
        assert!(body(&changes, true).contains("Gr\\u00fcn"));
    }
}
