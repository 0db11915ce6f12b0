//! The faults of the local Shopify, by name.
//!
//! A fault is switched on for all shops or for one. Its name is what the console writes; names are stable.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! shop_faults {
    ($($(#[$doc:meta])* $name:ident $word:literal $title:literal;)*) => {
        /// A way in which Shopify fails.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum ShopFault {
            $($(#[$doc])* $name,)*
        }

        const ALL: &[(ShopFault, &str, &str)] = &[$((ShopFault::$name, $word, $title),)*];
    };
}

shop_faults! {
    /// No connection is taken. It strikes all shops together.
    Refused "shopify_refused" "Shopify is down: connections are refused";
    /// Every answer is an error of the edge, in HTML.
    Unavailable "shopify_unavailable" "Shopify is down: 503 with a page of HTML";
    /// The connection breaks.
    Reset "shopify_reset" "Shopify is down: connections are reset";
    /// Queries find the bucket empty.
    Throttled "shopify_throttled" "Throttled: THROTTLED with status 200";
    /// An answer to a query is HTML with status 200.
    Html "shopify_html" "Junk: HTML with status 200";
    /// An answer is empty.
    Empty "shopify_empty" "Junk: an empty answer";
    /// An answer is cut off.
    Truncated "shopify_truncated" "Junk: half of the JSON";
    /// A refresh is carried out, and its answer is a 520 of the edge.
    RefreshLost "shopify_refresh_lost" "A token is refreshed, but the answer is lost";
    /// A refresh is not carried out, and its answer is a 520 of the edge.
    RefreshFailed "shopify_refresh_failed" "A token is not refreshed: 520";
    /// The answer to a code has no refresh token, as if `expiring=1` had been forgotten.
    NotExpiring "shopify_not_expiring" "An installation brings a token without an end";
    /// Policies cannot be read: the scope is not granted.
    PoliciesDenied "shopify_policies_denied" "Policies are denied: the scope is missing";
    /// The shop has not paid.
    Frozen "shopify_frozen" "The shop is frozen: 402";
    /// The shop is closed.
    Inactive "shopify_inactive" "The shop is closed: SHOP_INACTIVE with status 200";
    /// The shop is locked.
    Locked "shopify_locked" "The shop is locked: 423";
    /// Webhooks are not sent.
    WebhooksLost "shopify_webhooks_lost" "Webhooks are lost";
    /// Webhooks are kept back until the fault goes.
    WebhooksLate "shopify_webhooks_late" "Webhooks are kept back, then all come at once";
    /// Webhooks are sent twice.
    WebhooksDuplicated "shopify_webhooks_duplicated" "Webhooks come twice";
    /// No bulk operation can be started, as if another one were running.
    BulkBusy "shopify_bulk_busy" "Bulk: another operation is in progress";
    /// Bulk operations end without a file.
    BulkFailed "shopify_bulk_failed" "Bulk: the operation fails";
    /// The connection breaks in the middle of the file.
    BulkCutOff "shopify_bulk_cut_off" "Bulk: the file breaks off in the middle";
    /// The file ends in order, in the middle of its products.
    BulkShort "shopify_bulk_short" "Bulk: the file has half of its lines";
    /// One line in the middle of the file is half a line.
    BulkBrokenLine "shopify_bulk_broken_line" "Bulk: the file has a broken line";
    /// The address of the file names a host that is none of Shopify's.
    BulkForeignHost "shopify_bulk_foreign_host" "Bulk: the file lies on an unknown host";
}

impl ShopFault {
    /// Every fault.
    pub fn all() -> impl Iterator<Item = ShopFault> {
        ALL.iter().map(|(fault, ..)| *fault)
    }

    /// The text beside its switch.
    pub fn title(self) -> &'static str {
        ALL.iter().find(|(fault, ..)| *fault == self).map_or("", |(.., title)| title)
    }

    /// Can it be switched on for one shop? The others strike all shops.
    pub fn is_of_one_shop(self) -> bool {
        self != ShopFault::Refused
    }
}

impl fmt::Display for ShopFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|(fault, ..)| fault == self).map_or("", |(_, word, _)| word))
    }
}

/// No fault of Shopify has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault of Shopify is called {0:?} (names look like shopify_throttled)")]
pub struct UnknownShopFault(String);

impl FromStr for ShopFault {
    type Err = UnknownShopFault;

    fn from_str(name: &str) -> Result<Self, UnknownShopFault> {
        let found = ALL.iter().find(|(_, word, _)| *word == name);
        found.map(|(fault, ..)| *fault).ok_or_else(|| UnknownShopFault(name.chars().take(64).collect()))
    }
}

impl TryFrom<String> for ShopFault {
    type Error = UnknownShopFault;

    fn try_from(name: String) -> Result<Self, UnknownShopFault> {
        name.parse()
    }
}

impl From<ShopFault> for String {
    fn from(fault: ShopFault) -> String {
        fault.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_one_to_one_and_titled() {
        let mut seen = BTreeSet::new();
        for fault in ShopFault::all() {
            assert_eq!(fault.to_string().parse::<ShopFault>().unwrap(), fault);
            assert!(seen.insert(fault.to_string()) && !fault.title().is_empty(), "{fault}");
        }
        assert!("graph_reset".parse::<ShopFault>().is_err());
    }
}
