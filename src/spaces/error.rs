//! What can go wrong with Spaces, as a *kind* that decides what the caller does: wait, ask a person, or send again.
//!
//! The verdict comes from the status and from the `<Code>` of S3's error document, and from nothing else. The document
//! itself stops here: S3 quotes the access key id, the string that was signed and the signature in it, so no part of
//! it but a `<Code>` of plain letters ever reaches a message, a log or a metric. An answer to HEAD has no body at all,
//! so its errors are judged by status alone; the next put or get of the same bucket gives the exact reason.
//!
//! A front proxy sends HTML or nothing with 429, 500, 502 or 504. An answer that is no S3 document is judged by its
//! status.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use s3::error::S3Error;

use crate::http_client::{self, TlsFault};

/// How much of an error document is read and searched for its `<Code>`. RGW writes it within the first hundred bytes.
pub(super) const SEARCHED_BYTES: usize = 4096;
/// The longest error code carried on.
const LONGEST_CODE: usize = 64;
/// The longest description of a broken connection carried on.
const LONGEST_CAUSE: usize = 300;

/// What the caller should do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpacesErrorKind {
    /// Spaces, the network or the way there is out for the moment: 5xx, a timeout, a refused connection. Heals by
    /// itself; back off with jitter.
    Busy,
    /// Spaces asks for fewer requests: 503 `SlowDown`, or 429. As [`Busy`](SpacesErrorKind::Busy), and a reason to
    /// slow every key, not only this one. RGW sends no `Retry-After` with it; a proxy before it may.
    SlowDown,
    /// A person must change a setting, a right, a quota or an account. Keep trying slowly: it may be put right on the
    /// other side.
    Misconfigured {
        /// What is wrong and where to look, in plain words.
        reason: &'static str,
    },
    /// This machine's clock is more than 15 minutes off, so that no signature is accepted.
    Clock,
    /// What arrived is not what was sent, or what answered is not S3. Nothing is known to be stored; send it again.
    Corrupt,
}

impl SpacesErrorKind {
    /// Its name in metrics and logs: `busy`, `slow_down`, `misconfigured`, `clock`, `corrupt`.
    pub fn word(self) -> &'static str {
        match self {
            SpacesErrorKind::Busy => "busy",
            SpacesErrorKind::SlowDown => "slow_down",
            SpacesErrorKind::Misconfigured { .. } => "misconfigured",
            SpacesErrorKind::Clock => "clock",
            SpacesErrorKind::Corrupt => "corrupt",
        }
    }

    /// Does it stay wrong until a person acts?
    pub fn needs_person(self) -> bool {
        matches!(self, SpacesErrorKind::Misconfigured { .. } | SpacesErrorKind::Clock)
    }

    /// What it means, in plain words, with the way out where there is one.
    pub fn text(self) -> &'static str {
        match self {
            SpacesErrorKind::Busy => "spaces cannot answer at the moment",
            SpacesErrorKind::SlowDown => "spaces asks for fewer requests",
            SpacesErrorKind::Misconfigured { reason } => reason,
            SpacesErrorKind::Clock => {
                "this machine's clock is more than 15 minutes off, so spaces refuses every signature; set the clock"
            }
            SpacesErrorKind::Corrupt => "the transfer was damaged on the way",
        }
    }
}

/// A request to Spaces that failed. Its texts hold no key, signature, address or body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {message}{}", status_text(*.status, .code.as_deref()))]
pub struct SpacesError {
    /// Decides what to do.
    pub kind: SpacesErrorKind,
    /// The operation: `put`, `head`, `get`, `delete`, or `setup` for settings that cannot be used at all.
    pub op: &'static str,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// S3's error code, when the answer carried one.
    pub code: Option<String>,
    /// How long the answer asks to wait, where it does.
    pub retry_after: Option<Duration>,
    /// What happened, in plain words.
    pub message: String,
}

fn status_text(status: Option<u16>, code: Option<&str>) -> String {
    match (status, code) {
        (Some(status), Some(code)) => format!(" ({status} {code})"),
        (Some(status), None) => format!(" ({status})"),
        (None, Some(code)) => format!(" ({code})"),
        (None, None) => String::new(),
    }
}

impl SpacesError {
    /// A failure of this kind that no answer from Spaces explains.
    pub fn new(op: &'static str, kind: SpacesErrorKind, message: impl Into<String>) -> Self {
        SpacesError { kind, op, status: None, code: None, retry_after: None, message: message.into() }
    }

    /// A failure of this kind in the kind's own words.
    pub fn of(op: &'static str, kind: SpacesErrorKind) -> Self {
        SpacesError::new(op, kind, kind.text())
    }

    /// The whole operation took longer than it may.
    pub fn timed_out(op: &'static str) -> Self {
        SpacesError::new(op, SpacesErrorKind::Busy, "spaces did not answer in time")
    }

    /// An answer that was not a success.
    pub fn answered(op: &'static str, status: u16, body: &str) -> Self {
        let (kind, code) = classify(status, body);
        SpacesError { status: Some(status), code, ..SpacesError::of(op, kind) }
    }

    /// Adds the answer's headers: the wait that it asks for and, when the clock is off, by how much.
    pub(super) fn with_headers(mut self, headers: &HeaderMap) -> Self {
        self.retry_after = http_client::retry_after(headers);
        if self.kind == SpacesErrorKind::Clock
            && let Some(difference) = http_client::clock_difference(headers, SystemTime::now())
        {
            self.message = format!("{}; it is {difference} that of spaces", self.message);
        }
        self
    }

    /// No request can be made from the settings. The client's own text may quote the settings, secrets included.
    pub(super) fn unusable(op: &'static str, _error: &S3Error) -> Self {
        SpacesError::of(op, UNUSABLE)
    }

    /// No complete answer came.
    pub(super) fn transport(op: &'static str, error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return SpacesError::timed_out(op);
        }
        if error.is_builder() {
            return SpacesError::of(op, UNUSABLE);
        }
        if let Some(fault) = TlsFault::of(&error) {
            return SpacesError::new(op, CERTIFICATE, fault.text("spaces.endpoint", Some("spaces.ca_file")));
        }
        SpacesError::new(op, SpacesErrorKind::Busy, clipped(http_client::describe("spaces is out of reach", error)))
    }
}

fn clipped(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_CAUSE).collect()
}

const fn misconfigured(reason: &'static str) -> SpacesErrorKind {
    SpacesErrorKind::Misconfigured { reason }
}

const ELSEWHERE: SpacesErrorKind =
    misconfigured("the bucket lives at another endpoint; check spaces.region and spaces.endpoint");
const UNUSABLE: SpacesErrorKind = misconfigured(
    "no request can be made from these settings; check spaces.endpoint, spaces.region, spaces.bucket and the keys",
);
const CERTIFICATE: SpacesErrorKind =
    misconfigured("the certificate at spaces.endpoint is not accepted; check spaces.endpoint and spaces.ca_file");
const UNKNOWN_KEY: SpacesErrorKind =
    misconfigured("spaces does not know the access key, or it was rotated; put the valid one in spaces.access_key");
const DENIED: SpacesErrorKind = misconfigured(
    "the key has no right to this bucket, or the bucket is another owner's; check spaces.bucket and the key's rights",
);
const SUSPENDED: SpacesErrorKind =
    misconfigured("the account behind the access key is suspended; settle it with the provider");
const FORBIDDEN: SpacesErrorKind =
    misconfigured("spaces refuses the request; check the keys, their rights on spaces.bucket and this machine's clock");
const NOT_S3: SpacesErrorKind =
    misconfigured("what answers at spaces.endpoint does not speak S3; check spaces.endpoint and spaces.path_style");
const REFUSED: SpacesErrorKind =
    misconfigured("spaces refuses the form of the request; check spaces.endpoint, spaces.region and spaces.path_style");

/// The verdict on an answer that was not a success: the kind, and S3's error code when the body carries one.
///
/// `body` may be S3's document, a proxy's page, or empty.
pub fn classify(status: u16, body: &str) -> (SpacesErrorKind, Option<String>) {
    let code = error_code(body);
    let kind = by_code(status, code.as_deref()).unwrap_or_else(|| by_status(status));
    (kind, code)
}

fn by_code(status: u16, code: Option<&str>) -> Option<SpacesErrorKind> {
    let code = code?;
    // A gateway in trouble may answer anything; its 5xx heals by itself whatever code stands in it.
    if status >= 500 {
        return (code == "SlowDown").then_some(SpacesErrorKind::SlowDown);
    }
    Some(match code {
        "SignatureDoesNotMatch" => misconfigured(
            "the secret key does not belong to the access key; put the matching pair in spaces.access_key and \
             spaces.secret_key",
        ),
        "InvalidAccessKeyId" | "NotSignedUp" => UNKNOWN_KEY,
        "AccessDenied" => DENIED,
        "UserSuspended" => SUSPENDED,
        "QuotaExceeded" => misconfigured("the bucket's or the account's quota is full; make space or raise it"),
        "NoSuchBucket" => misconfigured(
            "there is no such bucket at this endpoint; check spaces.bucket, spaces.endpoint and spaces.path_style",
        ),
        "PermanentRedirect" | "TemporaryRedirect" => ELSEWHERE,
        "RequestTimeTooSkewed" => SpacesErrorKind::Clock,
        "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => SpacesErrorKind::Corrupt,
        "RequestTimeout" | "OperationAborted" => SpacesErrorKind::Busy,
        "SlowDown" => SpacesErrorKind::SlowDown,
        _ => return None,
    })
}

fn by_status(status: u16) -> SpacesErrorKind {
    match status {
        429 => SpacesErrorKind::SlowDown,
        501 | 505 => NOT_S3,
        408 | 409 | 425 | 500.. => SpacesErrorKind::Busy,
        300..=399 => ELSEWHERE,
        401 | 403 => FORBIDDEN,
        404 | 405 | 410 => NOT_S3,
        _ => REFUSED,
    }
}

/// The text of the first `<Code>`, when it looks like one of S3's: letters and digits, not too long.
fn error_code(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("<Code>")?;
    if body.len() - rest.len() > SEARCHED_BYTES {
        return None;
    }
    let (code, _) = rest.split_once("</Code>")?;
    let sound = (1..=LONGEST_CODE).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    sound.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message></Message>\
             <AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256 20261122</StringToSign>\
             <SignatureProvided>fe5f80f77d5fa3beca038a248ff027d0445342fe</SignatureProvided></Error>"
        )
    }

    fn reason(kind: SpacesErrorKind) -> &'static str {
        match kind {
            SpacesErrorKind::Misconfigured { reason } => reason,
            other => panic!("{other:?} is nothing for a person"),
        }
    }

    #[test]
    fn what_needs_a_person_says_what_to_do() {
        for (status, code, word) in [
            (403, "SignatureDoesNotMatch", "spaces.secret_key"),
            (403, "InvalidAccessKeyId", "spaces.access_key"),
            (403, "NotSignedUp", "spaces.access_key"),
            (403, "AccessDenied", "owner"),
            (403, "UserSuspended", "suspended"),
            (403, "QuotaExceeded", "quota"),
            (403, "SomethingNew", "clock"),
            (404, "NoSuchBucket", "no such bucket"),
            (301, "PermanentRedirect", "another endpoint"),
            (307, "TemporaryRedirect", "another endpoint"),
            (400, "AuthorizationHeaderMalformed", "spaces.region"),
            (411, "MissingContentLength", "spaces.endpoint"),
        ] {
            let (kind, shown) = classify(status, &document(code));
            assert!(reason(kind).contains(word), "{status} {code}: {}", reason(kind));
            assert_eq!(shown.as_deref(), Some(code));
            assert!(kind.needs_person());
        }
    }

    #[test]
    fn each_refusal_of_the_door_has_its_own_words() {
        let codes = ["SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "UserSuspended", "QuotaExceeded"];
        let words: std::collections::BTreeSet<_> =
            codes.iter().map(|code| reason(classify(403, &document(code)).0)).collect();
        assert_eq!(words.len(), codes.len());
    }

    #[test]
    fn what_heals_by_itself_is_not_for_a_person() {
        use SpacesErrorKind::*;
        for (status, body, kind) in [
            (503, document("SlowDown"), SlowDown),
            (503, String::new(), Busy),
            (503, document("AccessDenied"), Busy),
            (429, "<html>slow</html>".to_owned(), SlowDown),
            (500, document("InternalError"), Busy),
            (502, "<html><h1>502 Bad Gateway</h1></html>".to_owned(), Busy),
            (504, String::new(), Busy),
            (408, String::new(), Busy),
            (400, document("RequestTimeout"), Busy),
            (409, document("OperationAborted"), Busy),
            (400, document("BadDigest"), Corrupt),
            (400, document("XAmzContentSHA256Mismatch"), Corrupt),
        ] {
            assert_eq!(classify(status, &body).0, kind, "{status} {body}");
            assert!(!kind.needs_person());
        }
        assert_eq!(classify(403, &document("RequestTimeTooSkewed")).0, Clock);
        assert!(Clock.text().contains("this machine's clock"));
    }

    #[test]
    fn a_status_alone_is_enough_for_a_head() {
        for (status, word) in [(403, "clock"), (301, "another endpoint"), (404, "S3"), (400, "refuses")] {
            let (kind, code) = classify(status, "");
            assert!(reason(kind).contains(word), "{status}: {}", reason(kind));
            assert_eq!(code, None);
        }
    }

    #[test]
    fn nothing_of_the_document_but_its_code_is_carried_on() {
        let error = SpacesError::answered("put", 403, &document("SignatureDoesNotMatch"));
        let shown = format!("{error} {error:?}");
        for quoted in ["AKIDEXAMPLE", "AWS4-HMAC", "fe5f80f7", "<"] {
            assert!(!shown.contains(quoted), "{quoted} shows in {shown}");
        }
        assert_eq!(
            error.to_string(),
            "put: the secret key does not belong to the access key; put the matching pair in spaces.access_key and \
             spaces.secret_key (403 SignatureDoesNotMatch)"
        );
    }

    #[test]
    fn strange_codes_are_not_repeated() {
        for odd in ["", "a b", "<b>", "Sneaky\nline", "ключ", "x".repeat(65).as_str()] {
            assert_eq!(classify(403, &document(odd)), (FORBIDDEN, None), "{odd:?}");
        }
        let late = format!("{}{}", "x".repeat(SEARCHED_BYTES), document("NoSuchBucket"));
        assert_eq!(classify(404, &late), (NOT_S3, None));
    }

    proptest::proptest! {
        #[test]
        fn any_answer_gets_a_verdict(status: u16, body: String) {
            let error = SpacesError::answered("get", status, &body);
            proptest::prop_assert!(!error.message.is_empty());
        }
    }
}
