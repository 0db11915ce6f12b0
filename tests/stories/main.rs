//! Stories: the daemon as its people meet it. Each runs the real program against a world of its own ([`town`]), says in
//! its name what holds, and ends with [`town::Town::finish`], which looks for what must never be left behind.
#![allow(clippy::unwrap_used, reason = "in a story an unmet expectation is a failure")]

mod actors;
mod addresses;
mod bodies;
mod browser;
mod cli;
#[path = "../fire/clock.rs"]
mod clock;
mod console;
mod deletion;
mod disaster;
mod door;
mod durability;
mod health;
mod imports;
mod kept;
mod linking;
mod messages;
mod metrics;
mod mistakes;
mod notify;
mod outgoing;
mod output;
mod overlap;
mod pending;
mod people;
mod readiness;
mod reload;
mod rotation;
mod sandbox;
mod sessions;
mod shutdown;
mod sync;
mod town;
#[path = "../../src/store/tests/traces.rs"]
mod traces;
mod webdriver;
mod webhooks;
