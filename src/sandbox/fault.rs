//! What can go wrong, by name.
//!
//! A [`Fault`] is switched on for everything it touches, or through a [`Scope`] for one call, one page, or the next so
//! many requests. Its name is what configuration, the console and tests write; names are stable. Faults only decide
//! *that* something goes wrong: the faces decide how that looks on the wire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A request by what it is for, whichever face it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The login dialog in the browser.
    Dialog,
    /// A code becomes a token.
    ExchangeCode,
    /// A short-lived user token becomes a long-lived one.
    ExtendToken,
    /// The app's own token.
    AppToken,
    /// `/me` or `/{person}`.
    Me,
    /// `/me/permissions`.
    Permissions,
    /// `/me/accounts`.
    Accounts,
    /// `/me/businesses`.
    Businesses,
    /// `/{business}/owned_pages`.
    OwnedPages,
    /// `/{business}/client_pages`.
    ClientPages,
    /// `/debug_token`.
    DebugToken,
    /// `/{page}`.
    ReadPage,
    /// `GET /{page}/subscribed_apps`.
    ReadSubscribed,
    /// `POST /{page}/subscribed_apps`.
    Subscribe,
    /// `DELETE /{page}/subscribed_apps`.
    Unsubscribe,
    /// `GET /{app}/subscriptions`.
    ReadAppSubscriptions,
    /// `POST /{app}/subscriptions`.
    AppSubscribe,
    /// `DELETE /{app}/subscriptions`.
    AppUnsubscribe,
    /// `DELETE /{person}/permissions`.
    Revoke,
    /// Anything else asked of Graph.
    OtherGraph,
    /// An object is written.
    Put,
    /// An object is read.
    Get,
    /// An object's headers are read.
    Head,
    /// An object is deleted.
    Delete,
    /// Keys are listed, and anything else asked of a bucket.
    Bucket,
}

impl Call {
    /// The word for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Call::Dialog => "dialog",
            Call::ExchangeCode => "exchange_code",
            Call::ExtendToken => "extend_token",
            Call::AppToken => "app_token",
            Call::Me => "me",
            Call::Permissions => "permissions",
            Call::Accounts => "accounts",
            Call::Businesses => "businesses",
            Call::OwnedPages => "owned_pages",
            Call::ClientPages => "client_pages",
            Call::DebugToken => "debug_token",
            Call::ReadPage => "read_page",
            Call::ReadSubscribed => "read_subscribed",
            Call::Subscribe => "subscribe",
            Call::Unsubscribe => "unsubscribe",
            Call::ReadAppSubscriptions => "read_app_subscriptions",
            Call::AppSubscribe => "app_subscribe",
            Call::AppUnsubscribe => "app_unsubscribe",
            Call::Revoke => "revoke",
            Call::OtherGraph => "other_graph",
            Call::Put => "put",
            Call::Get => "get",
            Call::Head => "head",
            Call::Delete => "delete",
            Call::Bucket => "bucket",
        }
    }

    /// Does Spaces answer it?
    pub fn is_spaces(self) -> bool {
        matches!(self, Call::Put | Call::Get | Call::Head | Call::Delete | Call::Bucket)
    }
}

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
    /// Answers are right, and the usage headers stand at 97 per cent.
    UsageHigh "usage_high" Graph "Usage headers stand at 97 %";
    /// Another version of the API answers than was asked.
    VersionDrift "version_drift" Graph "Another API version answers than was asked";
    /// `/me/accounts` is empty though pages were granted.
    AccountsEmpty "accounts_empty" Graph "The list of pages is empty though pages were granted";
    /// Facebook sends no webhook; what happens meanwhile is never told.
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
}

/// An error of Graph's own, as it looks on the wire.
#[derive(Debug, Clone, Copy)]
pub struct ErrorRow {
    /// Graph's `code`.
    pub code: u32,
    /// Graph's `error_subcode`; zero for none.
    pub subcode: u32,
    /// The HTTP status it comes with.
    pub status: u16,
    /// Graph's `type`.
    pub kind: &'static str,
    /// Graph's `is_transient`.
    pub transient: bool,
    /// Graph's `message`.
    pub message: &'static str,
}

const fn row(code: u32, subcode: u32, status: u16, transient: bool, message: &'static str) -> ErrorRow {
    ErrorRow { code, subcode, status, kind: "OAuthException", transient, message }
}

/// The errors the console offers. Other codes may be asked for too and get a plain text.
pub const ERROR_ROWS: &[ErrorRow] = &[
    row(1, 0, 500, false, "An unknown error has occurred."),
    row(1, 99, 500, false, "Please reduce the amount of data you're asking for, then retry your request"),
    row(1, 2853006, 400, false, "The viewer does not have permission to view this content."),
    row(2, 0, 500, true, "An unexpected error has occurred. Please retry your request later."),
    row(3, 0, 400, false, "(#3) Application does not have the capability to make this API call."),
    row(4, 0, 400, true, "(#4) Application request limit reached"),
    row(
        10,
        0,
        403,
        false,
        "(#10) This endpoint requires the 'pages_read_engagement' permission or the 'Page Public Content Access' \
         feature or the 'Page Public Metadata Access' feature.",
    ),
    row(12, 0, 400, false, "(#12) This endpoint is deprecated for versions v26.0 and higher"),
    row(17, 0, 400, true, "(#17) User request limit reached"),
    row(31, 0, 400, false, "(#31) This feature is not supported for this Page."),
    row(32, 0, 400, true, "(#32) Page request limit reached"),
    row(33, 0, 400, false, "(#33) This object does not exist or does not support this action"),
    row(100, 0, 400, false, "(#100) Invalid parameter"),
    ErrorRow {
        kind: "GraphMethodException",
        ..row(
            100,
            33,
            400,
            false,
            "Unsupported get request. Object with ID '0' does not exist, cannot be loaded due to missing permissions, \
             or does not support this operation. Please read the Graph API documentation at \
             https://developers.facebook.com/docs/graph-api",
        )
    },
    row(101, 0, 400, false, "Error validating application. Cannot get application info due to a system error."),
    row(102, 0, 400, false, "Session key invalid or no longer valid"),
    row(104, 0, 400, false, "An access token is required to request this resource."),
    row(190, 0, 400, false, IMPERSONATE),
    row(190, 458, 400, false, "Error validating access token: The user has not authorized application."),
    row(
        190,
        459,
        400,
        false,
        "Error validating access token: You cannot access the app till you log in to www.facebook.com and follow the \
         instructions given.",
    ),
    row(
        190,
        460,
        400,
        false,
        "Error validating access token: The session has been invalidated because the user changed their password or \
         Facebook has changed the session for security reasons.",
    ),
    row(190, 463, 400, false, "Error validating access token: Session has expired."),
    row(
        190,
        464,
        400,
        false,
        "Error validating access token: Sessions for the user are not allowed because the user is not a confirmed user.",
    ),
    row(190, 467, 400, false, "Error validating access token: The session is invalid because the user logged out."),
    row(
        190,
        492,
        400,
        false,
        "Error validating access token: The user must be an administrator, editor, or moderator of the page in order \
         to impersonate it.",
    ),
    row(190, 2069032, 400, false, "A Page access token is required for this call."),
    row(200, 0, 403, false, "(#200) Requires pages_manage_metadata permission to manage the object"),
    row(200, 2069030, 400, false, "This endpoint is not supported in the new Pages experience."),
    row(200, 2069031, 400, false, "This field is not supported."),
    row(341, 0, 400, true, "(#341) Application limit reached"),
    row(368, 0, 400, false, "(#368) The action attempted has been deemed abusive or is otherwise disallowed"),
    row(506, 0, 400, false, "(#506) Duplicate status message"),
    row(613, 0, 400, true, "(#613) Calls to this api have exceeded the rate limit."),
    row(613, 1996, 400, true, "(#613) Calls to this api have exceeded the rate limit."),
    row(80001, 0, 400, true, "(#80001) There have been too many calls to this Page account. Wait a bit and try again."),
    row(80002, 0, 400, true, "(#80002) There have been too many calls to this Instagram account."),
    row(80005, 0, 400, true, "(#80005) There have been too many leadgen api calls to this Page account."),
    row(80006, 0, 400, true, "(#80006) There have been too many messenger api calls to this Page account."),
];

/// What Graph says when a person's login took a page away: no word of a token in it.
pub const IMPERSONATE: &str = "Any of the pages_read_engagement, pages_manage_metadata, pages_read_user_content, \
                               pages_manage_ads, pages_show_list or pages_messaging permission(s) must be granted \
                               before impersonating a user's page.";

/// The row for an error, made up plainly when the table has none.
pub fn error_row(code: u32, subcode: u32) -> ErrorRow {
    let known = ERROR_ROWS.iter().find(|r| r.code == code && r.subcode == subcode);
    known.copied().unwrap_or(row(code, subcode, 400, false, "An error was asked for"))
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

    /// Does it touch this call when no scope says which? The dialog in the browser is left alone.
    pub(crate) fn touches(self, call: Call) -> bool {
        match self.side() {
            Side::Graph => !call.is_spaces() && call != Call::Dialog,
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
    /// This call alone.
    pub call: Option<Call>,
    /// This page alone; for Spaces, objects of this page.
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
            let called = scope.call.map_or_else(|| fault.touches(call), |c| c == call);
            let paged = scope.page.as_deref().is_none_or(|p| Some(p) == page);
            if called && paged {
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
