//! Linking, accounts, and forgetting a person.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::engine::Tree;
use super::records::{AccountRecord, LinkRecord, account_context, account_key, link_context, open_token, seal_token};
use super::seal::Keyring;
use super::{Store, Unavailable};
use crate::health::Health;
use crate::model::{AppUserId, Cause, LinkKey, Millis, PageId, Secret, UserId};
use crate::notice::Told;

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

impl Store {
    /// Links pages to a user, or gives links a new token; notes the login; marks every one of them due. One
    /// transaction: after a crash either all of it is there or nothing.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn put_links(
        &self,
        user: UserId,
        account: Option<NewAccount>,
        links: Vec<NewLink>,
        cause: Cause,
    ) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|core| {
            let keyring = self.inner.keyring();
            let person = account.as_ref().map(|account| account.person.clone());
            if let Some(account) = account {
                put_account(core, &keyring, user, account);
            }
            let links = links.into_iter().map(|link| put_link(core, &keyring, user, link, cause)).collect::<Vec<_>>();
            core.void_chores(&links, person.as_ref());
            links
        })
        .await
    }

    /// The links whose token is this person's, of every user.
    pub fn links_of_person(&self, person: &AppUserId) -> Vec<LinkKey> {
        self.lock().links_of_person(person)
    }

    /// Forgets a person: every link whose token is theirs, with a delete owed for each object; every login; and notes
    /// the deletion under this code. One transaction: after a crash either all of it holds or Meta got no answer.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_person(&self, person: &AppUserId, code: &str) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|core| {
            let links = core.links_of_person(person);
            for link in &links {
                core.remove_link(link, true);
            }
            let theirs: Vec<_> = core.accounts.keys().filter(|(_, p)| p == person).cloned().collect();
            theirs.into_iter().for_each(|(user, person)| remove_account(core, user, &person));
            core.drop_chores_of(person);
            core.note_deletion(code, person);
            links
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
}

fn put_account(core: &mut Core, keyring: &Keyring, user: UserId, account: NewAccount) {
    let record = AccountRecord {
        name: account.name,
        token: seal_token(keyring, &account_context(user, &account.person), &account.token),
        granted: account.granted,
        expires_at: account.expires_at,
        logged_in_at: Millis::now(),
    };
    core.put_account((user, account.person), record);
}

pub(super) fn remove_account(core: &mut Core, user: UserId, person: &AppUserId) {
    core.write(Tree::Accounts, account_key(user, person), None);
    core.accounts.remove(&(user, person.clone()));
}

pub(super) fn forget_account_without_links(core: &mut Core, user: UserId, person: &AppUserId) {
    if !core.links_of_person(person).iter().any(|link| link.user == user) {
        remove_account(core, user, person);
    }
}

/// A new token starts the link afresh: health, and what was refused with the old one, are forgotten.
fn put_link(core: &mut Core, keyring: &Keyring, user: UserId, new: NewLink, cause: Cause) -> LinkKey {
    let link = LinkKey::new(user, new.page);
    let earlier = core.record(&link);
    let record = LinkRecord {
        facebook_user: new.facebook_user.or_else(|| earlier.as_ref().and_then(|r| r.facebook_user.clone())),
        name: new.name.or_else(|| earlier.as_ref().and_then(|r| r.name.clone())),
        // Later than the linking before, whatever the clock says: it tells the two tokens apart.
        linked_at: earlier
            .as_ref()
            .map_or(Millis(0), |r| r.linked_at.plus(Duration::from_millis(1)))
            .max(Millis::now()),
        token: seal_token(keyring, &link_context(&link), &new.token),
        health: Health::Active,
        ..LinkRecord::default()
    };
    core.put_record(&link, record);
    core.tell(Told::Linked { link: link.clone(), anew: earlier.is_some() });
    core.hinted.remove(&link);
    core.mark(&link, cause);
    if let Some(seq) = core.mark_seq(&link) {
        core.note_when_durable(link.clone(), seq);
    }
    link
}
