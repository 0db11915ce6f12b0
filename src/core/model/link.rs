//! Links, their parts, and the keys under which both are stored and written to Spaces.
//!
//! # The bytes of a key
//!
//! ```text
//! link   user (16) | tag of the source (1) | id
//! part   link      | 0                     | part
//! ```
//!
//! The user has a fixed length. A tag is a letter; a key of an earlier release has a digit there, so no key has both
//! forms. Neither an id nor a part holds a zero byte. So each key has one reading, no key of a link is the beginning of
//! another link's part, and the parts of a link lie side by side.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::backup::{BACKUPS, BackupName};
use super::ids::{BadId, PageId, ShopName, UserId};

/// Bytes of a user at the beginning of a key.
const USER_BYTES: usize = 16;
/// Between a link and its part.
const SEPARATOR: u8 = 0;

/// Where a link's data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A Facebook Page.
    #[default]
    Facebook,
    /// A Shopify shop.
    Shopify,
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 2] = [Source::Facebook, Source::Shopify];

    /// The word in object keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Facebook => "facebook",
            Source::Shopify => "shopify",
        }
    }

    /// The byte in stored keys; it never changes its meaning.
    fn tag(self) -> u8 {
        match self {
            Source::Facebook => b'f',
            Source::Shopify => b's',
        }
    }

    /// The name of the object that is the whole link's.
    fn whole_name(self) -> &'static str {
        match self {
            Source::Facebook => "page_data",
            Source::Shopify => "shop_data",
        }
    }

    /// The source of this word.
    pub fn of_word(word: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// Checks an id of this source.
    ///
    /// # Errors
    /// [`BadId`] for a text that is no id there.
    pub fn id(self, text: &str) -> Result<SourceId, BadId> {
        match self {
            Source::Facebook => text.parse().map(SourceId::Facebook),
            Source::Shopify => text.parse().map(SourceId::Shopify),
        }
    }
}

/// An id at a source, checked by the rules of that source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceId {
    /// A Facebook Page.
    Facebook(PageId),
    /// A Shopify shop.
    Shopify(ShopName),
}

impl SourceId {
    /// The source that gave it out.
    pub fn source(&self) -> Source {
        match self {
            SourceId::Facebook(_) => Source::Facebook,
            SourceId::Shopify(_) => Source::Shopify,
        }
    }

    /// The id as the source writes it.
    pub fn as_str(&self) -> &str {
        match self {
            SourceId::Facebook(page) => page.as_str(),
            SourceId::Shopify(shop) => shop.as_str(),
        }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<PageId> for SourceId {
    fn from(page: PageId) -> Self {
        SourceId::Facebook(page)
    }
}

impl From<ShopName> for SourceId {
    fn from(shop: ShopName) -> Self {
        SourceId::Shopify(shop)
    }
}

/// One user × one source × one id there: the unit that has a token and an actor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct LinkKey {
    /// The user of the platform.
    pub user: UserId,
    /// The source, and the id there.
    pub id: SourceId,
}

impl LinkKey {
    /// What the key of a link's whole in the store has behind that of the link.
    pub const WHOLE: [u8; 1] = [SEPARATOR];

    /// The link of a Facebook Page.
    pub fn new(user: UserId, page: PageId) -> Self {
        LinkKey { user, id: page.into() }
    }

    /// The link of a Shopify shop.
    pub fn of_shop(user: UserId, shop: ShopName) -> Self {
        LinkKey { user, id: shop.into() }
    }

    /// The source of its data.
    pub fn source(&self) -> Source {
        self.id.source()
    }

    /// The Facebook Page, where it is one.
    pub fn page(&self) -> Option<&PageId> {
        match &self.id {
            SourceId::Facebook(page) => Some(page),
            SourceId::Shopify(_) => None,
        }
    }

    /// The Shopify shop, where it is one.
    pub fn shop(&self) -> Option<&ShopName> {
        match &self.id {
            SourceId::Facebook(_) => None,
            SourceId::Shopify(shop) => Some(shop),
        }
    }

    /// The part that is the whole link.
    pub fn whole(&self) -> PartKey {
        PartKey { link: self.clone(), part: Part::whole() }
    }

    /// The name of the whole link's object in the bucket.
    pub fn object_key(&self) -> ObjectKey {
        self.whole().object_key()
    }

    /// The key in the store. Total, and one to one.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.user.0.as_bytes().as_slice(), &[self.source().tag()], self.id.as_str().as_bytes()].concat()
    }

    /// The inverse of [`LinkKey::to_bytes`]; `None` for bytes it never makes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (user, rest) = bytes.split_at_checked(USER_BYTES)?;
        let (tag, id) = rest.split_first()?;
        let source = Source::ALL.into_iter().find(|source| source.tag() == *tag)?;
        let id = source.id(std::str::from_utf8(id).ok()?).ok()?;
        let link = LinkKey { user: UserId(Uuid::from_slice(user).ok()?), id };
        // Ids are read with blanks around them; a key has one spelling.
        (link.to_bytes() == bytes).then_some(link)
    }

    /// The key of a page's link before links had a source: it has no tag. The link's sealed token is bound to these
    /// bytes, and its slot in the poll interval is a hash of them. For a link of any other source they are its key.
    pub fn bound_bytes(&self) -> Vec<u8> {
        match &self.id {
            SourceId::Facebook(page) => [self.user.0.as_bytes().as_slice(), page.as_str().as_bytes()].concat(),
            SourceId::Shopify(_) => self.to_bytes(),
        }
    }
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.id)
    }
}

/// A [`LinkKey`] in a stored record. An earlier release wrote `page` and no source.
#[derive(Serialize, Deserialize)]
struct Written {
    user: UserId,
    #[serde(default)]
    source: Source,
    #[serde(alias = "page")]
    id: String,
}

impl TryFrom<Written> for LinkKey {
    type Error = BadId;

    fn try_from(written: Written) -> Result<Self, BadId> {
        Ok(LinkKey { user: written.user, id: written.source.id(&written.id)? })
    }
}

impl From<LinkKey> for Written {
    fn from(link: LinkKey) -> Self {
        Written { user: link.user, source: link.source(), id: link.id.as_str().to_owned() }
    }
}

/// The longest [`Part`] in bytes.
const MAX_PART: usize = 128;

/// The name of a part was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part is 1 to {MAX_PART} bytes of lower-case letters, digits, `_` and single `/` between them")]
pub struct BadPart;

/// A part of a link that is read and written by itself, such as `products/123`. It is empty for a link that has one
/// object, and names the object otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part(Option<Arc<str>>);

impl Part {
    /// The empty part: all of the link.
    pub const fn whole() -> Self {
        Part(None)
    }

    /// Is it all of the link?
    pub fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    /// The name; empty for the whole.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.0.as_deref().unwrap_or_default().to_owned()
    }
}

impl TryFrom<String> for Part {
    type Error = <Part as FromStr>::Err;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Ok(Part::whole()) } else { text.parse() }
    }
}

impl FromStr for Part {
    type Err = BadPart;

    fn from_str(text: &str) -> Result<Self, BadPart> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(is_plain);
        // The object of the whole has this name.
        let is_taken = Source::ALL.into_iter().any(|source| source.whole_name() == text);
        let sound = text.len() <= MAX_PART && text.split('/').all(is_segment) && !is_taken;
        if sound { Ok(Part(Some(text.into()))) } else { Err(BadPart) }
    }
}

/// A link and one of its parts: what is marked, read, staged and written as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartKey {
    /// The link.
    pub link: LinkKey,
    /// Its part.
    pub part: Part,
}

impl PartKey {
    /// Pairs the two.
    pub fn new(link: LinkKey, part: Part) -> Self {
        PartKey { link, part }
    }

    /// The name of its object in the bucket.
    pub fn object_key(&self) -> ObjectKey {
        let LinkKey { user, id } = &self.link;
        let source = id.source();
        let name = if self.part.is_whole() { source.whole_name() } else { self.part.as_str() };
        ObjectKey(format!("users/{user}/{}/{id}/{name}.json", source.as_str()))
    }

    /// The key in the store. Total, and one to one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.link.to_bytes();
        bytes.push(SEPARATOR);
        bytes.extend_from_slice(self.part.as_str().as_bytes());
        bytes
    }

    /// The inverse of [`PartKey::to_bytes`]; `None` for bytes it never makes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(USER_BYTES..)?;
        let at = USER_BYTES + rest.iter().position(|byte| *byte == SEPARATOR)?;
        let link = LinkKey::from_bytes(&bytes[..at])?;
        let part = match std::str::from_utf8(&bytes[at + 1..]).ok()? {
            "" => Part::whole(),
            name => name.parse().ok()?,
        };
        Some(PartKey { link, part })
    }
}

/// A link stands for its whole.
impl From<&LinkKey> for PartKey {
    fn from(link: &LinkKey) -> Self {
        link.whole()
    }
}

impl From<&PartKey> for PartKey {
    fn from(part: &PartKey) -> Self {
        part.clone()
    }
}

impl fmt::Display for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)?;
        if self.part.is_whole() { Ok(()) } else { write!(f, "/{}", self.part.as_str()) }
    }
}

/// The name of an object in the bucket. Made from a [`PartKey`] and from nothing else, so that it can hold no `..` and
/// no empty segment (path-style S3 clients resolve those into *other buckets*).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as Spaces sees it, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part whose object this is.
    pub fn part(&self) -> Option<PartKey> {
        let mut segments = self.0.splitn(5, '/');
        let (users, user, source, id) = (segments.next()?, segments.next()?, segments.next()?, segments.next()?);
        let name = segments.next()?.strip_suffix(".json").filter(|_| users == "users")?;
        let source = Source::ALL.into_iter().find(|known| known.as_str() == source)?;
        let part = if name == source.whole_name() { Part::whole() } else { name.parse().ok()? };
        Some(PartKey { link: LinkKey { user: user.parse().ok()?, id: source.id(id).ok()? }, part })
    }

    /// The key of this text, if it is the name of a part's object.
    pub fn parse(text: &str) -> Option<ObjectKey> {
        let part = ObjectKey(text.to_owned()).part()?;
        Some(part.object_key()).filter(|key| key.0 == text)
    }

    /// What the keys of all objects of a link begin with, and no other.
    pub fn prefix(link: &LinkKey) -> String {
        format!("users/{}/{}/{}/", link.user, link.source().as_str(), link.id)
    }

    /// A key for probes, outside every user's prefix.
    pub fn scratch(name: Uuid) -> Self {
        ObjectKey(format!("pagesyncd-probe/{}", name.as_hyphenated()))
    }

    /// The key of a backup, outside every user's prefix.
    pub fn backup(name: &BackupName) -> Self {
        ObjectKey(format!("{BACKUPS}{name}"))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Users and ids that share beginnings, so that keys come close to each other.
    fn links() -> impl Strategy<Value = LinkKey> {
        let user = prop_oneof![0u128..3, any::<u128>()];
        let page = prop_oneof!["[01]{1,3}", "[0-9]{1,32}"].prop_map(|id| SourceId::Facebook(id.parse().unwrap()));
        let shop = "[a-b0-1][a-b0-1-]{0,3}\\.myshopify\\.com".prop_map(|id| SourceId::Shopify(id.parse().unwrap()));
        (user, prop_oneof![page, shop]).prop_map(|(user, id)| LinkKey { user: UserId(Uuid::from_u128(user)), id })
    }

    fn parts() -> impl Strategy<Value = PartKey> {
        let part = prop_oneof![
            Just(Part::whole()),
            "[ab01]{1,2}(/[ab01]{1,2}){0,1}".prop_map(|name| name.parse().unwrap()),
            "[a-z0-9_]{1,20}(/[a-z0-9_]{1,20}){0,3}".prop_filter_map("a name that is taken", |name| name.parse().ok()),
        ];
        (links(), part).prop_map(|(link, part)| PartKey { link, part })
    }

    #[test]
    fn keys_have_the_bytes_and_names_that_are_on_disks() {
        let user: UserId = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10".parse().unwrap();
        let link = LinkKey::new(user, "123".parse().unwrap());
        let part = PartKey { link: link.clone(), part: "products/9".parse().unwrap() };
        let after_user = |bytes: Vec<u8>| bytes.strip_prefix(user.0.as_bytes().as_slice()).unwrap().to_vec();
        assert_eq!(after_user(link.to_bytes()), b"f123");
        assert_eq!(after_user(link.bound_bytes()), b"123");
        assert_eq!(after_user(link.whole().to_bytes()), b"f123\0");
        assert_eq!(after_user(part.to_bytes()), b"f123\0products/9");
        assert_eq!(link.to_string(), format!("{user}/123"));
        assert_eq!(part.to_string(), format!("{user}/123/products/9"));
        assert_eq!(link.object_key().as_str(), format!("users/{user}/facebook/123/page_data.json"));
        assert_eq!(part.object_key().as_str(), format!("users/{user}/facebook/123/products/9.json"));
    }

    #[test]
    fn keys_of_shops_have_the_bytes_and_names_that_are_on_disks() {
        let user: UserId = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10".parse().unwrap();
        let link = LinkKey::of_shop(user, "some-shop.myshopify.com".parse().unwrap());
        let part = PartKey { link: link.clone(), part: "products/9".parse().unwrap() };
        let after_user = |bytes: Vec<u8>| bytes.strip_prefix(user.0.as_bytes().as_slice()).unwrap().to_vec();
        assert_eq!(after_user(link.to_bytes()), b"ssome-shop.myshopify.com");
        assert_eq!(after_user(link.bound_bytes()), b"ssome-shop.myshopify.com");
        assert_eq!(after_user(part.to_bytes()), b"ssome-shop.myshopify.com\0products/9");
        let prefix = format!("users/{user}/shopify/some-shop.myshopify.com");
        assert_eq!(link.object_key().as_str(), format!("{prefix}/shop_data.json"));
        assert_eq!(part.object_key().as_str(), format!("{prefix}/products/9.json"));
        let written = format!(r#"{{"user":"{user}","source":"shopify","id":"some-shop.myshopify.com"}}"#);
        assert_eq!(serde_json::to_string(&link).unwrap(), written);
        assert_eq!(serde_json::from_str::<LinkKey>(&written).unwrap(), link);
    }

    #[test]
    fn a_part_cannot_leave_its_link() {
        let long = "a".repeat(MAX_PART + 1);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "A",
            "a.b",
            "a b",
            "a\0",
            "ä",
            "page_data",
            "shop_data",
            &long,
        ] {
            assert_eq!(bad.parse::<Part>(), Err(BadPart), "{bad:?} was taken");
        }
        for good in ["collections", "products/123", "products/index", "a/page_data"] {
            assert_eq!(good.parse::<Part>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_stored_link_of_an_earlier_release_reads_forward() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let link = LinkKey::new(user.parse().unwrap(), "123".parse().unwrap());
        let earlier = format!(r#"{{"user":"{user}","page":"123"}}"#);
        assert_eq!(serde_json::from_str::<LinkKey>(&earlier).unwrap(), link);
        let now = format!(r#"{{"user":"{user}","source":"facebook","id":"123"}}"#);
        assert_eq!(serde_json::to_string(&link).unwrap(), now);
        assert_eq!(serde_json::from_str::<LinkKey>(&now).unwrap(), link);
        for bad in [r#""page":"12a""#, r#""source":"facebook","id":"..""#, r#""source":"other","id":"1""#] {
            assert!(serde_json::from_str::<LinkKey>(&format!(r#"{{"user":"{user}",{bad}}}"#)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_one_to_one(part in parts()) {
            let link = &part.link;
            prop_assert_eq!(LinkKey::from_bytes(&link.to_bytes()), Some(link.clone()));
            prop_assert_eq!(PartKey::from_bytes(&part.to_bytes()), Some(part.clone()));
            prop_assert_eq!(part.object_key().part(), Some(part.clone()));
            // Neither reads as the other, nor a page's as a key of an earlier release.
            prop_assert_eq!(LinkKey::from_bytes(&part.to_bytes()), None);
            prop_assert_eq!(PartKey::from_bytes(&link.to_bytes()), None);
            if link.page().is_some() {
                prop_assert_eq!(LinkKey::from_bytes(&link.bound_bytes()), None);
            }
        }

        #[test]
        fn no_two_keys_are_alike_and_they_lie_in_order(one in parts(), two in parts()) {
            prop_assert_eq!(one == two, one.to_bytes() == two.to_bytes());
            prop_assert_eq!(one == two, one.object_key() == two.object_key());
            prop_assert_eq!(one.link == two.link, one.link.to_bytes() == two.link.to_bytes());
            prop_assert_eq!(one.cmp(&two), one.to_bytes().cmp(&two.to_bytes()));
            prop_assert_eq!(one.link.cmp(&two.link), one.link.to_bytes().cmp(&two.link.to_bytes()));
            // The parts of a link are the keys that begin with its own and a separator.
            let own = [one.link.to_bytes().as_slice(), &[SEPARATOR]].concat();
            prop_assert_eq!(one.link == two.link, two.to_bytes().starts_with(&own));
        }

        #[test]
        fn strange_bytes_are_no_key(mut bytes: Vec<u8>, shaped: bool) {
            if shaped {
                bytes.splice(..0, [b'f'; USER_BYTES + 1]);
            }
            if let Some(link) = LinkKey::from_bytes(&bytes) {
                prop_assert_eq!(link.to_bytes(), bytes.clone());
            }
            if let Some(part) = PartKey::from_bytes(&bytes) {
                prop_assert_eq!(part.to_bytes(), bytes);
            }
        }
    }
}
