//! Grants in the store: a login, or lines of an import, become links and accounts. [`grant`](crate::core::grant)
//! decides which of them may still be stored when a newer decision came between.

use super::api::Unavailable;
pub use super::api::{LeftAlone, Stored};
use super::api::{NewAccount, NewLink};
use super::inner::Store;
use super::state::State;
use super::state::linking::NewLogin;
use crate::core::grant::{Reach, Ticket};
use crate::core::model::{AppUserId, Cause, UserId, WallTime};

impl Store {
    /// A login or an import begins. To be taken before Facebook is asked for anything, or before lines are read.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn ticket(&self) -> Result<Ticket, Unavailable> {
        let at = self.now();
        if self.inner.is_shared() {
            // A number in the order of the decisions of all daemons.
            return self.commit(|_, txn| Ticket { number: txn.next_seq(), at }).await;
        }
        self.look(|state| Ticket { number: state.next_seq(), at }).await
    }

    /// A ticket in words, for an import that comes in several requests: all of them are one import. It is good in this
    /// process alone.
    pub fn name_of(&self, ticket: Ticket) -> String {
        format!("{:x}-{:x}-{:x}", self.inner.life, ticket.number, ticket.at.0)
    }

    /// The ticket of this name; `None` for one of another process, whose endings are not known any more.
    pub fn ticket_named(&self, name: &str) -> Option<Ticket> {
        let mut words = name.split('-').map(|word| u64::from_str_radix(word, 16).ok());
        let (life, number, at) = (words.next()??, words.next()??, words.next()??);
        let known = life == self.inner.life && words.next().is_none();
        known.then_some(Ticket { number, at: WallTime(at) })
    }

    /// Ends the logins and imports under way of a person of whom nothing is stored yet.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn end_grants_under_way(&self, person: &AppUserId) -> Result<(), Unavailable> {
        let now = self.now();
        let note = |state: &mut State, number| state.endings.note_person(number, person, &[], Reach::All, now);
        if self.inner.is_shared() {
            return self.commit(|state, txn| note(state, txn.next_seq())).await;
        }
        self.look(|state| note(state, state.next_seq())).await
    }

    /// Links pages to a user, or gives links a new token; notes the login; marks every one of them due. One
    /// transaction: after a crash either all of it is there or nothing. Grants and links that were ended after the
    /// ticket was taken are left out; without any link of the person's an account that came with links is not stored
    /// either.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn put_links(
        &self,
        ticket: Ticket,
        user: UserId,
        account: Option<NewAccount>,
        links: Vec<NewLink>,
        cause: Cause,
    ) -> Result<Stored, Unavailable> {
        let login = NewLogin { ticket, user, account, links, cause };
        self.commit(|state, txn| state.put_login(txn, &self.inner.keyring(), login)).await
    }
}
