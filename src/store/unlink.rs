//! Unlinking: what goes with a link, and what is left to do at Facebook.

use super::api::Unavailable;
pub use super::api::{Revoking, Unlinked, Unlinking};
use super::inner::Store;
use crate::core::model::LinkKey;

impl Store {
    /// Drops links: their tokens, their marks, what was staged, also those that a login under way would make. The
    /// objects are deleted unless they are to be kept; what is left to do at Facebook is noted as
    /// [cleanups](crate::core::cleanup). One transaction.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn unlink(&self, links: &[LinkKey], how: Unlinking) -> Result<Unlinked, Unavailable> {
        self.commit(|state, txn| state.unlink(txn, &self.inner.keyring(), links, how)).await
    }
}
