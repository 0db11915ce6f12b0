//! Identifiers: the users of the platform, and the ids that sources give out.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Not a UUID in one of the usual spellings.
    #[error("user is not a UUID (expected something like 6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10)")]
    User,
    /// Not a Graph node id.
    #[error("{0} is not a Graph id (expected 1 to 32 decimal digits)")]
    Graph(&'static str),
    /// Not the permanent name of a Shopify shop.
    #[error("shop is not the permanent name of a shop (expected something like some-shop.myshopify.com)")]
    Shop,
}

/// A user of the platform: the UUID under whose prefix the objects lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

impl UserId {
    /// A fresh random (version 4) user.
    pub fn random() -> Self {
        UserId(crate::random::uuid())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for UserId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::parse_str(text.trim()).map(UserId).map_err(|_| BadId::User)
    }
}

/// The longest Graph id, in digits.
const LONGEST: usize = 32;

/// The digits of a Graph id, without blanks around them.
fn graph_digits<'a>(text: &'a str, what: &'static str) -> Result<&'a str, BadId> {
    let text = text.trim();
    let sound = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if sound { Ok(text) } else { Err(BadId::Graph(what)) }
}

/// A Graph id as a delivery brings it: checked as the others are, and not on the heap. Most deliveries name a page of
/// which nothing has to be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GraphId {
    len: u8,
    digits: [u8; LONGEST],
}

impl GraphId {
    /// The id as Graph writes it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for GraphId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let text = graph_digits(text, "id")?;
        let mut id = GraphId { len: text.len() as u8, digits: [0; LONGEST] };
        id.digits[..text.len()].copy_from_slice(text.as_bytes());
        Ok(id)
    }
}

impl From<u64> for GraphId {
    fn from(mut number: u64) -> GraphId {
        let (mut digits, mut at) = ([0; LONGEST], LONGEST);
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits.rotate_left(at);
        GraphId { len: (LONGEST - at) as u8, digits }
    }
}

/// In the order of the texts.
impl Ord for GraphId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for GraphId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for GraphId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

macro_rules! graph_id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as Graph writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                graph_digits(text, $what).map(|digits| $name(digits.into()))
            }
        }

        impl From<GraphId> for $name {
            fn from(id: GraphId) -> $name {
                $name(id.as_str().into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

graph_id_type!(
    /// A Facebook Page: a Graph node id, 1 to 32 decimal digits.
    PageId,
    "page id"
);
graph_id_type!(
    /// A person as this app sees them: the app-scoped user id.
    AppUserId,
    "app-scoped user id"
);

/// What every permanent name of a shop ends with.
const SHOP_DOMAIN: &str = ".myshopify.com";
/// The longest first part of a shop's name, which is a label of a host name. The bound is ours.
const LONGEST_SHOP: usize = 60;

/// A Shopify shop by its permanent name, such as `some-shop.myshopify.com`, in lower case. The name becomes a part of
/// host names and of object keys, and it comes from browsers.
///
/// Shopify documents a regular expression without an end anchor, which also takes `some-shop.myshopify.com.evil.example`
/// and `some-shop.myshopify.com@evil.example`. Here the whole text must be a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShopName(Arc<str>);

impl ShopName {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that a person may have typed or pasted: with blanks around it, as an address, without the domain, or as
    /// the address of the shop's admin (`admin.shopify.com/store/some-shop`).
    ///
    /// # Errors
    /// [`BadId::Shop`] for what cannot be read as any of these.
    pub fn typed(text: &str) -> Result<ShopName, BadId> {
        let text = text.trim();
        let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let bare = bare.strip_prefix("admin.shopify.com/store/").unwrap_or(bare);
        let name = bare.split_once('/').map_or(bare, |(name, _)| name);
        if name.contains('.') { name.parse() } else { format!("{name}{SHOP_DOMAIN}").parse() }
    }
}

impl fmt::Display for ShopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShopName {
    type Err = BadId;

    /// Upper case is taken; nothing else than the name is.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let text = text.to_ascii_lowercase();
        let label = text.strip_suffix(SHOP_DOMAIN).ok_or(BadId::Shop)?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let sound = (1..=LONGEST_SHOP).contains(&label.len())
            && label.bytes().all(|b| plain(b) || b == b'-')
            && label.bytes().next().is_some_and(plain);
        if sound { Ok(ShopName(text.into())) } else { Err(BadId::Shop) }
    }
}

impl TryFrom<String> for ShopName {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<ShopName> for String {
    fn from(shop: ShopName) -> String {
        shop.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shop_is_a_whole_name_and_nothing_else() {
        for bad in [
            "",
            "some-shop",
            ".myshopify.com",
            "-x.myshopify.com",
            "a.b.myshopify.com",
            "a_b.myshopify.com",
            "some-shop.myshopify.com.evil.example",
            "some-shop.myshopify.com@evil.example",
            "evil.example/some-shop.myshopify.com",
            "some-shop.myshopify.com\n",
            "some-shop.myshopify.com/",
            " some-shop.myshopify.com",
            "some-shop.myshopify.io",
            "some-shop.shopify.com",
            "https://some-shop.myshopify.com",
            "..myshopify.com",
            "ｓhop.myshopify.com",
            &format!("{}.myshopify.com", "a".repeat(LONGEST_SHOP + 1)),
        ] {
            assert_eq!(bad.parse::<ShopName>(), Err(BadId::Shop), "{bad:?} was taken");
        }
        for good in ["some-shop.myshopify.com", "a.myshopify.com", "0--1-.myshopify.com"] {
            assert_eq!(good.parse::<ShopName>().unwrap().as_str(), good);
        }
        assert_eq!("Some-Shop.MyShopify.com".parse::<ShopName>().unwrap().as_str(), "some-shop.myshopify.com");
        assert!(serde_json::from_str::<ShopName>("\"x.myshopify.com@evil.example\"").is_err());
    }

    #[test]
    fn a_person_may_paste_an_address() {
        for typed in [
            "some-shop",
            " some-shop.myshopify.com ",
            "https://some-shop.myshopify.com/admin",
            "https://admin.shopify.com/store/some-shop/products?selectedView=all",
        ] {
            assert_eq!(ShopName::typed(typed).unwrap().as_str(), "some-shop.myshopify.com", "{typed}");
        }
        for bad in ["", "https://evil.example/", "some-shop.myshopify.com@evil.example", "a b", "admin.shopify.com"] {
            assert!(ShopName::typed(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn ids_refuse_what_could_leave_its_folder() {
        for bad in ["", "..", "1/2", "12a", "１２", "1".repeat(33).as_str(), "-1", "1\0"] {
            assert!(bad.parse::<PageId>().is_err() && bad.parse::<GraphId>().is_err(), "{bad:?} was taken");
        }
        assert!("not-a-uuid".parse::<UserId>().is_err());
        assert_eq!(" 123 ".parse::<PageId>().unwrap().as_str(), "123");
    }

    #[test]
    fn an_id_reads_the_same_in_either_place() {
        for text in ["0", "007", "18446744073709551615", "1".repeat(32).as_str()] {
            let id: GraphId = text.parse().unwrap();
            assert_eq!((id.as_str(), PageId::from(id)), (text, text.parse().unwrap()));
        }
        for number in [0, 7, 10, 1_234_567_890_321, u64::MAX] {
            assert_eq!(GraphId::from(number), number.to_string().parse().unwrap());
        }
        let in_order = |texts: [&str; 3]| texts.map(|text| text.parse::<GraphId>().unwrap()).is_sorted();
        assert!(in_order(["0", "10", "9"]) && !in_order(["0", "9", "10"]));
    }
}
