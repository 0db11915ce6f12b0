//! The logins in memory, by user and person, with an index by person.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::records::AccountRecord;
use crate::core::model::{AppUserId, UserId};

/// An account is one person of one user.
pub(super) type AccountKey = (UserId, AppUserId);

/// The logins.
#[derive(Default)]
pub(super) struct Accounts {
    records: BTreeMap<AccountKey, Arc<AccountRecord>>,
    users: HashMap<AppUserId, BTreeSet<UserId>>,
}

impl Accounts {
    pub(super) fn get(&self, key: &AccountKey) -> Option<&Arc<AccountRecord>> {
        self.records.get(key)
    }

    pub(super) fn insert(&mut self, key: AccountKey, record: Arc<AccountRecord>) {
        self.users.entry(key.1.clone()).or_default().insert(key.0);
        self.records.insert(key, record);
    }

    pub(super) fn remove(&mut self, key: &AccountKey) {
        if self.records.remove(key).is_none() {
            return;
        }
        if let Some(users) = self.users.get_mut(&key.1) {
            users.remove(&key.0);
            if users.is_empty() {
                self.users.remove(&key.1);
            }
        }
    }

    /// The logins of a person, in the order of their users.
    pub(super) fn of_person<'a>(
        &'a self,
        person: &'a AppUserId,
    ) -> impl Iterator<Item = (UserId, &'a Arc<AccountRecord>)> {
        let users = self.users.get(person).into_iter().flatten();
        users.filter_map(move |user| Some((*user, self.records.get(&(*user, person.clone()))?)))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &AccountKey> {
        self.records.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<AccountRecord>> {
        self.records.values()
    }
}

impl FromIterator<(AccountKey, AccountRecord)> for Accounts {
    fn from_iter<I: IntoIterator<Item = (AccountKey, AccountRecord)>>(logins: I) -> Self {
        let mut accounts = Accounts::default();
        logins.into_iter().for_each(|(key, record)| accounts.insert(key, Arc::new(record)));
        accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(user: u8, person: u8) -> AccountKey {
        (UserId(uuid::Uuid::from_u128(u128::from(user))), u64::from(person).to_string().parse().unwrap())
    }

    proptest! {
        /// The index says what a scan says.
        #[test]
        fn the_index_agrees_with_the_records(steps in prop::collection::vec((any::<bool>(), 0u8..4, 0u8..4), 0..40)) {
            let mut accounts = Accounts::default();
            for (insert, user, person) in steps {
                if insert {
                    accounts.insert(key(user, person), Arc::default());
                } else {
                    accounts.remove(&key(user, person));
                }
                for person in 0..4 {
                    let person = key(0, person).1;
                    let scanned: Vec<UserId> =
                        accounts.keys().filter(|(_, p)| *p == person).map(|(user, _)| *user).collect();
                    let indexed: Vec<UserId> = accounts.of_person(&person).map(|(user, _)| user).collect();
                    prop_assert_eq!(scanned, indexed);
                }
            }
            let people: BTreeSet<&AppUserId> = accounts.keys().map(|(_, person)| person).collect();
            prop_assert_eq!(people.len(), accounts.users.len(), "no empty entry stays");
        }
    }
}
