//! The real binary under fire: killed, signalled, starved and refused at random while webhooks pour in, and held to
//! what it acknowledged.
//!
//! `PAGESYNCD_CHAOS_ROUNDS` says how many rounds (a few without it), `PAGESYNCD_CHAOS_SEED` replays the choices of a
//! run, `PAGESYNCD_CHAOS_VERBOSE` prints each round. The daemon's clock is set as well where libfaketime is there,
//! which `PAGESYNCD_CLOCK_TESTS=require` demands.
#![allow(clippy::unwrap_used, reason = "under fire an unmet expectation is a failure")]

mod catalogue;
mod clock;
mod disk;
mod failing_disk;
mod faults;
mod fixture;
mod outage;
mod rounds;
mod senders;
mod things;

use rand::Rng;

/// A number from the environment.
fn wish(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_what_was_acknowledged_is_in_the_bucket() {
    let seed = wish("PAGESYNCD_CHAOS_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 48));
    let rounds = wish("PAGESYNCD_CHAOS_ROUNDS").unwrap_or(6);
    println!("fire: seed {seed}, {rounds} rounds");
    let mut fire = rounds::Fire::light(seed).await;
    for _ in 0..rounds {
        fire.burn().await;
    }
    fire.put_out().await;
}
