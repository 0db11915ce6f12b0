//! The store key's rotation: everything sealed with an earlier key is sealed anew while the daemon works, and an
//! earlier key is let go only when nothing needs it any more.
//!
//! Whatever is sealed is sealed under the state's lock, with the key that is in force at that moment, and another key
//! comes into force under the same lock. So a seal that was made before the switch is in memory when [`Store::reseal`]
//! looks, and none with the earlier key is made after it.
//!
//! Tokens and login links come first, a few in each transaction. Then the database and the backup log are written anew
//! ([`erasure`](super::erasure)), for older records are in both as they were sealed; and the text that tells a wrong
//! key at start comes last: once that one is sealed with the present key, everything is. A rotation that was cut short
//! goes on at the next start; one that was overtaken by another leaves the rest to that one.

use super::api::Unavailable;
use super::inner::Store;
use super::records::{
    AccountRecord, CleanupRecord, LinkRecord, LoginRecord, Sealed, ShopRecord, account_context, cleanup_context,
    link_context, login_context, open_token, seal_token, shop_context,
};
use super::seal::{KeyId, Keyring, key_id};
use super::state::State;
use super::state::accounts::AccountKey;
use super::tree::Tree;
use super::txn::Txn;
use super::{check, codec};
use crate::core::cleanup::Cleanup;
use crate::core::model::{LinkKey, ShopName};

/// Records sealed anew in one transaction.
const AT_ONCE: usize = 64;

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sealing {
    /// Tokens and login links sealed with the key in force.
    pub current: usize,
    /// Those still sealed with an earlier one.
    pub earlier: usize,
    /// Nothing at all, the backup log included, needs an earlier key any more.
    pub done: bool,
}

/// A login link as it lies on disk.
type Login = ([u8; 32], LoginRecord);

impl Store {
    /// Records that none of these keys opens.
    ///
    /// # Errors
    /// [`Unavailable`] when they cannot be looked through at the moment.
    pub async fn unopened_by(&self, keyring: &Keyring) -> Result<usize, Unavailable> {
        let ids = keyring.ids();
        let count = move |store: &Store| {
            let base = usize::from(!ids.contains(&store.lock().state.base_key));
            let is_foreign = |key: Option<KeyId>| !key.is_some_and(|key| ids.contains(&key));
            Ok(store.count_sealed(&store.live_logins()?, is_foreign).max(base))
        };
        self.off_worker(count).await?
    }

    /// How far the rotation to the key in force is.
    ///
    /// # Errors
    /// [`Unavailable`] as for [`Store::unopened_by`].
    pub async fn sealing(&self) -> Result<Sealing, Unavailable> {
        let look = |store: &Store| {
            let (keyring, logins) = (store.keyring(), store.live_logins()?);
            let is_current = |key| key == Some(keyring.current_id());
            let current = store.count_sealed(&logins, is_current);
            let earlier = store.count_sealed(&logins, |key| !is_current(key));
            let done = earlier == 0 && store.lock().state.base_key == keyring.current_id();
            Ok(Sealing { current, earlier, done })
        };
        self.off_worker(look).await?
    }

    /// Tokens and these login links that are sealed with such a key.
    fn count_sealed(&self, logins: &[Login], wanted: impl Fn(Option<KeyId>) -> bool) -> usize {
        let tokens = self.lock().state.count_sealed(&wanted);
        tokens + logins.iter().filter(|(_, record)| wanted(key_id(&record.session.0).ok())).count()
    }

    pub(super) fn live_logins(&self) -> Result<Vec<Login>, Unavailable> {
        let now = self.now();
        self.read(|engine| {
            let mut logins = Vec::new();
            for record in engine.records(Tree::Logins) {
                let (key, value) = record?;
                let record: Option<LoginRecord> = codec::decode(Tree::Logins.name(), &value).ok();
                let login = key.try_into().ok().zip(record);
                logins.extend(login.filter(|(_, record): &Login| record.expires_at > now));
            }
            Ok(logins)
        })
    }

    /// Puts other keys in force: what is sealed from here on is sealed with the current one.
    pub fn set_keyring(&self, keyring: Keyring) {
        let _memory = self.lock();
        *self.inner.keyring.write().unwrap_or_else(std::sync::PoisonError::into_inner) = keyring.into();
    }

    /// Seals everything anew that is not sealed with the current key; reads go on meanwhile. Returns how many tokens
    /// and login links that were.
    ///
    /// # Errors
    /// [`Unavailable`] when the store went down on the way; the rest is done at the next start.
    pub async fn reseal(&self) -> Result<usize, Unavailable> {
        let aim = self.keyring().current_id();
        let mut count = 0;
        // What is made behind the cursor meanwhile is sealed with the key in force.
        let mut after = None;
        loop {
            let links = self.links_after(after, AT_ONCE).await?;
            count += self.reseal_some(&links, reseal_link).await?;
            let Some(last) = links.last() else { break };
            after = Some(last.clone());
        }
        let mut after = None;
        loop {
            let accounts = self.accounts_after(after, AT_ONCE).await?;
            count += self.reseal_some(&accounts, reseal_account).await?;
            let Some(last) = accounts.last() else { break };
            after = Some(last.clone());
        }
        let mut after = None;
        loop {
            let shops = self.shops_after(after, AT_ONCE).await?;
            count += self.reseal_some(&shops, reseal_shop).await?;
            let Some(last) = shops.last() else { break };
            after = Some(last.clone());
        }
        let cleanups: Vec<_> = self.lock().state.cleanups.iter().map(|(cleanup, _)| cleanup.clone()).collect();
        for cleanups in cleanups.chunks(AT_ONCE) {
            count += self.reseal_some(cleanups, reseal_cleanup).await?;
        }
        for logins in self.off_worker(Store::live_logins).await??.chunks(AT_ONCE) {
            count += self.reseal_some(logins, reseal_login).await?;
        }
        self.erase().await?;
        let last = self.commit(|_, txn| {
            let keyring = self.inner.keyring();
            // Another rotation began meanwhile: this one's backup log is not yet that one's.
            let still = keyring.current_id() == aim;
            if still {
                txn.write(check::record(&keyring));
            }
            still
        });
        if last.await? {
            self.lock().state.base_key = aim;
        }
        Ok(count)
    }

    pub(super) async fn reseal_some<T>(
        &self,
        records: &[T],
        reseal: impl Fn(&mut State, &mut Txn, &Keyring, &T) -> bool,
    ) -> Result<usize, Unavailable> {
        self.commit(|state, txn| {
            let keyring = self.inner.keyring();
            records.iter().filter(|record| reseal(state, txn, &keyring, record)).count()
        })
        .await
    }
}

fn resealed(keyring: &Keyring, context: &[u8], sealed: &Sealed) -> Option<Sealed> {
    if keyring.is_current(&sealed.0) {
        return None;
    }
    open_token(keyring, context, sealed).ok().map(|token| seal_token(keyring, context, &token))
}

fn reseal_link(state: &mut State, txn: &mut Txn, keyring: &Keyring, link: &LinkKey) -> bool {
    let Some(record) = state.links.get(link).cloned() else { return false };
    let Some(token) = resealed(keyring, &link_context(link), &record.token) else { return false };
    state.links.put(txn, link, LinkRecord { token, ..(*record).clone() });
    true
}

fn reseal_account(state: &mut State, txn: &mut Txn, keyring: &Keyring, key: &AccountKey) -> bool {
    let Some(record) = state.accounts.get(key).cloned() else { return false };
    let Some(token) = resealed(keyring, &account_context(key.0, &key.1), &record.token) else { return false };
    state.accounts.put(txn, key.clone(), AccountRecord { token, ..(*record).clone() });
    true
}

fn reseal_shop(state: &mut State, txn: &mut Txn, keyring: &Keyring, shop: &ShopName) -> bool {
    let Some(record) = state.shops.get(shop).cloned() else { return false };
    let Some(pair) = resealed(keyring, &shop_context(shop), &record.pair) else { return false };
    state.shops.put(txn, shop, ShopRecord { pair, ..(*record).clone() });
    true
}

fn reseal_cleanup(state: &mut State, txn: &mut Txn, keyring: &Keyring, cleanup: &Cleanup) -> bool {
    let Some(record) = state.cleanups.get(cleanup).cloned() else { return false };
    if record.token == Sealed::default() {
        return false;
    }
    let Some(token) = resealed(keyring, &cleanup_context(cleanup), &record.token) else { return false };
    state.cleanups.put(txn, cleanup.clone(), CleanupRecord { token, ..(*record).clone() });
    true
}

/// A link that was taken since it was read must not come back.
pub(super) fn reseal_login(state: &mut State, txn: &mut Txn, keyring: &Keyring, (hash, record): &Login) -> bool {
    if state.nonces.is_taken(hash) {
        return false;
    }
    let Some(session) = resealed(keyring, &login_context(hash), &record.session) else { return false };
    txn.put(Tree::Logins, hash.to_vec(), &LoginRecord { session, ..record.clone() });
    true
}
