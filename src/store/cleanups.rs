//! Cleanups in the store: which stand, which may be tried, and their end.

use std::sync::Arc;

use super::api::{NewShop, Unavailable};
use super::inner::Store;
use super::records::{CleanupRecord, ShopPair, cleanup_context, open_pair_of, open_token};
use super::state::State;
use crate::core::cleanup::{Cleanup, GIVE_UP, StandingCleanup};
use crate::core::model::{PartKey, Secret, ShopName, WallTime};

/// A cleanup waits no longer than this for its first try, whatever the clock did meanwhile.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// May a cleanup be tried now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It may, with this token.
    Yes(Secret),
    /// It was overtaken, or waits for another.
    NotYet,
    /// Its token does not open.
    Never,
}

/// May the app be uninstalled from a shop now?
#[derive(Debug, Clone)]
pub enum ReadyPair {
    /// It may, with this pair, whose access token is good until then.
    Yes(ShopPair, WallTime),
    /// It was overtaken, or waits for another.
    NotYet,
    /// Its pair does not open.
    Never,
}

impl Store {
    /// Every cleanup.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn cleanups(&self) -> Result<Vec<StandingCleanup>, Unavailable> {
        let now = self.now();
        let standing = |(cleanup, record): (&Cleanup, &Arc<CleanupRecord>)| StandingCleanup {
            cleanup: cleanup.clone(),
            seq: record.seq,
            void: record.void,
            wait: record.not_before.since(now).min(LONGEST_WAIT),
            left: record.asked_at.plus(GIVE_UP).since(now),
        };
        self.look(|state| state.cleanups.iter().map(standing).collect()).await
    }

    /// The token of the cleanup with this number, if it may be tried now. The app stays in a person's account until the
    /// pages of theirs are unsubscribed, because their tokens end with it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn cleanup_token(&self, cleanup: &Cleanup, seq: u64) -> Result<Ready, Unavailable> {
        let ready = self.look(|state| state.ready_cleanup(cleanup, seq)).await?;
        let Some(sealed) = ready else { return Ok(Ready::NotYet) };
        let opened = open_token(&self.inner.keyring(), &cleanup_context(cleanup), &sealed);
        Ok(opened.map_or(Ready::Never, Ready::Yes))
    }

    /// The pair of the uninstall with this number, and until when its access token is good, if the app may be
    /// uninstalled now.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn uninstall_pair(&self, shop: &ShopName, seq: u64) -> Result<ReadyPair, Unavailable> {
        let cleanup = Cleanup::Uninstall(shop.clone());
        let ready = |state: &mut State| {
            let expires_at = state.cleanups.get(&cleanup)?.expires_at;
            Some((state.ready_cleanup(&cleanup, seq)?, expires_at))
        };
        let Some((sealed, expires_at)) = self.look(ready).await? else { return Ok(ReadyPair::NotYet) };
        let opened = open_pair_of(&self.inner.keyring(), &cleanup, &sealed);
        Ok(opened.map_or(ReadyPair::Never, |pair| ReadyPair::Yes(pair, expires_at)))
    }

    /// A refresh brought another pair for the uninstall with this number. Returns whether it still stands.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn renew_uninstall(&self, shop: &ShopName, seq: u64, new: &NewShop) -> Result<bool, Unavailable> {
        self.commit(|state, txn| state.renew_uninstall(txn, &self.inner.keyring(), (shop, seq), new)).await
    }

    /// Notes durably that a shop is to be deleted as soon as Shopify can say whether its token works. Nothing is noted
    /// where the shop is not linked, or where the app was installed again after the installation with this number.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn owe_redact(&self, shop: &ShopName, login: u64) -> Result<(), Unavailable> {
        self.commit(|state, txn| state.owe_redact(txn, shop, login)).await
    }

    /// May the redact with this number be tried now: it stands, and no installation overtook it?
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn is_redact_owed(&self, shop: &ShopName, seq: u64) -> Result<bool, Unavailable> {
        let cleanup = Cleanup::Redact(shop.clone());
        self.look(|state| state.ready_cleanup(&cleanup, seq).is_some()).await
    }

    /// The cleanup with this number is over. What its page's links believe of their subscription goes with it.
    ///
    /// # Errors
    /// [`Unavailable`]; it then stands.
    pub async fn finish_cleanup(&self, cleanup: &Cleanup, seq: u64) -> Result<(), Unavailable> {
        self.commit(|state, txn| state.finish_cleanup(txn, cleanup, seq)).await
    }

    /// May the object of this part be deleted once more for the cleanup with this number: the cleanup still stands, the
    /// link is gone, and the part owes Spaces nothing?
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn is_left_over(&self, part: &PartKey, seq: u64) -> Result<bool, Unavailable> {
        self.look(|state| state.is_left_over(part, seq)).await
    }
}
