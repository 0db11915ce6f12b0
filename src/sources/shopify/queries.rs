//! Every GraphQL document that the daemon sends, each with its operation name.
//!
//! They use fields that are not deprecated in 2026-10 and that 2026-01 and later have, so that an answer by a
//! neighbouring version has the same shape. Nothing is put together at run time: what varies travels as a variable.
//!
//! The fields of a product are the same whether one product is read or all of them in bulk: the digest of a product must
//! not depend on the way in which it came. Shopify ignores `first` in a bulk operation, so its reader cuts the lists of a
//! product at [`MEDIA`] and [`COLLECTIONS`], as the documents do.

/// The most images and videos that are kept of one product.
pub const MEDIA: usize = 50;
/// The most collections that are kept of one product.
pub const COLLECTIONS: usize = 50;

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

macro_rules! product_fields {
    () => {
        "id title handle status description descriptionHtml vendor productType tags category { fullName } \
         onlineStoreUrl publishedAt updatedAt totalInventory tracksInventory isGiftCard \
         options { name position optionValues { name } } \
         priceRangeV2 { minVariantPrice { amount currencyCode } maxVariantPrice { amount currencyCode } } \
         compareAtPriceRange { minVariantCompareAtPrice { amount currencyCode } \
         maxVariantCompareAtPrice { amount currencyCode } } \
         seo { title description } variantsCount { count precision }"
    };
}

macro_rules! media_fields {
    () => {
        "id alt mediaContentType ... on MediaImage { image { url width height altText } }"
    };
}

macro_rules! variant_fields {
    () => {
        "id title sku barcode position price compareAtPrice availableForSale inventoryQuantity \
         selectedOptions { name value } updatedAt"
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

/// One product by `$id`, with the first of its variants.
pub const PRODUCT_READ: Operation = operation!("product_read", 450,
    "query" "ProductRead", "($id: ID!) { product(id: $id) { ", product_fields!(),
    " media(first: 50) { nodes { ", media_fields!(), " } } \
     collections(first: 50, sortKey: ID) { nodes { id handle title } } \
     variants(first: 100) { pageInfo { hasNextPage endCursor } nodes { ", variant_fields!(), " } } } }");

/// More variants of the product `$id`, by `$after`.
pub const PRODUCT_VARIANTS: Operation = operation!("product_variants", 600,
    "query" "ProductVariants", "($id: ID!, $after: String) { product(id: $id) { id updatedAt \
     variants(first: 250, after: $after) { pageInfo { hasNextPage endCursor } nodes { ",
    variant_fields!(), " } } } }");

/// One page of the entries of products that `$query` finds, the longest unchanged first, by `$after`.
pub const PRODUCTS_CHANGED: Operation = operation!("products_changed", 300,
    "query" "ProductsChanged", "($query: String, $after: String) { \
     products(first: 250, after: $after, query: $query, sortKey: UPDATED_AT) { \
     pageInfo { hasNextPage endCursor } nodes { id title handle status updatedAt onlineStoreUrl } } }");

/// One page of all collections, by `$after`.
pub const COLLECTIONS_LIST: Operation = operation!("collections_list", 500,
    "query" "CollectionsList", "($after: String) { collections(first: 100, after: $after, sortKey: ID) { \
     pageInfo { hasNextPage endCursor } \
     nodes { id title handle description descriptionHtml updatedAt sortOrder productsCount { count precision } \
     image { url altText width height } seo { title description } } } }");

/// One page of the ids of the products of the collection `$id`, by `$after`.
pub const COLLECTION_PRODUCTS: Operation = operation!("collection_products", 300,
    "query" "CollectionProducts", "($id: ID!, $after: String) { collection(id: $id) { id \
     products(first: 250, after: $after, sortKey: ID) { pageInfo { hasNextPage endCursor } nodes { id } } } }");

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

/// All products, as the text of a bulk operation. It is the variable of [`BULK_START`] and never sent by itself.
pub const BULK_PRODUCTS: Operation = operation!("bulk_products", 0,
    "query" "BulkProducts", "{ products { edges { node { ", product_fields!(),
    " media { edges { node { ", media_fields!(), " } } } \
     collections { edges { node { id handle title } } } \
     variants { edges { node { ", variant_fields!(), " } } } } } } }");

/// Starts a bulk operation with the text `$query`. Only a grouped file has the variants of a product directly behind it,
/// so that products can be taken from it one by one. Grouping takes Shopify longer.
pub const BULK_START: Operation = operation!("bulk_start", 20,
    "mutation" "BulkStart", "($query: String!) { bulkOperationRunQuery(query: $query, groupObjects: true) { \
     bulkOperation { id status } userErrors { code field message } } }");

/// The state of the bulk operation `$id`.
pub const BULK_STATUS: Operation = operation!("bulk_status", 10,
    "query" "BulkStatus", "($id: ID!) { bulkOperation(id: $id) { \
     id status errorCode createdAt completedAt objectCount fileSize url partialDataUrl } }");

/// Uninstalls the app from the shop whose token is used.
pub const APP_UNINSTALL: Operation = operation!("app_uninstall", 20,
    "mutation" "AppUninstall", "{ appUninstall { app { id } userErrors { code field message } } }");

/// Every document.
pub const ALL: &[Operation] = &[
    SHOP_READ,
    SHOP_READ_WITHOUT_POLICIES,
    SHOP_PAGES,
    PRODUCT_READ,
    PRODUCT_VARIANTS,
    PRODUCTS_CHANGED,
    COLLECTIONS_LIST,
    COLLECTION_PRODUCTS,
    GRANTED_SCOPES,
    WEBHOOK_SUBSCRIPTIONS,
    WEBHOOK_SUBSCRIBE,
    WEBHOOK_UNSUBSCRIBE,
    BULK_PRODUCTS,
    BULK_START,
    BULK_STATUS,
    APP_UNINSTALL,
];

#[cfg(test)]
mod tests {
    use super::super::webhooks::TOPICS;
    use super::*;
    use serde_json::json;
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
        assert_eq!(calls.len(), 15);
    }

    #[test]
    fn no_first_guess_is_above_what_shopify_takes() {
        for operation in ALL.iter().filter(|operation| **operation != BULK_PRODUCTS) {
            assert!((1..=1000).contains(&operation.first_guess), "{}", operation.name);
        }
    }

    #[test]
    fn a_product_has_the_same_fields_whichever_way_it_comes() {
        for fields in [product_fields!(), media_fields!(), variant_fields!(), "id handle title"] {
            assert!(PRODUCT_READ.text.contains(fields) && BULK_PRODUCTS.text.contains(fields));
        }
        assert!(PRODUCT_READ.text.contains(&format!("media(first: {MEDIA})")));
        assert!(PRODUCT_READ.text.contains(&format!("collections(first: {COLLECTIONS}, ")));
    }

    #[test]
    fn a_bulk_document_keeps_within_the_limits() {
        let text = BULK_PRODUCTS.text;
        assert_eq!(text.matches("edges").count(), 4, "at most five connections");
        for word in ["first", "pageInfo", "cursor", "nodes"] {
            assert!(!text.contains(word), "{word}");
        }
    }

    /// For `scripts/shopify-schema`, which names the file.
    #[test]
    #[ignore = "writes the documents for the check against Shopify's schema"]
    fn the_documents_are_written_for_the_check_against_the_schema() {
        let file = std::env::var("PAGESYNCD_SHOPIFY_DOCUMENTS").unwrap();
        let documents: Vec<_> =
            ALL.iter().map(|operation| json!({"name": operation.name, "text": operation.text})).collect();
        let example: toml::Table = include_str!("../../../config.toml.example").parse().unwrap();
        let shopify = &example["shopify"];
        let (version, scopes) = (&shopify["api_version"], &shopify["scopes"]);
        let written = json!({"api_version": version, "scopes": scopes, "topics": TOPICS, "documents": documents});
        std::fs::write(file, written.to_string()).unwrap();
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
