//! Persons in the store: their links and logins, and how they are forgotten.

use std::sync::Arc;

use super::api::Unavailable;
pub use super::api::{Departure, NewAccount, NewLink};
use super::inner::Store;
use super::records::{AccountRecord, account_context, open_token};
use crate::core::model::{AppUserId, Generation, LinkKey, Secret, UserId, WallTime};

impl Store {
    /// The links whose token is this person's, of every user, each with the generation of that token.
    pub fn links_of_person(&self, person: &AppUserId) -> Vec<(LinkKey, Generation)> {
        let links = &self.lock().state.links;
        links.with_generations(links.of_person(person))
    }

    /// Forgets a person: every link with a token of theirs, with a delete owed for each object; every login, also one
    /// that is under way; and notes the deletion under this code. Of a request of Meta's, dated so, newer grants are no
    /// concern: see [`grant`](crate::core::grant). One transaction: after a crash either all of it holds or Meta got no
    /// answer.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_person(
        &self,
        person: &AppUserId,
        code: &str,
        issued_at: Option<WallTime>,
    ) -> Result<Departure, Unavailable> {
        self.commit(|state, txn| state.forget_person(txn, person, code, issued_at)).await
    }

    /// Every login: user and person.
    pub fn accounts(&self) -> Vec<(UserId, AppUserId)> {
        self.lock().state.accounts.keys().cloned().collect()
    }

    /// A login's record, with its user token opened where it can be.
    pub fn account(&self, user: UserId, person: &AppUserId) -> Option<(Arc<AccountRecord>, Option<Secret>)> {
        let record = self.lock().state.accounts.get(&(user, person.clone())).cloned()?;
        let token = open_token(&self.inner.keyring(), &account_context(user, person), &record.token).ok();
        Some((record, token))
    }
}
