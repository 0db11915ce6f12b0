//! The records that have more than a few bytes: links, accounts, sessions, deletions. Tokens are sealed inside them.

use serde::{Deserialize, Serialize};

use super::seal::{Keyring, SealError};
use crate::core::cleanup::Cleanup;
use crate::core::health::Health;
use crate::core::model::{AppUserId, Generation, LinkKey, Names, Secret, ShopName, UserId, WallTime};
use crate::core::token_check::Checked;

/// Bytes that were sealed; printed as base64 in the record, and never in a log.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed(pub Box<[u8]>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[sealed]")
    }
}

impl TryFrom<String> for Sealed {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).map(|bytes| Sealed(bytes.into()))
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(sealed.0)
    }
}

/// One link: what is known of it beside what it owes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkRecord {
    /// The person whose token this is; unknown for some imports.
    pub facebook_user: Option<AppUserId>,
    /// The page's name when it was last read or listed.
    pub name: Option<String>,
    /// Which of the link's tokens this is.
    pub generation: Generation,
    /// The number of the login that brought the token, in the order in which logins begin; 0 for an import.
    pub login: u64,
    /// When the person granted the token: the code was exchanged then, or the line of an import says so. `None` for
    /// lines that do not say, and for links of an earlier version.
    pub granted_at: Option<WallTime>,
    /// When it was linked, or linked again; for a line of an export, when it was linked there. For a person to read:
    /// [`LinkRecord::generation`] tells tokens apart.
    pub linked_at: WallTime,
    /// The page token. Empty for a shop, whose tokens are in a [`ShopRecord`].
    pub token: Sealed,
    /// May Graph be called?
    pub health: Health,
    /// The page-level webhook fields that Meta confirmed.
    pub subscribed: Names,
    /// Webhook fields that Meta refused for this page; not asked for again until it is linked anew.
    pub refused_webhook_fields: Names,
    /// Node fields that Graph refused for this page.
    pub refused_page_fields: Names,
    /// What the checks of this token have learned.
    pub checked: Checked,
    /// The number of the newest hint that the person's permissions changed; `None` once a check that began after it has
    /// ended. An earlier version stored a time in milliseconds as `told_at`, which serves as a number.
    #[serde(alias = "told_at")]
    pub hint: Option<u64>,
}

impl LinkRecord {
    /// When the token was granted, as far as is known: not after it was linked.
    pub fn grant_time(&self) -> WallTime {
        self.granted_at.unwrap_or(self.linked_at)
    }
}

/// A person's login, of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountRecord {
    /// The person's name, for lists.
    pub name: Option<String>,
    /// The long-lived user token.
    pub token: Sealed,
    /// Permissions granted at the last login.
    pub granted: Vec<String>,
    /// When the user token ends; `None` for never or unknown.
    pub expires_at: Option<WallTime>,
    /// When the person last logged in: the code was exchanged then.
    pub logged_in_at: WallTime,
    /// The number of that login, in the order in which logins begin; 0 for an import.
    pub login: u64,
}

/// The token pair of a shop. The links of the shop share it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShopRecord {
    /// Both tokens, sealed as one text: they are replaced together.
    pub pair: Sealed,
    /// Which pair this is: a number of the store's sequence.
    pub number: u64,
    /// Until when the access token is good.
    pub expires_at: WallTime,
    /// Until when the refresh token is good, where known.
    pub refresh_expires_at: Option<WallTime>,
    /// Access scopes that were granted.
    pub scopes: Vec<String>,
    /// The number of the installation that brought the first pair, in the order in which installations begin.
    pub login: u64,
    /// When that was.
    pub granted_at: WallTime,
    /// When this pair came.
    pub paired_at: WallTime,
    /// Since when a refresh of this pair is under way: Shopify may have had the request, and this one was not answered
    /// or its answer is not stored.
    pub refreshing_since: Option<WallTime>,
}

/// The tokens of a shop.
#[derive(Debug, Clone)]
pub struct ShopPair {
    /// Lives an hour.
    pub access: Secret,
    /// Works once; empty for an old access token, which does not end and is to be exchanged for a pair.
    pub refresh: Secret,
}

/// A browser session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Whose.
    pub user: UserId,
    /// Until when.
    pub expires_at: WallTime,
    /// Since when; zero in records of earlier versions.
    #[serde(default)]
    pub issued_at: WallTime,
    /// The name of the user on HTML pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A one-time login link: opens this session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRecord {
    /// The session's secret, sealed: the link's holder gets it as a cookie.
    pub session: Sealed,
    /// Until when the link works.
    pub expires_at: WallTime,
    /// Until when the session works.
    pub session_expires_at: WallTime,
}

/// A person's request to be forgotten. It does not say whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeletionRecord {
    /// When it was asked for.
    pub asked_at: WallTime,
    /// The links whose objects go; the status looks up which of them still owe a delete. None once all is gone.
    pub links: Vec<LinkKey>,
    /// How many links there were.
    pub count: usize,
    /// When Meta wrote the request; `None` for a list of persons, and for records of an earlier version.
    pub issued_at: Option<WallTime>,
    /// The links and logins that it ended.
    pub ended: usize,
    /// The person's links that stayed, because their grant is newer than the request.
    pub kept: usize,
    /// A login of theirs stayed, because it is newer than the request.
    pub kept_login: bool,
    /// When the last object was gone, if the store's own files still had to be erased then.
    pub cleared_at: Option<WallTime>,
    /// When nothing was left.
    pub done_at: Option<WallTime>,
    /// The bucket would not say whether it keeps older versions of an object that was deleted.
    pub versions_unknown: bool,
}

/// A cleanup; which one is in its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CleanupRecord {
    /// Distinguishes it from an earlier one with the same key.
    pub seq: u64,
    /// When it was asked for.
    pub asked_at: WallTime,
    /// Not to be tried before.
    pub not_before: WallTime,
    /// The person whose token it needs.
    pub person: Option<AppUserId>,
    /// When that person granted it; 0 for unknown, which is older than everything.
    pub granted_at: WallTime,
    /// That token; nothing where none is needed. For the uninstall from a shop both halves of the shop's pair.
    pub token: Sealed,
    /// Until when the access token of that pair is good.
    pub expires_at: WallTime,
    /// A linking overtook it.
    pub void: bool,
    /// Objects are left where they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_objects: bool,
}

/// The context that a link's token is sealed to. It does not change when the key of the link's record does.
pub fn link_context(key: &LinkKey) -> Vec<u8> {
    [b"link\0".as_slice(), &key.bound_bytes()].concat()
}

/// What an account's token is sealed to.
pub fn account_context(user: UserId, person: &AppUserId) -> Vec<u8> {
    [b"account\0".as_slice(), &account_key(user, person)].concat()
}

/// What the pair of a shop is sealed to.
pub fn shop_context(shop: &ShopName) -> Vec<u8> {
    [b"shop\0".as_slice(), shop.as_str().as_bytes()].concat()
}

/// Between the two tokens of a pair. No token contains it.
const BETWEEN: char = ' ';

/// Seals a pair.
pub(super) fn seal_pair(keyring: &Keyring, shop: &ShopName, pair: &ShopPair) -> Sealed {
    seal_token(keyring, &shop_context(shop), &pair.to_text())
}

/// Seals a pair for the cleanup that needs it.
pub(super) fn seal_pair_for(keyring: &Keyring, cleanup: &Cleanup, pair: &ShopPair) -> Sealed {
    seal_token(keyring, &cleanup_context(cleanup), &pair.to_text())
}

/// Opens the pair of a cleanup.
///
/// # Errors
/// As for [`open_token`].
pub(super) fn open_pair_of(keyring: &Keyring, cleanup: &Cleanup, sealed: &Sealed) -> Result<ShopPair, SealError> {
    Ok(ShopPair::of_text(&open_token(keyring, &cleanup_context(cleanup), sealed)?))
}

/// Opens a pair.
///
/// # Errors
/// As for [`open_token`].
pub(super) fn open_pair(keyring: &Keyring, shop: &ShopName, sealed: &Sealed) -> Result<ShopPair, SealError> {
    Ok(ShopPair::of_text(&open_token(keyring, &shop_context(shop), sealed)?))
}

impl ShopPair {
    fn to_text(&self) -> Secret {
        Secret::new(format!("{}{BETWEEN}{}", self.access.expose(), self.refresh.expose()))
    }

    fn of_text(text: &Secret) -> ShopPair {
        let (access, refresh) = text.expose().split_once(BETWEEN).unwrap_or((text.expose(), ""));
        ShopPair { access: Secret::new(access), refresh: Secret::new(refresh) }
    }
}

/// What a cleanup's token is sealed to.
pub fn cleanup_context(cleanup: &Cleanup) -> Vec<u8> {
    [b"chore\0".as_slice(), &cleanup.to_bytes()].concat()
}

/// What the session behind a login link is sealed to; this is the hash of the link's secret.
pub(super) fn login_context(hash: &[u8; 32]) -> Vec<u8> {
    [b"login\0".as_slice(), hash].concat()
}

/// The key of an account in its tree.
pub fn account_key(user: UserId, person: &AppUserId) -> Vec<u8> {
    [user.0.as_bytes().as_slice(), person.as_str().as_bytes()].concat()
}

/// The inverse of [`account_key`]; `None` for bytes it never makes.
pub(super) fn account_of(key: &[u8]) -> Option<(UserId, AppUserId)> {
    let (user, person) = key.split_at_checked(16)?;
    let user = UserId(uuid::Uuid::from_slice(user).ok()?);
    let person: AppUserId = std::str::from_utf8(person).ok()?.parse().ok()?;
    // Ids are read with blanks around them; a key has one spelling.
    (account_key(user, &person) == key).then_some((user, person))
}

/// Opens a sealed token.
///
/// # Errors
/// [`SealError`] when the key is not configured, the context differs or the bytes are damaged.
pub fn open_token(keyring: &Keyring, context: &[u8], sealed: &Sealed) -> Result<Secret, SealError> {
    let plain = keyring.open(context, &sealed.0)?;
    Ok(Secret::new(String::from_utf8_lossy(&plain).into_owned()))
}

/// Seals a token.
pub fn seal_token(keyring: &Keyring, context: &[u8], token: &Secret) -> Sealed {
    Sealed(keyring.seal(context, token.expose().as_bytes()).into())
}
