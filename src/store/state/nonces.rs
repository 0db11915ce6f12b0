//! What works once, in memory: OAuth states and login links that were used up.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::model::WallTime;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// Used states at a time. An unfinished login costs its browser at least two requests and is limited for each user and
/// each address, so that this bound only stops a crowd of them.
pub(in crate::store) const MAX_USED_STATES: usize = 200_000;
/// How long a login link that was taken is remembered in memory, beside the removal of its record.
const LOGIN_TAKEN_FOR: Duration = Duration::from_secs(3600);

/// The nonce of an OAuth state.
pub(in crate::store) type Nonce = [u8; 16];

/// Used states and taken login links.
#[derive(Default)]
pub(in crate::store) struct Nonces {
    used_states: HashMap<Nonce, WallTime>,
    taken_logins: HashMap<[u8; 32], WallTime>,
}

impl Nonces {
    /// As they lie on disk: each state with its end.
    pub(in crate::store) fn restored(used_states: impl IntoIterator<Item = (Nonce, WallTime)>) -> Nonces {
        Nonces { used_states: used_states.into_iter().collect(), taken_logins: HashMap::new() }
    }

    /// Uses up a state. `None` while too many are remembered, `Some(false)` when it was used before.
    pub(in crate::store) fn use_state(&mut self, txn: &mut Txn, nonce: Nonce, expires_at: WallTime) -> Option<bool> {
        if self.used_states.contains_key(&nonce) {
            return Some(false);
        }
        if self.used_states.len() >= MAX_USED_STATES {
            return None;
        }
        self.used_states.insert(nonce, expires_at);
        txn.put(Tree::States, nonce.to_vec(), &expires_at);
        Some(true)
    }

    /// Uses up the login link whose secret has this hash; `false` when it was used before.
    pub(in crate::store) fn take_login(&mut self, txn: &mut Txn, hash: [u8; 32]) -> bool {
        let first = self.taken_logins.insert(hash, txn.now()).is_none();
        if first {
            txn.remove(Tree::Logins, hash.to_vec());
        }
        first
    }

    /// Another daemon used up this state, or removed it when it had expired.
    pub(in crate::store) fn follow_state(&mut self, nonce: Nonce, expires_at: Option<WallTime>) {
        match expires_at {
            Some(expires_at) => drop(self.used_states.insert(nonce, expires_at)),
            None => drop(self.used_states.remove(&nonce)),
        }
    }

    /// Was this login link taken of late? Its record may still lie on disk.
    pub(in crate::store) fn is_taken(&self, hash: &[u8; 32]) -> bool {
        self.taken_logins.contains_key(hash)
    }

    /// Forgets states that are over, and links whose takers have all an answer.
    pub(in crate::store) fn sweep(&mut self, now: WallTime) {
        self.used_states.retain(|_, expires_at| *expires_at > now);
        self.forget_taken(now);
    }

    /// Forgets links whose takers have all an answer.
    pub(in crate::store) fn forget_taken(&mut self, now: WallTime) {
        self.taken_logins.retain(|_, taken_at| now.since(*taken_at) < LOGIN_TAKEN_FOR);
    }

    /// Remembers as many used states as there may be.
    #[cfg(test)]
    pub(in crate::store) fn fill(&mut self, expires_at: WallTime) {
        self.used_states.extend((0..MAX_USED_STATES as u128).map(|n| (n.to_be_bytes(), expires_at)));
    }
}
