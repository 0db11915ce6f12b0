//! Unlinking: what goes with a link, and what is left to do at Facebook.

use std::collections::BTreeMap;

use super::cleanups::Needs;
use super::persons::{forget_account_without_links, remove_account};
use super::records::{account_context, open_token};
use super::seal::Keyring;
use super::state::State;
use super::{Store, Unavailable};
use crate::core::cleanup::Cleanup;
use crate::core::grant::Reach;
use crate::core::model::{AppUserId, LinkKey, Secret, WallTime};

/// How links are to be removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unlinking {
    /// Leave the objects in Spaces.
    pub keep_objects: bool,
    /// Take the app out of the account of each person who has no link left.
    pub revoke: bool,
}

/// What became of the wish to take the app out of people's accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoking {
    /// It is being done.
    Asked(AppUserId),
    /// The person still has so many links, of whichever user: the app stays.
    StillLinked(AppUserId, usize),
    /// No user token of the person is stored, as of links that were imported.
    NoToken(AppUserId),
    /// It is not known whose the links were.
    NobodyKnown,
}

/// Links that were removed.
#[derive(Debug, Clone, Default)]
pub struct Unlinked {
    /// Which.
    pub links: Vec<LinkKey>,
    /// What became of the wish to revoke, for each person.
    pub revoking: Vec<Revoking>,
}

impl Store {
    /// Drops links: their tokens, their marks, what was staged, also those that a login under way would make. The objects are deleted unless they are to be kept; what
    /// is left to do at Facebook is noted as [cleanups](crate::core::cleanup). One transaction.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn unlink(&self, links: &[LinkKey], how: Unlinking) -> Result<Unlinked, Unavailable> {
        self.commit(|state| {
            let keyring = self.inner.keyring();
            let mut people: BTreeMap<Option<AppUserId>, Option<(Secret, WallTime)>> = BTreeMap::new();
            let mut unlinked = Unlinked::default();
            // They may be gone by a decision before this one, which is still on its way to disk.
            state.wait_for_queue();
            for link in links {
                state.note_unlinked(link);
                let Some(record) = state.remove_link(link, !how.keep_objects) else { continue };
                state.note_unsubscribe(&keyring, link, &record);
                let person = record.facebook_user.clone();
                let token = person.as_ref().and_then(|person| newest_token(state, &keyring, person));
                people.entry(person.clone()).or_insert(token);
                if let Some(person) = &person {
                    forget_account_without_links(state, link.user, person);
                }
                unlinked.links.push(link.clone());
            }
            for (person, token) in people.into_iter().filter(|_| how.revoke) {
                unlinked.revoking.push(revoke(state, &keyring, person, token));
            }
            unlinked
        })
        .await
    }
}

/// The person's newest user token, of whichever user of the platform, and when it was granted.
fn newest_token(state: &State, keyring: &Keyring, person: &AppUserId) -> Option<(Secret, WallTime)> {
    let theirs = state.accounts.of_person(person);
    let (user, record) = theirs.max_by_key(|(_, record)| record.logged_in_at)?;
    let token = open_token(keyring, &account_context(user, person), &record.token).ok()?;
    Some((token, record.logged_in_at))
}

/// The app is taken out of the person's account as a whole, so only when no link of theirs is left.
fn revoke(
    state: &mut State,
    keyring: &Keyring,
    person: Option<AppUserId>,
    token: Option<(Secret, WallTime)>,
) -> Revoking {
    let Some(person) = person else { return Revoking::NobodyKnown };
    let left = state.links_of_person(&person).len();
    if left > 0 {
        return Revoking::StillLinked(person, left);
    }
    let Some((token, granted_at)) = token else { return Revoking::NoToken(person) };
    state.note_cleanup(
        keyring,
        Cleanup::Revoke(person.clone()),
        Needs { person: Some(person.clone()), token, granted_at },
    );
    // Logins without a link end with it, and so does one that is under way.
    state.note_ended(&person, &[], Reach::All);
    let users: Vec<_> = state.accounts.of_person(&person).map(|(user, _)| user).collect();
    users.into_iter().for_each(|user| remove_account(state, user, &person));
    Revoking::Asked(person)
}
