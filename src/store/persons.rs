//! Persons in the store: their links and logins, and how they are forgotten.

use std::sync::Arc;

use super::api::Unavailable;
pub use super::api::{Departure, NewAccount, NewLink};
use super::inner::Store;
use super::records::{AccountRecord, account_context, open_token};
use crate::core::model::{AppUserId, Generation, LinkKey, Secret, UserId, WallTime};

/// A login's record and its user token, where that can be opened.
pub type Account = (Arc<AccountRecord>, Option<Secret>);

impl Store {
    /// The links whose token is this person's, of every user, each with the generation of that token.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn links_of_person(&self, person: &AppUserId) -> Result<Vec<(LinkKey, Generation)>, Unavailable> {
        self.look(|state| state.links.with_generations(state.links.of_person(person))).await
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
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn accounts(&self) -> Result<Vec<(UserId, AppUserId)>, Unavailable> {
        self.look(|state| state.accounts.keys().cloned().collect()).await
    }

    /// A login's record, with its user token opened where it can be; `None` when the person has none with this user.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn account(&self, user: UserId, person: &AppUserId) -> Result<Option<Account>, Unavailable> {
        let record = self.look(|state| state.accounts.get(&(user, person.clone())).cloned()).await?;
        Ok(record.map(|record| {
            let token = open_token(&self.inner.keyring(), &account_context(user, person), &record.token).ok();
            (record, token)
        }))
    }
}
