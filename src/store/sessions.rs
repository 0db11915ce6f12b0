//! Browser sessions, one-time login links, used OAuth states, and the sweep of expired records.
//!
//! A login link opens a session of its own, for the same user and label as the session that it was made from, and for
//! at most [`LINK_SESSION`]: the holder of a link gets as long as a login takes and no more, whatever the life of the
//! session behind it. The link goes and the session comes in one transaction.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::api::Unavailable;
use super::codec;
use super::engine::Engine;
use super::handle::Fault;
use super::inner::Store;
use super::records::{LoginRecord, Sealed, SessionRecord, login_context, open_token, seal_token};
use super::tree::{Tree, Write};
use crate::core::model::{Label, Secret, UserId, WallTime};
use crate::random;

/// The longest life of a session that a login link opens.
pub const LINK_SESSION: Duration = Duration::from_secs(60 * 60);

/// Expired records removed in one transaction.
const SWEEP_AT_ONCE: usize = 1000;
/// Expired records that are gathered before they are removed; when there are more, the trees are looked through again.
const SWEEP_GATHERED: usize = 10_000;

/// A browser session as the cookie names it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The cookie's value.
    pub id: Secret,
    /// The user of the platform.
    pub user: UserId,
    /// The name of the user on HTML pages.
    pub label: Option<Label>,
    /// When it was made; zero for sessions of earlier versions.
    pub issued_at: WallTime,
    /// When it ends.
    pub expires_at: WallTime,
}

impl Session {
    /// A session for this user from now on, not stored yet.
    ///
    /// # Errors
    /// [`Unavailable`] without randomness from the system.
    pub fn fresh(user: UserId, label: Option<Label>, ttl: Duration) -> Result<Session, Unavailable> {
        Session::made_at(WallTime::now(), user, label, ttl)
    }

    fn made_at(now: WallTime, user: UserId, label: Option<Label>, ttl: Duration) -> Result<Session, Unavailable> {
        Ok(Session { id: fresh_secret()?, user, label, issued_at: now, expires_at: now.plus(ttl) })
    }

    fn from_record(id: &str, record: SessionRecord) -> Session {
        let label = record.label.and_then(|label| label.parse().ok());
        let SessionRecord { user, expires_at, issued_at, .. } = record;
        Session { id: Secret::new(id), user, label, issued_at, expires_at }
    }

    fn write(&self) -> Write {
        let label = self.label.as_ref().map(|label| label.as_str().to_owned());
        let record = SessionRecord { user: self.user, expires_at: self.expires_at, issued_at: self.issued_at, label };
        let key = secret_hash(self.id.expose()).to_vec();
        Write { tree: Tree::Sessions, key, value: Some(codec::encode(&record)) }
    }
}

/// A login link that can be used, before it is used.
#[derive(Debug, Clone)]
pub struct LoginLink {
    /// The user whose session it opens.
    pub user: UserId,
    /// The name of that user on HTML pages.
    pub label: Option<Label>,
}

/// SHA-256 of a session id or of a login link's secret. The store keeps this hash instead of the secret.
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// 32 bytes from the operating system, in base64url.
///
/// # Errors
/// [`Unavailable`] when the operating system has none to give.
pub fn fresh_secret() -> Result<Secret, Unavailable> {
    let bytes: [u8; 32] = random::secret().map_err(|error| Unavailable { reason: error.to_string().into() })?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

impl Store {
    /// Opens a browser session for a user without a label.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn new_session(&self, user: UserId, ttl: Duration) -> Result<Session, Unavailable> {
        let session = Session::made_at(self.now(), user, None, ttl)?;
        self.put_session(&session).await?;
        Ok(session)
    }

    /// Stores a session.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn put_session(&self, session: &Session) -> Result<(), Unavailable> {
        self.commit(|_, txn| txn.write(session.write())).await
    }

    /// The session that a cookie names; `None` when there is none or it is over.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down or cannot be read.
    pub async fn session(&self, id: &str) -> Result<Option<Session>, Unavailable> {
        let record = self.record_of::<SessionRecord>(Tree::Sessions, secret_hash(id)).await?;
        let live = record.filter(|record| record.expires_at > self.now());
        Ok(live.map(|record| Session::from_record(id, record)))
    }

    /// Makes a link that opens a session for the user of this one, once.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn new_login(&self, session: &Session, ttl: Duration) -> Result<Secret, Unavailable> {
        let secret = fresh_secret()?;
        let hash = secret_hash(secret.expose());
        self.commit(|_, txn| {
            let record = LoginRecord {
                session: seal_token(&self.inner.keyring(), &login_context(&hash), &session.id),
                expires_at: txn.now().plus(ttl),
                session_expires_at: session.expires_at,
            };
            txn.put(Tree::Logins, hash.to_vec(), &record);
        })
        .await?;
        Ok(secret)
    }

    /// Looks at a login link without using it. `None` when it is unknown, used or expired.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn login_link(&self, secret: &str) -> Result<Option<LoginLink>, Unavailable> {
        let hash = secret_hash(secret);
        let Some(parent) = self.session_behind(&hash).await? else { return Ok(None) };
        // The record of a link that was taken a moment ago may still lie on disk.
        let taken = self.lock().state.nonces.is_taken(&hash);
        Ok((!taken).then_some(LoginLink { user: parent.user, label: parent.label }))
    }

    /// Uses up a login link and opens its session. `None` when it is unknown, used or expired.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn take_login(&self, secret: &str) -> Result<Option<Session>, Unavailable> {
        self.take_login_of(secret_hash(secret)).await
    }

    /// Like [`Store::take_login`], for a link known by the hash of its secret.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn take_login_of(&self, hash: [u8; 32]) -> Result<Option<Session>, Unavailable> {
        let opened = self.lock().state.reopened;
        let Some(parent) = self.session_behind(&hash).await? else { return Ok(None) };
        let mut session = Session::made_at(self.now(), parent.user, parent.label, LINK_SESSION)?;
        session.expires_at = session.expires_at.min(parent.expires_at);
        let first = self
            .commit(|state, txn| {
                // A store that was opened again since the look does not know who took the link in between.
                if state.reopened != opened {
                    return None;
                }
                let first = state.nonces.take_login(txn, hash);
                if first {
                    txn.write(session.write());
                }
                Some(first)
            })
            .await?;
        let first = first.ok_or_else(|| Unavailable::because("it was opened again meanwhile"))?;
        Ok(first.then_some(session))
    }

    /// The session that a login link was made from, when both still live.
    async fn session_behind(&self, hash: &[u8; 32]) -> Result<Option<Session>, Unavailable> {
        let record = self.record_of::<LoginRecord>(Tree::Logins, *hash).await?;
        let Some(record) = record.filter(|record| record.expires_at > self.now()) else { return Ok(None) };
        match self.open_login(hash, &record.session) {
            Some(id) => self.session(id.expose()).await,
            None => Ok(None),
        }
    }

    fn open_login(&self, hash: &[u8; 32], sealed: &Sealed) -> Option<Secret> {
        open_token(&self.inner.keyring(), &login_context(hash), sealed).ok()
    }

    /// Uses up an OAuth state's nonce, durably; `false` when it was used before.
    ///
    /// # Errors
    /// [`Unavailable`], also while too many are remembered.
    pub async fn use_state(&self, nonce: [u8; 16], expires_at: WallTime) -> Result<bool, Unavailable> {
        let used = self.commit(|state, txn| state.nonces.use_state(txn, nonce, expires_at)).await?;
        used.ok_or_else(|| Unavailable::because("too many logins ended within minutes"))
    }

    /// Removes all sessions, login links, states and codes of deletions that expired, however many. Each transaction
    /// removes some of them, so that other writes go on in between.
    ///
    /// # Errors
    /// [`Unavailable`]; the rest is removed by the next sweep.
    pub async fn sweep(&self, now: WallTime) -> Result<usize, Unavailable> {
        let mut count = 0;
        loop {
            let gone = self.off_worker(move |store| store.read(|engine| all_expired(engine, now))).await??;
            for some in gone.chunks(SWEEP_AT_ONCE) {
                self.commit(|_, txn| some.iter().for_each(|(tree, key)| txn.remove(*tree, key.clone()))).await?;
            }
            count += gone.len();
            if gone.len() < SWEEP_GATHERED {
                break;
            }
        }
        let codes = self
            .commit(|state, txn| {
                state.nonces.sweep(now);
                state.sweep_deletions(txn, now)
            })
            .await?;
        Ok(count + codes)
    }

    /// A record; `None` when there is none or it is damaged.
    async fn record_of<T: DeserializeOwned>(&self, tree: Tree, key: [u8; 32]) -> Result<Option<T>, Unavailable> {
        let value = self.off_worker(move |store| store.read(|engine| engine.get(tree, &key))).await??;
        Ok(value.and_then(|value| codec::decode(tree.name(), &value).ok()))
    }
}

/// Keys of expired records, at most [`SWEEP_GATHERED`] of them.
fn all_expired(engine: &Engine, now: WallTime) -> Result<Vec<(Tree, Vec<u8>)>, Fault> {
    let sessions = expired(engine, Tree::Sessions, now, |record: SessionRecord| record.expires_at);
    let logins = expired(engine, Tree::Logins, now, |record: LoginRecord| record.expires_at);
    let states = expired(engine, Tree::States, now, |expires_at: WallTime| expires_at);
    sessions.chain(logins).chain(states).take(SWEEP_GATHERED).collect()
}

fn expired<T: DeserializeOwned>(
    engine: &Engine,
    tree: Tree,
    now: WallTime,
    ends: impl Fn(T) -> WallTime,
) -> impl Iterator<Item = Result<(Tree, Vec<u8>), Fault>> {
    let over = move |value: &[u8]| codec::decode::<T>(tree.name(), value).is_ok_and(|record| ends(record) <= now);
    engine.records(tree).filter_map(move |record| match record {
        Ok((key, value)) => over(&value).then_some(Ok((tree, key))),
        Err(fault) => Some(Err(fault)),
    })
}
