//! The authorization code grant, and the tokens that live an hour.
//!
//! A shop has one pair of tokens for the app, whoever links it. The refresh token is used once: the answer brings a new
//! one, and asking again with the old one works for a short time only. So nothing here repeats a request; the caller
//! stores its intent first and the answer before anything else.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use url::form_urlencoded;

use super::client::ShopifyClient;
use super::error::{Grant, ShopifyError, ShopifyErrorKind};
use super::settings::ShopifySettings;
use crate::core::model::{Secret, ShopName, WallTime};

/// Subtracted from what an answer says of a token's life, beside the time that the answer took.
const MARGIN: Duration = Duration::from_secs(60);
const OFFLINE: &str = "urn:shopify:params:oauth:token-type:offline-access-token";

/// A shop's tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenPair {
    /// Lives an hour.
    pub access: Secret,
    /// Brings the next pair, once.
    pub refresh: Secret,
    /// The granted scopes.
    pub scopes: BTreeSet<String>,
    /// When the access token ends, a minute early.
    pub expires_at: WallTime,
    /// When the refresh token ends, where that is said.
    pub refresh_expires_at: Option<WallTime>,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TokenPair");
        shown.field("scopes", &self.scopes).field("expires_at", &self.expires_at);
        shown.field("refresh_expires_at", &self.refresh_expires_at).finish_non_exhaustive()
    }
}

/// The wanted scopes that are not granted. A scope to write includes the one to read.
pub fn missing_scopes(wanted: &[String], granted: &BTreeSet<String>) -> Vec<String> {
    let is_granted = |scope: &String| {
        let writing = scope.strip_prefix("read_").map(|rest| format!("write_{rest}"));
        let writing = writing.or_else(|| {
            scope.strip_prefix("unauthenticated_read_").map(|rest| format!("unauthenticated_write_{rest}"))
        });
        granted.contains(scope) || writing.is_some_and(|writing| granted.contains(&writing))
    };
    wanted.iter().filter(|scope| !is_granted(scope)).cloned().collect()
}

/// Where a person grants the app access to a shop. An offline token is asked for, which is the kind without options.
pub fn authorize_url(settings: &ShopifySettings, shop: &ShopName, redirect_uri: &str, state: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("client_id", &settings.client_id).append_pair("scope", &settings.scopes.join(","));
    query.append_pair("redirect_uri", redirect_uri).append_pair("state", state);
    format!("{}/admin/oauth/authorize?{}", settings.shop_url(shop), query.finish())
}

impl ShopifyClient {
    /// Where a person grants the app access to a shop.
    pub fn authorize_url(&self, shop: &ShopName, redirect_uri: &str, state: &str) -> String {
        authorize_url(self.settings(), shop, redirect_uri, state)
    }

    /// Exchanges the code of a callback for the shop's tokens. A code works once.
    ///
    /// # Errors
    /// [`ShopifyErrorKind::CodeSpent`], and every other kind. An answer without a refresh token is
    /// [`ShopifyErrorKind::Misconfigured`]: such a token is refused everywhere.
    pub async fn exchange_code(&self, shop: &ShopName, code: &Secret) -> Result<TokenPair, ShopifyError> {
        let form = [("code", code.expose()), ("expiring", "1")];
        self.pair(shop, "exchange_code", Grant::Code, &form, code).await
    }

    /// Exchanges a refresh token for a new pair. Where it is not known whether an answer was lost, the same request is
    /// to be repeated at once.
    ///
    /// # Errors
    /// [`ShopifyErrorKind::RefreshEnded`] when a person must open the app again; with every other kind the refresh token
    /// may still work.
    pub async fn refresh(&self, shop: &ShopName, refresh: &Secret) -> Result<TokenPair, ShopifyError> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        self.pair(shop, "refresh", Grant::Refresh, &form, refresh).await
    }

    /// Exchanges a token of the old kind, which does not expire, for a pair. The old one is revoked at once.
    ///
    /// # Errors
    /// [`ShopifyErrorKind::TokenRefused`] when the old token is dead, and every other kind.
    pub async fn migrate(&self, shop: &ShopName, old: &Secret) -> Result<TokenPair, ShopifyError> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", old.expose()),
            ("subject_token_type", OFFLINE),
            ("requested_token_type", OFFLINE),
            ("expiring", "1"),
        ];
        self.pair(shop, "migrate", Grant::Migration, &form, old).await
    }

    async fn pair(
        &self,
        shop: &ShopName,
        call: &'static str,
        grant: Grant,
        form: &[(&str, &str)],
        secret: &Secret,
    ) -> Result<TokenPair, ShopifyError> {
        let settings = self.settings();
        let app = [("client_id", settings.client_id.as_str()), ("client_secret", settings.client_secret.expose())];
        let form = [&app, form].concat();
        // Lives are counted from before the call, so that the time that it took is not counted on.
        let asked_at = WallTime::now();
        let secrets = [secret.expose(), settings.client_secret.expose()];
        let answer = self.inner.grant(shop, call, grant, &form, &secrets).await?;
        read_pair(call, grant, &answer, asked_at)
    }
}

/// The pair of a good answer of the token endpoint, which was asked at this moment. A life of no seconds is over: such a pair
/// is kept all the same, since its refresh token alone brings the next one.
pub(super) fn read_pair(
    call: &'static str,
    grant: Grant,
    answer: &Value,
    asked_at: WallTime,
) -> Result<TokenPair, ShopifyError> {
    let secret = |key: &str| answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Secret::new);
    let seconds = |key: &str| {
        let value = answer.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(Duration::from_secs)
    };
    let ends = |life: Duration| asked_at.plus(life.saturating_sub(MARGIN));
    let access = secret("access_token").ok_or_else(|| ShopifyError::odd(call, "the answer has no access token"))?;
    let (Some(refresh), Some(life)) = (secret("refresh_token"), seconds("expires_in")) else {
        // The app asks for a token that expires. What came instead would be refused at every call.
        let text =
            "the answer has no refresh_token or no expires_in, so its token is not of the kind that was asked for";
        let kind = if grant == Grant::Refresh { ShopifyErrorKind::Transient } else { ShopifyErrorKind::Misconfigured };
        return Err(ShopifyError { kind, ..ShopifyError::odd(call, text) });
    };
    let scopes = answer.get("scope").and_then(Value::as_str).unwrap_or_default();
    let scopes = scopes.split([',', ' ']).map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    let refresh_expires_at = seconds("refresh_token_expires_in").filter(|life| !life.is_zero()).map(ends);
    Ok(TokenPair { access, refresh, scopes, expires_at: ends(life), refresh_expires_at })
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, SECRET, shop};
    use super::*;
    use crate::core::disposition::Disposition;
    use serde_json::json;

    fn good() -> Value {
        json!({"access_token": "shpat_a", "scope": "read_products,write_legal_policies", "expires_in": 3600,
               "refresh_token": "shprt_r", "refresh_token_expires_in": 7_776_000})
    }

    #[test]
    fn scopes_are_compared_as_sets_and_writing_includes_reading() {
        let wanted = ["read_products", "read_content", "write_files"].map(str::to_owned);
        let granted = |scopes: &[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect::<BTreeSet<_>>();
        let missing = |scopes: &[&str]| missing_scopes(&wanted, &granted(scopes)).join(" ");
        assert_eq!(missing(&["write_files", "write_content", "read_products"]), "");
        assert_eq!(missing(&["read_files", "read_content"]), "read_products write_files");
        assert_eq!(
            missing(&["read_product", "unauthenticated_read_products"]),
            "read_products read_content write_files"
        );
    }

    #[tokio::test]
    async fn the_authorize_address_has_what_was_wanted() {
        let fake = Fake::script([]).await;
        let url = fake.client().authorize_url(&shop(), "https://pages.example.com/shopify/callback", "st_-1");
        let (start, query) = url.split_once('?').unwrap();
        assert!(start.ends_with("/some-shop.myshopify.com/admin/oauth/authorize"), "{start}");
        let wanted = "client_id=app-id&scope=read_products%2Cread_legal_policies%2Cread_content\
                      &redirect_uri=https%3A%2F%2Fpages.example.com%2Fshopify%2Fcallback&state=st_-1";
        assert_eq!(query, wanted);
    }

    #[tokio::test]
    async fn a_code_brings_a_pair_whose_life_is_counted_early() {
        let fake = Fake::script([Reply::Json(200, good())]).await;
        let before = WallTime::now();
        let pair = fake.client().exchange_code(&shop(), &Secret::new("c0de")).await.unwrap();
        let after = WallTime::now();
        let hour = Duration::from_secs(3540);
        assert!((before.plus(hour)..=after.plus(hour)).contains(&pair.expires_at));
        let quarter = Duration::from_secs(7_776_000 - 60);
        assert!((before.plus(quarter)..=after.plus(quarter)).contains(&pair.refresh_expires_at.unwrap()));
        assert_eq!((pair.access.expose(), pair.refresh.expose()), ("shpat_a", "shprt_r"));
        assert_eq!(
            pair.scopes.iter().map(String::as_str).collect::<Vec<_>>(),
            ["read_products", "write_legal_policies"]
        );
        assert!(!format!("{pair:?}").contains("shp"));
        let seen = &fake.seen()[0];
        assert_eq!(seen.path, "/some-shop.myshopify.com/admin/oauth/access_token");
        for (key, value) in [("client_id", "app-id"), ("client_secret", SECRET), ("code", "c0de"), ("expiring", "1")] {
            assert_eq!(seen.form[key], value);
        }
    }

    #[tokio::test]
    async fn a_refresh_and_a_migration_send_what_they_must() {
        let fake = Fake::script([Reply::Json(200, good()), Reply::Json(200, good())]).await;
        fake.client().refresh(&shop(), &Secret::new("shprt_old")).await.unwrap();
        fake.client().migrate(&shop(), &Secret::new("shpat_old")).await.unwrap();
        let seen = fake.seen();
        assert_eq!((&*seen[0].form["grant_type"], &*seen[0].form["refresh_token"]), ("refresh_token", "shprt_old"));
        assert!(!seen[0].form.contains_key("expiring"));
        assert_eq!((&*seen[1].form["subject_token"], &*seen[1].form["expiring"]), ("shpat_old", "1"));
        assert_eq!((&*seen[1].form["subject_token_type"], &*seen[1].form["requested_token_type"]), (OFFLINE, OFFLINE));
        assert!(seen.iter().all(|seen| seen.token.is_none()));
    }

    #[tokio::test]
    async fn an_answer_without_both_halves_is_refused() {
        for missing in ["access_token", "refresh_token", "expires_in"] {
            let mut answer = good();
            answer.as_object_mut().unwrap().remove(missing);
            let fake = Fake::script([Reply::Json(200, answer.clone()), Reply::Json(200, answer)]).await;
            let error = fake.client().exchange_code(&shop(), &Secret::new("c")).await.unwrap_err();
            assert!(!error.to_string().contains("shp"), "{error}");
            // A refresh may be repeated with the token that is stored.
            let error = fake.client().refresh(&shop(), &Secret::new("r")).await.unwrap_err();
            assert_eq!(error.disposition(), Disposition::Retry);
        }
        for odd in [json!(-1), json!("x"), json!(null)] {
            let mut answer = good();
            answer["expires_in"] = odd;
            let fake = Fake::script([Reply::Json(200, answer)]).await;
            let error = fake.client().exchange_code(&shop(), &Secret::new("c")).await.unwrap_err();
            assert_eq!(error.kind, ShopifyErrorKind::Misconfigured);
        }
    }

    #[tokio::test]
    async fn a_pair_whose_life_is_over_is_kept_for_its_refresh_token() {
        let mut answer = good();
        (answer["expires_in"], answer["refresh_token_expires_in"]) = (json!(0), json!(0));
        let fake = Fake::script([Reply::Json(200, answer.clone()), Reply::Json(200, answer)]).await;
        let pairs = [
            fake.client().refresh(&shop(), &Secret::new("r")).await.unwrap(),
            fake.client().exchange_code(&shop(), &Secret::new("c")).await.unwrap(),
        ];
        for pair in pairs {
            assert!(pair.expires_at <= WallTime::now());
            assert_eq!((pair.refresh.expose(), pair.refresh_expires_at), ("shprt_r", None));
        }
    }

    #[tokio::test]
    async fn a_grant_that_fails_shows_no_secret() {
        let echo = json!({"error": "invalid_grant", "error_description": format!("sesame-code {SECRET} shprt_xyz")});
        for reply in [Reply::Json(400, echo), Reply::Text(520, "<html>".into()), Reply::Reset, Reply::Truncated(good())]
        {
            let fake = Fake::script([reply]).await;
            let error = fake.client().refresh(&shop(), &Secret::new("sesame-code")).await.unwrap_err();
            let text = error.to_string();
            assert!(!["sesame", SECRET, "shprt_xyz"].iter().any(|secret| text.contains(secret)), "{text}");
        }
    }
}
