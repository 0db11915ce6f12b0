//! Random bytes. A system that has none to give is an error where a secret is wanted, and never a panic.
//!
//! [`secret`] asks the operating system and reports when it refuses, as it does under a system-call filter without
//! `getrandom`. [`unique`] is for nonces, ids and jitter, which must not repeat and need not be unguessable: where the
//! system refuses, they are made of the time, the process and a count, so that a token can still be sealed and a person
//! still be forgotten.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rand::TryRngCore;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The operating system has no random bytes to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system has no random bytes to give")]
pub struct NoRandomness;

/// Bytes that nobody can guess.
///
/// # Errors
/// [`NoRandomness`].
pub fn secret<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Bytes that do not come a second time.
pub fn unique<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if fill(&mut bytes).is_err() {
        bytes.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&counted()[..chunk.len()]));
    }
    bytes
}

/// A fresh version 4 UUID.
pub fn uuid() -> Uuid {
    uuid::Builder::from_random_bytes(unique()).into_uuid()
}

/// A number from 0 to 1.
///
/// Every step of a page takes one. So the system is asked for the first alone, and the others follow from it
/// (SplitMix64).
pub fn fraction() -> f64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(u64::from_le_bytes(unique())));
    let mut bits = NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // As many bits as the number can hold.
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    #[cfg(test)]
    if tests::REFUSED.get() {
        return Err(NoRandomness);
    }
    rand::rngs::OsRng.try_fill_bytes(bytes).map_err(|_| NoRandomness)
}

/// Distinct within a process by the count, among processes by their number and the time.
fn counted() -> [u8; 32] {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let hash = Sha256::new().chain_update(time.to_le_bytes()).chain_update(std::process::id().to_le_bytes());
    hash.chain_update(count.to_le_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use super::*;

    thread_local! {
        pub(super) static REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs this on a system that gives this thread no randomness.
    fn without_randomness<T>(run: impl FnOnce() -> T) -> T {
        REFUSED.set(true);
        let outcome = run();
        REFUSED.set(false);
        outcome
    }

    #[test]
    fn without_randomness_a_secret_is_an_error_and_an_id_is_still_unique() {
        let (secrets, ids) = without_randomness(|| {
            let ids: BTreeSet<[u8; 24]> = (0..10_000).map(|_| unique()).collect();
            (secret::<32>(), ids)
        });
        assert_eq!((secrets, ids.len()), (Err(NoRandomness), 10_000));
        assert_ne!(secret::<32>(), secret::<32>());
        let (one, other) = without_randomness(|| (unique::<80>(), uuid()));
        assert!(one.chunks(16).collect::<BTreeSet<_>>().len() == 5 && other.get_version_num() == 4);
        assert!(without_randomness(|| (0..100).all(|_| (0.0..1.0).contains(&fraction()))));
    }

    #[test]
    fn without_randomness_tokens_are_sealed_and_people_named_all_the_same() {
        let keyring = crate::store::seal::Keyring::new([7; 32], Vec::new());
        let sealed = without_randomness(|| [keyring.seal(b"x", b"token"), keyring.seal(b"x", b"token")]);
        assert_ne!(sealed[0], sealed[1]);
        assert!(sealed.iter().all(|sealed| keyring.open(b"x", sealed).is_ok()));
        assert_eq!(without_randomness(crate::store::seal::generate_key), Err(NoRandomness));
        let users = without_randomness(|| [crate::core::model::UserId::random(), crate::core::model::UserId::random()]);
        assert_ne!(users[0], users[1]);
        without_randomness(crate::actors::jitter);
        assert!(without_randomness(crate::store::sessions::fresh_secret).is_err());
    }
}
