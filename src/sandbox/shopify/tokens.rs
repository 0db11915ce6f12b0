//! The token endpoint: codes, refreshes and the exchange of old tokens.

use serde_json::{Value, json};

use super::handle::{ShopAnswer, ShopAsk, Shopify};
use super::state::{Installation, Pair, ShopFault};
use crate::sandbox::wire::Broken;

/// The refresh tokens' own life, in seconds.
const REFRESH_LIFE: u64 = 7_776_000;
/// The grant that exchanges an old token for a pair.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const EDGE: &str = "<html><head><title>520</title></head><body>Web server is returning an unknown error</body></html>";

pub(super) fn answer(shopify: &Shopify, ask: &ShopAsk<'_>) -> Result<ShopAnswer, Broken> {
    let strikes = |fault| shopify.strikes(&ask.shop, fault);
    if strikes(ShopFault::Reset) {
        return Err(Broken);
    }
    if strikes(ShopFault::Unavailable) {
        return Ok(ShopAnswer::html(503, EDGE.to_owned()));
    }
    let (id, secret) = shopify.look(|state| (state.client_id.clone(), state.client_secret.clone()));
    if ask.param("client_id") != Some(id) || ask.param("client_secret") != Some(secret) {
        return Ok(error(401, "invalid_client", "client_id or client_secret is wrong"));
    }
    // A migration is the first refresh of an old token.
    let renews = ask.param("grant_type").is_some_and(|grant| grant == "refresh_token" || grant == EXCHANGE);
    if renews && strikes(ShopFault::RefreshFailed) {
        return Ok(ShopAnswer::html(520, EDGE.to_owned()));
    }
    let answer = match ask.param("grant_type").as_deref() {
        Some("refresh_token") => refresh(shopify, ask),
        Some(EXCHANGE) => migrate(shopify, ask),
        _ => exchange(shopify, ask),
    };
    if renews && strikes(ShopFault::RefreshLost) {
        return Ok(ShopAnswer::html(520, EDGE.to_owned()));
    }
    Ok(answer)
}

fn error(status: u16, error: &str, description: &str) -> ShopAnswer {
    ShopAnswer::json(status, &json!({"error": error, "error_description": description}))
}

/// The app on the shop of this request.
fn with_app<T>(
    shopify: &Shopify,
    ask: &ShopAsk<'_>,
    pair: Pair,
    work: impl FnOnce(&mut Installation, Pair) -> T,
) -> Option<T> {
    shopify.change(|state| state.shops.get_mut(&ask.shop).map(|shop| work(&mut shop.app, pair)))
}

/// The answer that brings this pair, word for word the same each time.
fn pair_json(pair: &Pair, scopes: &Installation) -> Value {
    let scope = scopes.scopes.iter().cloned().collect::<Vec<_>>().join(",");
    json!({"access_token": pair.access, "scope": scope, "expires_in": pair.life.as_secs(),
        "refresh_token": pair.refresh, "refresh_token_expires_in": REFRESH_LIFE})
}

/// A grant ends the pair before it.
fn granted(app: &mut Installation, pair: Pair) -> Value {
    app.access.clear();
    app.access.insert(pair.access.clone(), pair.expires_at);
    app.retry = None;
    let answer = pair_json(&pair, app);
    app.pair = Some(pair);
    answer
}

fn exchange(shopify: &Shopify, ask: &ShopAsk<'_>) -> ShopAnswer {
    let code = ask.param("code").unwrap_or_default();
    let expiring = ask.param("expiring").as_deref() == Some("1");
    let pair = shopify.change(super::state::ShopifyState::mint_pair);
    let answer = with_app(shopify, ask, pair, |app, pair| app.codes.remove(&code).then(|| granted(app, pair)));
    let Some(mut answer) = answer.flatten() else {
        return error(400, "invalid_request", "The authorization code was not found or was already used");
    };
    if !expiring || shopify.strikes(&ask.shop, ShopFault::NotExpiring) {
        for field in ["expires_in", "refresh_token", "refresh_token_expires_in"] {
            answer.as_object_mut().map(|answer| answer.remove(field));
        }
    }
    ShopAnswer::json(200, &answer)
}

fn refresh(shopify: &Shopify, ask: &ShopAsk<'_>) -> ShopAnswer {
    let token = ask.param("refresh_token").unwrap_or_default();
    let pair = shopify.change(super::state::ShopifyState::mint_pair);
    let answer = with_app(shopify, ask, pair, |app, pair| {
        if !app.installed {
            return None;
        }
        // The same answer again, as long as the pair that it brought is not used.
        if let Some((used, brought)) = app.retry.clone().filter(|(used, _)| *used == token) {
            app.retry = Some((used, brought.clone()));
            return Some(pair_json(&brought, app));
        }
        if app.pair.as_ref().is_none_or(|held| held.refresh != token) {
            return None;
        }
        app.refreshes += 1;
        app.access.insert(pair.access.clone(), pair.expires_at);
        app.retry = Some((token.clone(), pair.clone()));
        let answer = pair_json(&pair, app);
        app.pair = Some(pair);
        Some(answer)
    });
    match answer.flatten() {
        Some(answer) => ShopAnswer::json(200, &answer),
        None => error(401, "invalid_request", "This request requires an active refresh_token"),
    }
}

fn migrate(shopify: &Shopify, ask: &ShopAsk<'_>) -> ShopAnswer {
    let token = ask.param("subject_token").unwrap_or_default();
    let pair = shopify.change(super::state::ShopifyState::mint_pair);
    let answer = with_app(shopify, ask, pair, |app, pair| app.access.contains_key(&token).then(|| granted(app, pair)));
    match answer.flatten() {
        Some(answer) => ShopAnswer::json(200, &answer),
        None => error(400, "invalid_subject_token", "The subject token is not valid"),
    }
}
