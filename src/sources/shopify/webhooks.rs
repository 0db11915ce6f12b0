//! The webhook subscriptions of one shop, where the daemon makes them itself (`shopify.subscribe = "shop"`).
//!
//! Shopify deletes such a subscription after some failures, and does not list those of the app's configuration. So what
//! stands is compared with what is wanted, and completed. Topics are written as deliveries write them: `shop/update`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::ShopifyClient;
use super::error::ShopifyError;
use super::queries::{WEBHOOK_SUBSCRIBE, WEBHOOK_SUBSCRIPTIONS, WEBHOOK_UNSUBSCRIBE};
use super::shop::page_of;
use crate::core::model::{Secret, ShopName};
use crate::sources::api::Subscription;
use crate::sources::scrub::scrub;

/// The topics that the daemon listens to. Those about privacy can be subscribed in the app's configuration alone.
pub const TOPICS: [&str; 9] = [
    "app/uninstalled",
    "app/scopes_update",
    "shop/update",
    "products/create",
    "products/update",
    "products/delete",
    "collections/create",
    "collections/update",
    "collections/delete",
];
/// Requests for subscriptions, of 100 each.
const MAX_REQUESTS: usize = 10;

/// A subscription that there is.
pub(super) struct Standing {
    id: String,
    topic: String,
    uri: String,
}

impl ShopifyClient {
    /// Compares the shop's subscriptions to `uri` with the wanted topics, and makes those that are missing. A wanted
    /// topic that goes to another address as well is ended there: it is that of an earlier configuration.
    ///
    /// # Errors
    /// [`ShopifyError`] when a call failed; a topic that is refused is no error.
    pub async fn ensure_topics(
        &self,
        shop: &ShopName,
        token: &Secret,
        uri: &str,
        wanted: &BTreeSet<String>,
    ) -> Result<Subscription, ShopifyError> {
        let all = self.subscriptions(shop, token).await?;
        let standing: BTreeSet<String> = all.iter().filter(|one| one.uri == uri).map(|one| one.topic.clone()).collect();
        let mut found = Subscription { confirmed: standing.clone(), standing, refused: BTreeSet::new() };
        for topic in wanted.difference(&found.standing.clone()) {
            let is_made = self.subscribe(shop, token, uri, topic).await?;
            let end = if is_made { &mut found.confirmed } else { &mut found.refused };
            end.insert(topic.clone());
        }
        for old in all.iter().filter(|one| one.uri != uri && found.confirmed.contains(&one.topic)) {
            self.call(shop, token, &WEBHOOK_UNSUBSCRIBE, json!({"id": old.id})).await?;
        }
        Ok(found)
    }

    async fn subscriptions(&self, shop: &ShopName, token: &Secret) -> Result<Vec<Standing>, ShopifyError> {
        let (mut all, mut after) = (Vec::new(), Value::Null);
        for _ in 0..MAX_REQUESTS {
            let data = self.call(shop, token, &WEBHOOK_SUBSCRIPTIONS, json!({"after": after})).await?;
            let (some, next) = standing(data)?;
            all.extend(some);
            let Some(cursor) = next else { break };
            after = Value::String(cursor);
        }
        Ok(all)
    }

    async fn subscribe(&self, shop: &ShopName, token: &Secret, uri: &str, topic: &str) -> Result<bool, ShopifyError> {
        let variables = json!({"topic": name_of(topic), "webhookSubscription": {"uri": uri, "format": "JSON"}});
        let data = self.call(shop, token, &WEBHOOK_SUBSCRIBE, variables).await?;
        let end = &data["webhookSubscriptionCreate"];
        if end["webhookSubscription"]["id"].is_string() {
            return Ok(true);
        }
        let messages = end["userErrors"].as_array().filter(|errors| !errors.is_empty());
        let Some(messages) = messages else {
            return Err(ShopifyError::odd(WEBHOOK_SUBSCRIBE.call, "the answer has no subscription"));
        };
        let says =
            |word: &str| messages.iter().any(|error| error["message"].as_str().is_some_and(|m| m.contains(word)));
        // Another call made it since the list was read.
        if says("already been taken") {
            return Ok(true);
        }
        let why = scrub(messages[0]["message"].as_str().unwrap_or_default(), &[]);
        tracing::warn!("shopify: {shop} refuses the webhook topic {topic} ({why}); changes are found by polling");
        Ok(false)
    }
}

/// The subscriptions of an answer, and the cursor of more. One with a topic that the daemon does not know is left out.
pub(super) fn standing(mut data: Value) -> Result<(Vec<Standing>, Option<String>), ShopifyError> {
    let (nodes, next) = page_of(WEBHOOK_SUBSCRIPTIONS.call, data.get_mut("webhookSubscriptions"))?;
    let text = |node: &Value, key: &str| node[key].as_str().map(str::to_owned);
    let known = nodes.iter().filter_map(|node| {
        let topic = topic_of(node["topic"].as_str()?)?;
        Some(Standing { id: text(node, "id")?, topic, uri: text(node, "uri")? })
    });
    Ok((known.collect(), next))
}

/// The topic in an enum of GraphQL: `APP_SCOPES_UPDATE` for `app/scopes_update`.
fn name_of(topic: &str) -> String {
    topic.replace('/', "_").to_ascii_uppercase()
}

/// The inverse, for the topics that the daemon listens to.
fn topic_of(name: &str) -> Option<String> {
    TOPICS.iter().find(|topic| name_of(topic) == name).map(|topic| (*topic).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, shop};
    use super::*;

    const URI: &str = "https://pages.example.com/shopify/webhook";

    fn list(all: &[(&str, &str)]) -> Reply {
        let node = |(n, (topic, uri)): (usize, &(&str, &str))| json!({"id": format!("gid://shopify/WebhookSubscription/{n}"), "topic": topic, "uri": uri, "format": "JSON"});
        let nodes: Vec<Value> = all.iter().enumerate().map(node).collect();
        let info = json!({"hasNextPage": false, "endCursor": null});
        Reply::data(json!({"webhookSubscriptions": {"nodes": nodes, "pageInfo": info}}))
    }

    fn made() -> Reply {
        Reply::data(json!({"webhookSubscriptionCreate": {"webhookSubscription": {"id": "gid"}, "userErrors": []}}))
    }

    fn refused(message: &str) -> Reply {
        let errors = json!([{"field": ["topic"], "message": message}]);
        Reply::data(json!({"webhookSubscriptionCreate": {"webhookSubscription": null, "userErrors": errors}}))
    }

    async fn ensure(replies: Vec<Reply>, wanted: &[&str]) -> (Fake, Result<Subscription, ShopifyError>) {
        let fake = Fake::script(replies).await;
        let wanted = wanted.iter().map(|topic| (*topic).to_owned()).collect();
        let found = fake.client().ensure_topics(&shop(), &Secret::new("t"), URI, &wanted).await;
        (fake, found)
    }

    #[tokio::test]
    async fn what_is_missing_is_made_and_what_stands_is_left() {
        let replies = vec![list(&[("SHOP_UPDATE", URI), ("ORDERS_CREATE", URI)]), made()];
        let (fake, found) = ensure(replies, &["shop/update", "app/scopes_update"]).await;
        let found = found.unwrap();
        assert_eq!(found.standing.into_iter().collect::<Vec<_>>(), ["shop/update"]);
        assert_eq!(found.confirmed.into_iter().collect::<Vec<_>>(), ["app/scopes_update", "shop/update"]);
        let asked = &fake.seen()[1].json["variables"];
        assert_eq!(asked["topic"], "APP_SCOPES_UPDATE");
        assert_eq!(asked["webhookSubscription"], json!({"uri": URI, "format": "JSON"}));
    }

    #[tokio::test]
    async fn an_address_of_before_is_ended_once_the_new_one_stands() {
        let old = "https://old.example.com/shopify/webhook";
        let gone =
            Reply::data(json!({"webhookSubscriptionDelete": {"deletedWebhookSubscriptionId": "x", "userErrors": []}}));
        let (fake, found) = ensure(vec![list(&[("SHOP_UPDATE", old)]), made(), gone], &["shop/update"]).await;
        assert!(found.unwrap().confirmed.contains("shop/update"));
        assert_eq!(fake.seen()[2].json["variables"], json!({"id": "gid://shopify/WebhookSubscription/0"}));
    }

    #[tokio::test]
    async fn a_refusal_is_told_apart_from_one_that_stands_already() {
        let replies = vec![list(&[]), refused("Address for this topic has already been taken"), refused("no scope")];
        let (_fake, found) = ensure(replies, &["products/create", "shop/update"]).await;
        let found = found.unwrap();
        assert!(found.confirmed.contains("products/create") && found.refused.contains("shop/update"));
        let (_fake, found) = ensure(vec![list(&[]), Reply::data(json!({}))], &["shop/update"]).await;
        assert!(found.is_err());
    }

    #[test]
    fn topics_have_one_name_in_each_place() {
        for topic in TOPICS {
            assert_eq!(topic_of(&name_of(topic)).as_deref(), Some(topic));
        }
        assert_eq!(topic_of("ORDERS_CREATE"), None);
    }
}
