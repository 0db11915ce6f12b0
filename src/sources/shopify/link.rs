//! What the daemon does about the link of one shop: reads it, and checks its token. Answers in the words of no source
//! ([`api`](crate::sources::api)).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::client::ShopifyClient;
use super::error::{ShopifyError, ShopifyErrorKind};
use super::oauth::missing_scopes;
use super::queries;
use super::shop_data::{self, ShopData};
use crate::core::disposition::Disposition;
use crate::core::model::{Cause, Secret, ShopName, WallTime};
use crate::core::park_reason::ParkReason;
use crate::core::token_check::Seen;
use crate::sources::api::{Document, Reading, SourceError, Subscription, Target, TokenState};
use crate::sources::canonical;

/// Requests for the pages of one store at most; fifty pages come with each.
const MOST_PAGES: usize = 40;

fn shop_of<'a>(target: &Target<'a>) -> Result<&'a ShopName, SourceError> {
    target.link.shop().ok_or_else(|| SourceError {
        disposition: Disposition::Rejected,
        ..SourceError::local(format!("{} is not the link of a shop", target.link))
    })
}

/// The object of a shop, with these parts.
pub(in crate::sources) async fn read(
    client: &ShopifyClient,
    target: Target<'_>,
    parts: &[String],
    cause: Cause,
) -> Result<Reading, SourceError> {
    let shop = shop_of(&target)?;
    let wants = |part: &str| parts.iter().any(|wanted| wanted == part);
    let mut refused = Vec::new();
    let mut data = ShopData::new();
    let (mut about, policies) = shop_and_policies(client, shop, target.token, wants("policies"), &mut refused).await?;
    let name = about.get("name").and_then(Value::as_str).map(str::to_owned);
    if wants("shop") {
        // The address of the owner is nobody else's.
        about.remove("email");
        data.insert("shop".to_owned(), Value::Object(about));
    }
    if let Some(policies) = policies {
        data.insert("policies".to_owned(), policies);
    }
    if wants("pages")
        && let Some(pages) = granted(pages(client, shop, target.token).await, "pages", &mut refused)?
    {
        data.insert("pages".to_owned(), Value::Array(pages));
    }
    let truncated = shop_data::fit(&mut data);
    if !truncated.is_empty() {
        let link = target.link;
        tracing::warn!(
            %link,
            truncated = ?truncated,
            "page [{link}]: its texts are too long for an object, {truncated:?} are cut; shorten them in the shop's admin"
        );
    }
    let digest = canonical::digest(&data, &[]);
    let body = shop_data::object(target.link, data, &truncated, cause, client.version(), WallTime::now()).into();
    Ok(Reading { document: Document { digest, body }, name, refused_fields: refused })
}

/// What a part brought; `None` when the shop does not grant it.
fn granted<T>(
    answer: Result<T, ShopifyError>,
    part: &str,
    refused: &mut Vec<String>,
) -> Result<Option<T>, SourceError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ShopifyErrorKind::AccessDenied => {
            refused.push(part.to_owned());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The shop, and its policies where they are wanted and granted. A missing scope fails the whole query.
async fn shop_and_policies(
    client: &ShopifyClient,
    shop: &ShopName,
    token: &Secret,
    policies: bool,
    refused: &mut Vec<String>,
) -> Result<(Map<String, Value>, Option<Value>), SourceError> {
    let mut with_policies = policies;
    loop {
        let answer = client.query(queries::SHOP, shop, token, &queries::shop(with_policies), json!({})).await;
        let mut data = match answer {
            Err(error) if error.kind == ShopifyErrorKind::AccessDenied && with_policies => {
                refused.push("policies".to_owned());
                with_policies = false;
                continue;
            }
            answer => answer?,
        };
        let Value::Object(mut about) = data["shop"].take() else {
            return Err(odd(queries::SHOP, "the answer has no shop").into());
        };
        let policies = about.remove("shopPolicies").filter(Value::is_array);
        if about.get("myshopifyDomain").and_then(Value::as_str) != Some(shop.as_str()) {
            return Err(odd(queries::SHOP, "the answer is about another shop").into());
        }
        if with_policies && policies.is_none() {
            return Err(odd(queries::SHOP, "the answer has no policies").into());
        }
        return Ok((about, policies));
    }
}

fn odd(call: &'static str, what: &str) -> ShopifyError {
    ShopifyError::local(call, ShopifyErrorKind::Transient, what)
}

async fn pages(client: &ShopifyClient, shop: &ShopName, token: &Secret) -> Result<Vec<Value>, ShopifyError> {
    let (mut pages, mut after) = (Vec::new(), Value::Null);
    for _ in 0..MOST_PAGES {
        let variables = json!({ "after": after });
        let mut data = client.query(queries::PAGES, shop, token, &queries::pages(), variables).await?;
        let Value::Array(nodes) = data["pages"]["nodes"].take() else {
            return Err(odd(queries::PAGES, "the answer has no pages"));
        };
        pages.extend(nodes);
        let info = &mut data["pages"]["pageInfo"];
        if info["hasNextPage"] != true {
            // In an order that does not depend on when each was changed.
            pages.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
            return Ok(pages);
        }
        after = info["endCursor"].take();
    }
    Err(odd(queries::PAGES, "the list of pages does not end"))
}

/// Asks which access scopes the shop grants.
pub(in crate::sources) async fn check_token(
    client: &ShopifyClient,
    target: Target<'_>,
) -> Result<TokenState, SourceError> {
    let shop = shop_of(&target)?;
    let answer = client.query(queries::SCOPES, shop, target.token, &queries::scopes(), json!({})).await;
    let data = match answer {
        Ok(data) => data,
        Err(error) => match error.disposition() {
            Disposition::Park(why) => return Ok(TokenState::Dead(why)),
            _ => return Err(error.into()),
        },
    };
    let Some(scopes) = data["currentAppInstallation"]["accessScopes"].as_array() else {
        return Err(odd(queries::SCOPES, "the answer has no access scopes").into());
    };
    let granted: BTreeSet<String> =
        scopes.iter().filter_map(|scope| scope["handle"].as_str()).map(str::to_owned).collect();
    if !missing_scopes(client.scopes(), &granted).is_empty() {
        return Ok(TokenState::Dead(ParkReason::ScopeMissing));
    }
    let seen = Seen { scopes: granted.into_iter().collect(), ..Seen::default() };
    Ok(TokenState::Works { seen, unlisted: false })
}

/// The subscriptions of the app's configuration cannot be asked for, so that nothing is missing here.
pub(in crate::sources) fn ensure_subscription(wanted: &BTreeSet<String>) -> Subscription {
    Subscription { standing: wanted.clone(), confirmed: wanted.clone(), refused: BTreeSet::new() }
}
