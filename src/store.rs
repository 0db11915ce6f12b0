//! The daemon's memory on disk: links, what is owed, tokens of persons, browser sessions. sled 0.34 underneath, and
//! nothing outside this module knows.
//!
//! # Trees
//!
//! | tree | key | value |
//! |---|---|---|
//! | `meta` | `format`, `check`, `batch`, `erase`, `marks` | layout version; a sealed known text that finds a wrong store key; the number of the newest transaction; since when an erasure is owed; that a mark log was begun |
//! | `links` | link | [`LinkRecord`]: names, health, subscription, the sealed page token |
//! | `marks` | part | [`Mark`](crate::core::ledger::Mark): a read is owed; newer ones may be in the [`mark_log`] |
//! | `outbox` | part | [`Staged`](crate::core::ledger::Staged): a write or a delete is owed |
//! | `bodies` | part, `0`, number, chunk | the bytes of a staged object, 16 KiB a piece |
//! | `synced` | part | [`Synced`](crate::core::ledger::Synced): digest and ETag of the object in Spaces, last read |
//! | `products` | link, `0`, number | [`Row`](crate::core::catalogue::Row): a product that Spaces has, as the index names it |
//! | `catalogues` | link | [`Progress`](crate::core::catalogue::Progress): how far the walks over the products of a shop are |
//! | `accounts` | user, app-scoped person | [`AccountRecord`]: the sealed user token |
//! | `shops` | name of the shop | [`ShopRecord`](records::ShopRecord): the sealed token pair that the links of the shop share |
//! | `sessions`, `logins` | SHA-256 of the secret half | browser sessions; one-time login links |
//! | `states` | nonce | OAuth states that were used, until they expire anyway |
//! | `deletions` | confirmation code | data deletions and how far they are |
//! | `notices` | number | [`Event`](crate::core::event::Event): an event that waits for its delivery |
//! | `fields` | part | a short hash of each field that Spaces holds |
//! | `chores` | kind; page, person or part | a cleanup that is left after an unlink, with the sealed token for it, if any |
//!
//! The bytes of links and parts stand in [`core::model`](crate::core::model::LinkKey); [`migration`] brings the keys of
//! an earlier format forward. Every value is a version byte, a CRC-32 and the
//! payload ([`codec`]), so that a damaged record is found and named, never served.
//!
//! # How a write becomes durable
//!
//! Decisions are made in memory under one lock, and the writes that follow from each are queued under the same lock; so
//! a queue has them in the order of the decisions. There are two queues and two files. A decision that makes marks and
//! nothing else goes to the [`mark_log`], where a batch costs one write and one `fdatasync`: it is what a delivery
//! waits for. All others go to the database. Numbers decide between the two files, so their writers do not wait for
//! each other; the head of [`mark_log`] argues that.
//!
//! One committer thread takes what waits for the database, applies it as one
//! transaction over all trees, flushes, and fsyncs sled's log, and only then answers. sled's own `flush` is not a
//! durability barrier on Linux, and concurrent asynchronous flushes deadlock it: hence the one thread and the fsync.
//! Items stay small (bodies are cut) and segments are 2 MiB, because sled puts larger nodes into files that it never
//! fsyncs.
//!
//! # How a decision is made
//!
//! [`state`] is the memory, split by concern. A decision is a function of it and of a [`txn`], which collects the
//! writes, what it changes for others, and what its caller waits for. The committer publishes the changes in the
//! [`feed`] when the writes are durable, whether or not the caller still waits. A decision that panics leaves nothing
//! in the queue, and the memory is read from disk again.
//!
//! Of a link's parts the memory has those that owe something or are being read. What is known of the others lies in
//! `synced` alone, and is read from there before a decision that needs it ([`catalogue`]).
//!
//! A delivery about a page whose marks all stand needs no decision, and is answered without that lock ([`absorbing`]).
//!
//! # What callers see
//!
//! Every operation is asynchronous and may answer [`Unavailable`], also those that are answered from memory here:
//! another engine may have to ask a database. Callers take a refusal for a passing one, keep what they wanted, and ask
//! again. What concerns this process alone is neither: the [`feed`](Store::feed), the [`condition`](Store::condition),
//! the keyring, whether events are on. The conformance suite in the tests holds what the operations promise, on each
//! engine.
//!
//! # In a shared database
//!
//! [`shared`] keeps the same trees in PostgreSQL, with the same decisions over the same memory, for several daemons.
//! What the others decide reaches this memory as the writes that followed ([`state`]). There is no mark log, no backup
//! log and no renewal: the database sees to its own files.
//!
//! # Who works on what
//!
//! [`leases`] says which links this process works on. Everybody asks before work begins. A store on this machine's disk
//! is this process's alone, and answers that all are.
//!
//! # From below to above
//!
//! [`tree`], [`codec`], [`records`], [`seal`] and [`api`] are words and forms; [`txn`] and [`state`] decide; [`engine`]
//! is where the trees lie (a [`database`], or [`maps`] in memory); [`order`] and [`inner`] hand decisions to the
//! [`mark_writer`] and its [`mark_log`], and to the [`committer`], which the files in [`backup_log`], [`rebuild`] and
//! [`renewal`] serve. The operations of [`Store`] are above all of these.
//!
//! # When the disk refuses
//!
//! sled's I/O errors stick until it is opened again. The first failed commit therefore takes the store *down*: what
//! waits is refused (deliveries are answered 503), memory is thrown away, and the committer opens the store again, at
//! first soon and then every few seconds, until it can. Memory is then read from disk as at start, so what was decided
//! and not made durable is forgotten, exactly as after a crash; readers that were under way are fenced off by the
//! ledger.
//!
//! [`handle`] is the only module that touches sled's life: its panics are caught there, its destructor's too.
//! [`folder`] locks the store for this process and asks the disk whether it works; [`before_image`] keeps the bytes
//! that sled may overwrite while it opens; [`committer`] says when the process must end.
//!
//! # What a half-done step looks like at start
//!
//! Nothing is half done: each transaction holds all the writes of the decisions in it, and a mark that was made alone
//! is one record. A mark without a read is read, an outbox entry without a settle is written again. A body without its
//! entry cannot be, as both go in one transaction.
//!
//! # When the database itself is damaged or gone
//!
//! [`backup_log`] keeps what cannot be had again (links, logins, sessions, deletions, cleanups, events that wait) in a
//! second file, in step with the database; [`rebuild`] opens whatever is there, mends it, and says so.
//!
//! # When something is to be gone
//!
//! All files append. A decision that removes data about a person requests an [`erasure`]: a [`renewal`] writes the
//! database and the backup log anew beside the ones in force, between the commits, and replaces them; the mark log,
//! which names links, is begun anew as well. A deletion is done only after that.

mod absorbing;
mod api;
pub(crate) mod backup_log;
mod before_image;
pub mod catalogue;
mod check;
pub mod cleanups;
mod clock;
pub mod codec;
mod committer;
mod cut;
mod database;
pub mod deletions;
mod earlier_keys;
mod engine;
mod erasure;
pub mod events;
pub mod feed;
mod folder;
pub mod grants;
mod handle;
pub mod imports;
mod inner;
pub mod leases;
mod links;
mod load;
mod maps;
mod mark_log;
mod mark_writer;
mod migration;
mod move_note;
pub mod moving;
mod open;
mod open_error;
mod order;
mod permissions;
pub mod persons;
mod rebuild;
pub mod records;
mod renewal;
mod roster;
pub mod rotation;
pub mod seal;
pub mod sessions;
pub mod shared;
pub mod shops;
mod state;
#[doc(hidden)]
pub mod stepped;
mod supervision;
mod tree;
mod turn;
mod txn;
pub mod unlink;
mod whole;
mod work;

pub use api::{
    Condition, Counts, Expectation, Left, Link, LinkView, OutboxItem, PendingView, StageOutcome, Unavailable,
};
#[cfg(feature = "sandbox")]
pub(crate) use folder::lock_within;
pub use inner::Store;
pub use open_error::OpenError;
pub use records::{AccountRecord, LinkRecord};
pub use roster::{ClusterView, DEAF, DaemonView};
pub use work::{ReadClaim, StandingMark};

#[cfg(test)]
mod tests;
