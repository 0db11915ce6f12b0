//! Products, variants, images and collections, as the local shop holds them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::core::model::WallTime;

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its number.
    pub id: u64,
    /// Its title.
    pub title: String,
    /// Its name in addresses.
    pub handle: String,
    /// `ACTIVE`, `ARCHIVED`, `DRAFT` or `UNLISTED`.
    pub status: String,
    /// Its description, without markup.
    pub description: String,
    /// Who made it.
    pub vendor: String,
    /// Its type, in the shop's own words.
    pub product_type: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Is its stock counted?
    pub is_tracked: bool,
    /// Its variants, in the order of their positions; one at least.
    pub variants: Vec<Variant>,
    /// Its images.
    pub media: Vec<Media>,
    /// When it was made.
    pub created_at: WallTime,
    /// When it last changed, in whole seconds. Every edit moves it.
    pub updated_at: WallTime,
}

/// A variant of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its number.
    pub id: u64,
    /// Its title.
    pub title: String,
    /// Its price, in hundredths of the shop's currency.
    pub price: u64,
    /// Its former price, in the same unit.
    pub compare_at: Option<u64>,
    /// How many there are.
    pub stock: i64,
    /// Its place among the variants, from 1.
    pub position: u64,
    /// When it last changed.
    pub updated_at: WallTime,
}

/// An image of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Its number.
    pub id: u64,
    /// Its alternative text.
    pub alt: String,
}

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its number.
    pub id: u64,
    /// Its title.
    pub title: String,
    /// Its name in addresses.
    pub handle: String,
    /// Its description, without markup.
    pub description: String,
    /// The products in it.
    pub members: Members,
    /// When it last changed, in whole seconds. Every edit moves it.
    pub updated_at: WallTime,
}

/// The products of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Members {
    /// These products, chosen by hand.
    Listed(BTreeSet<u64>),
    /// By rule: every product whose number leaves this rest when it is divided by `step`.
    Every {
        /// Not zero.
        step: u64,
        /// Below `step`.
        rest: u64,
    },
}

impl Members {
    /// Is this product in it, if there is such a product?
    pub(super) fn have(&self, product: u64) -> bool {
        match self {
            Members::Listed(listed) => listed.contains(&product),
            Members::Every { step, rest } => product.checked_rem(*step) == Some(*rest),
        }
    }
}

/// The part of a title that addresses have.
pub(super) fn handle_of(title: &str) -> String {
    let plain: String = title.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// Hundredths as the text of a decimal number.
pub(in crate::sandbox) fn money(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The inverse of [`money`]; a text with fewer decimals is taken, too.
pub(in crate::sandbox) fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(format!("{part:0<2}").parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_decimal_text() {
        for (text, wanted) in [("12.50", 1250), ("0.05", 5), (" 7 ", 700), ("7.5", 750), ("7.", 700)] {
            assert_eq!(hundredths(text), Some(wanted), "{text}");
        }
        for bad in ["", ".5", "1.234", "-1", "1,5", "1.-5", "99999999999999999999"] {
            assert_eq!(hundredths(bad), None, "{bad}");
        }
        assert_eq!((money(1250), money(5)), ("12.50".to_owned(), "0.05".to_owned()));
    }
}
