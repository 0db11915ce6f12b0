//! Every GraphQL document that the daemon sends, each with its operation name.
//!
//! They use fields that are not deprecated in 2026-10 and that 2026-01 and later have, so that an answer by a
//! neighbouring version has the same shape. Nothing is put together at run time: what varies travels as a variable.
/// One document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The operation name that is sent beside the document.
    pub name: &'static str,
    /// The name of the call in metrics and logs.
    pub call: &'static str,
    /// The document.
    pub text: &'static str,
    /// The points that it is taken to ask for before an answer has said so. Rather too many than too few.
    pub first_guess: u32,
}

macro_rules! operation {
    ($call:literal, $guess:literal, $kind:literal $operation:literal, $($rest:tt)+) => {
        Operation {
            name: $operation,
            call: $call,
            text: concat!($kind, " ", $operation, $($rest)+),
            first_guess: $guess,
        }
    };
}

macro_rules! shop_fields {
    () => {
        "id name description contactEmail myshopifyDomain url primaryDomain { host url sslEnabled } currencyCode \
         enabledPresentmentCurrencies ianaTimezone unitSystem weightUnit taxesIncluded taxShipping shipsToCountries \
         updatedAt setupRequired plan { publicDisplayName shopifyPlus partnerDevelopment } \
         shopAddress { address1 address2 city company coordinatesValidated country countryCodeV2 latitude longitude \
         phone province provinceCode zip } currencyFormats { moneyFormat }"
    };
}

/// The shop and its policies. Needs `read_legal_policies`.
pub const SHOP_READ: Operation = operation!("shop_read", 60,
    "query" "ShopRead", "{ shop { ", shop_fields!(), " shopPolicies { id type title body url updatedAt } } }");

/// The shop alone, for an app whose scopes do not cover policies: one refused field fails the whole query.
pub const SHOP_READ_WITHOUT_POLICIES: Operation = operation!("shop_read", 60,
    "query" "ShopRead", "{ shop { ", shop_fields!(), " } }");

/// One page of the pages of the online store, by `$after`. Needs `read_content`.
pub const SHOP_PAGES: Operation = operation!("shop_pages", 50,
    "query" "ShopPages", "($after: String) { pages(first: 20, after: $after, sortKey: ID) { \
     pageInfo { hasNextPage endCursor } \
     nodes { id title handle body isPublished publishedAt updatedAt } } }");

/// The access scopes that the shop grants.
pub const GRANTED_SCOPES: Operation = operation!("granted_scopes", 20,
    "query" "GrantedScopes", "{ currentAppInstallation { id accessScopes { handle } } }");

/// One page of the subscriptions that were made by API, by `$after`. Those of the app's TOML are not among them.
pub const WEBHOOK_SUBSCRIPTIONS: Operation = operation!("webhook_subscriptions", 150,
    "query" "WebhookSubscriptions", "($after: String) { webhookSubscriptions(first: 100, after: $after) { \
     pageInfo { hasNextPage endCursor } nodes { id topic uri format } } }");

/// Subscribes `$topic` for the shop.
pub const WEBHOOK_SUBSCRIBE: Operation = operation!("webhook_subscribe", 20,
    "mutation" "WebhookSubscribe", "($topic: WebhookSubscriptionTopic!, $webhookSubscription: WebhookSubscriptionInput!) { \
     webhookSubscriptionCreate(topic: $topic, webhookSubscription: $webhookSubscription) { \
     webhookSubscription { id topic uri } userErrors { field message } } }");

/// Ends the subscription `$id`.
pub const WEBHOOK_UNSUBSCRIBE: Operation = operation!("webhook_unsubscribe", 20,
    "mutation" "WebhookUnsubscribe", "($id: ID!) { webhookSubscriptionDelete(id: $id) { \
     deletedWebhookSubscriptionId userErrors { field message } } }");

/// Every document.
pub const ALL: &[Operation] = &[
    SHOP_READ,
    SHOP_READ_WITHOUT_POLICIES,
    SHOP_PAGES,
    GRANTED_SCOPES,
    WEBHOOK_SUBSCRIPTIONS,
    WEBHOOK_SUBSCRIBE,
    WEBHOOK_UNSUBSCRIBE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_document_begins_with_its_name_and_is_whole() {
        for operation in ALL {
            let (kind, rest) = operation.text.split_once(' ').unwrap();
            assert!(["query", "mutation"].contains(&kind), "{}", operation.name);
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert_eq!(name, operation.name);
            for (open, close) in [("{", "}"), ("(", ")")] {
                assert_eq!(operation.text.matches(open).count(), operation.text.matches(close).count(), "{name}");
            }
            assert!(!operation.text.contains('\n') && !operation.text.contains("  "), "{name}: {}", operation.text);
        }
    }

    #[test]
    fn a_call_has_one_name_everywhere() {
        let mut calls = HashMap::new();
        for operation in ALL {
            assert_eq!(*calls.entry(operation.name).or_insert(operation.call), operation.call);
        }
        assert_eq!(calls.len(), 6);
    }

    #[test]
    fn no_first_guess_is_above_what_shopify_takes() {
        for operation in ALL {
            assert!((1..=1000).contains(&operation.first_guess), "{}", operation.name);
        }
    }

    #[test]
    fn no_document_asks_for_personal_data() {
        for operation in ALL {
            for word in ["shopOwnerName", "accountOwner", " email ", "customer", "order"] {
                assert!(!operation.text.contains(word), "{} asks for {word}", operation.name);
            }
        }
    }
}
