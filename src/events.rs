//! The receiver of events: how one is signed and sent, and what its answer means.
//!
//! Requests follow the Standard Webhooks specification (<https://github.com/standard-webhooks/standard-webhooks>):
//! `webhook-id`, `webhook-timestamp` (of this attempt) and `webhook-signature`, an HMAC-SHA256 of
//! `{id}.{timestamp}.{body}` for each secret in force. The signing is ten lines over crates that are here anyway, whose
//! keys are wiped; the tests verify with the specification's own library, as a receiver would.
//!
//! Nothing here tries again or remembers; that is the notifier's. Time and answers are bounded: of an answer's body no
//! more than [`MOST_READ`] is taken, so that the connection can be used again, and none of it is kept or shown. An
//! event goes to `notify.url` and nowhere else, by the rules of `http_client`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::{Notify, decode_notify_secret};
use crate::core::event::Event;
use crate::core::model::WallTime;
use crate::http_client::{self, TlsFault, Trust};

/// Bytes of an answer's body that are read at most.
const MOST_READ: usize = 16 << 10;

/// Whose fault it is that an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The receiver is busy or out of reach, until then where it said so.
    Busy(Option<Duration>),
    /// A person must look at the receiver or at the settings.
    Settings,
    /// The receiver is there and does not take this event.
    Event,
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NotTaken {
    /// Whose fault it is.
    pub fault: Fault,
    /// What happened, in one line, and the way out where there is one.
    pub text: String,
}

/// Where events go, and the keys that sign them.
pub struct Receiver {
    url: Url,
    keys: Vec<Zeroizing<Vec<u8>>>,
    http: Client,
}

impl Receiver {
    /// The receiver of these settings; `None` when events are off.
    ///
    /// # Errors
    /// One line that names what cannot be made.
    pub fn new(settings: &Notify, trust: &Trust) -> Result<Option<Self>, String> {
        let (Some(url), Some(secret)) = (&settings.url, &settings.secret) else { return Ok(None) };
        let url = Url::parse(url).map_err(|_| "url is not an address".to_owned())?;
        let secrets = [Some(secret), settings.previous_secret.as_ref()].into_iter().flatten();
        let keys: Option<Vec<_>> = secrets.map(decode_notify_secret).collect();
        let keys = keys.ok_or("a secret is not whsec_ and base64")?;
        let http = http_client::client(settings.request_timeout, trust)
            .http1_only()
            .pool_max_idle_per_host(settings.max_in_flight)
            .build()
            .map_err(|e| format!("the http client cannot be built: {}", describe(e)))?;
        Ok(Some(Receiver { url, keys, http }))
    }

    /// Sends an event once, signed at `now`.
    ///
    /// # Errors
    /// [`NotTaken`] for everything but an answer of 200 to 299. The receiver may have it all the same.
    pub async fn send(&self, event: &Event, now: WallTime) -> Result<(), NotTaken> {
        let body = event.body();
        let timestamp = now.0 / 1000;
        let mut signature = HeaderValue::from_str(&signatures(&self.keys, &event.id, timestamp, &body))
            .map_err(|_| not_taken(Fault::Event, "the signature fits into no header"))?;
        signature.set_sensitive(true);
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let request = request.header("webhook-id", &event.id).header("webhook-timestamp", timestamp);
        let sent = request.header("webhook-signature", signature).body(body).send().await;
        let mut answer = sent.map_err(unanswered)?;
        let (status, hint) = (answer.status().as_u16(), http_client::retry_after(answer.headers()));
        // A connection can be used again only when the answer was read to its end. The bytes are thrown away.
        drop(http_client::beginning(&mut answer, MOST_READ).await);
        judge(status, hint)
    }
}

/// `webhook-signature`: one for each key, the first one's first.
fn signatures(keys: &[Zeroizing<Vec<u8>>], id: &str, timestamp: u64, body: &[u8]) -> String {
    let one = |key: &Zeroizing<Vec<u8>>| {
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        let mac = mac.chain_update(format!("{id}.{timestamp}.")).chain_update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    keys.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

fn not_taken(fault: Fault, text: &str) -> NotTaken {
    NotTaken { fault, text: text.to_owned() }
}

/// What an answer means. Everything but success is tried again, for ever; how soon depends on whose fault it is.
fn judge(status: u16, hint: Option<Duration>) -> Result<(), NotTaken> {
    let (fault, words) = match status {
        200..300 => return Ok(()),
        408 | 425 | 429 | 500.. => (Fault::Busy(hint), "is busy or broken"),
        300..=399 => (Fault::Settings, "redirects, which is not followed; set notify.url to where it leads"),
        401 | 403 => {
            (Fault::Settings, "does not accept the signature; compare notify.secret, and the clocks of both sides")
        }
        404 | 405 => (Fault::Settings, "has nothing there that takes events; correct notify.url"),
        410 => (Fault::Settings, "wants no events any more; set another notify.url, or none"),
        _ => (Fault::Event, "does not take this event; look into its log"),
    };
    Err(NotTaken { fault, text: format!("the receiver of events answers {status}: it {words}") })
}

/// No answer came. A certificate that is refused stays refused until a person acts.
fn unanswered(error: reqwest::Error) -> NotTaken {
    match TlsFault::of(&error) {
        Some(fault) => not_taken(Fault::Settings, &fault.text("notify.url", Some("notify.ca_file"))),
        None => not_taken(Fault::Busy(None), &describe(error)),
    }
}

/// The error and what caused it, without the address.
fn describe(error: reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "the receiver of events did not answer in time"
    } else {
        "the receiver of events is out of reach"
    };
    http_client::describe(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Secret;

    fn key(text: &str) -> Zeroizing<Vec<u8>> {
        decode_notify_secret(&Secret::new(text)).unwrap()
    }

    /// The vector of the specification's own libraries.
    #[test]
    fn a_signature_is_the_specifications() {
        let key = key("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signed = signatures(&[key], "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn the_specifications_library_accepts_either_secret_and_no_third() {
        let texts = ["a", "b", "c"].map(|byte| format!("whsec_{}", STANDARD.encode(byte.repeat(32))));
        let keys = [key(&texts[0]), key(&texts[1])];
        let now = WallTime::now().0 / 1000;
        let signed = signatures(&keys, "msg_1", now, b"{}");
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", signed.parse().unwrap());
        let verify =
            |text: &str, body: &[u8]| standardwebhooks::Webhook::new(text).unwrap().verify(body, &headers).is_ok();
        assert_eq!(texts.each_ref().map(|text| verify(text, b"{}")), [true, true, false]);
        assert!(!verify(&texts[0], b"{ }"));
    }

    #[test]
    fn answers_say_whose_fault_it_is() {
        let hint = Some(Duration::from_secs(7));
        for status in [200, 202, 204, 299] {
            assert_eq!(judge(status, hint), Ok(()));
        }
        for (status, fault) in [
            (500, Fault::Busy(hint)),
            (503, Fault::Busy(hint)),
            (429, Fault::Busy(hint)),
            (408, Fault::Busy(hint)),
            (301, Fault::Settings),
            (307, Fault::Settings),
            (401, Fault::Settings),
            (404, Fault::Settings),
            (410, Fault::Settings),
            (400, Fault::Event),
            (422, Fault::Event),
        ] {
            let wrong = judge(status, hint).unwrap_err();
            assert_eq!(wrong.fault, fault, "{status}");
            assert!(wrong.text.contains(&status.to_string()), "{}", wrong.text);
        }
    }
}
