//! Stories: the daemon as its persons meet it. Each runs the real program against a world of its own ([`harness`]),
//! says in its name what holds, and ends with [`harness::Harness::finish`], which looks for what must never be left
//! behind.
#![allow(clippy::unwrap_used, reason = "in a story an unmet expectation is a failure")]

mod acme;
mod actors;
mod addresses;
mod alerts;
mod all_at_once;
mod axe;
mod backup;
mod bodies;
mod browser;
mod catalogue;
mod cli;
#[path = "../chaos/clock.rs"]
mod clock;
mod cluster;
mod console;
mod console_shops;
mod daemons;
mod database;
mod deletion;
mod disaster;
#[path = "../openapi/document.rs"]
mod document;
mod durability;
mod failover;
mod faults;
mod harness;
mod health;
mod imports;
mod kept;
mod languages;
mod linking;
mod listener;
mod logs;
mod messages;
mod metrics;
mod mistakes;
mod moving;
mod notify;
mod openapi;
mod outgoing;
mod output;
mod overlap;
mod pending;
mod persons;
mod platform;
mod readiness;
mod reload;
mod restore;
mod rotation;
mod sandbox;
mod sessions;
mod shell;
mod shop_ends;
mod shop_imports;
mod shops;
mod shutdown;
mod status_page;
mod status_routes;
mod sync;
mod terminal;
mod tls;
#[path = "../../src/store/tests/traces.rs"]
mod traces;
mod webdriver;
mod webhooks;
