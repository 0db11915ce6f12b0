//! What the daemon does about the link of one shop: reads its object, keeps its webhook subscriptions in place, and
//! checks its token. Answers in the words of no source ([`api`](crate::sources::api)).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::ShopifyClient;
use super::error::{ShopifyError, ShopifyErrorKind};
use super::oauth::missing_scopes;
use super::queries::{APP_UNINSTALL, GRANTED_SCOPES};
use crate::core::disposition::Disposition;
use crate::core::model::{Cause, Secret, ShopName};
use crate::core::park_reason::ParkReason;
use crate::core::token_check::Seen;
use crate::sources::api::{Reading, SourceError, Subscription, Target, TokenState};
use crate::sources::scrub::scrub;

/// The scope without which there is nothing to read but the shop itself.
pub const PRODUCTS_SCOPE: &str = "read_products";

/// The shop that a call is about.
fn shop_of<'a>(target: &Target<'a>) -> Result<&'a ShopName, SourceError> {
    target.link.shop().ok_or_else(|| SourceError {
        disposition: Disposition::Rejected,
        answered: false,
        is_general: false,
        is_reached: false,
        text: format!("{} is not the link of a shop", target.link),
    })
}

/// Reads the shop's own object. `parts` are those of `shopify.shop_fields` that were not refused before.
pub(in crate::sources) async fn read(
    client: &ShopifyClient,
    target: Target<'_>,
    parts: &[String],
    cause: Cause,
) -> Result<Reading, SourceError> {
    Ok(client.read_shop(target.link, shop_of(&target)?, target.token, parts, cause).await?)
}

/// Subscriptions that stand in the app's configuration cannot be seen: they are taken for confirmed.
pub(in crate::sources) async fn ensure_subscription(
    client: &ShopifyClient,
    target: Target<'_>,
    wanted: &BTreeSet<String>,
) -> Result<Subscription, SourceError> {
    let shop = shop_of(&target)?;
    match &client.settings().subscribe_at {
        Some(uri) => Ok(client.ensure_topics(shop, target.token, uri, wanted).await.map_err(not_subscribed)?),
        None => Ok(Subscription { standing: wanted.clone(), confirmed: wanted.clone(), refused: BTreeSet::new() }),
    }
}

/// A scope that a subscription lacks is not missing for reads.
fn not_subscribed(error: ShopifyError) -> SourceError {
    let error = SourceError::from(error);
    match error.disposition {
        Disposition::Park(ParkReason::ScopeMissing) => SourceError { disposition: Disposition::Rejected, ..error },
        _ => error,
    }
}

/// A part whose scope is missing is left out of objects; without products the link is of no use.
pub(in crate::sources) async fn check_token(
    client: &ShopifyClient,
    target: Target<'_>,
) -> Result<TokenState, SourceError> {
    let shop = shop_of(&target)?;
    let granted = match client.granted_scopes(shop, target.token).await {
        Ok(granted) => granted,
        Err(error) => match error.disposition().park_reason() {
            Some(reason) => return Ok(TokenState::Dead(reason)),
            None => return Err(error.into()),
        },
    };
    let missing = missing_scopes(&client.settings().scopes, &granted);
    if missing.iter().any(|scope| scope == PRODUCTS_SCOPE) {
        return Ok(TokenState::Dead(ParkReason::ScopeMissing));
    }
    let seen = Seen { scopes: granted.into_iter().collect(), ..Seen::default() };
    Ok(TokenState::Works { seen, unlisted: false })
}

/// The scopes in the `data` of an answer.
pub(super) fn scopes_in(data: &Value) -> Result<BTreeSet<String>, ShopifyError> {
    let list = data["currentAppInstallation"]["accessScopes"].as_array();
    let list = list.ok_or_else(|| ShopifyError::odd(GRANTED_SCOPES.call, "the answer has no scopes"))?;
    Ok(list.iter().filter_map(|scope| scope["handle"].as_str()).map(str::to_owned).collect())
}

impl ShopifyClient {
    /// The scopes that the shop grants.
    ///
    /// # Errors
    /// [`ShopifyError`]. A token that was revoked is [`ShopifyErrorKind::TokenRefused`].
    pub async fn granted_scopes(&self, shop: &ShopName, token: &Secret) -> Result<BTreeSet<String>, ShopifyError> {
        let data = self.call(shop, token, &GRANTED_SCOPES, json!({})).await?;
        scopes_in(&data)
    }

    /// Uninstalls the app from the shop, which ends its tokens and subscriptions. A token that is dead already means
    /// that this was done.
    ///
    /// # Errors
    /// [`ShopifyError`] when it is not known to be done.
    pub async fn uninstall(&self, shop: &ShopName, token: &Secret) -> Result<(), ShopifyError> {
        let data = match self.call(shop, token, &APP_UNINSTALL, json!({})).await {
            Err(error) if error.kind == ShopifyErrorKind::TokenRefused => return Ok(()),
            data => data?,
        };
        match data["appUninstall"]["userErrors"].as_array() {
            Some(errors) if errors.is_empty() => Ok(()),
            Some(errors) => {
                let why = errors[0]["message"].as_str().unwrap_or_default();
                Err(ShopifyError::local(APP_UNINSTALL.call, ShopifyErrorKind::BadRequest, scrub(why, &[])))
            }
            None => Err(ShopifyError::odd(APP_UNINSTALL.call, "the answer does not say whether it is done")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, SECRET, shop};
    use super::*;
    use crate::core::model::{LinkKey, UserId};

    async fn with<T>(replies: Vec<Reply>, call: impl AsyncFnOnce(&ShopifyClient, Target<'_>) -> T) -> (Fake, T) {
        let fake = Fake::script(replies).await;
        let (link, token) = (LinkKey::of_shop(UserId::random(), shop()), Secret::new("shpat_x"));
        let answer = call(&fake.client(), Target { link: &link, token: &token, person: None }).await;
        (fake, answer)
    }

    fn scopes(handles: &[&str]) -> Reply {
        let list: Vec<Value> = handles.iter().map(|handle| json!({"handle": handle})).collect();
        Reply::data(json!({"currentAppInstallation": {"id": "gid", "accessScopes": list}}))
    }

    fn refused(status: u16) -> Reply {
        Reply::Json(status, json!({"errors": "[API] Invalid API key or access token"}))
    }

    #[tokio::test]
    async fn a_token_is_checked_by_the_scopes_that_it_carries() {
        let check = async |reply| with(vec![reply], async |client, target| check_token(client, target).await).await.1;
        let works = check(scopes(&["write_products", "read_content"])).await;
        let Ok(TokenState::Works { seen, unlisted: false }) = works else { panic!("{works:?}") };
        assert_eq!(seen.scopes, ["read_content", "write_products"]);
        let dead = |reason| Ok(TokenState::Dead(reason));
        assert_eq!(check(scopes(&["read_content"])).await, dead(ParkReason::ScopeMissing));
        assert_eq!(check(refused(401)).await, dead(ParkReason::Uninstalled));
        assert_eq!(check(refused(402)).await, dead(ParkReason::ShopFrozen));
        assert_eq!(check(refused(500)).await.unwrap_err().disposition, Disposition::Retry);
        assert_eq!(check(Reply::data(json!({}))).await.unwrap_err().disposition, Disposition::Retry);
    }

    #[tokio::test]
    async fn subscriptions_of_the_apps_configuration_are_taken_for_confirmed() {
        let wanted = BTreeSet::from(["shop/update".to_owned()]);
        let (fake, found) =
            with(vec![], async |client, target| ensure_subscription(client, target, &wanted).await).await;
        assert_eq!((found.unwrap().confirmed, fake.seen().len()), (wanted, 0));
    }

    #[tokio::test]
    async fn a_link_of_a_page_is_refused() {
        let fake = Fake::script([]).await;
        let (link, token) = (LinkKey::new(UserId::random(), "1".parse().unwrap()), Secret::new(SECRET));
        let target = Target { link: &link, token: &token, person: None };
        let error = read(&fake.client(), target, &[], Cause::Poll).await.unwrap_err();
        assert_eq!(error.disposition, Disposition::Rejected);
    }

    #[tokio::test]
    async fn an_uninstall_is_done_when_the_token_is_dead() {
        let end = |errors: Value| Reply::data(json!({"appUninstall": {"app": null, "userErrors": errors}}));
        let bad = end(json!([{"message": "no"}]));
        for (reply, is_done) in [
            (end(json!([])), true),
            (refused(401), true),
            (bad, false),
            (refused(500), false),
            (Reply::data(json!({})), false),
        ] {
            let (_fake, answer) =
                with(vec![reply], async |client, target| client.uninstall(&shop(), target.token).await).await;
            assert_eq!(answer.is_ok(), is_done, "{answer:?}");
        }
    }
}
