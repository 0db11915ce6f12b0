//! The Admin API: answers to the operations that the daemon uses, by their names, with costs and throttling.
//!
//! An answer has every field that the local shop knows, whether or not the query asked for it.

use serde_json::{Value, json};

use super::handle::{ShopAnswer, ShopAsk, Shopify};
use super::state::{FULL, Installation, RESTORE, Shop, ShopFault};
use crate::core::model::WallTime;
use crate::sandbox::wire::Broken;

/// A query, or a mutation.
struct Operation {
    name: String,
    variables: Value,
    text: String,
}

impl Operation {
    fn of(body: &[u8]) -> Option<Operation> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let text = value["query"].as_str()?.to_owned();
        let named = value["operationName"].as_str().map(str::to_owned);
        let name = named.or_else(|| {
            let rest =
                text.trim_start().strip_prefix("query ").or_else(|| text.trim_start().strip_prefix("mutation "))?;
            Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
        })?;
        Some(Operation { name, variables: value["variables"].clone(), text })
    }
}

pub(super) fn answer(shopify: &Shopify, ask: &ShopAsk<'_>) -> Result<ShopAnswer, Broken> {
    let faulty = |fault| shopify.has(fault);
    if faulty(ShopFault::Reset) {
        return Err(Broken);
    }
    if faulty(ShopFault::Unavailable) {
        return Ok(ShopAnswer::html(503, "<html><body>Service unavailable</body></html>".to_owned()));
    }
    if faulty(ShopFault::Empty) {
        return Ok(ShopAnswer::html(200, String::new()));
    }
    if let Some(refusal) = refused(shopify, ask) {
        return Ok(refusal);
    }
    let Some(operation) = Operation::of(ask.body) else {
        return Ok(ShopAnswer::json(400, &json!({"errors": {"query": "Required parameter missing or invalid"}})));
    };
    let mut answer = shopify.change(|state| {
        let throttled = state.faults.contains(&ShopFault::Throttled);
        let denied = state.faults.contains(&ShopFault::PoliciesDenied);
        let shop = state.shops.get_mut(&ask.shop)?;
        *shop.queries.entry(operation.name.clone()).or_default() += 1;
        let cost = 12.0;
        let points = points(shop);
        if throttled || points < cost {
            return Some(with_cost(
                json!({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]}),
                cost,
                None,
                if throttled { 0.0 } else { points },
            ));
        }
        let actual = cost / 2.0;
        shop.points = (points - actual, WallTime::now());
        Some(match result(shop, &operation, denied) {
            Ok(data) => with_cost(json!({"data": data}), cost, Some(actual), points - actual),
            Err(error) => with_cost(json!({"errors": [error], "data": null}), cost, Some(actual), points - actual),
        })
    });
    let answer = answer.take().unwrap_or(Value::Null);
    let mut answer = ShopAnswer::json(200, &answer);
    if faulty(ShopFault::Truncated) {
        answer.body.truncate(answer.body.len() / 2);
    }
    Ok(answer)
}

/// The refusals that come before the query is looked at.
fn refused(shopify: &Shopify, ask: &ShopAsk<'_>) -> Option<ShopAnswer> {
    let error = |status, text: &str| Some(ShopAnswer::json(status, &json!({"errors": text})));
    if shopify.has(ShopFault::Frozen) {
        return error(402, "Unavailable Shop");
    }
    if shopify.has(ShopFault::Locked) {
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
fn points(shop: &Shop) -> f64 {
    let (points, at) = shop.points;
    (points + WallTime::now().since(at).as_secs_f64() * RESTORE).min(FULL)
}

fn with_cost(mut answer: Value, requested: f64, actual: Option<f64>, left: f64) -> Value {
    answer["extensions"] = json!({"cost": {"requestedQueryCost": requested, "actualQueryCost": actual,
        "throttleStatus": {"maximumAvailable": FULL, "currentlyAvailable": left.floor(), "restoreRate": RESTORE}}});
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
        "AppUninstall" => {
            shop.app = Installation::default();
            Ok(json!({"appUninstall": {"app": {"id": "gid://shopify/App/1"}, "userErrors": []}}))
        }
        "WebhookUnsubscribe" => Ok(json!({"webhookSubscriptionDelete": {"userErrors": []}})),
        other => Err(json!({"message": format!("No such operation in the sandbox: {other}"),
            "locations": [{"line": 1, "column": 1}], "extensions": {"code": "undefinedField"}})),
    }
}
