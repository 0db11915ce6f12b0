//! Moving a store that no daemon uses: from its folder into a shared database ([`outward`]), and back ([`inward`]).
//!
//! Records move byte for byte. What concerns one side alone stays there: the format of the folder's database, the number
//! of its newest transaction and the note that a mark log was begun; the leases of daemons; and the [note](super::move_note)
//! about the move itself. The marks of the mark log that stand are written into the folder's database first, so that they
//! move as records do.
//!
//! # Never used on both sides, never used by half
//!
//! The store is used where its records are whole. A move ends in three steps, each durable before the next one begins:
//!
//! | after | folder, outward | database, outward | database, inward | folder, inward |
//! |---|---|---|---|---|
//! | the records are there | in use | `coming` | in use | `coming` |
//! | the source is left | `left` | `coming` | `left` | `coming` |
//! | the target is in force | `left` | `here` | `left` | `here` |
//!
//! A side that is `coming` or `left` is not opened. Up to the second step the source may be used again, and the move is
//! off: the next one notices that, and begins anew. After it a move goes on.
//!
//! # Against daemons
//!
//! A folder is locked for as long as the move lasts. In a database each step is a transaction that locks the row of
//! `meta`, as each turn of a daemon does, and looks for daemons that are alive. A daemon that was about to join sees the
//! note in the snapshot that it begins with, or finds in its first turn that the newest version is not the one that it has
//! read: the number of the version rises with each note that closes the database. The members of a database that died with
//! writes under way are waited for at the end of a move inward, as an heir of their leases would.

mod database;
mod errors;
mod inward;
mod outward;
mod progress;

pub use errors::MoveError;
pub use inward::move_in;
pub use outward::move_out;
pub use progress::{Moved, Progress, Watch};
