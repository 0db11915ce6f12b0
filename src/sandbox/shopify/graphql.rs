//! The Admin API: answers to the operations that the daemon uses, by their names, with costs and throttling.
//!
//! Answers about products and collections have the fields that a query asks for; the other ones have every field that the
//! local shop knows.

use serde_json::{Value, json};

use super::handle::{ShopAnswer, ShopAsk, Shopify};
use super::operation::Operation;
use super::state::{FULL, Shop, ShopFault, ShopifyState};
use super::{bulk, catalogue_queries};
use crate::core::model::{ShopName, WallTime};
use crate::sandbox::activity::ActivityKind;
use crate::sandbox::wire::Broken;

/// The mutation with which an app uninstalls itself.
const UNINSTALL: &str = "AppUninstall";

/// The points that an operation asks for. The daemon learns them from the answers.
fn cost(operation: &str) -> f64 {
    match operation {
        "ProductRead" => 20.0,
        "ProductVariants" | "ProductsChanged" | "CollectionsList" | "CollectionProducts" => 30.0,
        _ => 12.0,
    }
}

pub(super) fn answer(shopify: &Shopify, ask: &ShopAsk<'_>) -> Result<ShopAnswer, Broken> {
    let name = Operation::of(ask.body).map_or_else(|| "a query".to_owned(), |operation| operation.name);
    let answer = answer_with_faults(shopify, ask);
    let ok = answer.as_ref().is_ok_and(|answer| answer.status == 200 && !answer.is_refusal);
    let text = if ok { format!("{}: {name}", ask.shop) } else { format!("{}: {name} failed", ask.shop) };
    shopify.note(ActivityKind::Graph, ok, text);
    answer
}

fn answer_with_faults(shopify: &Shopify, ask: &ShopAsk<'_>) -> Result<ShopAnswer, Broken> {
    let strikes = |fault| shopify.strikes(&ask.shop, fault);
    if strikes(ShopFault::Reset) {
        return Err(Broken);
    }
    if strikes(ShopFault::Unavailable) {
        return Ok(ShopAnswer::html(503, "<html><body>Service unavailable</body></html>".to_owned()));
    }
    if strikes(ShopFault::Html) {
        return Ok(ShopAnswer::html(200, "<html><body>One moment, please</body></html>".to_owned()));
    }
    if strikes(ShopFault::Empty) {
        return Ok(ShopAnswer::html(200, String::new()));
    }
    if let Some(refusal) = refused(shopify, ask) {
        return Ok(refusal);
    }
    let Some(operation) = Operation::of(ask.body) else {
        return Ok(ShopAnswer::json(400, &json!({"errors": {"query": "Required parameter missing or invalid"}})));
    };
    let files = shopify.files_url();
    let answer = shopify.change(|state| answer_of(state, &ask.shop, &operation, &files)).unwrap_or(Value::Null);
    if operation.name == UNINSTALL && answer["data"].is_object() {
        shopify.uninstall(&ask.shop);
    }
    let mut answer = ShopAnswer { is_refusal: answer["errors"].is_array(), ..ShopAnswer::json(200, &answer) };
    if strikes(ShopFault::Truncated) {
        answer.body.truncate(answer.body.len() / 2);
        answer.is_refusal = true;
    }
    Ok(answer)
}

/// The answer to an operation, with its cost.
fn answer_of(state: &mut ShopifyState, name: &ShopName, operation: &Operation, files: &str) -> Option<Value> {
    let is_throttled = state.strikes(name, ShopFault::Throttled);
    let is_denied = state.strikes(name, ShopFault::PoliciesDenied);
    let (cost, restore) = (cost(&operation.name), state.restore);
    let shop = state.shops.get_mut(name)?;
    *shop.queries.entry(operation.name.clone()).or_default() += 1;
    let points = if is_throttled { 0.0 } else { points(shop, restore) };
    if points < cost {
        let answer = json!({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]});
        return Some(with_cost(answer, cost, None, points, restore));
    }
    let actual = cost / 2.0;
    shop.points = (points - actual, WallTime::now());
    let of_products = catalogue_queries::answer(shop, operation);
    let answer = match of_products.or_else(|| bulk::answer(state, name, operation, files)) {
        Some(answer) => answer,
        None => result(state.shops.get_mut(name)?, operation, is_denied),
    };
    let answer = match answer {
        Ok(data) => json!({"data": data}),
        Err(error) => json!({"errors": [error], "data": null}),
    };
    Some(with_cost(answer, cost, Some(actual), points - actual, restore))
}

/// The refusals that come before the query is looked at.
fn refused(shopify: &Shopify, ask: &ShopAsk<'_>) -> Option<ShopAnswer> {
    let error = |status, text: &str| Some(ShopAnswer::json(status, &json!({"errors": text})));
    if shopify.strikes(&ask.shop, ShopFault::Frozen) {
        return error(402, "Unavailable Shop");
    }
    if shopify.strikes(&ask.shop, ShopFault::Inactive) {
        let closed = json!({"message": "Shop is inactive", "extensions": {"code": "SHOP_INACTIVE"}});
        return Some(ShopAnswer::json(200, &json!({"errors": [closed]})));
    }
    if shopify.strikes(&ask.shop, ShopFault::Locked) {
        return error(423, "Locked");
    }
    let token = ask.header("x-shopify-access-token").unwrap_or_default().to_owned();
    let good = shopify.change(|state| {
        let shop = state.shops.get_mut(&ask.shop)?;
        // The new pair is used: the answer that brought it does not come again.
        if shop.app.retry.as_ref().is_some_and(|(_, pair)| pair.access == token) {
            shop.app.retry = None;
        }
        Some(shop.app.installed && shop.app.access.get(&token).is_some_and(|ends| *ends > WallTime::now()))
    });
    if good == Some(true) {
        return None;
    }
    error(401, "[API] Invalid API key or access token (unrecognized login or wrong password)")
}

/// The points that the bucket of a shop has now.
fn points(shop: &Shop, restore: f64) -> f64 {
    let (points, at) = shop.points;
    (points + WallTime::now().since(at).as_secs_f64() * restore).min(FULL)
}

fn with_cost(mut answer: Value, requested: f64, actual: Option<f64>, left: f64, restore: f64) -> Value {
    answer["extensions"] = json!({"cost": {"requestedQueryCost": requested, "actualQueryCost": actual,
        "throttleStatus": {"maximumAvailable": FULL, "currentlyAvailable": left.floor(), "restoreRate": restore}}});
    answer
}

/// The data of an operation, or an error.
fn result(shop: &mut Shop, operation: &Operation, denied: bool) -> Result<Value, Value> {
    let policies_wanted = operation.text.contains("shopPolicies");
    if denied && policies_wanted {
        return Err(
            json!({"message": "Access denied for shopPolicies field. Required access: `read_legal_policies` access scope.",
            "path": ["shop", "shopPolicies"], "extensions": {"code": "ACCESS_DENIED",
            "requiredAccess": "`read_legal_policies` access scope."}}),
        );
    }
    match operation.name.as_str() {
        "ShopRead" => {
            let mut data = shop.data.clone();
            if policies_wanted {
                data["shopPolicies"] = shop.policies.clone().into();
            }
            Ok(json!({"shop": data}))
        }
        "ShopPages" => {
            Ok(json!({"pages": {"nodes": shop.pages, "pageInfo": {"hasNextPage": false, "endCursor": null}}}))
        }
        "GrantedScopes" => {
            let scopes: Vec<Value> = shop.app.scopes.iter().map(|scope| json!({"handle": scope})).collect();
            Ok(json!({"currentAppInstallation": {"accessScopes": scopes}}))
        }
        "WebhookSubscriptions" => {
            let nodes = shop.app.subscriptions.iter().map(|(topic, uri)| {
                json!({"id": format!("gid://shopify/WebhookSubscription/{}", topic.len()), "topic": topic, "uri": uri})
            });
            let nodes: Vec<Value> = nodes.collect();
            Ok(json!({"webhookSubscriptions": {"nodes": nodes, "pageInfo": {"hasNextPage": false, "endCursor": null}}}))
        }
        "WebhookSubscribe" => {
            let variables = &operation.variables;
            let topic = variables["topic"].as_str().unwrap_or_default().to_owned();
            let uri = ["uri", "webhookSubscription"].iter().find_map(|name| {
                variables[*name].as_str().or_else(|| variables[*name]["uri"].as_str()).map(str::to_owned)
            });
            shop.app.subscriptions.insert(topic.clone(), uri.unwrap_or_default());
            Ok(json!({"webhookSubscriptionCreate": {"webhookSubscription":
                {"id": format!("gid://shopify/WebhookSubscription/{}", topic.len())}, "userErrors": []}}))
        }
        // The app goes once the answer is made.
        UNINSTALL => Ok(json!({"appUninstall": {"app": {"id": "gid://shopify/App/1"}, "userErrors": []}})),
        "WebhookUnsubscribe" => Ok(json!({"webhookSubscriptionDelete": {"userErrors": []}})),
        other => Err(json!({"message": format!("No such operation in the sandbox: {other}"),
            "locations": [{"line": 1, "column": 1}], "extensions": {"code": "undefinedField"}})),
    }
}
