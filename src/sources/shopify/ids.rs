//! Shopify's ids: plain numbers in object keys and in webhooks, `gid://shopify/Product/123` in GraphQL.

use std::fmt;

use crate::core::model::Part;

const PREFIX: &str = "gid://shopify/";

/// A product by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProductId(pub u64);

impl ProductId {
    /// The id in GraphQL.
    pub fn gid(self) -> String {
        format!("{PREFIX}Product/{}", self.0)
    }

    /// The inverse of [`ProductId::gid`].
    pub fn from_gid(gid: &str) -> Option<ProductId> {
        match split(gid)? {
            ("Product", number) => Some(ProductId(number)),
            _ => None,
        }
    }

    /// The part of a link that is this product.
    pub fn part(self) -> Part {
        format!("products/{}", self.0).parse().unwrap_or_default()
    }

    /// The product that is this part.
    pub fn from_part(part: &Part) -> Option<ProductId> {
        part.as_str().strip_prefix("products/").and_then(number).map(ProductId)
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The type and the number of an id in GraphQL, such as `("Product", 123)`.
pub fn split(gid: &str) -> Option<(&str, u64)> {
    let (kind, rest) = gid.strip_prefix(PREFIX)?.split_once('/')?;
    Some((kind, number(rest)?)).filter(|_| !kind.is_empty())
}

/// The number in its one spelling.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_has_one_id_in_each_place() {
        let product = ProductId(9_554_194_432_293);
        assert_eq!(product.gid(), "gid://shopify/Product/9554194432293");
        assert_eq!(product.part().as_str(), "products/9554194432293");
        assert_eq!(ProductId::from_gid(&product.gid()), Some(product));
        assert_eq!(ProductId::from_part(&product.part()), Some(product));
        assert_eq!(ProductId(u64::MAX).part().as_str(), "products/18446744073709551615");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for gid in [
            "",
            "gid://shopify/Product/",
            "gid://shopify/Product/01",
            "gid://shopify/Product/+1",
            "gid://shopify/Product/-1",
            "gid://shopify/Product/1?x",
            "gid://shopify/Product/1/2",
            "gid://shopify/ProductVariant/1",
            "gid://shopify/Product/18446744073709551616",
            "gid://other/Product/1",
        ] {
            assert_eq!(ProductId::from_gid(gid), None, "{gid}");
        }
        for part in ["products/index", "collections", "products/01", "products/1/2"] {
            assert_eq!(ProductId::from_part(&part.parse().unwrap()), None, "{part}");
        }
        assert_eq!(split("gid://shopify//1"), None);
    }
}
