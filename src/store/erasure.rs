//! Removed records that can still be read from the store's files, and their erasure.
//!
//! sled appends: a removed or replaced record stays in its log until the segment around it happens to be used again,
//! and the backup log keeps it until it is written anew. A token there opens with the store key, and an app-scoped id
//! is in clear text. So a decision that removes a record with a person's token, name or id *requests an erasure*, in
//! the same transaction: a [`renewal`](super::renewal) of both files that begins after it. A deletion is done only when
//! that renewal has ended.
//!
//! Erasures are numbered. A renewal answers for all whose removals were committed when it began. One that is requested
//! meanwhile waits for the next renewal, because its records may have been copied before they were removed. A restart
//! keeps only the fact that one is owed: the next renewal answers for everything.
//!
//! The alternative is a key for each person that is destroyed with the person's data. It avoids the renewal and costs
//! more. Ids are in the keys of trees: these would have to be hashed, and every stored database rewritten once anyway.
//! The file with the keys would have to be erased in the same way. And a test could not prove the erasure by a search
//! for the data.
//!
//! Erased data is gone from the files of the store's folder. The blocks of the old files are free, and hold their bytes
//! until the file system or the device uses them again. Only an encrypted disk rules that out.

use super::codec;
use super::engine::{Tree, Write};
use super::state::State;
use super::{Condition, Store, Unavailable};
use crate::core::model::WallTime;

/// Its record in the tree `meta`: since when an erasure is owed.
const OWED: &[u8] = b"erase";

/// The numbers of the erasures that were requested and carried out.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    wanted: u64,
    done: u64,
    owed_since: Option<WallTime>,
    /// The decision that is being made requests one.
    asking: bool,
}

impl Erasures {
    /// As recorded in the database.
    pub(super) fn restored(owed_since: Option<WallTime>) -> Self {
        Erasures { wanted: owed_since.map_or(0, |_| 1), owed_since, ..Erasures::default() }
    }

    /// Goes on with the numbers of the memory that this one replaces after the store was opened again.
    pub(super) fn follow(&mut self, earlier: &Erasures) {
        // A request that is not on disk was refused, or was carried out.
        let owed = self.are_owed();
        self.wanted = earlier.wanted + u64::from(owed);
        self.done = if owed { earlier.done } else { self.wanted };
    }

    /// Is one owed?
    pub(super) fn are_owed(&self) -> bool {
        self.wanted > self.done
    }

    /// The number that everything removed so far waits for.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Was this one carried out?
    pub(super) fn is_done(&self, number: u64) -> bool {
        number <= self.done
    }
}

/// Do records of this tree hold a person's token, name or id?
fn is_about_persons(tree: Tree) -> bool {
    matches!(tree, Tree::Links | Tree::Accounts | Tree::Cleanups)
}

/// The write that notes that an erasure is owed.
pub(super) fn note_owed() -> Write {
    Write { tree: Tree::Meta, key: OWED.to_vec(), value: Some(codec::encode(&WallTime::now())) }
}

/// The write that notes that none is owed.
pub(super) fn note_done() -> Write {
    Write { tree: Tree::Meta, key: OWED.to_vec(), value: None }
}

/// Decodes the record.
pub(super) fn owed_since(value: Option<&[u8]>) -> Option<WallTime> {
    // One that cannot be read is owed, too.
    value.map(|value| codec::decode(Tree::Meta.name(), value).unwrap_or_else(|_| WallTime::now()))
}

/// The key of the record.
pub(super) fn key() -> &'static [u8] {
    OWED
}

impl State {
    /// The decision that is being made leaves data behind that must not stay readable.
    pub(super) fn ask_for_erasure(&mut self) {
        if !std::mem::replace(&mut self.erasures.asking, true) {
            self.erasures.wanted += 1;
        }
    }

    /// The same, if this write removes a record about a person.
    pub(super) fn ask_if_removed(&mut self, tree: Tree, value: Option<&[u8]>) {
        if value.is_none() && is_about_persons(tree) {
            self.ask_for_erasure();
        }
    }

    /// The write that belongs to the decision that was made, if it requested an erasure.
    pub(super) fn erasure_write(&mut self) -> Option<Write> {
        std::mem::take(&mut self.erasures.asking).then(|| {
            self.erasures.owed_since.get_or_insert_with(WallTime::now);
            note_owed()
        })
    }

    /// This erasure is carried out; deletions that waited for it are done.
    pub(super) fn erased(&mut self, number: u64) {
        self.erasures.done = self.erasures.done.max(number);
        if !self.erasures.are_owed() {
            self.erasures.owed_since = None;
        }
        self.finish_deletions();
    }
}

impl Store {
    /// Since when removed data can still be read from the store's files; `None` when none can.
    pub fn erasing_since(&self) -> Option<WallTime> {
        let state = self.lock();
        state.erasures.owed_since.filter(|_| state.erasures.are_owed())
    }

    /// Requests an erasure and waits until it is carried out.
    ///
    /// # Errors
    /// [`Unavailable`] when the store goes down meanwhile; it is carried out when it is back.
    pub async fn erase(&self) -> Result<(), Unavailable> {
        let number = self
            .commit(|state| {
                state.ask_for_erasure();
                state.erasures.wanted()
            })
            .await?;
        let (mut progress, mut condition) = (self.inner.erased.subscribe(), self.condition());
        loop {
            if self.lock().erasures.is_done(number) {
                return Ok(());
            }
            let down = condition.wait_for(|condition| *condition != Condition::Up);
            tokio::select! {
                changed = progress.changed() => changed.map_err(|_| self.closed())?,
                down = down => match down.map(|condition| condition.clone()) {
                    Ok(Condition::Down(reason)) => return Err(Unavailable { reason }),
                    _ => return Err(self.closed()),
                },
            }
        }
    }
}
