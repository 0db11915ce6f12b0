//! The store's other half: people, browser sessions, one-time links, used states.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use sha2::{Digest as _, Sha256};

use super::codec;
use super::core::Core;
use super::engine::{Engine, Tree};
use super::records::{
    AccountRecord, DeletionRecord, LoginRecord, SessionRecord, account_context, account_key, open_token, seal_token,
};
use super::{Store, Unavailable};
use crate::grant::Reach;
use crate::model::{AppUserId, Generation, LinkKey, Millis, PageId, Secret, UserId};

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

/// A person who left: the links that this ended, and how many it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departure {
    /// Each with the generation of the token that it had.
    pub links: Vec<(LinkKey, Generation)>,
    /// Links of theirs with a newer grant.
    pub kept: usize,
}

impl Core {
    /// Which of a person's links a decision of this reach ends.
    pub(super) fn departure(&self, person: &AppUserId, reach: Reach, now: Millis) -> Departure {
        let all = self.links_of_person(person);
        let covered = |link: &LinkKey| self.record(link).is_some_and(|record| reach.covers(record.grant_time(), now));
        let (links, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(covered);
        Departure { links: self.with_generations(links), kept: kept.len() }
    }

    /// Forgets the logins of a person that a decision of this reach ends: how many, and whether one stays.
    pub(super) fn end_logins(&mut self, person: &AppUserId, reach: Reach, now: Millis) -> (usize, bool) {
        let theirs = self.accounts.iter().filter(|((_, p), _)| p == person);
        let theirs = theirs.map(|((user, _), record)| (*user, reach.covers(record.logged_in_at, now)));
        let (ended, kept): (Vec<_>, Vec<_>) = theirs.partition(|(_, covered)| *covered);
        ended.iter().for_each(|(user, _)| remove_account(self, *user, person));
        (ended.len(), !kept.is_empty())
    }
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
    /// The links whose token is this person's, of every user, each with the generation of that token.
    pub fn links_of_person(&self, person: &AppUserId) -> Vec<(LinkKey, Generation)> {
        let core = self.lock();
        core.with_generations(core.links_of_person(person))
    }

    /// Forgets a person: every link with a token of theirs, with a delete owed for each object; every login, also one that
    /// is under way; and notes the deletion under this code. Of a request of Meta's, dated so, newer grants are no
    /// concern: see [`grant`](crate::grant). One transaction: after a crash either all of it holds or Meta got no answer.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_person(
        &self,
        person: &AppUserId,
        code: &str,
        issued_at: Option<Millis>,
    ) -> Result<Departure, Unavailable> {
        self.commit(|core| {
            let now = Millis::now();
            let reach = Reach::of(issued_at, now);
            let departure = core.departure(person, reach, now);
            let links: Vec<LinkKey> = departure.links.iter().map(|(link, _)| link.clone()).collect();
            for link in &links {
                core.remove_link(link, true);
            }
            core.note_ended(person, &links, reach);
            let (logins, kept_login) = core.end_logins(person, reach, now);
            core.drop_chores_of(person, reach, now);
            let (ended, kept) = (links.len() + logins, departure.kept);
            core.note_deletion(
                code,
                person,
                DeletionRecord { issued_at, ended, kept, kept_login, ..Default::default() },
            );
            departure
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
                let mut gone = expired(engine, Tree::Sessions, now, |r: SessionRecord| r.expires_at);
                gone.extend(expired(engine, Tree::Logins, now, |r: LoginRecord| r.expires_at));
                gone.extend(expired(engine, Tree::States, now, |expires_at: Millis| expires_at));
                gone
            })
        });
        let gone = looked.await.map_err(|_| Unavailable { reason: "the sweep broke off".into() })??;
        let count = gone.len();
        let codes = self
            .commit(|core| {
                core.endings.forget(now);
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

fn get<T: serde::de::DeserializeOwned>(engine: &Engine, tree: Tree, key: &[u8]) -> Option<T> {
    let value = engine.get(tree, key).ok().flatten()?;
    codec::decode(tree.name(), &value).ok()
}

fn expired<T: serde::de::DeserializeOwned>(
    engine: &Engine,
    tree: Tree,
    now: Millis,
    ends: impl Fn(T) -> Millis,
) -> Vec<(Tree, Vec<u8>)> {
    let records = engine.records(tree).filter_map(Result::ok);
    let over = records.filter(|(_, value)| codec::decode::<T>(tree.name(), value).is_ok_and(|r| ends(r) <= now));
    over.take(SWEEP_AT_ONCE).map(|(key, _)| (tree, key.to_vec())).collect()
}

pub(super) fn remove_account(core: &mut Core, user: UserId, person: &AppUserId) {
    core.write(Tree::Accounts, account_key(user, person), None);
    core.accounts.remove(&(user, person.clone()));
}

pub(super) fn forget_account_without_links(core: &mut Core, user: UserId, person: &AppUserId) {
    if !core.has_link_of(user, person) {
        remove_account(core, user, person);
    }
}
