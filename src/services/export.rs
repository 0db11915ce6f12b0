//! Taking links out, to keep or to move: a file of JSON lines whose tokens are sealed, with the store key or with a
//! passphrase. [`import`](crate::services::import) reads it back.
//!
//! The first line says how the rest is sealed:
//! `{"schema":"pagesyncd/export/1","sealed_with":"store-key"|"passphrase","kdf"?:{…},"check":"…"}`. Each further line
//! is one of these:
//!
//! * the link of a page: `{"user","page_id","facebook_user_id"?,"name"?,"sealed_token","linked_at","granted_at"?}`;
//! * the link of a shop, with the pair of the shop, which all links of the shop share: `{"source":"shopify","user",
//!   "shop","name"?,"sealed_token","sealed_refresh_token"?,"expires_at"?,"linked_at","granted_at"?}`;
//! * a login: `{"user","account","name"?,"sealed_token","granted","expires_at"?,"logged_in_at"}`.
//!
//! Times are in milliseconds, but for the `expires_at` of a shop, which is RFC 3339; an import tells by them which of two
//! tokens is the newer. A passphrase becomes a key by Argon2id with the parameters that the first line names; `check`
//! tells a wrong key or passphrase before anything is imported.

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::config::MIN_PASSPHRASE;
use crate::core::model::{AppUserId, LinkKey, Secret, ShopName, Source, UserId, WallTime};
use crate::random;
use crate::store::records::{account_context, link_context};
use crate::store::seal::Keyring;
use crate::store::shops::PairState;
use crate::store::{AccountRecord, Link, Store, Unavailable};

/// The first line's `schema`.
pub const SCHEMA: &str = "pagesyncd/export/1";
const CHECK: &[u8] = b"pagesyncd export check";

/// Argon2id's parameters, as the second choice of RFC 9106 section 4 recommends where memory is scarce: 64 MiB, three
/// passes, four lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kdf {
    name: String,
    salt: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    schema: String,
    sealed_with: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<Kdf>,
    check: String,
}

/// Why an export cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The passphrase is too short to protect anything.
    #[error("the passphrase is shorter than 12 characters; choose a longer one")]
    WeakPassphrase,
    /// The file is sealed with a passphrase and none was given.
    #[error("the file is sealed with a passphrase; name the file that holds it with --passphrase-file")]
    NoPassphrase,
    /// The key or passphrase is another one.
    #[error("the file was sealed with another {0}")]
    WrongKey(&'static str),
    /// The first line is not what an export begins with.
    #[error("the first line is damaged or of a newer version")]
    Head,
    /// A record cannot be opened.
    #[error("{0} cannot be opened; it is damaged")]
    Record(String),
    /// The system gave no randomness, or the key cannot be made.
    #[error("the key cannot be made from the passphrase")]
    Kdf,
    /// The store cannot be read at the moment.
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    /// The thread that seals panicked.
    #[error("the export broke off")]
    BrokeOff,
}

impl ExportError {
    /// The token of this link cannot be opened.
    fn of(link: &LinkKey) -> ExportError {
        ExportError::Record(format!("the token of link {link}"))
    }
}

pub(super) fn derive(passphrase: &Secret, kdf: &Kdf) -> Result<Keyring, ExportError> {
    let bounds = kdf.name == "argon2id" && kdf.memory_kib <= 1 << 20 && kdf.passes <= 16 && kdf.lanes <= 16;
    let salt = STANDARD_NO_PAD.decode(&kdf.salt).map_err(|_| ExportError::Head)?;
    if !bounds {
        return Err(ExportError::Head);
    }
    let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32)).map_err(|_| ExportError::Kdf)?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), &salt, key.as_mut())
        .map_err(|_| ExportError::Kdf)?;
    Ok(Keyring::new(*key, Vec::new()))
}

pub(super) fn fresh_kdf() -> Result<Kdf, ExportError> {
    let salt = STANDARD_NO_PAD.encode(random::secret::<16>().map_err(|_| ExportError::Kdf)?);
    Ok(Kdf { name: "argon2id".into(), salt, memory_kib: 64 << 10, passes: 3, lanes: 4 })
}

/// Links or logins in one piece.
const AT_ONCE: usize = 256;

/// A login: user, person, record, user token.
type Login = (UserId, AppUserId, Arc<AccountRecord>, Secret);

/// The pairs of shops.
type Pairs = BTreeMap<ShopName, PairState>;

/// The context that the refresh token in the line of a link is sealed to; the access token has that of a page token.
fn refresh_context(link: &LinkKey) -> Vec<u8> {
    [b"refresh\0".as_slice(), &link.bound_bytes()].concat()
}

/// An export that is written a piece at a time: its head, every link, every login, a line each. The links are those that
/// stand when their piece is made, in the order of their keys.
pub struct Export {
    store: Store,
    sealer: Arc<Sealer>,
    next: Next,
}

/// What the next piece holds.
enum Next {
    Head,
    /// Links behind this one.
    Links(Option<LinkKey>),
    /// Logins behind this one.
    Logins(Option<(UserId, AppUserId)>),
    Nothing,
}

impl Export {
    /// Begins an export that is sealed with the passphrase or, without one, with the store key. Every token of a link is
    /// opened once before the first piece is made, so that a damaged one is an error that names its link, and not the
    /// end of half a file.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn begin(store: &Store, passphrase: Option<Secret>) -> Result<Export, ExportError> {
        let own = store.keyring();
        // A key is derived slowly on purpose.
        let making = tokio::task::spawn_blocking(move || Sealer::new(own, passphrase.as_ref()));
        let sealer = Arc::new(making.await.unwrap_or(Err(ExportError::BrokeOff))?);
        let mut after = None;
        loop {
            let links = store.opened_after(after, AT_ONCE).await?;
            if let Some(damaged) = links.iter().find(|link| link.token.is_err()) {
                return Err(ExportError::of(&damaged.key));
            }
            match links.last().filter(|_| links.len() == AT_ONCE) {
                Some(last) => after = Some(last.key.clone()),
                None => break,
            }
        }
        Ok(Export { store: store.clone(), sealer, next: Next::Head })
    }

    /// The next lines; `None` at the end.
    ///
    /// # Errors
    /// [`ExportError`]: what was written so far is no export.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Head => {
                self.next = Next::Links(None);
                self.sealed(|sealer| Ok(sealer.head())).await.map(Some)
            }
            Next::Links(after) => {
                let links = self.store.opened_after(after, AT_ONCE).await?;
                let last = links.last().filter(|_| links.len() == AT_ONCE).map(|link| link.key.clone());
                self.next = last.map_or(Next::Logins(None), |last| Next::Links(Some(last)));
                let pairs = self.pairs_of(&links).await?;
                self.sealed(move |sealer| sealer.links(&links, &pairs)).await.map(Some)
            }
            Next::Logins(after) => {
                let keys = self.store.accounts_after(after, AT_ONCE).await?;
                if keys.len() == AT_ONCE {
                    self.next = Next::Logins(keys.last().cloned());
                }
                let mut logins = Vec::with_capacity(keys.len());
                for (user, person) in keys {
                    if let Some((record, Some(token))) = self.store.account(user, &person).await? {
                        logins.push((user, person, record, token));
                    }
                }
                self.sealed(move |sealer| Ok(sealer.logins(&logins))).await.map(Some)
            }
            Next::Nothing => Ok(None),
        }
    }

    /// The pairs of the shops among these links, both halves of each as they are at one moment.
    async fn pairs_of(&self, links: &[Link]) -> Result<Pairs, ExportError> {
        let mut pairs = Pairs::new();
        for shop in links.iter().filter_map(|link| link.key.shop()) {
            // A shop that is gone by now has none.
            if let Some(pair) = self.store.shop_pair(shop).await? {
                pairs.insert(shop.clone(), pair);
            }
        }
        Ok(pairs)
    }

    /// Seals some hundred tokens, away from the async workers.
    async fn sealed(
        &self,
        seal: impl FnOnce(&Sealer) -> Result<Vec<u8>, ExportError> + Send + 'static,
    ) -> Result<Vec<u8>, ExportError> {
        let sealer = self.sealer.clone();
        tokio::task::spawn_blocking(move || seal(&sealer)).await.unwrap_or(Err(ExportError::BrokeOff))
    }
}

/// Writes lines whose tokens are sealed.
struct Sealer {
    keyring: Arc<Keyring>,
    kdf: Option<Kdf>,
}

impl Sealer {
    fn new(own: Arc<Keyring>, passphrase: Option<&Secret>) -> Result<Sealer, ExportError> {
        match passphrase {
            None => Ok(Sealer { keyring: own, kdf: None }),
            Some(passphrase) if passphrase.expose().chars().count() < MIN_PASSPHRASE => {
                Err(ExportError::WeakPassphrase)
            }
            Some(passphrase) => {
                let kdf = fresh_kdf()?;
                Ok(Sealer { keyring: Arc::new(derive(passphrase, &kdf)?), kdf: Some(kdf) })
            }
        }
    }

    fn seal(&self, context: &[u8], plain: &[u8]) -> String {
        STANDARD_NO_PAD.encode(self.keyring.seal(context, plain))
    }

    fn head(&self) -> Vec<u8> {
        let sealed_with = if self.kdf.is_some() { "passphrase" } else { "store-key" }.to_owned();
        let check = self.seal(CHECK, CHECK);
        let head = Head { schema: SCHEMA.into(), sealed_with, kdf: self.kdf.clone(), check };
        format!("{}\n", json!(head)).into_bytes()
    }

    fn links(&self, links: &[Link], pairs: &Pairs) -> Result<Vec<u8>, ExportError> {
        let mut text = String::new();
        for link in links {
            let mut line = match link.key.shop().map(|shop| pairs.get(shop)) {
                None => self.page_line(link)?,
                Some(Some(pair)) => self.shop_line(link, pair)?,
                Some(None) => continue,
            };
            line["linked_at"] = json!(link.record.linked_at);
            if let Some(granted_at) = link.record.granted_at {
                line["granted_at"] = json!(granted_at);
            }
            if let Some(name) = &link.record.name {
                line["name"] = json!(name);
            }
            text.push_str(&format!("{line}\n"));
        }
        Ok(text.into_bytes())
    }

    fn page_line(&self, Link { key, record, token }: &Link) -> Result<Value, ExportError> {
        let token = token.as_ref().map_err(|_| ExportError::of(key))?;
        let sealed = self.seal(&link_context(key), token.expose().as_bytes());
        let mut line = json!({"user": key.user, "page_id": key.page(), "sealed_token": sealed});
        if let Some(person) = &record.facebook_user {
            line["facebook_user_id"] = json!(person);
        }
        Ok(line)
    }

    /// An old token has no refresh token, and does not end.
    fn shop_line(&self, Link { key, .. }: &Link, state: &PairState) -> Result<Value, ExportError> {
        let pair = state.pair.as_ref().map_err(|_| ExportError::of(key))?;
        let sealed = self.seal(&link_context(key), pair.access.expose().as_bytes());
        let mut line = json!({"source": Source::Shopify.as_str(), "user": key.user, "shop": key.shop()});
        line["sealed_token"] = sealed.into();
        if !pair.refresh.is_empty() {
            let refresh = self.seal(&refresh_context(key), pair.refresh.expose().as_bytes());
            line["sealed_refresh_token"] = refresh.into();
        }
        if !pair.refresh.is_empty() && state.record.expires_at != WallTime::default() {
            line["expires_at"] = state.record.expires_at.rfc3339().into();
        }
        Ok(line)
    }

    fn logins(&self, logins: &[Login]) -> Vec<u8> {
        let mut text = String::new();
        for (user, person, record, token) in logins {
            let sealed = self.seal(&account_context(*user, person), token.expose().as_bytes());
            let mut line = json!({"user": user, "account": person, "sealed_token": sealed, "granted": record.granted});
            line["logged_in_at"] = json!(record.logged_in_at);
            if let Some(name) = &record.name {
                line["name"] = json!(name);
            }
            if let Some(expires_at) = record.expires_at {
                line["expires_at"] = json!(expires_at);
            }
            text.push_str(&format!("{line}\n"));
        }
        text.into_bytes()
    }
}

/// Opens the tokens of an export.
pub struct Opener {
    keyring: Arc<Keyring>,
}

impl Opener {
    /// What the file's first line asks for; `None` when it is no export but a plain import.
    ///
    /// # Errors
    /// [`ExportError`]: a wrong key or passphrase, or none.
    pub fn from_head(
        first_line: &[u8],
        store_key: impl FnOnce() -> Arc<Keyring>,
        passphrase: Option<&Secret>,
    ) -> Result<Option<Opener>, ExportError> {
        let value: Value = match serde_json::from_slice(first_line) {
            Ok(value) => value,
            Err(_) => return Ok(None),
        };
        if value.get("schema").is_none() {
            return Ok(None);
        }
        let head: Head = serde_json::from_value(value).map_err(|_| ExportError::Head)?;
        if head.schema != SCHEMA {
            return Err(ExportError::Head);
        }
        let (keyring, what) = match &head.kdf {
            None => (store_key(), "store key"),
            Some(kdf) => (Arc::new(derive(passphrase.ok_or(ExportError::NoPassphrase)?, kdf)?), "passphrase"),
        };
        let check = STANDARD_NO_PAD.decode(&head.check).map_err(|_| ExportError::Head)?;
        keyring.open(CHECK, &check).map_err(|_| ExportError::WrongKey(what))?;
        Ok(Some(Opener { keyring }))
    }

    /// The token of a link.
    pub fn link_token(&self, link: &LinkKey, sealed: &str) -> Option<Secret> {
        self.open(&link_context(link), sealed)
    }

    /// The refresh token in the line of a shop's link.
    pub fn refresh_token(&self, link: &LinkKey, sealed: &str) -> Option<Secret> {
        self.open(&refresh_context(link), sealed)
    }

    /// The token of a login.
    pub fn account_token(&self, user: UserId, person: &AppUserId, sealed: &str) -> Option<Secret> {
        self.open(&account_context(user, person), sealed)
    }

    fn open(&self, context: &[u8], sealed: &str) -> Option<Secret> {
        let sealed = STANDARD_NO_PAD.decode(sealed).ok()?;
        let plain = self.keyring.open(context, &sealed).ok()?;
        String::from_utf8(plain.to_vec()).ok().map(Secret::new)
    }
}
