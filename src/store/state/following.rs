//! The decisions of the other daemons of a cluster, applied to the memory of this one.
//!
//! Each daemon has the whole memory, and a decision of one reaches the others as the writes that followed from it. They
//! are applied in the order in which they were committed, and before this daemon decides anything itself. So the decisions
//! of all daemons are those of a single one, made one after another.
//!
//! Nothing is written or published here. A write names a record and its new value, and each concern puts it where its own
//! decision would have put it. Claims are the exception: they are nowhere but in the memory of the daemon that reads, so
//! that a mark of a link that is read elsewhere counts as claimed ([`Entry::follow_mark`](crate::core::ledger::Entry)).

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::State;
use super::events::EventQueues;
use crate::core::cleanup::Cleanup;
use crate::core::event::Event;
use crate::core::model::{LinkKey, PartKey, ShopName, WallTime};
use crate::store::records::{AccountRecord, CleanupRecord, DeletionRecord, LinkRecord, ShopRecord, account_of};
use crate::store::tree::{Tree, Write};
use crate::store::txn::Txn;
use crate::store::{check, codec};

/// A key that says nothing here, or a value that cannot be decoded.
struct Unreadable;

impl State {
    /// Applies the writes of one transaction of another daemon.
    pub(in crate::store) fn follow(&mut self, now: WallTime, writes: &[Write]) {
        let (mut scratch, mut parts) = (self.begin(now), BTreeSet::new());
        for write in writes {
            if self.follow_write(&mut scratch, &mut parts, write).is_err() {
                self.damaged += 1;
                let tree = write.tree.name();
                tracing::error!(
                    tree,
                    "store [{tree}]: a record of another daemon is passed over, because it cannot be read; run the same \
                     version everywhere"
                );
            }
        }
        for part in parts {
            let is_linked = self.links.contains(&part.link);
            self.ledger.end_following(&part, is_linked);
        }
    }

    fn follow_write(
        &mut self,
        scratch: &mut Txn,
        parts: &mut BTreeSet<PartKey>,
        write: &Write,
    ) -> Result<(), Unreadable> {
        let Write { tree, key, .. } = write;
        match tree {
            Tree::Links => parts.extend(self.follow_link(scratch, key_of(LinkKey::from_bytes(key))?, value_of(write)?)),
            Tree::Marks | Tree::Outbox | Tree::Synced => {
                let part = key_of(PartKey::from_bytes(key))?;
                match tree {
                    Tree::Marks => self.ledger.follow_mark(&part, value_of(write)?),
                    Tree::Outbox => self.ledger.follow_staged(&part, value_of(write)?),
                    _ => self.ledger.follow_synced(&part, value_of(write)?),
                }
                parts.insert(part);
            }
            Tree::Accounts => {
                let (user, person) = key_of(account_of(key))?;
                match value_of::<AccountRecord>(write)? {
                    Some(record) => self.accounts.put(scratch, (user, person), record),
                    None => self.accounts.forget(scratch, user, &person),
                }
            }
            Tree::Shops => {
                let shop = key_of(std::str::from_utf8(key).ok().and_then(|text| text.parse::<ShopName>().ok()))?;
                match value_of::<ShopRecord>(write)? {
                    Some(record) => self.shops.put(scratch, &shop, record),
                    None => self.shops.remove(scratch, &shop),
                }
            }
            Tree::Cleanups => {
                let cleanup = key_of(Cleanup::from_bytes(key))?;
                match value_of::<CleanupRecord>(write)? {
                    Some(record) => self.cleanups.put(scratch, cleanup, record),
                    None => self.cleanups.remove(scratch, &cleanup),
                }
            }
            Tree::Deletions => {
                let code = key_of(String::from_utf8(key.clone()).ok())?;
                self.follow_deletion(scratch, code, value_of(write)?);
            }
            Tree::Events => {
                let number = key_of(key.as_slice().try_into().ok().map(u64::from_be_bytes))?;
                follow_event(&mut self.events, number, value_of(write)?);
            }
            Tree::States => {
                let nonce = key_of(key.as_slice().try_into().ok())?;
                self.nonces.follow_state(nonce, value_of(write)?);
            }
            Tree::Logins => {
                if write.value.is_none() {
                    let hash = key_of(key.as_slice().try_into().ok())?;
                    self.nonces.take_login(scratch, hash);
                    self.nonces.forget_taken(scratch.now());
                }
            }
            Tree::Meta => self.follow_meta(write)?,
            // These are read from the database when they are wanted.
            Tree::Bodies | Tree::Sessions | Tree::Fields | Tree::Products | Tree::Catalogues => {}
        }
        Ok(())
    }

    /// Returns the parts that it concerns.
    fn follow_link(&mut self, scratch: &mut Txn, link: LinkKey, record: Option<LinkRecord>) -> Vec<PartKey> {
        let Some(record) = record else {
            self.links.remove(scratch, &link);
            return self.ledger.follow_unlink(&link);
        };
        let earlier = self.links.get(&link).and_then(|earlier| earlier.hint);
        let is_hinted = record.hint.is_some() && record.hint != earlier;
        self.put_link_record(scratch, &link, record);
        self.ledger.create(&link.whole());
        if is_hinted {
            self.links.hint(&link);
        }
        Vec::new()
    }

    fn follow_deletion(&mut self, scratch: &mut Txn, code: String, record: Option<DeletionRecord>) {
        let Some(record) = record else {
            self.deletions.remove(scratch, &code);
            return;
        };
        if record.done_at.is_none() && record.cleared_at.is_some() {
            self.deletions.clear(&code, self.erasures.wanted());
        }
        self.deletions.put(scratch, code, record);
    }

    fn follow_meta(&mut self, write: &Write) -> Result<(), Unreadable> {
        let Some(value) = &write.value else { return Ok(()) };
        if write.key == check::KEY {
            self.base_key = check::key(value).map_err(|_| Unreadable)?;
        } else if let Some(cluster) = &mut self.cluster {
            cluster.follow(&write.key, value);
        }
        Ok(())
    }
}

/// An event waits, or does no more.
fn follow_event(events: &mut EventQueues, number: u64, event: Option<Event>) {
    match event {
        Some(event) => events.follow_put(number, event),
        None => events.follow_removal(number),
    }
}

fn key_of<K>(key: Option<K>) -> Result<K, Unreadable> {
    key.ok_or(Unreadable)
}

/// The value of a write; `None` when it removes the record.
fn value_of<T: DeserializeOwned>(write: &Write) -> Result<Option<T>, Unreadable> {
    let value = write.value.as_deref();
    value.map(|value| codec::decode(write.tree.name(), value)).transpose().map_err(|_| Unreadable)
}
