//! Cleanups in the store: which stand, which may be tried, and their end.

use super::api::Unavailable;
use super::inner::Store;
use super::records::{cleanup_context, open_token};
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
    pub fn cleanups(&self) -> Vec<StandingCleanup> {
        let (now, state) = (self.now(), &self.lock().state);
        let standing = state.cleanups.iter().map(|(cleanup, record)| StandingCleanup {
            cleanup: cleanup.clone(),
            seq: record.seq,
            void: record.void,
            wait: record.not_before.since(now).min(LONGEST_WAIT),
            left: record.asked_at.plus(GIVE_UP).since(now),
        });
        standing.collect()
    }

    /// The token of the cleanup with this number, if it may be tried now. The app stays in a person's account until the
    /// pages of theirs are unsubscribed, because their tokens end with it.
    pub fn cleanup_token(&self, cleanup: &Cleanup, seq: u64) -> Ready {
        let ready = self.lock().state.ready_cleanup(cleanup, seq);
        let Some(sealed) = ready else { return Ready::NotYet };
        let opened = open_token(&self.inner.keyring(), &cleanup_context(cleanup), &sealed);
        opened.map_or(Ready::Never, Ready::Yes)
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
    pub fn is_left_over(&self, part: &PartKey, seq: u64) -> bool {
        self.lock().state.is_left_over(part, seq)
    }
}
