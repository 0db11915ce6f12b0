//! The authorization code grant and the refresh of tokens.
//!
//! Source: Shopify's pages on the authorization code grant and on offline access tokens. `expiring=1` must be sent: a
//! token without an end is refused by the Admin API. An answer to it without a refresh token is therefore no success.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use url::form_urlencoded;

use super::client::{ShopifyClient, base_of};
use super::error::{ShopifyError, ShopifyErrorKind};
use crate::core::model::{Secret, ShopName, WallTime};

/// Taken off the life of an access token, beside the time that the answer took.
const MARGIN: Duration = Duration::from_secs(60);
/// The kind of a token that works while nobody sits at a browser.
const OFFLINE: &str = "urn:shopify:params:oauth:token-type:offline-access-token";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The tokens that a grant or a refresh brought.
#[derive(Debug, Clone)]
pub struct TokenPair {
    /// Lives an hour.
    pub access: Secret,
    /// Works once.
    pub refresh: Secret,
    /// Access scopes that were granted.
    pub scopes: BTreeSet<String>,
    /// Until when the access token is good.
    pub expires_at: WallTime,
    /// Until when the refresh token is good, where Shopify said so.
    pub refresh_expires_at: Option<WallTime>,
}

/// Where to send the browser, so that the merchant installs the app.
pub fn authorize_url(
    api_url: Option<&str>,
    shop: &ShopName,
    client_id: &str,
    scopes: &[String],
    redirect_uri: &str,
    state: &str,
) -> String {
    let base = format!("{}/admin/oauth/authorize?", base_of(api_url, shop));
    let start = base.len();
    let mut query = form_urlencoded::Serializer::for_suffix(base, start);
    query.append_pair("client_id", client_id);
    query.append_pair("scope", &scopes.join(","));
    query.append_pair("redirect_uri", redirect_uri);
    query.append_pair("state", state);
    query.finish()
}

/// Scopes that are wanted and were not granted. A scope to write includes the one to read.
pub fn missing_scopes<'a>(
    wanted: impl IntoIterator<Item = &'a String>,
    granted: &BTreeSet<String>,
) -> BTreeSet<String> {
    let covered = |scope: &str| {
        let write = scope.strip_prefix("read_").map(|rest| format!("write_{rest}"));
        granted.contains(scope) || write.is_some_and(|write| granted.contains(&write))
    };
    wanted.into_iter().filter(|scope| !covered(scope)).cloned().collect()
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<Secret>,
    #[serde(default)]
    scope: String,
    expires_in: Option<u64>,
    refresh_token: Option<Secret>,
    refresh_token_expires_in: Option<u64>,
}

impl ShopifyClient {
    /// Exchanges a code for tokens, once.
    ///
    /// # Errors
    /// [`ShopifyError`].
    pub async fn exchange_code(&self, shop: &ShopName, code: &Secret) -> Result<TokenPair, ShopifyError> {
        self.grant("exchange_code", shop, &[("code", code.expose()), ("expiring", "1")], false).await
    }

    /// Exchanges a refresh token for another pair. May be repeated when the answer is lost, with the same token.
    ///
    /// # Errors
    /// [`ShopifyError`]; [`ShopifyErrorKind::RefreshDead`] when the merchant must act.
    pub async fn refresh(&self, shop: &ShopName, refresh: &Secret) -> Result<TokenPair, ShopifyError> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        self.grant("refresh_token", shop, &form, true).await
    }

    /// Exchanges an old token, which does not end, for a pair. It is dead from then on.
    ///
    /// # Errors
    /// As for [`ShopifyClient::refresh`].
    pub async fn migrate(&self, shop: &ShopName, old: &Secret) -> Result<TokenPair, ShopifyError> {
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", old.expose()),
            ("subject_token_type", OFFLINE),
            ("requested_token_type", OFFLINE),
            ("expiring", "1"),
        ];
        self.grant("migrate_token", shop, &form, true).await
    }

    async fn grant(
        &self,
        call: &'static str,
        shop: &ShopName,
        form: &[(&str, &str)],
        is_refresh: bool,
    ) -> Result<TokenPair, ShopifyError> {
        // Life counts from the answer, which is not before the question.
        let asked_at = WallTime::now();
        let body = self.post_token(call, shop, form, is_refresh).await?;
        let odd = |what: &str| ShopifyError::local(call, ShopifyErrorKind::Transient, what);
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| odd("the answer is not what a token endpoint sends"))?;
        let access = answer
            .access_token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| odd("the answer has no access token"))?;
        let (refresh, expires_in) = match (answer.refresh_token.filter(|token| !token.is_empty()), answer.expires_in) {
            (Some(refresh), Some(expires_in)) => (refresh, expires_in),
            _ => {
                let text = "the answer has no refresh_token or no expires_in, although expiring tokens were asked for";
                return Err(ShopifyError::local(call, ShopifyErrorKind::Rejected, text));
            }
        };
        let life = Duration::from_secs(expires_in).saturating_sub(MARGIN);
        let scopes = answer.scope.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned);
        let refresh_expires_at = answer.refresh_token_expires_in.map(|life| asked_at.plus(Duration::from_secs(life)));
        Ok(TokenPair { access, refresh, scopes: scopes.collect(), expires_at: asked_at.plus(life), refresh_expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scopes: &[&str]) -> BTreeSet<String> {
        scopes.iter().map(|scope| (*scope).to_owned()).collect()
    }

    #[test]
    fn the_authorize_address_is_encoded_and_complete() {
        let shop = "some-shop.myshopify.com".parse().unwrap();
        let scopes = ["read_products".to_owned(), "read_content".to_owned()];
        let url = authorize_url(None, &shop, "abc", &scopes, "https://example.org/shopify/callback", "s-1");
        assert_eq!(
            url,
            "https://some-shop.myshopify.com/admin/oauth/authorize?client_id=abc&scope=read_products%2Cread_content\
             &redirect_uri=https%3A%2F%2Fexample.org%2Fshopify%2Fcallback&state=s-1"
        );
        let url = authorize_url(Some("http://127.0.0.1:9/{shop}"), &shop, "abc", &[], "r", "s");
        assert!(url.starts_with("http://127.0.0.1:9/some-shop.myshopify.com/admin/oauth/authorize?"), "{url}");
    }

    #[test]
    fn a_scope_to_write_includes_the_one_to_read() {
        let wanted: Vec<String> = ["read_products", "read_content"].map(str::to_owned).into();
        assert_eq!(missing_scopes(&wanted, &set(&["write_products", "read_content"])), set(&[]));
        assert_eq!(missing_scopes(&wanted, &set(&["read_content"])), set(&["read_products"]));
        assert_eq!(
            missing_scopes(&wanted, &set(&["read_product", "write_content_x"])),
            set(&["read_products", "read_content"])
        );
    }
}
