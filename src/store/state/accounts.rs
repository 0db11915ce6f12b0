//! The logins in memory, by user and person, with an index by person.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::core::model::{AppUserId, UserId};
use crate::store::records::{AccountRecord, account_key};
use crate::store::state::seals::Seals;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// An account is one person of one user.
pub(in crate::store) type AccountKey = (UserId, AppUserId);

/// The logins.
#[derive(Default)]
pub(in crate::store) struct Accounts {
    records: BTreeMap<AccountKey, Arc<AccountRecord>>,
    users: HashMap<AppUserId, BTreeSet<UserId>>,
    seals: Seals,
}

impl Accounts {
    pub(in crate::store) fn get(&self, key: &AccountKey) -> Option<&Arc<AccountRecord>> {
        self.records.get(key)
    }

    /// Writes a login's record, new or changed.
    pub(in crate::store) fn put(&mut self, txn: &mut Txn, key: AccountKey, record: AccountRecord) {
        txn.put(Tree::Accounts, account_key(key.0, &key.1), &record);
        self.insert(key, Arc::new(record));
    }

    /// Forgets a login.
    pub(in crate::store) fn forget(&mut self, txn: &mut Txn, user: UserId, person: &AppUserId) {
        txn.remove(Tree::Accounts, account_key(user, person));
        self.remove(&(user, person.clone()));
    }

    fn insert(&mut self, key: AccountKey, record: Arc<AccountRecord>) {
        self.users.entry(key.1.clone()).or_default().insert(key.0);
        self.seals.add(&record.token);
        if let Some(before) = self.records.insert(key, record) {
            self.seals.remove(&before.token);
        }
    }

    fn remove(&mut self, key: &AccountKey) {
        let Some(record) = self.records.remove(key) else { return };
        self.seals.remove(&record.token);
        if let Some(users) = self.users.get_mut(&key.1) {
            users.remove(&key.0);
            if users.is_empty() {
                self.users.remove(&key.1);
            }
        }
    }

    /// The logins of a person, in the order of their users.
    pub(in crate::store) fn of_person<'a>(
        &'a self,
        person: &'a AppUserId,
    ) -> impl Iterator<Item = (UserId, &'a Arc<AccountRecord>)> {
        let users = self.users.get(person).into_iter().flatten();
        users.filter_map(move |user| Some((*user, self.records.get(&(*user, person.clone()))?)))
    }

    #[cfg(test)]
    pub(in crate::store) fn keys(&self) -> impl Iterator<Item = &AccountKey> {
        self.records.keys()
    }

    /// The logins behind this one, or all, in their order.
    pub(in crate::store) fn after(&self, key: Option<&AccountKey>) -> impl Iterator<Item = &AccountKey> + use<'_> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range::<AccountKey, _>((from, Bound::Unbounded)).map(|(key, _)| key)
    }

    /// The counts of the sealed user tokens.
    pub(in crate::store) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// Compares the counts with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        assert_eq!(self.records.values().map(|record| &record.token).collect::<Seals>(), self.seals);
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
            let persons: BTreeSet<&AppUserId> = accounts.keys().map(|(_, person)| person).collect();
            prop_assert_eq!(persons.len(), accounts.users.len(), "no empty entry stays");
        }
    }
}
