//! The faults, by name.
//!
//! A [`Fault`] is switched on for everything it touches, or through a [`Scope`] for one call, one page, or the next so
//! many requests. Its name is what configuration, the console and tests write; names are stable. Faults only decide
//! *that* something goes wrong: the servers decide how it looks on the wire.

mod call;
mod errors;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::call::Call;
pub use self::errors::{ERROR_ROWS, ErrorRow, IMPERSONATE, error_row};

/// Who plays up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Requests to Graph.
    Graph,
    /// Webhooks sent by Facebook.
    Webhooks,
    /// Requests to Spaces.
    Spaces,
    /// Events to the platform's receiver.
    Events,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $word:literal $side:ident $title:literal;)*) => {
        /// One way in which the world misbehaves. Written as a word, such as `graph_reset`, or `code_190_460` for
        /// an error of Graph's own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Fault {
            $($(#[$doc])* $name,)*
            /// Graph refuses with this error.
            Code {
                /// Graph's `code`.
                code: u32,
                /// Graph's `error_subcode`; zero when it sends none.
                subcode: u32,
            },
        }

        const PLAIN: &[(Fault, &str, Side, &str)] = &[$((Fault::$name, $word, Side::$side, $title),)*];
    };
}

faults! {
    /// The connection is reset before an answer.
    GraphReset "graph_reset" Graph "Graph is down: connections are reset";
    /// 503 with a page of HTML.
    GraphUnavailable "graph_unavailable" Graph "Graph is down: 503 with a page of HTML";
    /// The request is taken and never answered.
    GraphHang "graph_hang" Graph "Graph hangs: takes the request, never answers";
    /// Each answer waits for the world's latency.
    GraphSlow "graph_slow" Graph "Graph is slow";
    /// The request takes effect, and the answer waits until the fault is off.
    GraphHeld "graph_held" Graph "Graph keeps answers back until this is off";
    /// The request takes effect and the connection breaks before the answer.
    GraphLostAnswer "graph_lost_answer" Graph "Graph does it, but the answer is lost";
    /// The connection breaks in the middle of the answer.
    GraphResetMidBody "graph_reset_mid_body" Graph "Graph breaks off in the middle of an answer";
    /// 200 with HTML.
    JunkHtml "junk_html" Graph "Junk: HTML with status 200";
    /// 200 with nothing in it.
    JunkEmpty "junk_empty" Graph "Junk: an empty answer";
    /// 200 with half of the JSON.
    JunkTruncated "junk_truncated" Graph "Junk: half of the JSON";
    /// 200 with the word `false`.
    JunkFalse "junk_false" Graph "Junk: the word false";
    /// The answer names another page.
    JunkOtherPage "junk_other_page" Graph "Junk: another page's id in the answer";
    /// An OAuth error without its `error` wrapper.
    JunkBareError "junk_bare_error" Graph "Junk: an error without its wrapper";
    /// Code 4: the app's limit is reached.
    ThrottleApp "throttle_app" Graph "Throttled: app limit (code 4)";
    /// Code 17: the person's limit is reached.
    ThrottleUser "throttle_user" Graph "Throttled: person limit (code 17)";
    /// Code 32: the page's limit is reached with a user token.
    ThrottlePage "throttle_page" Graph "Throttled: page limit (code 32)";
    /// Code 80001 with the business use case header.
    ThrottleBusiness "throttle_business" Graph "Throttled: page limit with a page token (code 80001)";
    /// Code 613: a custom limit is reached.
    ThrottleCustom "throttle_custom" Graph "Throttled: custom limit (code 613)";
    /// Answers are right, and the usage headers are at 97 per cent.
    UsageHigh "usage_high" Graph "Usage headers stand at 97 %";
    /// Another version of the API answers than was asked.
    VersionDrift "version_drift" Graph "Another API version answers than was asked";
    /// `/me/accounts` is empty though pages were granted.
    AccountsEmpty "accounts_empty" Graph "The list of pages is empty though pages were granted";
    /// Facebook sends no webhook; changes meanwhile are never reported.
    WebhooksLost "webhooks_lost" Webhooks "Webhooks are lost";
    /// Facebook keeps webhooks back until the fault goes.
    WebhooksLate "webhooks_late" Webhooks "Webhooks are kept back, then all come at once";
    /// Each webhook comes two times, byte for byte.
    WebhooksDuplicated "webhooks_duplicated" Webhooks "Webhooks come twice";
    /// Later webhooks come first.
    WebhooksReordered "webhooks_reordered" Webhooks "Webhooks come out of order";
    /// Only field names, as with Include Values off.
    WebhooksBare "webhooks_bare" Webhooks "Webhooks without values";
    /// The signature is wrong.
    WebhooksForged "webhooks_forged" Webhooks "Webhooks with a wrong signature";
    /// Only the SHA-1 header.
    WebhooksSha1 "webhooks_sha1" Webhooks "Webhooks with the SHA-1 signature alone";
    /// Nothing listens.
    SpacesRefused "spaces_refused" Spaces "Spaces is down: connections are refused";
    /// The connection is reset before an answer.
    SpacesReset "spaces_reset" Spaces "Spaces is down: connections are reset";
    /// 503 `SlowDown`.
    SpacesSlowDown "spaces_slow_down" Spaces "Spaces is overloaded: 503 SlowDown";
    /// 502 with a page of HTML from the front proxy.
    SpacesBadGateway "spaces_bad_gateway" Spaces "Spaces is down behind its proxy: 502";
    /// The request is taken and never answered.
    SpacesHang "spaces_hang" Spaces "Spaces hangs: takes the request, never answers";
    /// Each answer waits for the world's latency.
    SpacesSlow "spaces_slow" Spaces "Spaces is slow";
    /// The connection is reset when half the body has come.
    SpacesResetMidBody "spaces_reset_mid_body" Spaces "Spaces breaks off in the middle of an upload";
    /// The request takes effect and the connection breaks before the answer.
    SpacesLostAnswer "spaces_lost_answer" Spaces "Spaces does it, but the answer is lost";
    /// 403 `SignatureDoesNotMatch`.
    SpacesWrongSignature "spaces_wrong_signature" Spaces "Spaces refuses the credentials: 403";
    /// 403 `QuotaExceeded`.
    SpacesQuota "spaces_quota" Spaces "Spaces is full: 403 QuotaExceeded";
    /// 403 `RequestTimeTooSkewed`.
    SpacesSkewed "spaces_skewed" Spaces "Spaces says the clock is off: 403";
    /// 404 `NoSuchBucket`.
    SpacesNoBucket "spaces_no_bucket" Spaces "The bucket is gone: 404";
    /// Nothing listens.
    EventsRefused "events_refused" Events "The receiver is down: connections are refused";
    /// The connection is reset before an answer.
    EventsReset "events_reset" Events "The receiver is down: connections are reset";
    /// The request is taken and never answered.
    EventsHang "events_hang" Events "The receiver hangs: takes the event, never answers";
    /// The event is taken and the connection breaks before the answer.
    EventsLostAnswer "events_lost_answer" Events "The receiver has it, but the answer is lost";
    /// 500.
    EventsError "events_error" Events "The receiver is broken: 500";
    /// 429 with `Retry-After`.
    EventsBusy "events_busy" Events "The receiver is busy: 429 with Retry-After";
    /// 410.
    EventsGone "events_gone" Events "The receiver wants no events any more: 410";
    /// 422.
    EventsRejected "events_rejected" Events "The receiver does not take it: 422";
    /// 307 to elsewhere.
    EventsRedirect "events_redirect" Events "The receiver redirects: 307";
}

impl Fault {
    /// Every fault there is a switch for, Graph's own errors included.
    pub fn all() -> impl Iterator<Item = Fault> {
        let codes = ERROR_ROWS.iter().map(|r| Fault::Code { code: r.code, subcode: r.subcode });
        PLAIN.iter().map(|(fault, ..)| *fault).chain(codes)
    }

    /// Whose fault it is.
    pub fn side(self) -> Side {
        PLAIN.iter().find(|(fault, ..)| *fault == self).map_or(Side::Graph, |(_, _, side, _)| *side)
    }

    /// What a person reads beside its switch.
    pub fn title(self) -> String {
        if let Fault::Code { code, subcode } = self {
            let number = if subcode == 0 { code.to_string() } else { format!("{code}/{subcode}") };
            return format!("Error {number}: {}", error_row(code, subcode).message);
        }
        PLAIN.iter().find(|(fault, ..)| *fault == self).map_or_else(String::new, |(.., title)| (*title).to_owned())
    }

    /// Does it touch this call when no scope says which? The dialog in the browser is not affected.
    pub(crate) fn touches(self, call: Call) -> bool {
        match self.side() {
            Side::Graph => !call.is_spaces() && !matches!(call, Call::Dialog | Call::Event),
            Side::Events => call == Call::Event,
            Side::Spaces => call.is_spaces(),
            Side::Webhooks => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Code { code, subcode: 0 } => write!(f, "code_{code}"),
            Fault::Code { code, subcode } => write!(f, "code_{code}_{subcode}"),
            plain => f.write_str(PLAIN.iter().find(|(fault, ..)| fault == plain).map_or("", |(_, word, ..)| word)),
        }
    }
}

/// No fault has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called {0:?} (names look like graph_reset or code_190_460)")]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        if let Some((fault, ..)) = PLAIN.iter().find(|(_, word, ..)| *word == name) {
            return Ok(*fault);
        }
        let unknown = || UnknownFault(name.chars().take(64).collect());
        let numbers = name.strip_prefix("code_").ok_or_else(unknown)?;
        let (code, subcode) = numbers.split_once('_').unwrap_or((numbers, "0"));
        match (code.parse(), subcode.parse()) {
            (Ok(code), Ok(subcode)) => Ok(Fault::Code { code, subcode }),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Fault {
    type Error = UnknownFault;

    fn try_from(name: String) -> Result<Self, UnknownFault> {
        name.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        fault.to_string()
    }
}

/// Where a fault strikes. The default is everywhere it can, until it is switched off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// This call only.
    pub call: Option<Call>,
    /// This page only; for Spaces, objects of this page.
    pub page: Option<String>,
    /// The next so many requests; without it, until switched off.
    pub times: Option<u32>,
}

impl Scope {
    /// One call, until switched off.
    pub fn call(call: Call) -> Self {
        Scope { call: Some(call), ..Scope::default() }
    }

    /// One page, until switched off.
    pub fn page(page: impl Into<String>) -> Self {
        Scope { page: Some(page.into()), ..Scope::default() }
    }

    fn covers(&self, fault: Fault, call: Call, page: Option<&str>) -> bool {
        let called = self.call.map_or_else(|| fault.touches(call), |c| c == call);
        called && self.page.as_deref().is_none_or(|p| Some(p) == page)
    }

    /// The same, for the next `times` requests only.
    pub fn times(self, times: u32) -> Self {
        Scope { times: Some(times), ..self }
    }
}

/// The faults that are on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switches {
    on: Vec<(Fault, Scope)>,
}

impl Switches {
    pub(crate) fn set(&mut self, fault: Fault, scope: Scope) {
        self.on.retain(|(f, s)| !(*f == fault && s.call == scope.call && s.page == scope.page));
        if scope.times != Some(0) {
            self.on.push((fault, scope));
        }
    }

    pub(crate) fn clear(&mut self, fault: Fault) {
        self.on.retain(|(f, _)| *f != fault);
    }

    pub(crate) fn clear_all(&mut self) {
        self.on.clear();
    }

    /// Is this fault on for such a request? Nothing is used up.
    pub(crate) fn would_strike(&self, fault: Fault, call: Call, page: Option<&str>) -> bool {
        self.on.iter().any(|(on, scope)| *on == fault && scope.covers(*on, call, page))
    }

    pub(crate) fn is_on(&self, fault: Fault) -> bool {
        self.on.iter().any(|(f, _)| *f == fault)
    }

    pub(crate) fn list(&self) -> Vec<(Fault, Scope)> {
        self.on.clone()
    }

    /// The faults this request meets, in the order they were switched on. Counted ones are used up.
    pub(crate) fn strike(&mut self, call: Call, page: Option<&str>) -> Vec<Fault> {
        let mut struck = Vec::new();
        for (fault, scope) in &mut self.on {
            if scope.covers(*fault, call, page) {
                struck.push(*fault);
                scope.times = scope.times.map(|left| left.saturating_sub(1));
            }
        }
        self.on.retain(|(_, scope)| scope.times != Some(0));
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_one_to_one_and_titled() {
        let mut seen = BTreeSet::new();
        for fault in Fault::all() {
            assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
            assert!(seen.insert(fault.to_string()), "{fault} twice");
            assert!(!fault.title().is_empty());
        }
        assert!("code_x".parse::<Fault>().is_err());
        assert_eq!("code_7".parse::<Fault>().unwrap(), Fault::Code { code: 7, subcode: 0 });
    }

    #[test]
    fn a_scope_strikes_where_it_says_and_as_often() {
        let mut switches = Switches::default();
        switches.set(Fault::GraphReset, Scope::call(Call::ReadPage).times(2));
        assert!(switches.strike(Call::Accounts, None).is_empty());
        assert_eq!(switches.strike(Call::ReadPage, Some("1")), [Fault::GraphReset]);
        assert_eq!(switches.strike(Call::ReadPage, Some("2")), [Fault::GraphReset]);
        assert!(switches.strike(Call::ReadPage, Some("2")).is_empty());
        assert!(!switches.is_on(Fault::GraphReset));
        switches.set(Fault::SpacesReset, Scope::page("7"));
        assert!(switches.strike(Call::Put, Some("8")).is_empty());
        assert!(switches.strike(Call::ReadPage, Some("7")).is_empty());
        assert_eq!(switches.strike(Call::Put, Some("7")), [Fault::SpacesReset]);
    }
}
