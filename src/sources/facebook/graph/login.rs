//! The calls of a login: code to token, short token to long token, the person, the permissions, and revocation.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::error::{DeadReason, GraphError};
use super::json;
use super::transport::{Bearer, Call};
use super::{GraphClient, webhooks};
use crate::core::model::{AppUserId, PageId, Secret, WallTime};
use crate::core::priority::Priority;
use crate::sources::scrub::scrub;

/// How often the exchange of a code is tried while no connection can be made.
const CONNECT_TRIES: u32 = 3;
/// The pause before the next of those, times its number.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);

/// A person's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserToken {
    /// The token.
    pub token: Secret,
    /// How long it lives from now; `None` when Graph names no end.
    pub expires_in: Option<Duration>,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The app-scoped id, by which deauthorisation and deletion name the person.
    pub id: AppUserId,
    /// Their name, where they share it.
    pub name: Option<String>,
}

/// One permission and the person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// `pages_show_list` and the like.
    pub name: String,
    /// `granted`, `declined`, and possibly others.
    pub status: String,
}

impl Permission {
    /// Did the person agree?
    pub fn is_granted(&self) -> bool {
        self.status == "granted"
    }
}

/// When a token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// Graph did not say.
    #[default]
    Unknown,
    /// It has no date (it can still die otherwise).
    Never,
    /// Then.
    At(WallTime),
}

/// A permission and the assets it was given for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GranularScope {
    /// The permission.
    pub scope: String,
    /// The ids it is limited to. Empty means *all*, not none.
    pub target_ids: Vec<String>,
}

/// Why `debug_token` calls a token bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenError {
    /// Graph's code.
    pub code: Option<i64>,
    /// Graph's subcode.
    pub subcode: Option<i64>,
    /// Graph's message, scrubbed and bounded.
    pub message: String,
}

/// What Graph knows of a token. All of it may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DebugToken {
    /// The app it was made for.
    pub app_id: Option<String>,
    /// That app's name.
    pub application: Option<String>,
    /// `USER`, `PAGE`, `APP`, `SYSTEM_USER`, and possibly others.
    pub kind: Option<String>,
    /// Does it work? Not a proof that a call about one page will. `None` when Graph did not say.
    pub is_valid: Option<bool>,
    /// When it was made; long-lived tokens only.
    pub issued_at: Option<WallTime>,
    /// When it ends.
    pub expires_at: Expiry,
    /// When access to the person's data ends, until they log in again. Worth a warning.
    pub data_access_expires_at: Expiry,
    /// The permissions.
    pub scopes: Vec<String>,
    /// The permissions with the assets they are for.
    pub granular_scopes: Vec<GranularScope>,
    /// The person behind it.
    pub user_id: Option<AppUserId>,
    /// The page of a page token.
    pub profile_id: Option<PageId>,
    /// Why it is bad, when it is.
    pub error: Option<TokenError>,
}

impl DebugToken {
    /// Why the token is dead; `None` while it is not called invalid, and when the error is not one of tokens.
    pub fn dead(&self) -> Option<DeadReason> {
        match &self.error {
            _ if self.is_valid != Some(false) => None,
            Some(error) => DeadReason::of(error.code?, error.subcode, &error.message),
            None => Some(DeadReason::Invalid),
        }
    }
}

impl GraphClient {
    /// Exchanges a login code for a short-lived token. A code works once, so this is sent once; it is tried again only
    /// while no connection could be made. `redirect_uri` must be, byte for byte, the one that the dialog was given.
    ///
    /// # Errors
    /// [`CodeSpent`](super::GraphErrorKind::CodeSpent) for a code that was used or is too old, and any other kind.
    pub async fn exchange_code(&self, code: &Secret, redirect_uri: &str) -> Result<UserToken, GraphError> {
        let settings = &self.inner.settings;
        let call = Call::new("exchange_code", Method::POST, &["oauth", "access_token"], Bearer::None)
            .param("client_id", settings.app_id.as_str())
            .secret("client_secret", &settings.app_secret)
            .address("redirect_uri", redirect_uri)
            .secret("code", code);
        let mut tries = 1;
        loop {
            match self.inner.try_send(&call).await {
                Ok(answer) => return user_token(call.name, &answer),
                Err(failed) if failed.unsent && tries < CONNECT_TRIES => {
                    tokio::time::sleep(CONNECT_PAUSE * tries).await;
                    tries += 1;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Exchanges a short-lived token for one of about 60 days. Page tokens read with *that* one have no end date; read
    /// with the short one they die within hours.
    ///
    /// # Errors
    /// Any kind; an expired token cannot be exchanged.
    pub async fn long_lived(&self, token: &Secret) -> Result<UserToken, GraphError> {
        let settings = &self.inner.settings;
        let call = Call::new("long_lived", Method::POST, &["oauth", "access_token"], Bearer::None)
            .param("grant_type", "fb_exchange_token")
            .param("client_id", settings.app_id.as_str())
            .secret("client_secret", &settings.app_secret)
            .secret("fb_exchange_token", token);
        let name = call.name;
        user_token(name, &self.inner.send(call).await?)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Any kind.
    pub async fn me(&self, token: &Secret) -> Result<Person, GraphError> {
        let call = Call::new("me", Method::GET, &["me"], Bearer::Token(token)).param("fields", "id,name");
        let answer = self.inner.send(call).await?;
        let id = json::text(&answer, "id").and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| GraphError::odd("me", "the answer holds no app-scoped user id"))?;
        Ok(Person { id, name: json::text(&answer, "name") })
    }

    /// What the person granted and declined.
    ///
    /// # Errors
    /// Any kind; a list that breaks off is an error as well.
    pub async fn permissions(&self, token: &Secret) -> Result<Vec<Permission>, GraphError> {
        let call = || Call::new("permissions", Method::GET, &["me", "permissions"], Bearer::Token(token));
        let listing = self.inner.list(call).await?;
        if let Some(reason) = listing.cut_short {
            return Err(GraphError::odd("permissions", &reason));
        }
        let read = |item: &Value| {
            Some(Permission { name: json::text(item, "permission")?, status: json::text(item, "status")? })
        };
        Ok(listing.items.iter().filter_map(read).collect())
    }

    /// What Graph knows of a token. Asked with the app's own token.
    ///
    /// # Errors
    /// Any kind. A dead token is no error but [`DebugToken::dead`].
    pub async fn debug_token(&self, token: &Secret, priority: Priority) -> Result<DebugToken, GraphError> {
        let call = Call::new("debug_token", Method::GET, &["debug_token"], Bearer::App)
            .secret("input_token", token)
            .priority(priority);
        let answer = self.inner.send(call).await?;
        let data = answer.get("data").filter(|data| data.is_object());
        let data = data.ok_or_else(|| GraphError::odd("debug_token", "the answer holds no data about the token"))?;
        Ok(debugged(data, token))
    }

    /// Takes the app out of the person's account: *all* their tokens and links end, so this is for the last one.
    ///
    /// # Errors
    /// Any kind.
    pub async fn revoke(&self, person: &AppUserId, token: &Secret) -> Result<(), GraphError> {
        let path = [person.as_str(), "permissions"];
        let call = Call::new("revoke", Method::DELETE, &path, Bearer::Token(token));
        webhooks::confirmed("revoke", &self.inner.send(call).await?)
    }
}

fn user_token(call: &'static str, answer: &Value) -> Result<UserToken, GraphError> {
    let token = json::text(answer, "access_token").map(Secret::new);
    let token = token.ok_or_else(|| GraphError::odd(call, "the answer holds no access token"))?;
    let expires_in = json::integer(answer, "expires_in").filter(|seconds| *seconds > 0);
    Ok(UserToken { token, expires_in: expires_in.map(|seconds| Duration::from_secs(seconds.unsigned_abs())) })
}

fn debugged(data: &Value, token: &Secret) -> DebugToken {
    let moment =
        |key| json::integer(data, key).and_then(|s| u64::try_from(s).ok()).map(|s| WallTime(s.saturating_mul(1000)));
    let expiry = |key| match moment(key) {
        None => Expiry::Unknown,
        Some(WallTime(0)) => Expiry::Never,
        Some(moment) => Expiry::At(moment),
    };
    let granular = data["granular_scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let granular_scope = |item: &Value| {
        let target_ids = json::names(item, "target_ids").into_iter().collect();
        Some(GranularScope { scope: json::text(item, "scope")?, target_ids })
    };
    let error = data.get("error").filter(|error| error.is_object());
    DebugToken {
        app_id: json::text(data, "app_id"),
        application: json::text(data, "application"),
        kind: json::text(data, "type"),
        is_valid: json::truth(data, "is_valid"),
        issued_at: moment("issued_at"),
        expires_at: expiry("expires_at"),
        data_access_expires_at: expiry("data_access_expires_at"),
        scopes: json::names(data, "scopes").into_iter().collect(),
        granular_scopes: granular.iter().filter_map(granular_scope).collect(),
        user_id: json::text(data, "user_id").and_then(|id| id.parse().ok()),
        profile_id: json::text(data, "profile_id").and_then(|id| id.parse().ok()),
        error: error.map(|error| TokenError {
            code: json::integer(error, "code"),
            subcode: json::integer(error, "subcode").or_else(|| json::integer(error, "error_subcode")),
            message: scrub(&json::text(error, "message").unwrap_or_default(), &[token.expose()]),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{APP_ID, APP_SECRET, Fake, Reply, settings};
    use super::super::{Gate, GraphErrorKind};
    use super::*;
    use crate::metrics::Metrics;
    use crate::sources::facebook::signature::appsecret_proof;
    use serde_json::json;
    use std::sync::Arc;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[tokio::test]
    async fn a_code_is_exchanged_once_and_never_stands_in_an_address() {
        let fake = Fake::script([
            Reply::Json(200, json!({"access_token": "EAAshort", "token_type": "bearer", "expires_in": 5183944})),
            Reply::Json(400, json!({"error": {"message": "This authorization code has been used.", "code": 100, "error_subcode": 36009}})),
            Reply::Json(500, json!({})),
            Reply::Reset,
        ])
        .await;
        let client = fake.client();
        let token = client.exchange_code(&secret("AQBcode"), "https://x.org/cb?a=1").await.unwrap();
        assert_eq!((token.token.expose(), token.expires_in), ("EAAshort", Some(Duration::from_secs(5_183_944))));
        for kind in [GraphErrorKind::CodeSpent, GraphErrorKind::Transient, GraphErrorKind::Transient] {
            assert_eq!(client.exchange_code(&secret("AQBcode"), "u").await.unwrap_err().kind, kind);
        }
        let seen = fake.seen();
        assert_eq!(seen.len(), 4, "an exchange was repeated");
        assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/v26.0/oauth/access_token"));
        let wanted = [
            ("client_id", APP_ID),
            ("client_secret", APP_SECRET),
            ("code", "AQBcode"),
            ("redirect_uri", "https://x.org/cb?a=1"),
        ];
        assert_eq!(seen[0].form, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!((seen[0].bearer.as_deref(), fake.counted("exchange_code", "transient")), (None, 2));
    }

    #[tokio::test]
    async fn an_unreachable_graph_is_tried_again_for_a_code() {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let metrics = Arc::new(Metrics::new());
        let client =
            GraphClient::new(settings(&format!("http://127.0.0.1:{port}")), metrics.clone(), Gate::new(1)).unwrap();
        let error = client.exchange_code(&secret("AQBcode"), "u").await.unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::Transient);
        assert!(metrics.encode().contains("call=\"exchange_code\",outcome=\"transient\"} 3"));
        let error = client.me(&secret("EAAtoken")).await.unwrap_err();
        assert!(metrics.encode().contains("call=\"me\",outcome=\"transient\"} 1"));
        assert!(!error.to_string().contains("appsecret_proof") && !error.to_string().contains("http:"), "{error}");
    }

    #[tokio::test]
    async fn a_short_token_becomes_a_long_one_in_a_form() {
        let fake = Fake::script([
            Reply::Json(200, json!({"access_token": "EAAlong", "token_type": "bearer"})),
            Reply::Json(200, json!({"token_type": "bearer"})),
        ])
        .await;
        let token = fake.client().long_lived(&secret("EAAshort")).await.unwrap();
        assert_eq!((token.token.expose(), token.expires_in), ("EAAlong", None));
        assert_eq!(fake.client().long_lived(&secret("EAAshort")).await.unwrap_err().kind, GraphErrorKind::Transient);
        let seen = &fake.seen()[0];
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v26.0/oauth/access_token"));
        assert_eq!((seen.param("grant_type"), seen.param("fb_exchange_token")), ("fb_exchange_token", "EAAshort"));
    }

    #[tokio::test]
    async fn a_token_travels_in_the_header_with_its_own_proof() {
        let fake = Fake::script([Reply::Json(200, json!({"id": 77, "name": "Ada"}))]).await;
        let person = fake.client().me(&secret("EAAtoken")).await.unwrap();
        assert_eq!((person.id.as_str(), person.name.as_deref()), ("77", Some("Ada")));
        let seen = &fake.seen()[0];
        assert_eq!(seen.bearer.as_deref(), Some("EAAtoken"));
        assert_eq!(seen.param("appsecret_proof"), appsecret_proof(&secret("EAAtoken"), &secret(APP_SECRET)));
        assert!(!seen.target.contains("EAAtoken"));
        assert!(!seen.query.contains_key("access_token"));
    }

    #[tokio::test]
    async fn a_token_that_no_header_takes_is_dead_without_a_call() {
        let fake = Fake::script([]).await;
        for token in ["", "a b", "a\r\nX-Evil: 1", "é"] {
            let error = fake.client().me(&secret(token)).await.unwrap_err();
            assert_eq!(error.kind, GraphErrorKind::TokenDead { reason: DeadReason::Invalid });
        }
        assert!(fake.seen().is_empty());
    }

    #[tokio::test]
    async fn permissions_are_listed_with_their_status() {
        let data = json!([{"permission": "pages_show_list", "status": "granted"}, {"permission": "x", "status": "declined"}, 7]);
        let fake = Fake::script([Reply::Json(200, json!({"data": data}))]).await;
        let permissions = fake.client().permissions(&secret("EAAtoken")).await.unwrap();
        let granted: Vec<_> = permissions.iter().map(|p| (p.name.as_str(), p.is_granted())).collect();
        assert_eq!(granted, [("pages_show_list", true), ("x", false)]);
    }

    #[tokio::test]
    async fn a_token_is_looked_at_with_the_apps_own() {
        let fake = Fake::script([
            Reply::Json(
                200,
                json!({"data": {"app_id": "4242", "type": "PAGE", "application": "App", "expires_at": 0,
                "data_access_expires_at": 1576687825, "is_valid": true, "issued_at": 1565636400, "scopes": ["b", "a"],
                "granular_scopes": [{"scope": "pages_show_list", "target_ids": ["1", 2]}, {"scope": "all"}],
                "user_id": "102", "profile_id": "55"}}),
            ),
            Reply::Json(
                200,
                json!({"data": {"is_valid": false, "scopes": [], "error": {"code": 190, "subcode": 463,
                "message": "Error validating EAAtoken"}}}),
            ),
            Reply::Json(200, json!({"data": {"is_valid": false}})),
            Reply::Json(200, json!({"data": {"is_valid": false, "error": {"code": 2, "message": "x"}}})),
            Reply::Json(200, json!({"data": {}})),
            Reply::Json(200, json!({"data": false})),
            Reply::error(400, 190, "Invalid OAuth access token signature."),
        ])
        .await;
        let client = fake.client();
        let token = secret("EAAtoken");
        let good = client.debug_token(&token, Priority::Prompt).await.unwrap();
        assert_eq!((good.kind.as_deref(), good.expires_at, good.dead()), (Some("PAGE"), Expiry::Never, None));
        assert_eq!(good.data_access_expires_at, Expiry::At(WallTime(1_576_687_825_000)));
        assert_eq!(good.issued_at, Some(WallTime(1_565_636_400_000)));
        assert_eq!(good.granular_scopes[0].target_ids, ["1", "2"]);
        assert!(good.granular_scopes[1].target_ids.is_empty());
        assert_eq!(good.profile_id.unwrap().as_str(), "55");
        let bad = client.debug_token(&token, Priority::Prompt).await.unwrap();
        assert_eq!((bad.dead(), bad.expires_at), (Some(DeadReason::Expired), Expiry::Unknown));
        assert!(!bad.error.unwrap().message.contains("EAAtoken"));
        assert_eq!(client.debug_token(&token, Priority::Prompt).await.unwrap().dead(), Some(DeadReason::Invalid));
        assert_eq!(client.debug_token(&token, Priority::Prompt).await.unwrap().dead(), None);
        assert_eq!(client.debug_token(&token, Priority::Prompt).await.unwrap().dead(), None);
        assert_eq!(client.debug_token(&token, Priority::Prompt).await.unwrap_err().kind, GraphErrorKind::Transient);
        assert_eq!(client.debug_token(&token, Priority::Prompt).await.unwrap_err().kind, GraphErrorKind::Misconfigured);
        let app_token = format!("{APP_ID}|{APP_SECRET}");
        let seen = &fake.seen()[0];
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/v26.0/debug_token"));
        assert_eq!((seen.bearer.as_deref(), seen.param("input_token")), (Some(app_token.as_str()), "EAAtoken"));
        assert_eq!(seen.param("appsecret_proof"), appsecret_proof(&secret(&app_token), &secret(APP_SECRET)));
    }

    #[tokio::test]
    async fn an_app_is_revoked_as_the_person() {
        let fake =
            Fake::script([Reply::Json(200, json!({"success": true})), Reply::Json(200, json!({"success": false}))])
                .await;
        let person = "77".parse().unwrap();
        fake.client().revoke(&person, &secret("EAAtoken")).await.unwrap();
        assert!(fake.client().revoke(&person, &secret("EAAtoken")).await.is_err());
        let seen = &fake.seen()[0];
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("DELETE", "/v26.0/77/permissions"));
    }
}
