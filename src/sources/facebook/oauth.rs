//! The browser's half of Facebook Login: the address of the dialog, and what the dialog sends back.
//!
//! The dialog answers in three shapes: `code` and `state`; the cancel form (`error=access_denied`, with `error_reason`
//! and `error_description`); and an older form with no `error` key at all, only `error_code` and `error_message`. All
//! three carry `state`, and all three must have it checked: otherwise a page elsewhere could make a browser open our
//! callback and finish another person's login.
//!
//! The answer is outside input: anybody can type the address. A key given twice is refused, because two readers could
//! each take another one; texts are bounded and freed of control characters. They
//! are still text, not HTML: a page that shows them escapes them.

pub mod consent;

pub use consent::{Consent, LinkedAs};

use url::form_urlencoded;

use crate::core::model::Secret;
use crate::sources::scrub::scrub;

/// The longest query string that is looked at, in bytes.
pub const MAX_QUERY: usize = 16 * 1024;

/// What the dialog needs to know of this app; borrowed from the settings.
#[derive(Debug, Clone, Copy)]
pub struct Dialog<'a> {
    /// `https://www.facebook.com`, with or without a closing slash.
    pub dialog_url: &'a str,
    /// The Graph version, `v26.0`.
    pub version: &'a str,
    /// The app id, decimal digits.
    pub app_id: &'a str,
    /// The callback, byte for byte as the exchange of the code will repeat it.
    pub redirect_uri: &'a str,
    /// The permissions asked for.
    pub scopes: &'a [String],
}

/// Where to send the browser. `rerequest` asks again for permissions that the person declined earlier.
pub fn dialog_url(dialog: &Dialog<'_>, state: &str, rerequest: bool) -> String {
    let base = format!("{}/{}/dialog/oauth?", dialog.dialog_url.trim_end_matches('/'), dialog.version);
    let start = base.len();
    let mut query = form_urlencoded::Serializer::for_suffix(base, start);
    query.append_pair("client_id", dialog.app_id);
    query.append_pair("redirect_uri", dialog.redirect_uri);
    query.append_pair("response_type", "code");
    query.append_pair("scope", &dialog.scopes.join(","));
    query.append_pair("state", state);
    if rerequest {
        query.append_pair("auth_type", "rerequest");
    }
    query.finish()
}

/// What the dialog sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callback {
    /// The person agreed.
    Code {
        /// To be exchanged once.
        code: Secret,
        /// Ours, unchecked.
        state: String,
    },
    /// The person closed the dialog or declined.
    Cancelled {
        /// Ours, unchecked.
        state: String,
        /// Meta's reason, usually `user_denied`; sanitised and bounded, may be empty.
        reason: String,
    },
    /// The dialog failed.
    Failed {
        /// Ours, unchecked.
        state: String,
        /// Meta's error code, where it gave one.
        code: Option<i64>,
        /// Meta's message, sanitised and bounded, may be empty.
        message: String,
    },
    /// Nothing the dialog sends.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Reads the query of the callback.
#[derive(Debug, Clone, Copy)]
pub struct CallbackQuery;

#[derive(Default)]
struct Fields {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_code: Option<String>,
    error_reason: Option<String>,
    error_description: Option<String>,
    error_message: Option<String>,
}

impl Fields {
    fn gather(query: &str) -> Result<Fields, &'static str> {
        let mut fields = Fields::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match key.as_ref() {
                "code" => &mut fields.code,
                "state" => &mut fields.state,
                "error" => &mut fields.error,
                "error_code" => &mut fields.error_code,
                "error_reason" => &mut fields.error_reason,
                "error_description" => &mut fields.error_description,
                "error_message" => &mut fields.error_message,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err("a parameter is given twice");
            }
        }
        Ok(fields)
    }

    fn is_error(&self) -> bool {
        self.error.is_some() || self.error_code.is_some() || self.error_reason.is_some() || self.error_message.is_some()
    }
}

impl CallbackQuery {
    /// Reads the query string of the callback's address, without its `?`. Total: what it does not understand is
    /// [`Callback::Malformed`]. The state is handed on as it came; [`StateSigner::verify`](crate::sources::oauth::StateSigner::verify) judges it.
    pub fn parse(query: &str) -> Callback {
        if query.len() > MAX_QUERY {
            return Callback::Malformed { what: "the query is too long" };
        }
        let fields = match Fields::gather(query) {
            Ok(fields) => fields,
            Err(what) => return Callback::Malformed { what },
        };
        let is_error = fields.is_error();
        let Some(state) = fields.state.filter(|state| !state.is_empty()) else {
            return Callback::Malformed { what: "state is missing" };
        };
        match fields.code.filter(|code| !code.is_empty()) {
            Some(_) if is_error => Callback::Malformed { what: "code and error are both given" },
            Some(code) => Callback::Code { code: Secret::new(code), state },
            None if is_error => {
                let text = |field: Option<String>| field.map(|f| scrub(&f, &[])).unwrap_or_default();
                let denied = fields.error.as_deref() == Some("access_denied")
                    || fields.error_reason.as_deref() == Some("user_denied");
                if denied {
                    return Callback::Cancelled { state, reason: text(fields.error_reason) };
                }
                let message = fields.error_description.or(fields.error_message).or(fields.error);
                let code = fields.error_code.and_then(|code| code.trim().parse().ok());
                Callback::Failed { state, code, message: text(message) }
            }
            None => Callback::Malformed { what: "code is missing" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_dialog_address_is_encoded_and_complete() {
        let scopes = ["pages_show_list".to_owned(), "pages_read_engagement".to_owned()];
        let mut dialog = Dialog {
            dialog_url: "https://www.facebook.com/",
            version: "v26.0",
            app_id: "123",
            redirect_uri: "https://example.org/facebook/callback",
            scopes: &scopes,
        };
        assert_eq!(
            dialog_url(&dialog, "a&b", false),
            "https://www.facebook.com/v26.0/dialog/oauth?client_id=123&redirect_uri=https%3A%2F%2Fexample.org\
             %2Ffacebook%2Fcallback&response_type=code&scope=pages_show_list%2Cpages_read_engagement&state=a%26b"
        );
        dialog.scopes = &[];
        assert!(dialog_url(&dialog, "s", true).ends_with("&scope=&state=s&auth_type=rerequest"));
    }

    #[test]
    fn both_error_forms_and_the_good_one_are_understood() {
        let state = "s".to_owned();
        for (query, wanted) in [
            ("code=c%2B1&state=s", Callback::Code { code: Secret::new("c+1"), state: state.clone() }),
            (
                "error=access_denied&error_code=200&error_description=Permissions+error&error_reason=user_denied&state=s",
                Callback::Cancelled { state: state.clone(), reason: "user_denied".to_owned() },
            ),
            ("error=access_denied&state=s", Callback::Cancelled { state: state.clone(), reason: String::new() }),
            (
                "error_code=1349048&error_message=Can%27t%0aLoad+URL&state=s",
                Callback::Failed { state: state.clone(), code: Some(1_349_048), message: "Can't Load URL".to_owned() },
            ),
            (
                "error=server_error&state=s&code=",
                Callback::Failed { state: state.clone(), code: None, message: "server_error".to_owned() },
            ),
            ("state=s", Callback::Malformed { what: "code is missing" }),
            ("", Callback::Malformed { what: "state is missing" }),
            ("code=c", Callback::Malformed { what: "state is missing" }),
            ("error=access_denied", Callback::Malformed { what: "state is missing" }),
            ("code=c&state=s&code=d", Callback::Malformed { what: "a parameter is given twice" }),
            ("code=c&state=s&state=s", Callback::Malformed { what: "a parameter is given twice" }),
            ("code=c&state=s&error_code=1", Callback::Malformed { what: "code and error are both given" }),
        ] {
            assert_eq!(CallbackQuery::parse(query), wanted, "{query}");
        }
    }

    #[test]
    fn texts_from_outside_are_bounded() {
        let query = format!("error_code=1&state=s&error_message={}", "word+".repeat(2000));
        let Callback::Failed { message, .. } = CallbackQuery::parse(&query) else { panic!("not understood") };
        assert!(message.len() <= 400, "{} bytes", message.len());
        let huge = format!("code={}&state=s", "c".repeat(MAX_QUERY));
        assert_eq!(CallbackQuery::parse(&huge), Callback::Malformed { what: "the query is too long" });
    }

    proptest! {
        #[test]
        fn any_query_has_an_answer(query in ".{0,300}") {
            CallbackQuery::parse(&query);
        }
    }
}
