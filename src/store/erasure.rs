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

use super::api::{Condition, Unavailable};
use super::inner::Store;
use crate::core::model::WallTime;

impl Store {
    /// Since when removed data can still be read from the store's files; `None` when none can.
    pub fn erasing_since(&self) -> Option<WallTime> {
        self.lock().state.erasures.owed_since()
    }

    /// Requests an erasure and waits until it is carried out.
    ///
    /// # Errors
    /// [`Unavailable`] when the store goes down meanwhile; it is carried out when it is back.
    pub async fn erase(&self) -> Result<(), Unavailable> {
        let number = self
            .commit(|state, txn| {
                txn.ask_for_erasure();
                state.erasures.number_with(txn)
            })
            .await?;
        let (mut progress, mut condition) = (self.inner.erased.subscribe(), self.condition());
        loop {
            if self.lock().state.erasures.is_done(number) {
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
