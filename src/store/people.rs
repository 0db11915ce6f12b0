//! The store's other half: linking and unlinking, accounts, browser sessions, one-time links, used states, deletions.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use sha2::{Digest as _, Sha256};

use super::codec;
use super::core::Core;
use super::engine::{Engine, Tree};
use super::handle::Fault;
use super::records::{
    AccountRecord, LinkRecord, LoginRecord, SessionRecord, account_context, account_key, link_context, open_token,
    seal_token,
};
use super::seal::Keyring;
use super::{Store, Unavailable};
use crate::health::Health;
use crate::model::{AppUserId, Cause, LinkKey, Millis, PageId, Secret, UserId};
use crate::notice::Told;

/// How long it is remembered that a login link was taken, beside its record's removal.
const LOGIN_TAKEN_FOR: Duration = Duration::from_secs(3600);
/// Expired records of one tree removed in one go; the rest waits for the next sweep.
const SWEEP_AT_ONCE: usize = 1000;

/// A page to link.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// The page.
    pub page: PageId,
    /// Its token.
    pub token: Secret,
    /// Its name, where known.
    pub name: Option<String>,
    /// The person whose token it is, where known.
    pub facebook_user: Option<AppUserId>,
}

/// A login to note beside its links.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The person.
    pub person: AppUserId,
    /// The person's name.
    pub name: Option<String>,
    /// The long-lived user token.
    pub token: Secret,
    /// Permissions granted.
    pub granted: Vec<String>,
    /// When the token ends.
    pub expires_at: Option<Millis>,
}

/// A browser session as the cookie names it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The cookie's value.
    pub id: Secret,
    /// Whose.
    pub user: UserId,
    /// Until when.
    pub expires_at: Millis,
}

/// SHA-256 of a session id or of a login link's secret: what the store keeps in its place.
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// 32 bytes from the operating system, in base64url.
fn fresh_secret() -> Secret {
    let mut bytes = [0u8; 32];
    // The operating system's generator does not fail once it has been seeded; without it nothing secret can be made.
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).unwrap_or_else(|e| panic!("no randomness from the system: {e}"));
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

impl Store {
    /// Links pages to a user, or gives links a new token; notes the login; marks every one of them due. One
    /// transaction: after a crash either all of it is there or nothing.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn put_links(
        &self,
        user: UserId,
        account: Option<NewAccount>,
        links: Vec<NewLink>,
        cause: Cause,
    ) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|core| {
            let keyring = self.inner.keyring();
            let person = account.as_ref().map(|account| account.person.clone());
            if let Some(account) = account {
                put_account(core, &keyring, user, account);
            }
            let links = links.into_iter().map(|link| put_link(core, &keyring, user, link, cause)).collect::<Vec<_>>();
            core.void_chores(&links, person.as_ref());
            links
        })
        .await
    }

    /// The links whose token is this person's, of every user.
    pub fn links_of_person(&self, person: &AppUserId) -> Vec<LinkKey> {
        self.lock().links_of_person(person)
    }

    /// Forgets a person: every link whose token is theirs, with a delete owed for each object; every login; and notes
    /// the deletion under this code. One transaction: after a crash either all of it holds or Meta got no answer.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_person(&self, person: &AppUserId, code: &str) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|core| {
            let links = core.links_of_person(person);
            for link in &links {
                core.remove_link(link, true);
            }
            let theirs: Vec<_> = core.accounts.keys().filter(|(_, p)| p == person).cloned().collect();
            theirs.into_iter().for_each(|(user, person)| remove_account(core, user, &person));
            core.drop_chores_of(person);
            core.note_deletion(code, person);
            links
        })
        .await
    }

    /// Every login: user and person.
    pub fn accounts(&self) -> Vec<(UserId, AppUserId)> {
        self.lock().accounts.keys().cloned().collect()
    }

    /// A login's record, with its user token opened where it can be.
    pub fn account(&self, user: UserId, person: &AppUserId) -> Option<(Arc<AccountRecord>, Option<Secret>)> {
        let record = self.lock().accounts.get(&(user, person.clone())).cloned()?;
        let token = open_token(&self.inner.keyring(), &account_context(user, person), &record.token).ok();
        Some((record, token))
    }

    /// Opens a browser session for a user.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn new_session(&self, user: UserId, ttl: Duration) -> Result<Session, Unavailable> {
        let session = Session { id: fresh_secret(), user, expires_at: Millis::now().plus(ttl) };
        let record = SessionRecord { user, expires_at: session.expires_at };
        let key = secret_hash(session.id.expose()).to_vec();
        self.commit(|core| core.write(Tree::Sessions, key, Some(codec::encode(&record)))).await?;
        Ok(session)
    }

    /// The session that a cookie names; `None` when there is none or it is over.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down.
    pub fn session(&self, id: &str) -> Result<Option<Session>, Unavailable> {
        let key = secret_hash(id);
        let record = self.read(|engine| get::<SessionRecord>(engine, Tree::Sessions, &key))?;
        let live = record.filter(|r| r.expires_at > Millis::now());
        Ok(live.map(|r| Session { id: Secret::new(id), user: r.user, expires_at: r.expires_at }))
    }

    /// Makes a link that opens this session once.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn new_login(&self, session: &Session, ttl: Duration) -> Result<Secret, Unavailable> {
        let secret = fresh_secret();
        let hash = secret_hash(secret.expose());
        self.commit(|core| {
            let record = LoginRecord {
                session: seal_token(&self.inner.keyring(), &login_context(&hash), &session.id),
                expires_at: Millis::now().plus(ttl),
                session_expires_at: session.expires_at,
            };
            core.write(Tree::Logins, hash.to_vec(), Some(codec::encode(&record)));
        })
        .await?;
        Ok(secret)
    }

    /// Uses up a login link. `None` when it is unknown, used or over.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn take_login(&self, secret: &str) -> Result<Option<Session>, Unavailable> {
        let hash = secret_hash(secret);
        let record = self.read(|engine| get::<LoginRecord>(engine, Tree::Logins, &hash))?;
        let Some(record) = record.filter(|r| r.expires_at > Millis::now()) else { return Ok(None) };
        let first = self
            .commit(|core| {
                let first = core.taken_logins.insert(hash, Millis::now()).is_none();
                if first {
                    core.write(Tree::Logins, hash.to_vec(), None);
                }
                first
            })
            .await?;
        if !first {
            return Ok(None);
        }
        let opened = open_token(&self.inner.keyring(), &login_context(&hash), &record.session);
        match opened {
            Ok(id) => self.session(id.expose()),
            Err(_) => Ok(None),
        }
    }

    /// Uses up an OAuth state's nonce, durably; `false` when it was used before.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn use_state(&self, nonce: [u8; 16], expires_at: Millis) -> Result<bool, Unavailable> {
        self.commit(|core| {
            let first = core.used_states.insert(nonce, expires_at).is_none();
            if first {
                core.write(Tree::States, nonce.to_vec(), Some(codec::encode(&expires_at)));
            }
            first
        })
        .await
    }

    /// Removes sessions, login links, states and deletions' codes that are over.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn sweep(&self, now: Millis) -> Result<usize, Unavailable> {
        // Whole trees are looked through, which is nothing for a thread that others wait for.
        let store = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            store.read(|engine| {
                let mut gone = expired(engine, Tree::Sessions, now, |r: SessionRecord| r.expires_at)?;
                gone.extend(expired(engine, Tree::Logins, now, |r: LoginRecord| r.expires_at)?);
                gone.extend(expired(engine, Tree::States, now, |expires_at: Millis| expires_at)?);
                Ok(gone)
            })
        });
        let gone = looked.await.map_err(|_| Unavailable { reason: "the sweep broke off".into() })??;
        let count = gone.len();
        let codes = self
            .commit(|core| {
                core.used_states.retain(|_, expires_at| *expires_at > now);
                // Whoever took one of these has been answered long ago, and the record went with it.
                core.taken_logins.retain(|_, taken_at| now.since(*taken_at) < LOGIN_TAKEN_FOR);
                gone.into_iter().for_each(|(tree, key)| core.write(tree, key, None));
                core.sweep_deletions(now)
            })
            .await?;
        Ok(count + codes)
    }
}

pub(super) fn login_context(hash: &[u8; 32]) -> Vec<u8> {
    [b"login\0".as_slice(), hash].concat()
}

fn get<T: serde::de::DeserializeOwned>(engine: &Engine, tree: Tree, key: &[u8]) -> Result<Option<T>, Fault> {
    let value = engine.get(tree, key)?;
    Ok(value.and_then(|value| codec::decode(tree.name(), &value).ok()))
}

fn expired<T: serde::de::DeserializeOwned>(
    engine: &Engine,
    tree: Tree,
    now: Millis,
    ends: impl Fn(T) -> Millis,
) -> Result<Vec<(Tree, Vec<u8>)>, Fault> {
    let over = |value: &[u8]| codec::decode::<T>(tree.name(), value).is_ok_and(|r| ends(r) <= now);
    let mut found = Vec::new();
    for record in engine.records(tree) {
        let (key, value) = record.map_err(Fault::from)?;
        if over(&value) {
            found.push((tree, key.to_vec()));
        }
        if found.len() == SWEEP_AT_ONCE {
            break;
        }
    }
    Ok(found)
}

fn put_account(core: &mut Core, keyring: &Keyring, user: UserId, account: NewAccount) {
    let record = AccountRecord {
        name: account.name,
        token: seal_token(keyring, &account_context(user, &account.person), &account.token),
        granted: account.granted,
        expires_at: account.expires_at,
        logged_in_at: Millis::now(),
    };
    core.put_account((user, account.person), record);
}

pub(super) fn remove_account(core: &mut Core, user: UserId, person: &AppUserId) {
    core.write(Tree::Accounts, account_key(user, person), None);
    core.accounts.remove(&(user, person.clone()));
}

pub(super) fn forget_account_without_links(core: &mut Core, user: UserId, person: &AppUserId) {
    if !core.links_of_person(person).iter().any(|link| link.user == user) {
        remove_account(core, user, person);
    }
}

/// A new token starts the link afresh: health, and what was refused with the old one, are forgotten.
fn put_link(core: &mut Core, keyring: &Keyring, user: UserId, new: NewLink, cause: Cause) -> LinkKey {
    let link = LinkKey::new(user, new.page);
    let earlier = core.record(&link);
    let record = LinkRecord {
        facebook_user: new.facebook_user.or_else(|| earlier.as_ref().and_then(|r| r.facebook_user.clone())),
        name: new.name.or_else(|| earlier.as_ref().and_then(|r| r.name.clone())),
        // Later than the linking before, whatever the clock says: it tells the two tokens apart.
        linked_at: earlier
            .as_ref()
            .map_or(Millis(0), |r| r.linked_at.plus(Duration::from_millis(1)))
            .max(Millis::now()),
        token: seal_token(keyring, &link_context(&link), &new.token),
        health: Health::Active,
        ..LinkRecord::default()
    };
    core.put_record(&link, record);
    core.tell(Told::Linked { link: link.clone(), anew: earlier.is_some() });
    core.hinted.remove(&link);
    core.mark(&link, cause);
    if let Some(seq) = core.mark_seq(&link) {
        core.note_when_durable(link.clone(), seq);
    }
    link
}
