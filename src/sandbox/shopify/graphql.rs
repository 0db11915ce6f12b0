//! The Admin API: answers to the operations that the daemon uses, by their names, with costs and throttling.
//!
//! An answer has every field that the local shop knows, whether or not the query asked for it.

use http::request::Parts;
use serde_json::{Value, json};

use super::handle::{ShopAnswer, ShopAsk, Shopify};
use super::state::{FULL, RESTORE, Shop, ShopFault};
use crate::core::model::WallTime;
use crate::sandbox::wire::Broken;

/// Products in one answer of a list.
const LISTED: usize = 250;

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

    /// The number at the end of a global id.
    fn id(&self) -> u64 {
        self.variables["id"].as_str().and_then(number).unwrap_or_default()
    }
}

fn number(gid: &str) -> Option<u64> {
    gid.rsplit('/').next()?.parse().ok()
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
        let cost = if operation.name.starts_with("Products") || operation.name.starts_with("Collection") {
            60.0
        } else {
            12.0
        };
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
        "ProductRead" => Ok(json!({"product": shop.products.get(&operation.id()).map(whole_product)})),
        "ProductVariants" => Ok(json!({"product": shop.products.get(&operation.id()).map(whole_product)})),
        "ProductsChanged" => Ok(json!({"products": listed(shop.products.values(), operation)})),
        "CollectionsList" => Ok(json!({"collections": listed(shop.collections.values(), operation)})),
        "CollectionProducts" => {
            let members = shop.members.get(&operation.id()).into_iter().flatten();
            let nodes: Vec<Value> = members.map(|id| json!({"id": format!("gid://shopify/Product/{id}")})).collect();
            Ok(json!({"collection": {"products": {"nodes": nodes,
                "pageInfo": {"hasNextPage": false, "endCursor": null}}}}))
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
        "WebhookUnsubscribe" => Ok(json!({"webhookSubscriptionDelete": {"userErrors": []}})),
        "AppUninstall" => {
            shop.app = super::state::Installation::default();
            Ok(json!({"appUninstall": {"userErrors": []}}))
        }
        other => Err(json!({"message": format!("No such operation in the sandbox: {other}"),
            "locations": [{"line": 1, "column": 1}], "extensions": {"code": "undefinedField"}})),
    }
}

fn connection(nodes: &Value) -> Value {
    json!({"nodes": nodes, "pageInfo": {"hasNextPage": false, "endCursor": null}})
}

fn whole_product(product: &Value) -> Value {
    let mut product = product.clone();
    product["variantsCount"] =
        json!({"count": product["variants"].as_array().map_or(0, Vec::len), "precision": "EXACT"});
    for field in ["variants", "media"] {
        product[field] = connection(&product[field]);
    }
    product["collections"] = connection(&json!([]));
    product
}

/// A page of a list, ordered by when its members changed; cursors are numbers.
fn listed<'a>(all: impl Iterator<Item = &'a Value>, operation: &Operation) -> Value {
    let since = operation.variables["query"]
        .as_str()
        .and_then(|query| Some(query.split('\'').nth(1)?.to_owned()).filter(|_| query.contains("updated_at:>=")));
    let mut nodes: Vec<&Value> =
        all.filter(|node| since.as_deref().is_none_or(|since| node["updatedAt"].as_str() >= Some(since))).collect();
    nodes.sort_by_key(|node| node["updatedAt"].as_str().unwrap_or_default().to_owned());
    let from: usize = operation.variables["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0);
    let to = (from + LISTED).min(nodes.len());
    let shown: Vec<Value> = nodes[from.min(to)..to].iter().map(|node| (*node).clone()).collect();
    json!({"nodes": shown, "pageInfo": {"hasNextPage": to < nodes.len(), "endCursor": to.to_string()}})
}

/// The file of a bulk operation.
pub(super) fn bulk_file(shopify: &Shopify, head: &Parts, file: &str) -> ShopAnswer {
    // Nobody who downloads a file may show a token.
    let shows_token = head.headers.contains_key("x-shopify-access-token") || head.headers.contains_key("authorization");
    let id = file.strip_suffix(".jsonl").and_then(|id| id.parse::<u64>().ok());
    let text = shopify.look(|state| state.shops.values().find_map(|shop| shop.bulk.get(&id?).cloned()));
    match text.filter(|_| !shows_token) {
        Some(text) => ShopAnswer { content_type: "application/jsonl", ..ShopAnswer::html(200, text) },
        None => ShopAnswer::html(403, "AccessDenied".to_owned()),
    }
}
