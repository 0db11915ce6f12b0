//! Cleanups in the store: which stand, which may be tried, and their end.

use std::sync::Arc;

use super::api::Unavailable;
use super::inner::Store;
use super::records::{CleanupRecord, cleanup_context, open_token};
use crate::core::cleanup::{Cleanup, GIVE_UP, StandingCleanup};
use crate::core::model::{PartKey, Secret};

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
