//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.
//!
//! A person links Pages by Facebook Login. From then on the daemon reads each page with that person's token for it,
//! whenever Meta reports a change and once a `sync.poll_interval` in any case, and keeps one object per link,
//! `users/<user>/facebook/<page>/page_data.json`, equal to what Graph says.
//!
//! `docs/architecture.md` has the same overview for readers without the code, with the promises, their tests and the
//! decisions. `docs/reference.md` describes the outside.
//!
//! # Terms
//!
//! A *user* is a user of the platform, a UUID. A *link* is one user and one page, with that user's token for the page.
//! A *mark* on a link says that its page may have changed since the last staged read; the *outbox* holds objects that
//! are staged and not yet in Spaces. A link is *settled* when it has neither. [`core::model`] holds the types. The key
//! of an object can only be made from a link.
//!
//! # Promises
//!
//! 1. A webhook answered 200 is reflected in Spaces, or shown as pending, after a crash at any moment.
//! 2. At rest, each linked page's object equals what Graph says of the page.
//! 3. No token or secret leaves the store but to Graph and Spaces, and one user's data never reaches another's prefix.
//! 4. A fault in one page, one call or one reload stays there. What heals by itself heals without a restart; what
//!    needs a person is reported once.
//!
//! # Actors
//!
//! ```text
//! cli::run ─ signals, systemd ─▶ supervisor ─┬─ dispatcher       reads the store's feed, wakes the actors concerned
//!                                            ├─ uploader         serialises writes to Spaces
//!                                            ├─ subscriptions    the app-level webhook subscriptions
//!                                            ├─ cleanups         tasks that are left after links are gone
//!                                            ├─ notifier         delivery of events
//!                                            ├─ page × links     token, subscription and poll timer of one link
//!                                            └─ listener × 2–3   public, admin socket, admin on loopback
//! ```
//!
//! [`actors`] describes the supervision, [`core::restart`] its policy. A page is restarted
//! without end, and other pages are not affected; any other actor that fails again and again ends the process.
//!
//! # Flows
//!
//! ```text
//! webhook ─▶ listener: limits, signature, parse ─▶ store: mark ─ durable ─▶ 200
//!                                                     ┊ feed: Due
//! poll timer, login, import, `sync` ─▶ store: mark    ▼
//!                                                  dispatcher ─▶ page: claim, read Graph with its own token
//!                                                     │ store: stage, one transaction
//!                                                     ┊ feed: Outbox
//!                                                     ▼
//!                                                  dispatcher ─▶ uploader: one write per object at a time ─▶ Spaces
//!                                                     │ store: complete
//! ```
//!
//! *Feed.* A decision collects beside its writes what it changes for others, and the store publishes that when the
//! writes are durable ([`store::feed`]). The dispatcher alone reads the feed and wakes actors. So no decision stays
//! unnoticed because its client went away half-way, or because its caller gave up while the disk was slow.
//!
//! *Webhook.* [`http`] checks sizes and the signature over the raw bytes before it parses. The content of a delivery is
//! a hint and is not applied: the pages that it names are marked, the marks are made durable, and then it is answered.
//! The page's actor waits for `sync.debounce`, takes a token from its bucket, waits for its turn at Graph, claims the
//! mark and reads. [`core::link::reads`] says how the bucket is spent.
//! [`core::ledger`] explains why no order of events, and no crash in between, loses a change.
//!
//! *Poll.* Every link has a slot in the interval, a hash of its name, so that polls are spread evenly. A poll also
//! repairs the page's webhook subscription and compares the object in Spaces with the last write. Polls that were
//! missed while the daemon was down are made up for, spread over minutes; marks that were left are read at once, as
//! fast as the limit on calls allows.
//!
//! *Login.* A session, made by an operator, opens `/facebook/login`; a login link opens a short one, and asks first
//! if the browser is known for another user. The `state` that goes to the dialog is signed, expires, is bound to the
//! session and works once. [`services::login`] exchanges the code, makes the user token long-lived, lists the pages and
//! stores links, sealed tokens and marks in one transaction; the pages' actors do the rest. The person sees a page
//! meanwhile that fills in ([`context::logins`]). [`services::import`] makes the same links from a file. Each
//! token of a link has a generation number, and every fact that is learned with a token names it. A login or an import
//! in progress stores nothing that was ended meanwhile. [`core::grant`] decides which of two tokens, and which of a
//! login and a deletion, is the newer.
//!
//! *Unlink, deauthorize, delete.* A link that is removed takes its token and marks with it and puts a delete into the
//! outbox. A person who removed the app has their links parked; the links of a person who asks for deletion are
//! removed, and [`services::purge`] does that for a list. The tasks that are left at Facebook then are
//! [`core::cleanup`]s. The store's files are rewritten after that, so that removed data cannot be read from them; then
//! a deletion shows as done.
//!
//! *Failures.* A Graph error has a kind, and the kind decides ([`sources::facebook::graph`]): retry, wait as long as a
//! limit asks, leave a field out, or park the link until a person links it again ([`core::health`]). While Spaces is
//! away, the outbox waits. While the store cannot write, deliveries are answered 503; it reopens itself, and then every
//! actor looks again.
//!
//! *Events.* When a page was linked, its object changed, it waits for a person, it was unlinked, or a deletion is done,
//! the transaction that decides it also stores an event for the platform ([`core::event`]). The notifier sends the
//! events, signed, in order for each link, until the receiver accepts them; nothing waits for it.
//!
//! *Reload.* SIGHUP reads the whole configuration, compares, and applies all of it or nothing: everything that can fail
//! is made first, then the new [`context::Setup`] is swapped whole, and the actors that it affects are notified.
//! `store.path` and `admin.socket` cannot change in a running process; the reload is refused and names them. The
//! configuration in force is kept in the store's folder, sealed, so that a crash while the file is broken does not end
//! the service ([`kept_config`]).
//!
//! *Stop.* SIGTERM and SIGINT close the public listener and finish its requests, then reads, then writes, then the
//! store, each step with a limit, under 15 seconds in all. The rest is pending in the store. A second signal ends the
//! process at once.
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`core`] | pure decisions: time and randomness are arguments; no runtime, network, disk or clock |
//! | [`store`] | durable state: decisions in memory; sled, one committer thread, sealed tokens, the backup log; or a PostgreSQL database that several daemons share ([`store::shared`]) |
//! | [`sources`] | one interface to a source for links; Facebook: Graph calls and errors, the dialog, signatures, deliveries |
//! | [`spaces`] | objects: one trait, one S3 client, one memory for tests, one suite for both |
//! | [`events`] | the receiver of events: signing, sending, the meaning of an answer |
//! | [`http_client`] | the one client for other hosts, bounded answers, certificates |
//! | [`config`], [`kept_config`] | the configuration file and its findings; the configuration in force, sealed |
//! | [`context`] | what actors, routes and services share; it knows no actor |
//! | [`control`] | an operator's commands, as data |
//! | [`services`] | from a request, or from a file, to the store: login, import, export, purge |
//! | [`http`] | the server, the public and the admin routes |
//! | [`actors`] | the actors |
//! | [`telemetry`], [`metrics`], [`traces`], [`systemd`] | the log, the instruments, traces, readiness and watchdog |
//! | [`tls`] | certificates and handshakes of the public listener |
//! | [`turnstile`] | a limit on how much goes on at once, and an order for the rest |
//! | [`runs`] | how the runs before this one ended |
//! | [`random`] | secrets and unique ids, also where the system has no randomness |
//! | [`cli`], [`admin_client`], [`exit`] | the verbs, the admin socket's client, exit codes |
//! | `sandbox` | a local Facebook, a local Spaces and a console around the real daemon (feature `sandbox`) |
//!
//! Calls point one way: `cli → actors → http → services → context → store, sources, spaces, events → core`.
//! What goes the other way is data: changes in the store's feed, and an operator's commands in the channel of the
//! context. `tests/architecture.rs` checks that.

// `println!` panics when the output is closed or full; `cli::output` does not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod actors;
pub mod admin_client;
pub mod cli;
mod clock;
pub mod config;
pub mod context;
pub mod control;
pub mod core;
pub mod events;
pub mod exit;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod http_client;
pub mod kept_config;
pub mod metrics;
pub mod random;
pub mod runs;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod services;
pub mod sources;
pub mod spaces;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod turnstile;
