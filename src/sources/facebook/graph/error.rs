//! What went wrong with a Graph call, as a *kind* that decides what to do about it.
//!
//! [`classify`] is pure and goes by one table of codes and subcodes. It never looks at `type` (throttling and bad
//! parameters both say `OAuthException`), nor at the HTTP status once there is a code (a dead token comes as 400, a
//! missing permission as 403, "reduce the amount of data" as 500). The text of a message decides only in the few rows
//! where Graph gives nothing else; each of those rows says so with `says`.
//!
//! The trap on the other side is to be too eager: an answer that is no Graph error (HTML from something in between, an
//! empty body, JSON of another shape) is *transient*, whatever its status. A link is parked only when Graph said, in
//! its own form and with its own code, that the token or the permission is gone.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::json;
use crate::core::disposition::Disposition;
use crate::core::health::ParkReason;
use crate::sources::scrub::scrub;

/// Whose budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThrottleScope {
    /// The whole app: nothing may be called.
    App,
    /// One page.
    Page,
    /// One person, across all apps.
    Person,
}

/// Why a token no longer works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// Its time is over (463).
    Expired,
    /// The person changed the password, or Facebook reset the session (460).
    PasswordChanged,
    /// The person must pass a checkpoint on facebook.com (459).
    Checkpoint,
    /// The person's account is not confirmed (464).
    Unconfirmed,
    /// The person removed the app (458).
    AppRemoved,
    /// The person lost the role on the page (492).
    RoleLost,
    /// A later login left this page unticked. Known by the message alone, so advice and not a decision.
    PageUnticked,
    /// Dead, and Graph does not say why.
    Invalid,
}

impl DeadReason {
    /// Its name in logs and in health.
    pub fn word(self) -> &'static str {
        match self {
            DeadReason::Expired => "expired",
            DeadReason::PasswordChanged => "password_changed",
            DeadReason::Checkpoint => "checkpoint",
            DeadReason::Unconfirmed => "unconfirmed",
            DeadReason::AppRemoved => "app_removed",
            DeadReason::RoleLost => "role_lost",
            DeadReason::PageUnticked => "page_unticked",
            DeadReason::Invalid => "invalid",
        }
    }

    /// The reason to park the link of such a token.
    pub fn park_reason(self) -> ParkReason {
        match self {
            DeadReason::Expired => ParkReason::Expired,
            DeadReason::PasswordChanged => ParkReason::PasswordChanged,
            DeadReason::Checkpoint => ParkReason::Checkpoint,
            DeadReason::Unconfirmed => ParkReason::Unconfirmed,
            DeadReason::AppRemoved => ParkReason::AppRemoved,
            DeadReason::RoleLost => ParkReason::RoleLost,
            DeadReason::PageUnticked => ParkReason::Unticked,
            DeadReason::Invalid => ParkReason::Invalid,
        }
    }

    /// The reason behind a token error; `None` when its code and subcode speak of something else.
    pub fn of(code: i64, subcode: Option<i64>, message: &str) -> Option<DeadReason> {
        match verdict(code, subcode, message)? {
            GraphErrorKind::TokenDead { reason } => Some(reason),
            _ => None,
        }
    }
}

/// What to do about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphErrorKind {
    /// Network, timeout, 5xx, or an answer that is no Graph answer: try again later, with backoff.
    Transient,
    /// A budget is spent: call nothing in this scope for a while.
    Throttled {
        /// Whose budget.
        scope: ThrottleScope,
        /// For how long, where Graph or the gate said so.
        retry_after: Option<Duration>,
    },
    /// The token is dead: no retry, a person must link again.
    TokenDead {
        /// Why.
        reason: DeadReason,
    },
    /// The token lives, but a permission or capability is missing: no retry, a person must consent again.
    PermissionMissing,
    /// One field is refused: leave it out and ask again.
    FieldRefused {
        /// Which one, where the message says so.
        field: Option<Box<str>>,
    },
    /// This page does not support the endpoint or feature: leave it.
    Unsupported,
    /// Ask for fewer things at a time.
    TooMuchData,
    /// The object does not exist, or this token may not see it: flag the link.
    Gone,
    /// Blocked for policy: a long pause, and a person must look.
    Blocked,
    /// App id, app secret, redirect address or proof are wrong: an operator must correct the settings.
    Misconfigured,
    /// A page token was needed.
    WrongTokenKind,
    /// The login code was used before, or is too old: begin the login again.
    CodeSpent,
    /// Graph refused the request as such: retrying is useless.
    BadRequest,
}

impl GraphErrorKind {
    /// What follows from an error of this kind. The errors that park a link are listed here and nowhere else.
    pub fn disposition(&self) -> Disposition {
        match self {
            GraphErrorKind::Transient => Disposition::Retry,
            GraphErrorKind::Throttled { retry_after, .. } => Disposition::RateLimited { retry_after: *retry_after },
            GraphErrorKind::Misconfigured => Disposition::Misconfigured,
            GraphErrorKind::TokenDead { reason } => Disposition::Park(reason.park_reason()),
            GraphErrorKind::PermissionMissing => Disposition::Park(ParkReason::PermissionLost),
            GraphErrorKind::Gone => Disposition::Park(ParkReason::PageGone),
            GraphErrorKind::Blocked => Disposition::Park(ParkReason::Blocked),
            GraphErrorKind::WrongTokenKind => Disposition::Park(ParkReason::WrongToken),
            GraphErrorKind::FieldRefused { .. }
            | GraphErrorKind::Unsupported
            | GraphErrorKind::TooMuchData
            | GraphErrorKind::CodeSpent
            | GraphErrorKind::BadRequest => Disposition::Rejected,
        }
    }

    /// The reason to park the link whose call failed with this kind, where there is one.
    pub fn park_reason(&self) -> Option<ParkReason> {
        self.disposition().park_reason()
    }

    /// Does it speak of Graph as a whole? A page's dead token does not.
    pub fn is_general(&self) -> bool {
        matches!(
            self,
            GraphErrorKind::Transient
                | GraphErrorKind::Misconfigured
                | GraphErrorKind::Throttled { scope: ThrottleScope::App, .. }
        )
    }

    /// Its name in metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            GraphErrorKind::Transient => "transient",
            GraphErrorKind::Throttled { .. } => "throttled",
            GraphErrorKind::TokenDead { .. } => "token_dead",
            GraphErrorKind::PermissionMissing => "permission_missing",
            GraphErrorKind::FieldRefused { .. } => "field_refused",
            GraphErrorKind::Unsupported => "unsupported",
            GraphErrorKind::TooMuchData => "too_much_data",
            GraphErrorKind::Gone => "gone",
            GraphErrorKind::Blocked => "blocked",
            GraphErrorKind::Misconfigured => "misconfigured",
            GraphErrorKind::WrongTokenKind => "wrong_token_kind",
            GraphErrorKind::CodeSpent => "code_spent",
            GraphErrorKind::BadRequest => "bad_request",
        }
    }
}

/// A Graph call that did not succeed. Safe to print: its message holds no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphError {
    /// What to do about it.
    pub kind: GraphErrorKind,
    /// Which call.
    pub call: &'static str,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// Graph's code.
    pub code: Option<i64>,
    /// Graph's subcode.
    pub subcode: Option<i64>,
    /// Graph's message, scrubbed and bounded.
    pub message: String,
    /// Meta's own name for this answer, to quote to their support.
    pub fbtrace_id: Option<Box<str>>,
}

impl GraphError {
    /// An error without an answer of Graph. The message must hold nothing secret.
    pub(super) fn local(call: &'static str, kind: GraphErrorKind, message: impl Into<String>) -> GraphError {
        let message = message.into();
        GraphError { kind, call, status: None, code: None, subcode: None, message, fbtrace_id: None }
    }

    /// An answer that has not the shape that was promised.
    pub(super) fn odd(call: &'static str, what: &str) -> GraphError {
        GraphError::local(call, GraphErrorKind::Transient, what)
    }

    /// Graph's error in answer to `call`, without `secrets`.
    pub(crate) fn from_failure(call: &'static str, status: u16, failure: Failure, secrets: &[&str]) -> GraphError {
        GraphError {
            kind: failure.kind,
            call,
            status: Some(status),
            code: failure.code,
            subcode: failure.subcode,
            message: scrub(&failure.message, secrets),
            fbtrace_id: failure.fbtrace_id.filter(|id| !gives_away(id, secrets)).and_then(trace_id),
        }
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph call {} failed ({})", self.call, self.kind.word())?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match (self.code, self.subcode, self.status) {
            (Some(code), Some(subcode), _) => write!(f, " [code {code}/{subcode}]"),
            (Some(code), None, _) => write!(f, " [code {code}]"),
            (None, _, Some(status)) => write!(f, " [http {status}]"),
            (None, _, None) => Ok(()),
        }?;
        match &self.fbtrace_id {
            Some(id) => write!(f, " [trace {id}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for GraphError {}

/// Graph echoes tokens; where a trace id belongs, one would pass for a name, as both are long and random.
fn gives_away(id: &str, secrets: &[&str]) -> bool {
    id.contains("EAA") || secrets.iter().any(|secret| secret.len() >= 4 && id.contains(secret))
}

/// A trace id, if it looks like one.
pub(super) fn trace_id(id: String) -> Option<Box<str>> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    (id.len() <= 64 && id.bytes().all(sound)).then(|| id.into())
}

/// What [`classify`] found. The message is as Graph wrote it and may hold a token: it goes through [`scrub`] first.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: GraphErrorKind,
    /// Graph's code.
    pub code: Option<i64>,
    /// Graph's subcode.
    pub subcode: Option<i64>,
    /// Graph's words, unscrubbed.
    message: String,
    /// Meta's name for the answer, unchecked.
    fbtrace_id: Option<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?}, {:?}/{:?})", self.kind, self.code, self.subcode)
    }
}

/// One row of the table: these codes, with this subcode, saying this, mean that.
struct Row {
    codes: (i64, i64),
    subcode: Sub,
    /// The message must contain this; for rows where Graph gives nothing else to tell them by.
    says: &'static str,
    kind: GraphErrorKind,
}

enum Sub {
    Any,
    One(i64),
}

const fn row(low: i64, high: i64, subcode: Sub, says: &'static str, kind: GraphErrorKind) -> Row {
    Row { codes: (low, high), subcode, says, kind }
}

const fn throttled(scope: ThrottleScope) -> GraphErrorKind {
    GraphErrorKind::Throttled { scope, retry_after: None }
}

const fn dead(reason: DeadReason) -> GraphErrorKind {
    GraphErrorKind::TokenDead { reason }
}

const REFUSED: GraphErrorKind = GraphErrorKind::FieldRefused { field: None };

/// The first row that fits decides. Sources: Meta's error handling and rate limiting guides and the Pages API's list
/// of error codes, unless a row says otherwise. "Seen": the same text in unrelated public code.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Limits.
    row(4, 4, Sub::Any, "", throttled(ThrottleScope::App)),
    row(17, 17, Sub::Any, "", throttled(ThrottleScope::Person)),
    row(32, 32, Sub::Any, "", throttled(ThrottleScope::Page)),
    row(613, 613, Sub::Any, "", throttled(ThrottleScope::Page)),
    row(80000, 80014, Sub::Any, "", throttled(ThrottleScope::Page)),
    // Too much asked at once. Seen, both with the subcode and with the text alone.
    row(1, 1, Sub::One(99), "", GraphErrorKind::TooMuchData),
    row(1, 1, Sub::Any, "reduce the amount of data", GraphErrorKind::TooMuchData),
    row(368, 368, Sub::Any, "", GraphErrorKind::Blocked),
    // Code 1 means "unknown" and is also used for a wrong client secret (seen) and a missing capability.
    row(1, 1, Sub::Any, "Error validating client secret", GraphErrorKind::Misconfigured),
    row(1, 1, Sub::One(2853006), "", GraphErrorKind::PermissionMissing),
    row(1, 2, Sub::Any, "", GraphErrorKind::Transient),
    row(341, 341, Sub::Any, "", GraphErrorKind::Transient),
    // Permissions, except where they speak of one field.
    row(3, 3, Sub::Any, "", GraphErrorKind::PermissionMissing),
    row(10, 10, Sub::Any, "", GraphErrorKind::PermissionMissing),
    row(12, 12, Sub::Any, "", REFUSED),
    row(200, 200, Sub::One(2069030), "", GraphErrorKind::Unsupported),
    row(200, 200, Sub::One(2069031), "", REFUSED),
    row(200, 200, Sub::One(2069033), "", GraphErrorKind::Unsupported),
    row(200, 200, Sub::Any, "To subscribe to the ", REFUSED), // seen
    row(200, 299, Sub::Any, "", GraphErrorKind::PermissionMissing),
    // Parameters. The proof, the field and the subscription share code 100 without a subcode; seen.
    row(100, 100, Sub::One(33), "", GraphErrorKind::Gone),
    row(100, 100, Sub::One(36007), "", GraphErrorKind::CodeSpent),
    row(100, 100, Sub::One(36009), "", GraphErrorKind::CodeSpent),
    row(100, 100, Sub::One(36008), "", GraphErrorKind::Misconfigured),
    row(100, 100, Sub::Any, "appsecret_proof", GraphErrorKind::Misconfigured),
    row(100, 100, Sub::Any, "nonexisting field (", REFUSED),
    row(100, 100, Sub::Any, "Param subscribed_fields", REFUSED),
    row(100, 100, Sub::Any, "Param fields[", REFUSED), // seen, at the app's subscription
    row(100, 100, Sub::Any, "", GraphErrorKind::BadRequest),
    row(101, 101, Sub::Any, "", GraphErrorKind::Misconfigured),
    row(104, 104, Sub::Any, "", GraphErrorKind::Misconfigured),
    // Tokens.
    row(190, 190, Sub::One(458), "", dead(DeadReason::AppRemoved)),
    row(190, 190, Sub::One(459), "", dead(DeadReason::Checkpoint)),
    row(190, 190, Sub::One(460), "", dead(DeadReason::PasswordChanged)),
    row(190, 190, Sub::One(463), "", dead(DeadReason::Expired)),
    row(190, 190, Sub::One(464), "", dead(DeadReason::Unconfirmed)),
    row(190, 190, Sub::One(467), "", dead(DeadReason::Invalid)),
    row(190, 190, Sub::One(492), "", dead(DeadReason::RoleLost)),
    row(190, 190, Sub::One(2069032), "", GraphErrorKind::WrongTokenKind),
    row(190, 190, Sub::Any, "impersonating a user's page", dead(DeadReason::PageUnticked)), // seen
    row(190, 190, Sub::Any, "", dead(DeadReason::Invalid)),
    row(102, 102, Sub::Any, "", dead(DeadReason::Invalid)),
    row(506, 506, Sub::Any, "", GraphErrorKind::BadRequest),
];

fn verdict(code: i64, subcode: Option<i64>, message: &str) -> Option<GraphErrorKind> {
    let fits = |row: &&Row| {
        (row.codes.0..=row.codes.1).contains(&code)
            && match row.subcode {
                Sub::Any => true,
                Sub::One(wanted) => subcode == Some(wanted),
            }
            && message.contains(row.says)
    };
    TABLE.iter().find(fits).map(|row| row.kind.clone())
}

/// The JSON of a good answer, or what a bad one means.
///
/// # Errors
/// A [`Failure`] for everything but a 2xx answer in JSON that holds no `error`.
pub fn classify(status: u16, body: &[u8]) -> Result<Value, Failure> {
    let good = (200..300).contains(&status);
    let blank = |kind, message: &str| Failure {
        kind,
        code: None,
        subcode: None,
        message: message.to_owned(),
        fbtrace_id: None,
    };
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Err(blank(without_code(status, false), "the answer is not json"));
    };
    let error = match value.get("error") {
        Some(error) if !error.is_null() => error,
        _ if good => return Ok(value),
        // Old OAuth errors come without the wrapper.
        _ if value.get("message").is_some() && value.get("code").is_some() => &value,
        _ => return Err(blank(without_code(status, false), "the answer is no graph error")),
    };
    Err(read_error(status, error))
}

fn read_error(status: u16, error: &Value) -> Failure {
    let code = json::integer(error, "code");
    let subcode = json::integer(error, "error_subcode");
    let mut message = json::text(error, "message").or_else(|| error.as_str().map(str::to_owned)).unwrap_or_default();
    let known = code.and_then(|code| verdict(code, subcode, &message));
    let mut kind = match known {
        Some(kind) => kind,
        None if code.is_some() => {
            if status >= 500 {
                GraphErrorKind::Transient
            } else {
                GraphErrorKind::BadRequest
            }
        }
        None => without_code(status, true),
    };
    if let GraphErrorKind::FieldRefused { field } = &mut kind {
        // What could be a token is no name to remember.
        *field = refused_field(&message).filter(|name| scrub(name, &[]) == **name);
    }
    // Limits keep their meaning: Graph marks them transient as well.
    let stands =
        matches!(kind, GraphErrorKind::Throttled { .. } | GraphErrorKind::TooMuchData | GraphErrorKind::Blocked);
    if json::truth(error, "is_transient") == Some(true) && !stands {
        kind = GraphErrorKind::Transient;
    }
    if let Some(more) = json::text(error, "error_user_msg").filter(|more| *more != message) {
        message = format!("{message} ({more})");
    }
    Failure { kind, code, subcode, message, fbtrace_id: json::text(error, "fbtrace_id") }
}

/// What a bad status alone means; `spoken` when Graph's own error object came with it.
fn without_code(status: u16, spoken: bool) -> GraphErrorKind {
    match status {
        429 => throttled(ThrottleScope::App),
        400..=499 if spoken => GraphErrorKind::BadRequest,
        _ => GraphErrorKind::Transient,
    }
}

/// The field that a message speaks of, in the three wordings that name one.
fn refused_field(message: &str) -> Option<Box<str>> {
    let between = |start: &str, end: &str| {
        let (_, rest) = message.split_once(start)?;
        let (field, _) = rest.split_once(end)?;
        let sound = (1..=64).contains(&field.len()) && field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        sound.then(|| field.into())
    };
    between("nonexisting field (", ")")
        .or_else(|| between("To subscribe to the ", " field"))
        .or_else(|| between("- got \"", "\""))
}

#[cfg(test)]
mod tests;
