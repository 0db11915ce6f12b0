//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.
//!
//! A person links Pages by Facebook Login. From then on the daemon reads each page with that person's token for it,
//! whenever Meta says that the page changed and once a `sync.poll_interval` anyway, and keeps one object per link,
//! `users/<user>/facebook/<page>/page_data.json`, equal to what Graph says.
//!
//! # Words
//!
//! A *user* is a user of the platform, a UUID. A *link* is one user and one page, with that user's token for the page.
//! A *mark* on a link says that its page may have changed since it was last read; the *outbox* holds objects that are
//! staged and not yet in Spaces. A link is *settled* when it has neither. [`model`] holds the types, and an object's
//! name can be made from a link and from nothing else.
//!
//! # Promises
//!
//! 1. A webhook answered 200 is reflected in Spaces, or shown as owed, whatever dies in between.
//! 2. At rest, each linked page's object equals what Graph says of the page.
//! 3. No token or secret leaves the store but to Graph and Spaces, and one user's data never reaches another's prefix.
//! 4. A fault in one page, one call or one reload stays there. What heals by itself heals without a restart; what
//!    needs a person says so, once.
//!
//! # Actors
//!
//! ```text
//! cli::run ─ signals, systemd ─▶ supervisor ─┬─ dispatcher       reads the store's feed, wakes those whom it concerns
//!                                            ├─ page × links     token, webhook state and poll timer of one link
//!                                            ├─ uploader         serialises writes to Spaces
//!                                            ├─ subscriptions    the app-level webhook subscriptions
//!                                            ├─ cleanups         what is left to do after links are gone
//!                                            ├─ notifier         delivers events
//!                                            └─ listener × 2–3   the public address, the admin socket, admin on loopback
//! ```
//!
//! [`actors`] tells who answers for whom, [`restart`](core::restart) how often. A page that dies is started again for
//! ever, and its neighbours notice nothing. Any other actor that dies again and again ends the process.
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
//! *Feed.* A decision says beside its writes what it changes for others, and the store publishes that when the writes are
//! durable ([`feed`](store::feed)). The dispatcher alone reads the feed and wakes actors. So a decision that nobody learns
//! of cannot be written: not by a client that goes away half-way, and not by a caller that gave up while the disk was slow.
//!
//! *Webhook.* [`http`] checks sizes and the signature over the raw bytes before it parses. What the delivery says is a
//! hint and is not applied; the pages it names are marked, the marks are made durable, and only then is it answered.
//! The page's actor waits for `sync.debounce`, takes a token from its bucket, claims the mark and reads. [`ledger`]
//! holds why no order of events, and no death in between, loses a change.
//!
//! *Poll.* Every link has a slot in the interval, a hash of its name, so that many pages are an even trickle. A poll
//! also puts the page's webhook subscription right and compares the object in Spaces with what was last written there.
//! What was missed while nobody was there is caught up, spread over minutes.
//!
//! *Link.* A session, minted by an operator, opens `/facebook/login`; a login link opens a short one, and asks first
//! where the browser is known for another user. The `state` that goes to the dialog is signed, expires, is bound to the
//! session and works once. [`linking`] exchanges the code, makes the user token long-lived, lists the pages and stores
//! links, sealed tokens and marks in one transaction; the pages' actors do the rest. The person has a page meanwhile
//! that fills in ([`logins`]). [`import`] makes the same links from a file. Each token that a link gets has a generation
//! number of its own, and news about a token names it. A login or an import that is under way stores nothing that was
//! ended meanwhile, and [`grant`] decides which of two tokens, and which of a login and a deletion, is the newer.
//!
//! *Unlink, deauthorize, delete.* A link that goes takes its token and marks with it and owes Spaces a delete. A person
//! who removed the app has their links parked; one who asks to be forgotten has them dropped, and [`purge`] does that
//! for a list. What is left to do at Facebook then are [`cleanup`]s. The store's files are written anew after that, so that
//! removed data cannot be read from them any more; only then a deletion shows as done.
//!
//! *Trouble.* A Graph error has a kind, and the kind decides ([`graph`]): try again, wait as long as a limit asks,
//! leave a field out, or park the link until a person links it again ([`health`]). Spaces being away keeps the outbox
//! waiting. A store that cannot write has deliveries answered with 503 and reopens itself; then all actors look again.
//!
//! *Events.* When a page was linked, its object changed, it waits for a person, it was unlinked, or a deletion is done,
//! the same transaction that decides it owes the platform an event ([`event`]). The notifier sends them, signed, in order
//! for each link, until the receiver took them; nobody waits for it.
//!
//! *Reload.* SIGHUP reads the whole configuration, compares, and either puts all of it in force or nothing: what can
//! fail is made first, the new [`context::Setup`] is swapped whole, and those it touches are told. `store.path` and
//! `admin.socket` cannot change in a running process and refuse the reload by name. What is in force is kept in the
//! store's folder, sealed, so that a crash while the file is broken does not end the service ([`kept`]).
//!
//! *Stop.* SIGTERM and SIGINT close the public door and finish its requests, then reads, then writes, then the store,
//! each step with a limit, under 15 seconds in all. What is left over lies in the store. A second signal ends the
//! process now.
//!
//! # Modules
//!
//! | module | what is in it |
//! |---|---|
//! | [`model`] | the words above as types, secrets that do not print, moments |
//! | [`ledger`] | pure: what is owed to a link and when it stops being owed |
//! | [`page`] | pure: when a page is read, what becomes the object, poll slots, the token bucket |
//! | [`upload`] | pure: which object is written next |
//! | [`restart`], [`backoff`], [`health`] | pure: answers to a death, waits, the words for how a link fares |
//! | [`cleanup`] | pure: what is left to do after links are gone, and when |
//! | [`grant`] | pure: the order of logins, imports and the decisions that end grants |
//! | [`store`] | state on disk: sled, one committer thread, sealed tokens |
//! | [`event`] | pure: what the platform's programs are told, and what a newer event does to one that waits |
//! | [`notify`] | the receiver of events: signing, sending, what an answer means |
//! | [`outgoing`] | the one client for other hosts, bounded answers, certificates |
//! | [`random`] | secrets and unique ids, also where the system has no randomness |
//! | [`graph`] | the Graph API: calls, error kinds, limits |
//! | [`spaces`] | objects: one trait, one S3 client, one memory for tests, one suite for both |
//! | [`oauth`], [`signature`] | the dialog's address, signed states, consent; signatures of webhooks and signed requests |
//! | [`limits`] | pure: how many logins a user, an address and all new users may bring to an end |
//! | [`logins`] | how far each login is, for the page that a person sees |
//! | [`config`] | one TOML file, the environment, secrets; every finding at once; what a reload changes |
//! | [`kept`] | the configuration in force, sealed, for starts that no person asked for |
//! | [`http`] | the public and the admin routes |
//! | [`linking`], [`import`], [`purge`] | from a login, or from a file, to links; and a list of people to forget |
//! | [`trial`] | whether a token opens its page, before it parks a link or replaces another |
//! | [`context`] | what actors, routes and services share; it knows no actor |
//! | [`control`] | an operator's commands, as data |
//! | [`actors`] | the actors |
//! | [`telemetry`], [`metrics`], [`systemd`] | the log, the instruments, readiness and watchdog |
//! | [`cli`], [`client`], [`exit`] | the verbs, the admin socket's client, exit codes |
//! | `sandbox` | a local Facebook, a local Spaces and a console around the real daemon (feature `sandbox`) |
//!
//! Pure means: time and randomness are arguments, and no runtime, network, disk or clock is in sight. Of the other
//! modules, `config::diff` and `graph`'s `error`, `throttle`, `usage`, `scrub` and `json` are so too.
//!
//! Calls point one way: the verbs start the actors; the listeners among them call the routes; routes call services, and
//! both use the context, the store, sources and Spaces; all use `core`. What goes the other way is data: changes in the
//! store's feed, and an operator's commands in the channel of the context ([`control`]). `tests/architecture.rs` holds the
//! modules to both.

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
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod services;
pub mod sources;
pub mod spaces;
pub mod store;
pub mod systemd;
pub mod telemetry;
