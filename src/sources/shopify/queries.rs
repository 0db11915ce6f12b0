//! The GraphQL documents that are sent, each under the name of its operation. They hold no deprecated field of the
//! version [`VERSION`](super::VERSION).

/// The shop, with what is in front of the closing brace of `shop`.
const SHOP_FIELDS: &str = "id name description contactEmail myshopifyDomain url \
    primaryDomain { host url sslEnabled } currencyCode enabledPresentmentCurrencies ianaTimezone unitSystem weightUnit \
    taxesIncluded taxShipping shipsToCountries updatedAt setupRequired \
    plan { publicDisplayName shopifyPlus partnerDevelopment } \
    shopAddress { address1 address2 city zip province provinceCode country countryCodeV2 phone company } \
    currencyFormats { moneyFormat }";
const POLICY_FIELDS: &str = "shopPolicies { id type title body url updatedAt }";

/// The operation that reads the shop.
pub const SHOP: &str = "ShopRead";
/// The operation that reads the pages of the online store, with the variable `after`.
pub const PAGES: &str = "ShopPages";
/// The operation that reads which access scopes were granted.
pub const SCOPES: &str = "GrantedScopes";

/// Reads the shop and, where wanted, its policies. The scope for policies fails the whole query where it is missing.
pub fn shop(with_policies: bool) -> String {
    let policies = if with_policies { POLICY_FIELDS } else { "" };
    format!("query {SHOP} {{ shop {{ {SHOP_FIELDS} {policies} }} }}")
}

/// Reads fifty pages of the online store.
pub fn pages() -> String {
    format!(
        "query {PAGES}($after: String) {{ pages(first: 50, after: $after) {{ pageInfo {{ hasNextPage endCursor }} \
         nodes {{ id title handle body isPublished updatedAt }} }} }}"
    )
}

/// Reads which access scopes were granted.
pub fn scopes() -> String {
    format!("query {SCOPES} {{ currentAppInstallation {{ accessScopes {{ handle }} }} }}")
}
