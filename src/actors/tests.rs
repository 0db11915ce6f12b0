//! The actors together, in one process: a real supervisor and all that it supervises, a real store in a temporary
//! folder, a bucket in memory, and a Graph and a receiver of events that answer by script.
//!
//! Time stands still unless a test lets it pass ([`clock`]). So a debounce, a backoff and a limit take no real time,
//! and nothing times out because the machine is slow.
#![cfg(feature = "sandbox")]

mod clock;
mod deaths;
mod first_reads;
mod harness;
mod leases;
mod lists;
mod lost_answers;
mod refusals;
mod reloads;
mod resets;
mod script;
mod signs_of_life;
mod stops;
mod timers;
